"""A dashboard of a test's own in a real browser, started as `make run` starts it."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import end_servers

from lab import endpoint_kinds, processes
from lab.clock import now_ns, pause_s
from lab.local.control import Control
from lab.store.store import Store
from tests.measured import FAST

ROOT = Path(__file__).resolve().parent.parent
IDLE = '[data-testid=stApp][data-test-script-state="notRunning"]'
WRONG = "[data-testid=stException], [data-testid=stAlertContentError]"
PATIENCE_MS = 120_000
"""For whatever a page is to show: on cores that others use too, half a minute may pass."""
SLOW = FAST | {"gap_ms": 100, "answer_tokens": 20}
"""An answer of 20 pieces takes two seconds, so that a run can be looked at."""
STILL = """quiet => new Promise(done => {
    let timer;
    const wait = () => { clearTimeout(timer); timer = setTimeout(due, quiet); };
    const watch = new MutationObserver(wait);
    const due = () => { watch.disconnect(); done(); };
    const all = {subtree: true, childList: true, attributes: true, characterData: true};
    watch.observe(document, all);
    wait();
})"""


class Dashboard:
    """A dashboard with a database and a runtime folder of its own."""

    def __init__(self, url: str, database: Path, browser: Any):
        self.url, self.database, self.browser = url, database, browser

    def goto(self, page: Any, path: str) -> Any:
        page.set_default_timeout(PATIENCE_MS)
        page.goto(f"{self.url}/{path}", wait_until="domcontentloaded")
        page.locator(IDLE).wait_for()
        return page

    def opened(self, path: str, **context: Any) -> Any:
        """A page in a fresh browser context: no cookie, no session, nothing but the URL."""
        return self.goto(
            self.browser.new_context(viewport={"width": 1440, "height": 900}, **context).new_page(),
            path,
        )

    def knobs(self, **knobs: Any) -> None:
        """Set those of its simulated server, started here if no run has done so."""
        card = processes.local_server(endpoint_kinds.SIMULATED)
        Control(card.base_url, card.api_key).knobs(**knobs)

    def rows(self, sql: str, *params: Any) -> list[tuple]:
        return list(Store(self.database).frame(sql, params).itertuples(index=False, name=None))


@contextlib.contextmanager
def started(
    folder: Path, browser: Any, *, without: Collection[str] = (), **variables: str
) -> Iterator[Dashboard]:
    """What it keeps lies in `folder`, for this process too; `variables` are added to both, and
    `without` names those that the dashboard alone does not get."""
    port, log = free_port(), folder / "dashboard.log"
    own = {"LAB_DB": "lab.duckdb", "LAB_RUNTIME": "runtime", "LAB_SETTINGS": "settings"}
    command = f"-m streamlit run app.py --server.port {port} --server.headless true".split()
    with pytest.MonkeyPatch.context() as patch, log.open("w") as file:
        for name, value in {name: str(folder / path) for name, path in own.items()}.items():
            patch.setenv(name, value)
        for name, value in variables.items():
            patch.setenv(name, value)
        given = {name: value for name, value in os.environ.items() if name not in without}
        process = subprocess.Popen(
            [sys.executable, *command], cwd=ROOT, stdout=file, stderr=file, env=given
        )
        try:
            while not answers(port):
                assert process.poll() is None, log.read_text()
                pause_s(0.05)
            yield Dashboard(f"http://127.0.0.1:{port}", folder / "lab.duckdb", browser)
        finally:
            if going := processes.running():
                processes.stop(going.run_id)
                settle(going.run_id)
            process.terminate()
            process.wait(20)
            end_servers(folder / "runtime")


def still(page: Any, quiet_ms: int = 300) -> None:
    """Until the script has ended and nothing on the page has changed for so long."""
    page.locator(IDLE).wait_for(timeout=PATIENCE_MS)
    page.evaluate(STILL, quiet_ms)
    page.locator(IDLE).wait_for(timeout=PATIENCE_MS)


def settle(run_id: str) -> None:
    until = now_ns() + 60e9
    while (card := processes.running()) and card.run_id == run_id and now_ns() < until:
        pause_s(0.05)


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def answers(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0
