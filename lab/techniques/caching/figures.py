"""What a cache hit is worth: time by what was read of the prompt, and the tokens that were
read and written."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
import plotly.graph_objects as go

from lab.figures import layout, palette, titles
from lab.stats import Finding
from lab.techniques.caching import break_even, findings
from lab.units import ms, percent, whole
from lab.view_parts import Column, Note, Part, RunData, Table

METRIC, ROW_PX = "ttft_ms", 44
STATE_WORDS = {
    "none": "nothing cached",
    "write": "written",
    "partial": "read in part",
    "read": "read",
}


def view(data: RunData, dark: bool) -> list[Part | go.Figure]:
    """First tokens against what the cache gave; money by state; from which use on caching pays."""
    calls = data.calls(findings.OF_A_CALL)
    points, states = findings.cache_answers(calls), data.in_order(findings.cache_states(calls))
    states["observed_cache"] = states["observed_cache"].map(STATE_WORDS)
    parts: list[Part | go.Figure] = [
        cache_hits(points, dark, finding=data.finding(METRIC), arms=data.places),
        cache_tokens(points, dark, arms=data.places, arm=data.headline_arm),
        Table(
            states.drop(columns="prompt_tokens"),
            {
                "observed_cache": "observed",
                "ttft_ms": Column("first token, ms, p50", "localized"),
                "read_tokens": Column("tokens read", "localized"),
                "written_tokens": Column("tokens written", "localized"),
                "cost_usd": Column("cost per call", "$%.6f"),
                "as_intended": Column("state as intended", "percent"),
                "hit_share": Column("read ÷ prompt", "percent"),
            },
        ),
        Note(break_even.when_it_pays(data)),
    ]
    missed = points.groupby(["arm", "cache_miss_reason"]).size().rename("calls").reset_index()
    return [*parts, Table(missed, {})] if len(missed) else parts


def cache_hits(
    points: pd.DataFrame,
    dark: bool = False,
    *,
    finding: Finding | None = None,
    arms: layout.Arms | None = None,
) -> go.Figure:
    """Each call's time to first token in the row of what the cache gave it, in its arm's colour,
    with the row's median. `finding` is the run's on that time."""
    points = points.dropna(subset=["ttft_ms", "cached_share"])
    points = points[points["observed_cache"].isin(STATE_WORDS)]
    if points.empty:
        return layout.empty(
            "Run the caching experiment: each call's first token stands here, by what it read from"
            " the cache.",
            dark,
            "Cache hits",
        )
    colours, theme = layout.arm_colours(arms, points["arm"], dark), palette.theme(dark)
    figure, labels, notes = go.Figure(), [], []
    states = [state for state in STATE_WORDS if state in set(points["observed_cache"])]
    for row, state in enumerate(states):
        rows = points[points["observed_cache"] == state]
        _calls(figure, rows, row, colours)
        median, share = float(rows["ttft_ms"].median()), float(rows["cached_share"].median())
        layout.tick(figure, median, row, theme.ink)
        read = f"{percent(share)} of the prompt" if share else ""
        labels.append(f"{layout.bold(STATE_WORDS[state])} {layout.tint(read, theme.muted)}")
        notes.append(f"p50 {ms(median)} · {layout.count(len(rows))}")
    height = layout.rows(figure, labels, notes=notes, row_px=ROW_PX)
    x_title = layout.metric_axis(figure, METRIC)
    finding = finding or Finding("Time to first token by what was read from the cache")
    drawn = "time to first token, ms, by what was read from the cache"
    crowds = points.groupby(["observed_cache", "arm"]).size()
    mark = (
        "a dot a call" if crowds.max() <= layout.DENSE else "the curve: how many calls took so long"
    )
    return layout.finish(
        figure,
        finding.title,
        titles.subtitle(finding, METRIC, drawn, mark),
        height,
        dark=dark,
        frame=points,
        reason=finding.reason,
        x_title=x_title,
        legend=colours,
    )


def _calls(figure: go.Figure, rows: pd.DataFrame, row: int, colours: Mapping[str, str]) -> None:
    y = pd.Series(-row + layout.MIDDLE + layout.jitter(len(rows), 0.3), index=rows.index)
    for arm, calls in rows.groupby("arm", sort=False):
        if len(calls) > layout.DENSE:
            x, floor = calls["ttft_ms"].to_numpy(float), -row - 17 / ROW_PX
            layout.density(figure, x, floor, 20 / ROW_PX, colours[str(arm)])
            continue
        hover = [
            f"{layout.bold(arm)} {ms(call.ttft_ms)}<br>{percent(call.cached_share)} from the cache"
            f"{_missed(call.cache_miss_reason)}"
            for call in calls.itertuples()
        ]
        layout.points(
            figure,
            calls["ttft_ms"].astype(float),
            y[calls.index],
            layout.crowd(colours[str(arm)], len(rows)),
            hover,
            calls[["trial_id", "call_id"]].astype(str).values,
        )


def _missed(reason: object) -> str:
    return f"<br>missed: {layout.safe(reason)}" if isinstance(reason, str) and reason else ""


def cache_tokens(
    points: pd.DataFrame,
    dark: bool = False,
    *,
    arms: layout.Arms | None = None,
    arm: str | None = None,
) -> go.Figure:
    """Mean prompt tokens of a call by arm: read from the cache, written to it, and neither. `arm`
    is the one that the title speaks of."""
    if points.empty:
        words = "Tokens read and written stand here after a run."
        return layout.empty(words, dark, "Tokens in the cache")
    names = ["cache_read_tokens", "cache_write_tokens", "prompt_tokens"]
    means = points.groupby("arm")[names].mean().fillna(0)
    arm_colours = layout.arm_colours(arms, points["arm"], dark)
    means = means.loc[list(arm_colours)]
    read, written, prompt = (means[name] for name in names)
    # States are not arms: they have the steps of a phase.
    steps = palette.theme(dark).phases
    ghost = palette.theme(dark).ghost
    shades = {"read": steps["tokens"], "written": steps["headers"], "neither": ghost}
    figure, starts = go.Figure(), pd.Series(0.0, index=means.index)
    rest = (prompt - read - written).clip(lower=0)
    for (name, shade), lengths in zip(shades.items(), (read, written, rest), strict=True):
        hover = [
            f"{layout.bold(arm)}: {whole(length)} tokens {name}" for arm, length in lengths.items()
        ]
        layout.bars(figure, range(len(means)), starts, lengths, shade, hover)
        starts = starts + lengths
    share = (read / prompt.where(prompt > 0)).fillna(0)
    height = layout.arm_rows(figure, arm_colours, [f"{percent(part)} read" for part in share])
    layout.from_zero(figure)
    title = "Tokens in the cache"
    if arm in share.index:
        title = f"{arm} reads {percent(share[arm])} of its prompt from the cache"
    return layout.finish(
        figure,
        title,
        f"prompt tokens as the API reported them, mean per call · {layout.count(len(points))}",
        height,
        dark=dark,
        frame=points,
        x_title="tokens",
        legend=shades,
    )
