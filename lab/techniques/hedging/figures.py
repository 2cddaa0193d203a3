"""The delay that recorded waits propose, what it will do, and what it cost where it was tried."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from lab import units
from lab.figures import layout, palette
from lab.metrics import FEWEST_BLOCKS
from lab.model import LabError
from lab.settings import usual_blocks
from lab.techniques.hedging import findings, planner
from lab.units import ms, percent, whole
from lab.view_parts import Choice, Column, Note, Number, Numbers, Part, RunData, Slider, Table

METRIC, OFFERED, PLOT_PX = "ttft_ms", 40, 260
ASSUMED = (0.0, 0.5, 1.0)


def plan(data: RunData, dark: bool) -> list[Part | go.Figure]:
    """A delay from the waits of this run, or of another one, a recording or a load."""
    runs = {data.run_id: _named(data.run)} | _others(data)
    return [
        Choice(
            "From the waits of",
            runs,
            data.run_id,
            lambda run_id: _of_run(data, run_id, dark),
            "A recording of your application, a load or a run: times to first token of requests"
            " that were asked once.",
        )
    ]


def _others(data: RunData) -> dict[str, str]:
    """Recordings and loads first: they are the user's own; then measured runs."""
    lists = (
        data.ask("recordings", limit=OFFERED),
        data.ask("loads", limit=OFFERED),
        data.ask("runs", limit=OFFERED, settings=False),
    )
    rows = [row for frame in lists for row in frame.to_dict("records")]
    return {row["run_id"]: _named(row) for row in rows if row["run_id"] != data.run_id}


def _named(run) -> str:
    name = run.get("name") if not units.missing(run.get("name")) else run["technique"]
    return f"{name} · {run['endpoint']} · {units.when(run['started_utc'])}"


def _of_run(data: RunData, run_id: str, dark: bool) -> list[Part | go.Figure]:
    run = data.run if run_id == data.run_id else data.ask("run", run_id)
    calls = data.ask("calls", run_id, columns=findings.OF_A_CALL)
    arms = [arm["arm"] for arm in run["settings"].get("arms", ())]
    twins = run["technique"] == data.control
    waits = findings.waits(calls, arms[0] if arms else None)
    try:
        planner.enough(waits.size)
    except LabError as error:
        return [Note(str(error))]

    def draw(most: int) -> list[Part | go.Figure]:
        delay = planner.plan(waits, most_twice=most / 100).delay_ms
        seen = findings.correlation(calls, arms, twins, delay)
        return _proposal(data, run, waits, most / 100, seen, dark)

    help = "Each costs its prompt a second time, and what its twin wrote before it was cancelled."
    top = round(100 * planner.MOST_TWICE)
    asked = [Slider("Requests asked twice at most, %", 1, 50, top, draw, help)]
    is_own = run["technique"] == data.technique.slug
    return [*asked, *(_held_against(data, run, calls, waits, arms, twins) if is_own else [])]


def _proposal(
    data: RunData, run, waits: np.ndarray, most: float, seen: findings.Correlation | None, dark
) -> list[Part | go.Figure]:
    """The delay at the correlation that was measured, or else at none; and at others."""
    known = 0.0 if seen is None else seen.draws
    blocks = usual_blocks(planner.QUANTILE)
    likely = planner.plan(waits, known, most, blocks=blocks)
    rows = [("assumed", planner.plan(waits, c, most, blocks=blocks)) for c in ASSUMED]
    rows += [] if seen is None else [("measured", likely)]
    before, after = likely.before, likely.after
    numbers = Numbers(
        (
            Number("Ask again after", ms(likely.delay_ms)),
            Number("Asked twice", f"{percent(likely.twice.estimate)} {_ends(likely.twice)}"),
            Number("p95 now", ms(before.estimate), ms_ends(before)),
            Number("p95 then", ms(after.estimate), ms_ends(after)),
        )
    )
    flags = f"--delay-ms {max(round(likely.delay_ms), 1)} --runs {blocks}"
    return [
        numbers,
        Note(_assumed(seen, likely, most)),
        _still_waiting(run, waits, likely, dark),
        Table(pd.DataFrame([_row(how, plan) for how, plan in rows]), COLUMNS),
        Note(f"To measure it: {flags}, or the same two numbers under Set up a run."),
    ]


COLUMNS = {
    "how": "twins share their luck",
    "correlation": Column("share", "percent"),
    "after": Column("p95 then, ms", "localized"),
    "low": Column("at least", "localized"),
    "high": Column("at most", "localized"),
    "run_low": Column("a run measures, from", "localized"),
    "run_high": Column("to", "localized"),
}


def _row(how: str, plan: planner.Plan) -> dict[str, object]:
    return {
        "how": how,
        "correlation": plan.correlation,
        "after": round(plan.after.estimate),
        "low": round(plan.after.low),
        "high": round(plan.after.high),
        "run_low": round(plan.in_a_run[0]),
        "run_high": round(plan.in_a_run[1]),
    }


