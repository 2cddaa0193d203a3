"""Open every page on a large database and time what a reader waits for: the first view, and one
interaction.

    python bench/pages_at_scale.py [--events 1000000] [--db FILE]

Streamlit's own test runner runs each page's script, so these are the script's seconds, without the
browser's drawing. The aim: under 2 s for a first view, under 1 s for an interaction.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "bench")]


def timed(action) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def complete(store) -> None:
    """The settings that a run's own harness writes and pages read."""
    arms = [{"technique": "caching", "arm": arm} for arm in ("uncached", "cached")]
    settings = {
        "config": {"technique": "caching", "endpoint": "local"},
        "arms": arms,
        "baseline": arms[0],
        "headline": {"metric": "ttft_ms", **arms[1]},
        "knobs": {},
        "runs": 50,
        "warmup": 1,
        "quick": False,
    }
    with store._writing() as (connection, _):
        connection.execute("UPDATE runs SET settings = ?", [json.dumps(settings)])


def interact(app) -> tuple[str, float]:
    """Change the first thing on the page that a reader would: another view or metric, or a
    filter."""
    for group in app.get("button_group"):
        others = [option.content for option in group.proto.options][1:]
        if others and group.label in ("View", "Metric", "What"):
            return group.label, timed(
                lambda one=group, other=others[0]: one.set_value([other]).run()
            )
    for box in app.selectbox:
        if len(box.options) > 1 and box.key != "endpoint":
            return box.label, timed(lambda one=box: one.select_index(1).run())
    return "run again", timed(app.run)


def main() -> int:
    ask = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    ask.add_argument("--events", type=int, default=1_000_000)
    ask.add_argument("--db", help="a database to use as it is, or to fill where there is none")
    args = ask.parse_args()
    with tempfile.TemporaryDirectory(prefix="lab-scale-") as folder:
        os.environ.update(
            LAB_DB=args.db or str(Path(folder) / "lab.duckdb"),
            LAB_RUNTIME=str(Path(folder) / "runtime"),
            LAB_IGNORE_KEYS="1",
        )
        from streamlit.testing.v1 import AppTest

        from lab.store import queries
        from lab.store.store import Store

        store = Store()
        if not store.path.exists():
            import store_at_scale

            print(
                f"filling {args.events:,} events:"
                f" {timed(lambda: store_at_scale.fill(store, args.events)):.1f} s"
            )
            complete(store)
        print(queries.row_counts(store))
        large = queries.runs(store, limit=100_000)["run_id"].iloc[-1]
        worst_view = worst_action = failures = 0.0
        AppTest.from_file(
            str(ROOT / "app.py"), default_timeout=120
        ).run()  # imports are a server's start, not a page's wait
        print(f"{'page':<34}{'first view':>12}{'interaction':>14}")
        pages = ["", *sorted(file.name for file in (ROOT / "pages").glob("*.py"))]
        visits = [(page, {}) for page in pages] + [
            ("2_Prompt_caching.py", {"run": large}),
            ("20_Side_by_side.py", {"runs": [large]}),
        ]
        for page, query in visits:
            app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=120)
            for name, value in query.items():
                app.query_params[name] = value
            if page:
                app.switch_page(f"pages/{page}")
            view = timed(app.run)
            what, action = interact(app)
            failures += bool(app.exception)
            failed = "  EXCEPTION: " + app.exception[0].value[:80] if app.exception else ""
            title = (page.removesuffix(".py") or "Home") + (", largest run" if query else "")
            print(f"{title:<34}{view:>10.2f} s{action:>12.2f} s  {what}{failed}")
            worst_view, worst_action = max(worst_view, view), max(worst_action, action)
    print(f"slowest first view {worst_view:.2f} s, slowest interaction {worst_action:.2f} s")
    return 0 if worst_view < 2 and worst_action < 1 and not failures else 1


if __name__ == "__main__":
    raise SystemExit(main())
