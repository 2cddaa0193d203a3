"""What a closed loop hides: a server asked for 120 % of its capacity, by an open and a closed loop.

    python bench/over_capacity.py [--runs 3] [--seconds 15] [--pictures docs/pictures]

The simulated server has SLOTS places and takes SERVICE_S for each request: it can do
SLOTS / SERVICE_S a second. Asked for more, each request waits longer than the one before it, and
the latency since it was due grows by 0.2 s each second at 120 % (`slope` says why). The closed loop
has 120 % of the places as streams: it waits its turn and never asks for more. A third level is an
open loop that holds back what exceeds as many requests under way: counted from when a request was
sent it looks as calm as the closed loop, counted from when it was due it does not.

Ends with 1 where a slope is not the known one. Each level is a load of the lab's own, read from its
database.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

import numpy as np
import pandas as pd

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

SLOTS, GAP_MS, TOKENS = 5, 10, 50
SERVICE_S = GAP_MS * TOKENS / 1000
CAPACITY = SLOTS / SERVICE_S
OVER = 1.2
STREAMS = round(SLOTS * OVER)
KNOBS = {
    "network_ms": 0,
    "queue_ms": 0,
    "prefill_ms_per_token": 0,
    "read_ms_per_token": 0,
    "jitter": 0,
    "tail": 0,
    "gap_ms": GAP_MS,
    "answer_tokens": TOKENS,
    "slots": SLOTS,
}
OFF = 0.02
"""Seconds a second by which a slope may differ from the known one."""
OPEN, CLOSED, HELD = "open loop", "closed loop", "open loop, counted from the send"


def slope(over: float) -> float:
    """Of the latency, in seconds a second: what is due at t is the (C·over·t)th request and ends
    with it, at (C·over·t)/C: over − 1 seconds later for each second of t."""
    return over - 1


def measured(db: str, **settings) -> pd.DataFrame:
    """A load of one level: due_s since its first request was due, latency_s from when each was due,
    sent_s from when it was sent. LabError where it cannot be measured."""
    from lab import load_run
    from lab.load.load_settings import load_config_of
    from lab.store.store import Store

    fixed = {"endpoint": "simulated", "models": {"any": "simulated-small"}, "max_tokens": TOKENS}
    fixed |= {"arrivals": "constant", "warmup": 2, "bias": False, "db": db}
    config = load_config_of(**fixed, **settings)
    done = load_run.measure(config)
    calls = Store(db).frame(
        """
        SELECT
            (calls.scheduled_ns - min(calls.scheduled_ns) OVER ()) / 1e9 AS due_s,
            (calls.ended_ns - calls.scheduled_ns) / 1e9                  AS latency_s,
            (calls.ended_ns - calls.started_ns) / 1e9                    AS sent_s
        FROM calls JOIN trials USING (run_id, trial_id)
        WHERE calls.run_id = ?::UUID AND trials.phase = 'load' AND calls.error_kind IS NULL
        ORDER BY due_s
        """,
        [done.run_id],
    )
    return calls


def levels(db: str, seconds: float) -> dict[str, pd.DataFrame]:
    rate = CAPACITY * OVER
    opened = measured(db, rate=[rate], seconds=seconds)
    closed = measured(db, concurrency=[STREAMS], seconds=seconds)
    held = measured(db, rate=[rate], seconds=seconds, most=STREAMS)
    held = held.assign(due_latency_s=held["latency_s"], latency_s=held["sent_s"])
    return {OPEN: opened, CLOSED: closed, HELD: held}


def grows(calls: pd.DataFrame, column: str = "latency_s") -> float:
    """By least squares, seconds a second; without the first second, in which the places fill."""
    settled = calls[calls["due_s"] >= 1]
    return float(np.polyfit(settled["due_s"], settled[column], 1)[0])


def at_the_end(calls: pd.DataFrame) -> float:
    """The median latency of the last second, in seconds."""
    return float(calls.loc[calls["due_s"] >= calls["due_s"].max() - 1, "latency_s"].median())


def figure(shown: dict[str, pd.DataFrame], dark: bool):
    import plotly.graph_objects as go

    from lab.figures import layout, palette

    theme, drawn = palette.theme(dark), go.Figure()
    colours = dict(zip(shown, (theme.arms[1], theme.arms[2], theme.arms[3]), strict=True))
    for name, calls in shown.items():
        marker = {"color": colours[name], "size": 5}
        drawn.add_scatter(x=calls["due_s"], y=calls["latency_s"], mode="markers", marker=marker)
    layout.from_zero(drawn)
    layout.from_zero(drawn, "y", nticks=6)
    ends = {name: at_the_end(calls) for name, calls in shown.items()}
    return layout.finish(
        drawn,
        f"At 120 % of a server's capacity the open loop's requests come to take {ends[OPEN]:.1f} s;"
        f" the closed loop's stay at {ends[CLOSED]:.1f} s",
        f"seconds from when a request was due to its last token · every request; the title has"
        f" medians of the last second · capacity {CAPACITY:g} a second, open loop"
        f" {CAPACITY * OVER:g} a second, closed loop {STREAMS} streams · simulated",
        300,
        dark=dark,
        x_title="second of the level in which the request was due",
        legend=colours,
        left=layout.AXIS_PX,
    )


def draw(shown: dict[str, pd.DataFrame], folder: Path) -> None:
    import plotly.io

    from lab.figures import layout
    from lab.harness.reporters.figure_files import browser

    os.environ.setdefault("BROWSER_PATH", browser() or "")
    folder.mkdir(parents=True, exist_ok=True)
    for scheme in ("light", "dark"):
        drawn = figure(shown, scheme == "dark")
        file = folder / f"over-capacity-{scheme}.svg"
        plotly.io.write_image(drawn, file, width=layout.WIDTH_PX, height=drawn.layout.height)
        print(file)


def serve(runtime: Path) -> subprocess.Popen:
    """The server that the loads then find as `simulated`."""
    runtime.mkdir(mode=0o700)
    card = ["--announce", str(runtime / "simulated.json")]
    command = [
        sys.executable,
        "-m",
        "lab.local",
        "--simulated",
        "--knobs",
        json.dumps(KNOBS),
        *card,
    ]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    server.stdout.readline()
    return server


def main() -> int:
    ask = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    ask.add_argument("--runs", type=int, default=3)
    ask.add_argument("--seconds", type=float, default=15)
    ask.add_argument("--pictures", type=Path, help="draw the last run into this folder")
    options = ask.parse_args()
    known = {OPEN: slope(OVER), CLOSED: 0.0, HELD: 0.0, f"{HELD}: since due": slope(OVER)}
    slopes: dict[str, list[float]] = {name: [] for name in known}
    with tempfile.TemporaryDirectory() as scratch:
        os.environ |= {"LAB_RUNTIME": f"{scratch}/runtime", "LAB_IGNORE_KEYS": "1"}
        server = serve(Path(scratch, "runtime"))
        try:
            for _ in range(options.runs):
                shown = levels(f"{scratch}/lab.duckdb", options.seconds)
                for name, calls in shown.items():
                    slopes[name].append(grows(calls))
                slopes[f"{HELD}: since due"].append(grows(shown[HELD], "due_latency_s"))
        finally:
            server.terminate()
            server.wait(10)
        print(
            f"Capacity {CAPACITY:g} a second; open loop {CAPACITY * OVER:g} a second, closed loop"
            f" {STREAMS} streams; {options.seconds:g} s a level, medians of {options.runs} runs."
        )
        print(f"{'latency grows, s a second':<50} {'known':>7} {'measured':>9}  (each run)")
        held = True
        for name, found in slopes.items():
            value, runs = median(found), " ".join(f"{one:.3f}" for one in found)
            good = abs(value - known[name]) <= OFF
            held &= good
            verdict = "held" if good else "missed"
            print(f"{name:<50} {known[name]:>7.3f} {value:>9.3f}  ({runs})  {verdict}")
        for name, calls in shown.items():
            print(
                f"{name}: {len(calls)} requests, p50 {calls['latency_s'].median():.2f} s, in the"
                f" last second {at_the_end(calls):.2f} s"
            )
        if options.pictures:
            draw(shown, options.pictures)
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
