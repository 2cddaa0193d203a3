"""From nothing to the first finished run: from a clone (make setup, the dashboard, one Streaming
run) or with --wheel from the wheel alone. `python bench/fresh_machine.py [--wheel]`

Nothing is reused: a new folder, no pip cache, its own database and runtime folder. With Playwright
and a Chromium the run is started by pressing the page's button; without, by the command line. The
project's aim is three minutes on a fast network. --wheel makes a fresh environment of the wheel and
all that it depends on, measures in an empty folder and looks at each page.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from lab import clock  # noqa: E402

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def main() -> int:
    ask = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ask.add_argument(
        "--browser",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="press the page's button (default: where a browser is)",
    )
    ask.add_argument("--wheel", action="store_true", help="from the wheel, in an empty folder")
    ask.add_argument("--python", default=sys.executable, help="with --wheel: the Python to use")
    ask.add_argument("--keep", action="store_true", help="keep the folder")
    flags = ask.parse_args()
    chrome = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    pressed = flags.browser
    if pressed is None:
        pressed = bool(chrome and importlib.util.find_spec("playwright"))
    folder = Path(tempfile.mkdtemp(prefix="lab-fresh-"))
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("LAB_", "ANTHROPIC_", "PYTHON", "VIRTUAL_ENV"))
    }
    environment |= {
        "PIP_NO_CACHE_DIR": "1",
        "LAB_IGNORE_KEYS": "1",
        "LAB_RUNTIME": str(folder / "runtime"),
    }
    began_ns = clock.now_ns()
    steps = Steps()
    try:
        if flags.wheel:
            from_wheel(folder, environment, flags.python, chrome if pressed else None, steps)
        else:
            from_clone(folder / "lab", environment, chrome if pressed else None, steps)
    finally:
        for card in (folder / "runtime").glob("*.json"):
            with contextlib.suppress(OSError, ValueError, KeyError):
                os.kill(json.loads(card.read_text())["pid"], signal.SIGTERM)
        if not flags.keep:
            shutil.rmtree(folder, ignore_errors=True)
    total_s = round((clock.now_ns() - began_ns) / 1e9, 1)
    print(json.dumps({"seconds": steps.seconds, "total_s": total_s}))
    return 0


class Steps:
    """How long each step took, told as it ends."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.last_ns = clock.now_ns()

    def done(self, name: str) -> None:
        now_ns = clock.now_ns()
        self.seconds[name] = round((now_ns - self.last_ns) / 1e9, 1)
        self.last_ns = now_ns
        print(f"{name:<36}{self.seconds[name]:>7.1f} s", file=sys.stderr, flush=True)


def from_clone(home: Path, environment: dict, chrome: str | None, steps: Steps) -> None:
    environment["LAB_DB"] = str(home / "data" / "lab.duckdb")

    def run(*command: str) -> None:
        subprocess.run(command, cwd=home, env=environment, check=True, stdout=subprocess.DEVNULL)

    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(home)], check=True)
    steps.done("clone")
    run("make", "--silent", "setup")
    steps.done("make setup")
    port = free_port()
    with dashboard(["make", "--silent", "run", f"PORT={port}"], port, home, environment):
        steps.done("dashboard answers")
        if chrome:
            press(port, chrome)
            steps.done("first finished run (browser)")
        else:
            run(".venv/bin/python", "main.py", "streaming", "--quick", "--json")
            steps.done("first finished run (command line)")


def from_wheel(
    folder: Path, environment: dict, python: str, chrome: str | None, steps: Steps
) -> None:
    empty, bin_folder = folder / "empty", folder / "venv" / "bin"
    empty.mkdir()
    # The user's cache too: the large model's file is made there.
    environment["XDG_CACHE_HOME"] = str(folder / "cache")

    def run(*command: str | Path) -> str:
        done = subprocess.run(
            command, cwd=empty, env=environment, stdout=subprocess.PIPE, text=True
        )
        if done.returncode:
            raise SystemExit(f"{' '.join(map(str, command))} ended with {done.returncode}")
        return done.stdout

    run(python, "-m", "venv", folder / "venv")
    pip = (bin_folder / "python", "-m", "pip", "--disable-pip-version-check", "--quiet")
    run(*pip, "wheel", "--no-deps", "-w", folder, ROOT)
    steps.done("wheel")
    run(*pip, "install", *folder.glob("*.whl"))
    steps.done("pip install with all it depends on")
    shown = run(bin_folder / "latency-lab", "streaming", "--quick")
    if "n = 6" not in shown:
        raise SystemExit(f"no verdict:\n{shown}")
    steps.done("model fetched, first verdict")
    port = free_port()
    command = [str(bin_folder / "latency-lab"), "ui", "--port", str(port), "--headless"]
    with dashboard(command, port, empty, environment):
        steps.done("dashboard answers")
        if chrome:
            steps.done(f"{look(port, chrome)} pages")


@contextlib.contextmanager
def dashboard(command: list[str], port: int, home: Path, environment: dict) -> Iterator[None]:
    process = subprocess.Popen(
        command, cwd=home, env=environment, stdout=subprocess.DEVNULL, start_new_session=True
    )
    try:
        wait_for(f"http://127.0.0.1:{port}/_stcore/health")
        yield
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(20)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(url: str) -> None:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    for _ in range(600):
        try:
            with direct.open(url, timeout=1):
                return
        except (OSError, urllib.error.URLError):
            clock.pause_s(0.1)
    raise SystemExit(f"{url} does not answer")


@contextlib.contextmanager
def opened(chrome: str) -> Iterator[Any]:
    """A page of a browser."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chrome, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        yield browser.new_page()
        browser.close()


def press(port: int, chrome: str) -> None:
    """Open the Streaming page, press Run, and wait for the verdict that only a finished run has."""
    with opened(chrome) as page:
        page.goto(f"http://127.0.0.1:{port}/Streaming")
        page.get_by_role("button", name="Run", exact=False).first.click(timeout=60_000)
        page.get_by_text("n = ", exact=False).first.wait_for(timeout=240_000)


def look(port: int, chrome: str) -> int:
    """Open every page that the sidebar links; answers with how many those are."""
    url = f"http://127.0.0.1:{port}"
    with opened(chrome) as page:
        page.goto(url)
        links = page.locator('[data-testid="stSidebar"] [data-testid="stPageLink-NavLink"]')
        links.first.wait_for(timeout=60_000)
        addresses = [link.get_attribute("href") for link in links.all()]
        for address in addresses:
            page.goto(f"{url}/{address}")
            page.locator('[data-testid="stHeading"]').first.wait_for(timeout=60_000)
            if page.locator('[data-testid="stException"]').count():
                raise SystemExit(f"{address} shows an error")
        return len(addresses)


if __name__ == "__main__":
    sys.exit(main())
