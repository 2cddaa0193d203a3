"""A stored run sent to Arize Phoenix, one of its traces opened in a browser, and the picture of it
for docs/traces.md.

    python3 -m venv phoenix && phoenix/bin/pip install arize-phoenix
    PHOENIX_HOST=127.0.0.1 phoenix/bin/phoenix serve
    python main.py parallelism --quick --endpoint simulated
    python -m bench.phoenix http://127.0.0.1:6006 [RUN]

Says how many traces Phoenix then has of that run, and fails if any is missing. Needs playwright and
a chromium on PATH.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import urllib.parse
import urllib.request
from pathlib import Path

from lab import clock, paths
from lab.harness.reporters.figure_files import BROWSERS
from lab.store import queries
from lab.store.store import Store

WIDTH, HEIGHT = 1440, 900
PROJECT = "default"
PATIENCE_S = 30


def asked(url: str, path: str, **query: object) -> dict:
    with urllib.request.urlopen(
        f"{url}{path}?{urllib.parse.urlencode(query)}", timeout=10
    ) as reply:
        return json.load(reply)


def stored(url: str, wanted: set[str]) -> set[str]:
    """Which of the trace ids Phoenix has; it takes spans in a moment after it has answered."""
    deadline, found = clock.now_ns() + PATIENCE_S * 1e9, set()
    while found < wanted and clock.now_ns() < deadline:
        spans, cursor = [], None
        while True:
            page = asked(
                url,
                f"/v1/projects/{PROJECT}/spans",
                limit=1000,
                **({"cursor": cursor} if cursor else {}),
            )
            spans += page["data"]
            if not (cursor := page.get("next_cursor")):
                break
        found = {span["context"]["trace_id"] for span in spans} & wanted
        clock.pause_s(0.5)
    return found


def picture(url: str, trace_id: str, path: Path) -> None:
    from playwright.sync_api import sync_playwright

    chrome = next(filter(None, map(shutil.which, BROWSERS)), None)
    project = next(
        one["id"] for one in asked(url, "/v1/projects")["data"] if one["name"] == PROJECT
    )
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chrome)
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light")
        page.goto(f"{url}/projects/{project}/traces/{trace_id}")
        trace = page.get_by_role("dialog")
        call = trace.get_by_text("chat ", exact=False).last
        call.wait_for(timeout=PATIENCE_S * 1000)
        call.click()
        trace.get_by_role("tab", name="Attributes").click()
        page.wait_for_timeout(1000)  # the panel slides in
        trace.screenshot(path=path)
        browser.close()


def main() -> int:
    url, reference = sys.argv[1].rstrip("/"), sys.argv[2] if len(sys.argv) > 2 else "last"
    store = Store()
    run_id = queries.resolve(store, reference)
    trials = queries.trials(store, run_id)
    environment = {
        **os.environ,
        "OTEL_EXPORTER_OTLP_ENDPOINT": url,
        "OTEL_METRICS_EXPORTER": "none",
    }
    sent = subprocess.run(
        [sys.executable, "main.py", "trace", run_id], cwd=paths.ROOT, env=environment, check=False
    )
    wanted = {trial_id.replace("-", "") for trial_id in trials["trial_id"]}
    found = stored(url, wanted)
    print(f"Phoenix has {len(found)} of {len(wanted)} traces of run {run_id}")
    shown = (
        trials[trials["phase"] == "measured"]
        .sort_values("calls")
        .iloc[-1]["trial_id"]
        .replace("-", "")
    )
    picture(url, shown, paths.ROOT / "docs" / "pictures" / "phoenix.png")
    return 0 if sent.returncode == 0 and found == wanted else 1


if __name__ == "__main__":
    sys.exit(main())
