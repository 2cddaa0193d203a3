# make run    the dashboard on http://127.0.0.1:8501 (PORT=8502 for another port)
# make test   every test, the browser ones included
# make check  lint and format
# make setup  only what `make run` needs before it starts

VENV   := .venv
BIN    := $(VENV)/bin
PORT   ?= 8501
PYTHON ?= $(shell for python in python3 python3.11 python3.12 python3.13; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$python; break; }; done)
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check

# A stamp carries the checksum of what it stands for: an edited requirements file installs again, an unedited one costs nothing.
RUN_READY := $(VENV)/ready-run-$(shell cksum < requirements.txt | tr -s ' ' '-')
DEV_READY := $(VENV)/ready-dev-$(shell cat requirements.txt requirements-dev.txt | cksum | tr -s ' ' '-')

.PHONY: run setup test check chromium clean
.DEFAULT_GOAL := run

run: setup
	@exec $(BIN)/python main.py ui --port $(PORT) --headless

setup: $(RUN_READY)

test: $(DEV_READY) chromium
	@$(BIN)/python -m pytest -n 3 --dist loadfile -m "not model and not browser"
	@$(BIN)/python -m pytest -n 2 --dist loadfile -m "model or browser"

check: $(DEV_READY)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed; install it, or name it: make run PYTHON=/path/to/python3" >&2; exit 1; }
	@echo "Making $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
		echo "$(PYTHON) cannot make a virtual environment; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }

$(RUN_READY): | $(BIN)/python
	@echo "Installing requirements.txt and the embedded model (the first time takes a minute or two)"
	@$(PIP) -r requirements.txt
	@$(BIN)/python main.py models install
	@rm -f $(VENV)/ready-run-*
	@touch $@

$(DEV_READY): $(RUN_READY)
	@echo "Installing requirements-dev.txt"
	@$(PIP) -r requirements-dev.txt
	@rm -f $(VENV)/ready-dev-*
	@touch $@

chromium:
	@if { command -v chromium || command -v chromium-browser || command -v google-chrome; } >/dev/null; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo "Installing chromium for the browser tests"; \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium >/dev/null \
			|| echo "chromium could not be installed: THE BROWSER TESTS WILL BE SKIPPED" >&2; \
	else echo "There is no chromium on PATH (Debian: apt-get install chromium): THE BROWSER TESTS WILL BE SKIPPED" >&2; fi

clean:
	@rm -rf $(VENV) .pytest_cache .ruff_cache
