"""A run as it goes, drawn from its progress file: nothing here asks the process that measures."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from lab import metrics
from lab.figures import layout, palette
from lab.metrics import FEWEST_BLOCKS
from lab.stats import hodges_lehmann, ratio
from lab.units import percent, value, values

COLUMNS = ["arm", "block", "phase", "outcome", "endpoint_kind"]


def dots(
    trials: pd.DataFrame,
    arms: layout.Arms,
    metric: str,
    dark: bool = False,
    *,
    headline: str | None = None,
) -> go.Figure:
    """A dot for each finished trial, hollow in the warm-up, and a tick at each arm's running
    median; rows are a progress file's `trial` lines. `arms` begin with the baseline. Only the
    planned arm, `headline`, is spoken of, and not before it has as many blocks as an interval
    takes."""
    if not arms:
        words = "Each finished trial appears here as a dot."
        return layout.empty(words, dark, "Waiting for the first trial")
    colours = palette.arm_colours(arms, dark)
    figure, notes = go.Figure(), []
    trials = trials.reindex(columns=[*COLUMNS, metric])
    ended_well = trials["outcome"].eq("ok")
    is_measured = trials["phase"].eq("measured")
    well = trials[is_measured & ended_well].dropna(subset=[metric]).astype({metric: float})
    medians = well.groupby("arm")[metric].median().reindex(list(arms))
    written = values(metric, *medians)
    for row, arm in enumerate(arms):
        mine = trials["arm"].eq(arm)
        for rows, hollow in ((mine & ~is_measured, True), (mine & is_measured, False)):
            x = trials.loc[rows & ended_well, metric].dropna()
            _row(figure, x, row, arm, colours[arm], metric, hollow)
        n = int(well["arm"].eq(arm).sum())
        note = "warming up" if mine.any() else "no trial yet"
        if n:
            layout.tick(figure, medians[arm], row, colours[arm])
            note = f"median {written[row]} · n = {n}"
        left_out = int((mine & is_measured & ~ended_well).sum())
        notes.append(f"{note} · {left_out} not counted" if left_out else note)
    height = layout.arm_rows(figure, colours, notes)
    x_title = layout.metric_axis(figure, metric)
    if not ended_well.any():
        figure.update_xaxes(range=[0, 1], showticklabels=False)
    measured = trials[is_measured].assign(is_well=ended_well[is_measured])
    is_warming = bool((~is_measured & trials["arm"].isin(arms)).any())
    baseline = next(iter(arms))
    return layout.finish(
        figure,
        _so_far(measured, headline or list(arms)[-1], baseline, metric),
        f"{metrics.axis(metric)} · a dot a trial, a tick at the running median"
        + "; hollow: warm-up, which counts for nothing" * is_warming,
        height,
        dark=dark,
        kind=layout.one_kind(trials),
        x_title=x_title,
    ).update_layout(uirevision="dots")


def _row(
    figure: go.Figure,
    x: pd.Series,
    row: int,
    arm: str,
    colour: str,
    metric: str,
    hollow: bool,
) -> None:
    look = layout.crowd(colour, len(x))
    if hollow:
        look |= {"symbol": "circle-open", "color": colour, "line": {"width": 1.5}}
    layout.points(
        figure,
        x.astype(float).to_numpy(),
        -row + layout.MIDDLE + layout.jitter(len(x), 0.22),
        look,
        [
            f"{layout.bold(arm)} {value(metric, amount)}{', warm-up' if hollow else ''}"
            for amount in x
        ],
    )


def _so_far(measured: pd.DataFrame, arm: str, baseline: str, metric: str) -> str:
    """Nothing before the fewest blocks, nothing where the arm fails more than its baseline; then
    what the pairs say so far, by the verdict's own estimate and at its level."""
    if measured.empty:
        return "The first trials come in"
    if arm == baseline:
        return f"So far, {layout.count(len(measured), 'trials')}"
    left_out = (~measured["is_well"]).groupby(measured["arm"]).sum()
    if left_out.get(arm, 0) > left_out.get(baseline, 0):
        n = int(measured["arm"].eq(arm).sum())
        return f"So far, {left_out[arm]} of {n} trials of {arm} do not count: no time is claimed"
    blocks = measured[measured["is_well"]].pivot_table(
        index="block", columns="arm", values=metric, aggfunc="first"
    )
    pairs = blocks.reindex(columns=[baseline, arm]).dropna().astype(float)
    if len(pairs) < FEWEST_BLOCKS:
        few = f"{len(pairs)} of {FEWEST_BLOCKS} blocks"
        return f"{few}: nothing is claimed before {FEWEST_BLOCKS}"
    known, new, old = metrics.find(metric), pairs[arm].to_numpy(), pairs[baseline].to_numpy()
    interval = hodges_lehmann(new - old)
    if interval.low <= 0 <= interval.high:
        return f"So far, no clear difference between {arm} and {baseline} in {known.words}"
    amount, is_positive = value(metric, abs(interval.estimate)), (pairs > 0).all(axis=None)
    if is_positive:
        amount = percent(abs(ratio(new, old).estimate - 1))
    change = known.less if interval.estimate < 0 else known.more
    return f"So far, at the median, {arm} {known.verb} {amount} {change} than {baseline}"