def _assumed(seen: findings.Correlation | None, plan: planner.Plan, most: float) -> str:
    """What the prediction stands on."""
    text = f"Of {whole(plan.n)} recorded times to first token. "
    if seen is None:
        text += (
            "Assumed: equal requests are late independently of each other. That is hedging at its"
            " best; where a request is slow because of what it asks, or of a queue that both stand"
            " in, its twin is slow too, and asking twice buys nothing (100 % in the table). Tied"
            " trials, or the same thing twice, measure it."
        )
    else:
        found = planner.summary(seen.draws, seen.pairs)
        text += (
            f"Of late requests {percent(found.estimate)} {_ends(found)} share their luck with"
            f" their twin, by {units.counted(seen.pairs, 'pair')} of {seen.how}."
        )
    if most <= 1 - planner.QUANTILE:
        text += " So few twins cannot move p95: each is sent after it. They shorten what is beyond."
    return text


def _held_against(data: RunData, run, calls, waits, arms, twins) -> list[Part]:
    """What this run's own single waits foretell at its delay, beside what its hedged arm took."""
    knobs, arm = data.knobs_of(run), data.technique.headline_arm
    hedged = data.ask("trials", run["run_id"])
    hedged = hedged.loc[hedged["counts"] & (hedged["arm"] == arm), "ttft_ms"].dropna()
    if len(hedged) < FEWEST_BLOCKS:
        return []
    seen = findings.correlation(calls, arms, twins, knobs.delay_ms)
    known = 0.0 if seen is None else seen.draws
    told = planner.plan(waits, known, delay_ms=knobs.delay_ms, blocks=len(hedged))
    low, high = map(ms, told.in_a_run)
    measured = float(np.quantile(hedged, planner.QUANTILE))
    return [
        Note(
            f"At this run's delay, {ms(knobs.delay_ms)}, its waits of single requests foretell a"
            f" p95 of {ms(told.after.estimate)} for {units.counted(len(hedged), 'trial')} of {arm}"
            f" (from {low} to {high}); measured: {ms(measured)}."
        )
    ]


def _still_waiting(run, waits: np.ndarray, plan: planner.Plan, dark: bool) -> go.Figure:
    """How many requests still wait, over time: as recorded, and asked again after the delay."""
    figure, theme = go.Figure(), palette.theme(dark)
    waits = np.sort(waits)
    even = np.full((1, waits.size), 1 / waits.size)
    lines = {
        "once, as recorded": (planner.Waits(waits, even), theme.arms[0]),
        "asked again": (planner.Waits(waits, even, plan.delay_ms, plan.correlation), theme.arms[1]),
    }
    for name, (curve, colour) in lines.items():
        left = 100 * (1 - curve.shares[0])
        hover = [
            f"{layout.bold(name)} {percent(share / 100)}<br>wait longer than {ms(at)}"
            for at, share in zip(curve.at, left, strict=True)
        ]
        look = {"mode": "lines", "line": {"color": colour, "width": 2, "shape": "hv"}}
        layout.points(figure, curve.at, left, {"color": colour, "size": 3}, hover, **look)
    dash = {"color": theme.zero, "width": 1.5, "dash": "dash"}
    figure.add_vline(x=plan.delay_ms, line=dash)
    figure.add_hline(y=100 * (1 - planner.QUANTILE), line=dash | {"dash": "dot"})
    layout.from_zero(figure, "y", range=[0, 30], ticksuffix="\u00a0%")
    layout.from_zero(figure)
    frame = pd.DataFrame({"endpoint": [run["endpoint"]], "endpoint_kind": [run["endpoint_kind"]]})
    now, then = ms(plan.before.estimate), ms(plan.after.estimate)
    return layout.finish(
        figure,
        f"Asked again after {ms(plan.delay_ms)}, p95 is predicted to go from {now} to {then}",
        "share of requests still without a first token, by ms waited · dashed: the delay, dotted:"
        " p95",
        PLOT_PX,
        dark=dark,
        frame=frame,
        x_title="ms",
        left=layout.AXIS_PX,
        legend={name: colour for name, (_, colour) in lines.items()},
    )


def price(data: RunData, dark: bool) -> list[Part | go.Figure]:
    """What each arm asked and cost: tied requests cost each prompt twice."""
    rows = data.in_order(findings.price(data.ask("calls", data.run_id, columns=findings.OF_A_CALL)))
    untold = int(rows["untold"].sum())
    notes = [
        "Each twin is billed its prompt, whichever of the two is kept: tied requests cost every"
        " prompt twice."
    ]
    if untold:
        notes.append(
            f"{units.counted(untold, 'cancelled call')} ended before the endpoint told what they"
            " cost. They count here with their twin's prompt and no answer, the least that is"
            " billed; a budget counts their longest."
        )
    return [Table(rows, PRICE_COLUMNS), *map(Note, notes)]


PRICE_COLUMNS = {
    "requests": Column("requests a trial", "%.2f"),
    "cancelled": Column("cancelled", "localized"),
    "untold": Column("of these without a count", "localized"),
    "cost_usd": Column("cost per trial, at least", "$%.6f"),
}


def ms_ends(interval) -> str:
    return f"from {ms(interval.low)} to {ms(interval.high)} at 95 %"


def _ends(share) -> str:
    return f"[{percent(share.low)}, {percent(share.high)}]"
