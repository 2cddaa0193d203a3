"""Open every page on a large database in a real browser and time what a reader waits for: the first
view, from the navigation until its last element stands still.

    python bench/pages_at_scale.py [--events 10000000] [--db FILE] [--calls 50000] [--scripts]

One dashboard serves every page, warm: it has drawn another run's page before. Each page is opened
`--times` times after a change of the database, so that nothing is answered from the pages' own
cache; the median counts. A tenth of all trials is one run, whose page is timed too. `--calls`
records an application of so many calls and opens it. `--scripts` runs the scripts alone, in
Streamlit's own test runner, with one interaction each. The aim: under 2 s for a first view, under
1 s for an interaction; the recording under 5 s.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "bench"), str(ROOT / "tests")]

from lab.clock import now_ns, pause_s  # noqa: E402

BEFORE = 4
"""Pages that a reader has opened before."""
AIM_S, RECORDING_AIM_S, INTERACTION_AIM_S = 2.0, 5.0, 1.0


class Visit(NamedTuple):
    title: str
    path: str
    query: Mapping[str, str] = {}
    aim_s: float = AIM_S


def timed(action: Callable[[], Any]) -> float:
    began_ns = now_ns()
    action()
    return (now_ns() - began_ns) / 1e9


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


def record(store, calls: int, turns: int = 25) -> str:
    """The id of a recording of conversations of `turns` calls; in every tenth the system prompt
    tells the time, so that nothing is read from the cache."""
    import app_recordings as app

    bodies = (
        app.body(
            [
                app.text("You answer." if talk % 10 else f"It is {talk}:{turn}."),
                app.text(app.STABLE, **app.MARK),
            ],
            *(f"{'AQ'[said % 2 == 0]} {talk} {said}" for said in range(2 * turn + 1)),
        )
        for talk, turn in (divmod(number, turns) for number in range(calls))
    )
    return app.record(store, bodies, keep_text=False)


def visits(large: str, recording: str | None) -> Iterator[Visit]:
    yield Visit("Home", "")
    for file in sorted((ROOT / "pages").glob("*.py")):
        name = file.stem.partition("_")[2]
        yield Visit(name.replace("_", " "), name)
    yield Visit("Prompt caching, largest run", "Prompt_caching", {"run": large})
    for view in ("Pairs", "Rows"):
        query = {"run": large, "view": view}
        yield Visit(f"Prompt caching, largest run, {view}", "Prompt_caching", query)
    yield Visit("Side by side, largest run", "Side_by_side", {"runs": large})
    yield Visit("History, largest run", "History", {"run": large})
    if recording:
        yield Visit("Your app, recording", "Your_app", {"run": recording}, RECORDING_AIM_S)


def in_a_browser(store, all_visits: list[Visit], times: int) -> bool:
    """Whether each is within its aim, and none is wrong."""
    from unwatched_browser import Seen, UnwatchedBrowser

    is_good = True
    with served() as url, tempfile.TemporaryDirectory() as profile:
        # One reader's browser: it has the dashboard's own files from the pages before, and its code
        # as it was translated then.
        browser = UnwatchedBrowser(profile)
        for _ in range(BEFORE):
            browser.opened(f"{url}/Prompt_caching")  # imports are a server's start
        print(f"{'page':<38}{'first view':>12}{'again':>10}")
        for visit in all_visits:
            query = f"?{urlencode(visit.query, doseq=True)}" if visit.query else ""
            firsts: list[Seen] = []
            agains: list[Seen] = []
            for _ in range(times):
                touch(store)
                firsts.append(browser.opened(f"{url}/{visit.path}{query}"))
                agains.append(browser.opened(f"{url}/{visit.path}{query}"))
            first, again = sorted(firsts)[times // 2], sorted(agains)[times // 2]
            is_good &= first.seconds <= visit.aim_s and not first.wrong
            notes = [f"aim {visit.aim_s:.0f} s"] * (first.seconds > visit.aim_s)
            notes += [f"EXCEPTION: {first.wrong}"] * bool(first.wrong)
            times_s = f"{first.seconds:>10.2f} s{again.seconds:>8.2f} s"
            print(f"{visit.title:<38}{times_s}  {', '.join(notes)}", flush=True)
        browser.close()
    return is_good


def touch(store) -> None:
    """A write that changes no number of any page: all that pages have kept is stale, every judged
    run too."""
    with store._writing() as (connection, turn):
        connection.execute("UPDATE runs SET seed = seed + 1")
        turn.changed()


@contextlib.contextmanager
def served() -> Iterator[str]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    # No watch on the checkout: what others open in it meanwhile, .venv too, would wake the server.
    flags = {"port": port, "headless": "true", "fileWatcherType": "none"}
    words = [word for name, value in flags.items() for word in (f"--server.{name}", str(value))]
    command = ["-m", "streamlit", "run", "app.py", *words]
    server = subprocess.Popen(
        [sys.executable, *command], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        while not answers(port):
            pause_s(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(20)


def answers(port: int) -> bool:
    with socket.socket() as asking:
        return asking.connect_ex(("127.0.0.1", port)) == 0


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


def in_the_test_runner(store, all_visits: list[Visit]) -> bool:
    """The scripts' seconds, without the browser's drawing."""
    from streamlit.testing.v1 import AppTest

    files = {file.stem.partition("_")[2]: file.name for file in (ROOT / "pages").glob("*.py")}
    app_file = str(ROOT / "app.py")
    AppTest.from_file(app_file, default_timeout=120).run()
    print(f"{'page':<38}{'first view':>12}{'interaction':>14}")
    is_good = True
    for visit in all_visits:
        touch(store)
        app = AppTest.from_file(app_file, default_timeout=120)
        for name, value in visit.query.items():
            app.query_params[name] = value
        if visit.path:
            app.switch_page(f"pages/{files[visit.path]}")
        view = timed(app.run)
        what, action = interact(app)
        failed = f"  EXCEPTION: {app.exception[0].value[:80]}" if app.exception else ""
        is_good &= view <= visit.aim_s and action <= INTERACTION_AIM_S and not failed
        print(f"{visit.title:<38}{view:>10.2f} s{action:>12.2f} s  {what}{failed}", flush=True)
    return is_good


def main() -> int:
    ask = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    ask.add_argument("--events", type=int, default=10_000_000, help="event rows (default 10 M)")
    ask.add_argument("--calls", type=int, default=0, help="of a recording that is opened too")
    ask.add_argument("--db", help="a database to use as it is, or to fill where there is none")
    ask.add_argument("--times", type=int, default=3, help="each page is opened (default 3)")
    ask.add_argument("--only", default="", help="pages whose title has this in it")
    ask.add_argument("--scripts", action="store_true", help="the scripts alone, without a browser")
    args = ask.parse_args()
    with tempfile.TemporaryDirectory(prefix="lab-scale-") as folder:
        os.environ.update(
            LAB_DB=args.db or str(Path(folder) / "lab.duckdb"),
            LAB_RUNTIME=str(Path(folder) / "runtime"),
            LAB_SETTINGS=str(Path(folder) / "settings"),
            LAB_IGNORE_KEYS="1",
        )
        from lab.store import queries
        from lab.store.store import Store

        store = Store()
        if not store.path.exists():
            import store_at_scale

            print(f"filled in {timed(lambda: store_at_scale.fill(store, args.events)):.1f} s")
            complete(store)
        recording = record(store, args.calls) if args.calls else None
        known = queries.recordings(store, limit=1)
        recording = recording or (known["run_id"].iloc[0] if len(known) else None)
        print(queries.row_counts(store))
        large = queries.runs(store, limit=100_000)["run_id"].iloc[-1]
        chosen = [visit for visit in visits(large, recording) if args.only in visit.title]
        if args.scripts:
            return 0 if in_the_test_runner(store, chosen) else 1
        return 0 if in_a_browser(store, chosen, args.times) else 1


if __name__ == "__main__":
    raise SystemExit(main())
