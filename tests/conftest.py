"""Tests never touch real data, keys or a running dashboard: every path and variable is moved before
a test module is imported."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import machine

for name in [one for one in os.environ if one.startswith(("ANTHROPIC_", "LANGFUSE_", "OTEL_"))]:
    del os.environ[name]
os.environ["LAB_IGNORE_KEYS"] = (
    "1"  # a developer's .streamlit/secrets.toml must not make a test spend money
)
SCRATCH = Path(tempfile.mkdtemp(prefix="lab-tests-"))
os.environ["LAB_RUNTIME"] = str(SCRATCH / "runtime")
os.environ["LAB_DB"] = str(SCRATCH / "lab.duckdb")
os.environ["LAB_SETTINGS"] = str(SCRATCH / "settings")
# Under nohup, or in the background of a script, both would be ignored by every child too, and no
# test could hang up or interrupt one.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)
machine.start_quickly()


def end_servers(runtime: Path) -> None:
    """End the servers that runs have started in a runtime folder; by themselves they would stay for
    ten minutes."""
    for card in (runtime / "local.json", runtime / "simulated.json"):
        if card.exists():
            with contextlib.suppress(ProcessLookupError):
                os.kill(json.loads(card.read_text())["pid"], signal.SIGTERM)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Fast ones first: what needs neither model nor browser, then the model, then the browser.
    Where processes share the files, the long ones first: none is left for the end."""

    def needs(marker: str, item: pytest.Item) -> bool:
        return item.get_closest_marker(marker) is not None

    if hasattr(config, "workerinput"):
        slow = {item.path for item in items if needs("browser", item) or needs("model", item)}
        tests = Counter(item.path for item in items)
        items.sort(key=lambda item: (item.path not in slow, -tests[item.path], item.path))
    else:
        items.sort(key=lambda item: (needs("browser", item), needs("model", item)))


def pytest_sessionfinish() -> None:
    end_servers(Path(os.environ["LAB_RUNTIME"]))
    shutil.rmtree(SCRATCH, ignore_errors=True)


@pytest.fixture(scope="session", autouse=True)
def installed_components() -> Iterator[None]:
    """Streamlit looks through every installed package for components: once for all AppTests, not
    once for each."""
    from streamlit.components.v2 import manifest_scanner

    with pytest.MonkeyPatch.context() as patch:
        scan = functools.cache(manifest_scanner.scan_component_manifests)
        patch.setattr(manifest_scanner, "scan_component_manifests", scan)
        yield


@pytest.fixture(scope="session", autouse=True)
def made_databases() -> Iterator[None]:
    """Tables and views take a quarter of a second to be made: once for all tests of a process, each
    of which gets a copy of the file."""
    from lab.store import migrations
    from lab.store.store import Store

    create = Store._create

    def copied(self: Store) -> None:
        made = SCRATCH / f"made-{'-'.join(migrations.wanted().values())}.duckdb"
        if made.exists():
            with contextlib.suppress(OSError):
                shutil.copy(made, self.path)
                return
        create(self)
        draft = made.with_name(f"{threading.get_ident()}.duckdb")
        shutil.copy(self.path, draft)
        draft.replace(made)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Store, "_create", copied)
        yield


@pytest.fixture(autouse=True)
def no_key_has_passed(monkeypatch) -> None:
    """A key that passed by in another test, shortened perhaps, is not known in this one."""
    from lab import scrub

    monkeypatch.setattr(scrub, "PASSED", set())


@pytest.fixture
def db(tmp_path, monkeypatch) -> Path:
    """A database file of this test's own."""
    path = tmp_path / "lab.duckdb"
    monkeypatch.setenv("LAB_DB", str(path))
    return path


def serve(*flags: str) -> tuple[subprocess.Popen, dict]:
    """Start `python -m lab.local` and wait for its one JSON line; requests may go there."""
    from lab.endpoints import consent

    process = subprocess.Popen(
        [sys.executable, "-m", "lab.local", "--port", "0", *flags],
        stdout=subprocess.PIPE,
        text=True,
    )
    line = process.stdout.readline()
    if not line:
        raise RuntimeError(f"the local server ended with {process.wait()}")
    card = json.loads(line)
    consent.allow(card["base_url"], key=False)
    return process, card


@pytest.fixture(scope="session")
def simulated_server() -> Iterator:
    """One simulated server for all tests; ask for `simulated`, which starts each test with empty
    plays."""
    from lab.local.control import Control

    process, card = serve("--simulated", "--no-spin")
    yield Control(card["base_url"], card["api_key"])
    process.terminate()
    process.wait(10)
    process.stdout.close()


@pytest.fixture
def simulated(simulated_server):
    simulated_server.reset()
    yield simulated_server


@contextlib.contextmanager
def one_core() -> Iterator[None]:
    """What starts meanwhile has one core: threads of the model that wait for each other take ten
    times as long where other tests use the cores too."""
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    if cores:
        os.sched_setaffinity(0, {max(cores)})
    try:
        yield
    finally:
        if cores:
            os.sched_setaffinity(0, cores)


@pytest.fixture(scope="session")
def local_server() -> Iterator:
    """The real embedded model, once for all tests of a process that are marked `model`."""
    from lab.local.control import Control

    with one_core():
        process, card = serve()
    yield Control(card["base_url"], card["api_key"])
    process.terminate()
    process.wait(20)
    process.stdout.close()


@pytest.fixture(scope="session")
def chromium() -> str:
    """The browser on PATH. Without one, browser tests are skipped and say so; in CI that is a
    failure."""
    found = (
        shutil.which("chromium")
        or shutil.which("chromium-browser")
        or shutil.which("google-chrome")
    )
    if not found:
        said = (
            "There is no chromium on PATH, so nothing was tried in a real browser: apt-get install"
            " chromium."
        )
        if os.environ.get("CI") == "true":
            pytest.fail(said)
        warnings.warn(said, stacklevel=1)
        pytest.skip(said)
    return found


@pytest.fixture(scope="module")
def browser(chromium) -> Iterator:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        opened = play.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        yield opened
        opened.close()


@pytest.fixture(autouse=True)
def close_pages(request) -> Iterator[None]:
    """A page left open goes on asking its dashboard, and slows the next test down."""
    yield
    if "browser" in request.fixturenames:
        for context in request.getfixturevalue("browser").contexts:
            context.close()
