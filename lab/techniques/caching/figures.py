"""What a cache hit is worth: time against the cached share of the prompt, and the tokens that were
read and written."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from lab import pricing
from lab.figures import layout, palette
from lab.techniques.caching import findings
from lab.units import missing, ms, percent, times, whole
from lab.view_parts import Column, Note, Part, RunData, Table

STATES = ("none", "write", "partial", "read")
STATE_WORDS = {
    "none": "nothing cached",
    "write": "written",
    "partial": "read in part",
    "read": "read",
}


def view(data: RunData, dark: bool) -> list[Part | go.Figure]:
    """First tokens against what the cache gave; money by state; from which use on caching pays."""
    points = data.ask("cache_points", data.run_id)
    states = data.in_order(findings.cache_states(data.calls()))
    states["observed_cache"] = states["observed_cache"].map(STATE_WORDS)
    parts: list[Part | go.Figure] = [
        cache_hits(points, dark),
        cache_tokens(points, dark, arms=data.arms),
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
        Note(_when_it_pays(data)),
    ]
    missed = points.groupby(["arm", "cache_miss_reason"]).size().rename("calls").reset_index()
    return [*parts, Table(missed, {})] if len(missed) else parts


def _when_it_pays(data: RunData) -> str:
    """The break-even count at the price of the run's model on its day.

    Where that has none, at the price of Claude's default model, and said so.
    """
    started = data.run["started_utc"]
    if missing(started):
        return "Nobody knows when this run was made, so no price is known for it."
    day, ttl = started.date(), data.knobs.ttl
    models = data.run["models"].values()
    own = next((model for model in models if pricing.price(model, day)), None)
    model = own or data.priced_as
    price = pricing.price(model, day)
    if price is None:
        return "No price is known for this model, so nothing is said about when caching pays."
    write = price.write_1h if ttl == "1h" else price.write_5m
    uses = findings.break_even_uses(price.input, write, price.read)
    pays = (
        f"with a {ttl} entry, caching costs less from {uses} uses of one prefix on"
        if uses
        else "caching never costs less"
    )
    if own:
        return f"At the price of {model}, {pays}."
    return f"These calls have no price. At that of {model}, {pays}."


def state_colours(dark: bool = False) -> dict[str, str]:
    """States are not arms: they have their own steps, and what is read from the cache stands
    out."""
    colours = palette.theme(dark)
    return {
        "none": colours.arms[0],
        "write": colours.phases["headers"],
        "partial": colours.arms[2],
        "read": colours.arms[1],
    }


def cache_hits(points: pd.DataFrame, dark: bool = False, *, reason: str | None = None) -> go.Figure:
    """Each call's time to first token against the share of its prompt that came from the cache, in
    the colour of its observed state."""
    points = points[points["ttft_ms"].notna() & points["cached_share"].notna()]
    if points.empty:
        return layout.empty(
            "Run the caching experiment: each call's first token stands here against its cached"
            " share.",
            dark,
            "Cache hits",
        )
    colours, figure = state_colours(dark), go.Figure()
    medians: dict[str, float] = {}
    for state in STATES:
        rows = points[points["observed_cache"] == state]
        if rows.empty:
            continue
        medians[state] = float(rows["ttft_ms"].median())
        draw = figure.add_scattergl if len(rows) > 400 else figure.add_scatter
        reasons = (
            rows["cache_miss_reason"]
            if "cache_miss_reason" in rows.columns
            else pd.Series([None] * len(rows), index=rows.index)
        )
        draw(
            x=rows["cached_share"].astype(float),
            y=rows["ttft_ms"].astype(float),
            mode="markers",
            marker={
                "color": palette.fade(colours[state], 0.6),
                "size": 9 if len(rows) < 200 else 5,
            },
            customdata=(
                rows[["trial_id", "call_id"]].astype(str).values
                if "call_id" in rows.columns
                else None
            ),
            hovertext=[
                f"{layout.bold(arm)} {ms(first)}<br>{percent(share)} from the cache,"
                f" {STATE_WORDS[state]}"
                + (f"<br>missed: {layout.safe(why)}" if isinstance(why, str) and why else "")
                for arm, first, share, why in zip(
                    rows["arm"], rows["ttft_ms"], rows["cached_share"], reasons, strict=True
                )
            ],
            hovertemplate="%{hovertext}<extra></extra>",
        )
    missed = medians.get("none", medians.get("write"))
    title = (
        f"A hit starts {times(missed / medians['read'])} sooner than a miss"
        if missed and medians.get("read")
        else "Time to first token against the cached share"
    )
    figure.update_xaxes(range=[-0.04, 1.04], tickformat=".0%")
    figure.update_yaxes(rangemode="tozero", separatethousands=True, nticks=6, ticksuffix=" ms")
    counts = ", ".join(
        f"{STATE_WORDS[state]} {len(points[points['observed_cache'] == state]):,}"
        for state in medians
    )
    return layout.finish(
        figure,
        title,
        f"time to first token, ms, against cache_read ÷ total prompt · {counts} ·"
        f" {layout.where(points)}",
        260,
        dark=dark,
        kind=layout.one_kind(points),
        reason=reason,
        x_title="share of the prompt read from the cache",
        left=layout.AXIS_PX,
        legend={STATE_WORDS[state]: colours[state] for state in medians},
    )


def cache_tokens(
    points: pd.DataFrame,
    dark: bool = False,
    *,
    arms: list[str] | None = None,
    reason: str | None = None,
) -> go.Figure:
    """Mean prompt tokens of a call by arm: read from the cache, written to it, and neither."""
    if points.empty:
        return layout.empty(
            "Tokens read and written stand here after a run.", dark, "Tokens in the cache"
        )
    means = (
        points.groupby("arm", sort=False)[
            ["cache_read_tokens", "cache_write_tokens", "prompt_tokens"]
        ]
        .mean()
        .fillna(0)
    )
    order = layout.order(arms, means.index)
    means = means.loc[order]
    rest = (means["prompt_tokens"] - means["cache_read_tokens"] - means["cache_write_tokens"]).clip(
        lower=0
    )
    colours, arm_colours = state_colours(dark), palette.arm_colours([*(arms or ()), *order], dark)
    bars = (
        ("read", means["cache_read_tokens"]),
        ("written", means["cache_write_tokens"]),
        ("neither", rest),
    )
    shades = {
        "read": colours["read"],
        "written": colours["write"],
        "neither": palette.theme(dark).ghost,
    }
    figure, base = go.Figure(), pd.Series(0.0, index=means.index)
    for name, lengths in bars:
        figure.add_bar(
            x=lengths,
            base=base,
            y=[-row for row in range(len(order))],
            marker={"color": shades[name], "line": {"width": 0}},
            hovertext=[
                f"{layout.bold(arm)}: {whole(length)} tokens {name}"
                for arm, length in lengths.items()
            ],
            hovertemplate="%{hovertext}<extra></extra>",
            **layout.BAR,
        )
        base = base + lengths
    notes = [
        f"{percent(row.cache_read_tokens / row.prompt_tokens if row.prompt_tokens else 0)} read"
        for row in means.itertuples()
    ]
    labels = [layout.bold(arm, arm_colours[arm]) for arm in order]
    height = layout.rows(figure, labels, [arm_colours[arm] for arm in order], notes=notes)
    figure.update_layout(barmode="overlay")
    figure.update_xaxes(rangemode="tozero", separatethousands=True, nticks=6)
    share = means["cache_read_tokens"] / means["prompt_tokens"].where(means["prompt_tokens"] > 0)
    best = share.idxmax() if share.notna().any() else order[0]
    return layout.finish(
        figure,
        f"{best} reads {percent(share.get(best) or 0)} of its prompt from the cache",
        f"prompt tokens as the API reported them, mean per call · {layout.count(len(points))} ·"
        f" {layout.where(points)}",
        height,
        dark=dark,
        kind=layout.one_kind(points),
        reason=reason,
        x_title="tokens",
        legend=shades,
    )
