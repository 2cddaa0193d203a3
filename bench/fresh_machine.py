"""From nothing to the first finished run: clone, make setup, dashboard up, one Streaming run.
`python bench/fresh_machine.py`

Nothing is reused: a new folder, no pip cache, its own database and runtime folder. With Playwright
and a Chromium the run is started by pressing the page's button; without, by the command line. The
project's aim is three minutes on a fast network.
"""

from __future__ import annotations

import argparse
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
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from lab import clock  # noqa: E402

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def main() -> int:
    flags = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    flags.add_argument(
        "--browser",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="press the page's button (default: where a browser is)",
    )
    flags.add_argument("--keep", action="store_true", help="keep the folder")
    given = flags.parse_args()
    chrome = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    pressed = (
        given.browser
        if given.browser is not None
        else bool(chrome and importlib.util.find_spec("playwright"))
    )
    folder = Path(tempfile.mkdtemp(prefix="lab-fresh-"))
    home = folder / "lab"
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("LAB_", "ANTHROPIC_", "VIRTUAL_ENV"))
    }
    environment |= {
        "PIP_NO_CACHE_DIR": "1",
        "LAB_IGNORE_KEYS": "1",
        "LAB_RUNTIME": str(folder / "runtime"),
        "LAB_DB": str(home / "data" / "lab.duckdb"),
    }
    began = last = clock.now_ns()
    steps: dict[str, float] = {}

    def done(name: str) -> None:
        nonlocal last
        now = clock.now_ns()
        steps[name] = round((now - last) / 1e9, 1)
        last = now
        print(f"{name:<28}{steps[name]:>7.1f} s", file=sys.stderr, flush=True)

    dashboard = None
    try:
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(home)], check=True)
        done("clone")
        subprocess.run(
            ["make", "--silent", "setup"],
            cwd=home,
            env=environment,
            check=True,
            stdout=subprocess.DEVNULL,
        )
        done("make setup")
        port = free_port()
        dashboard = subprocess.Popen(
            ["make", "--silent", "run", f"PORT={port}"],
            cwd=home,
            env=environment,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        wait_for(f"http://127.0.0.1:{port}/_stcore/health")
        done("dashboard answers")
        if pressed:
            press(port, chrome)
        else:
            subprocess.run(
                [".venv/bin/python", "main.py", "streaming", "--quick", "--json"],
                cwd=home,
                env=environment,
                check=True,
                stdout=subprocess.DEVNULL,
            )
        done("first finished run" + (" (browser)" if pressed else " (command line)"))
    finally:
        if dashboard:
            os.killpg(dashboard.pid, signal.SIGTERM)
            dashboard.wait(20)
        for card in (folder / "runtime").glob("*.json"):
            with open(card) as file:
                pid = json.load(file).get("pid")
            if pid:
                os.kill(pid, signal.SIGTERM)
        if not given.keep:
            shutil.rmtree(folder, ignore_errors=True)
    print(json.dumps({"seconds": steps, "total_s": round((clock.now_ns() - began) / 1e9, 1)}))
    return 0


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


def press(port: int, chrome: str) -> None:
    """Open the Streaming page, press Run, and wait for the verdict that only a finished run has."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chrome, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        page = browser.new_page()
        page.goto(f"http://127.0.0.1:{port}/Streaming")
        page.get_by_role("button", name="Run", exact=False).first.click(timeout=60_000)
        page.get_by_text("n = ", exact=False).first.wait_for(timeout=240_000)
        browser.close()


if __name__ == "__main__":
    sys.exit(main())
