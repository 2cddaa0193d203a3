"""What a cache hit is worth: time against the cached share of the prompt, and the tokens that were
read and written."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
import plotly.graph_objects as go

from lab import pricing
from lab.figures import layout, palette, titles
from lab.stats import Finding
from lab.techniques.caching import findings
from lab.units import missing, ms, percent, whole
from lab.view_parts import Column, Note, Part, RunData, Table

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
        cache_hits(points, dark, finding=data.finding("ttft_ms"), arms=data.places),
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
        return "It is not known when this run was made, so it has no price."
    day, ttl = started.date(), data.knobs.ttl
    models = data.run["models"].values()
    own = next((model for model in models if pricing.price(model, day)), None)
    model = own or data.priced_as
    price = pricing.price(model, day)
    if price is None:
        return "No price is known for this model, so nothing can be said about when caching pays."
    write = price.write_1h if ttl == "1h" else price.write_5m
    uses = findings.break_even_uses(price.input, write, price.read)
    pays = "caching never costs less"
    if uses:
        pays = f"with a {ttl} entry, caching costs less from {uses} uses of one prefix on"
    if own:
        return f"At the price of {model}, {pays}."
    return f"These calls have no price. At the price of {model}, {pays}."


def cache_hits(
    points: pd.DataFrame,
    dark: bool = False,
    *,
    finding: Finding | None = None,
    arms: Mapping[str, int] | None = None,
) -> go.Figure:
    """Each call's time to first token against the share of its prompt that came from the cache, in
    the arm's colour; hollow where it wrote to the cache. `finding` is the run's on that time."""
    points = points.dropna(subset=["ttft_ms", "cached_share"])
    if points.empty:
        return layout.empty(
            "Run the caching experiment: each call's first token stands here against its cached"
            " share.",
            dark,
            "Cache hits",
        )
    colours, figure = layout.arm_colours(arms, points["arm"], dark), go.Figure()
    points = points[points["observed_cache"].isin(STATE_WORDS)]
    for (arm, state), rows in points.groupby(["arm", "observed_cache"], sort=False):
        hover = [
            f"{layout.bold(arm)} {ms(call.ttft_ms)}<br>{percent(call.cached_share)} from the cache,"
            f" {STATE_WORDS[state]}{_missed(call.cache_miss_reason)}"
            for call in rows.itertuples()
        ]
        look = layout.crowd(colours[str(arm)], len(points))
        if state == "write":
            look |= {"symbol": "circle-open", "line": {"width": 1.5}}
        layout.points(
            figure,
            rows["cached_share"].astype(float),
            rows["ttft_ms"].astype(float),
            look,
            hover,
            rows[["trial_id", "call_id"]].astype(str).values,
        )
    seen = points["observed_cache"].value_counts()
    counts = [f"{words} {seen[state]:,}" for state, words in STATE_WORDS.items() if state in seen]
    figure.update_xaxes(range=[-0.04, 1.04], tickformat=".0%")
    layout.from_zero(figure, "y", ticksuffix=" ms")
    finding = finding or Finding("Time to first token against the cached share of the prompt")
    hollow = "; hollow: written" * ("write" in seen)
    drawn = "time to first token, ms, against cache_read ÷ total prompt"
    return layout.finish(
        figure,
        finding.title,
        titles.subtitle(finding, "ttft_ms", drawn, f"{', '.join(counts)}{hollow}"),
        260,
        dark=dark,
        frame=points,
        reason=finding.reason,
        x_title="share of the prompt read from the cache",
        left=layout.AXIS_PX,
        legend=colours,
    )


def _missed(reason: object) -> str:
    return f"<br>missed: {layout.safe(reason)}" if isinstance(reason, str) and reason else ""


def cache_tokens(
    points: pd.DataFrame,
    dark: bool = False,
    *,
    arms: Mapping[str, int] | None = None,
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
