"""From which use on caching pays: what a prefix costs at a model's price, and what its uses waited
in this run."""

from __future__ import annotations

from typing import NamedTuple

import plotly.graph_objects as go

from lab import pricing
from lab.figures import layout
from lab.model import LabError
from lab.techniques.caching import findings
from lab.techniques.caching.findings import Series
from lab.units import missing, ms, usd, whole
from lab.view_parts import Note, Part, RunData, Slider

MOST_USES = 100
USES = 10
ORDINALS = ("first", "second", "third")
LIVES = {"5m": "five minutes", "1h": "an hour"}


class Prices(NamedTuple):
    """In dollars per million tokens."""

    model: str
    input: float
    write: float
    read: float
    is_own: bool
    """Whether the run's own model has this price; if not, it is the one that stands in for it."""

    @property
    def words(self) -> str:
        return f"{'' if self.is_own else 'These calls have no price. '}At the price of {self.model}"


def prices(data: RunData, prompt_tokens: float = 0) -> Prices:
    """Those of the run's model on its day, of a prompt so long; where it has none, of Claude's
    default model. LabError where neither is known."""
    started = data.run["started_utc"]
    if missing(started):
        raise LabError("It is not known when this run was made, so it has no price.")
    day = started.date()
    models = data.run["models"].values()
    own = next((model for model in models if pricing.price(model, day)), None)
    model = own or data.priced_as
    price = pricing.price(model, day)
    if price is None:
        raise LabError("No price is known for this model, so it is not known when caching pays.")
    rates = price.rates_for(round(prompt_tokens))
    write = rates.write_1h if data.knobs.ttl == "1h" else rates.write_5m
    return Prices(model, rates.input, write, rates.read, own is not None)


def when_it_pays(data: RunData) -> str:
    try:
        known = prices(data)
    except LabError as error:
        return str(error)
    uses = findings.break_even_uses(known.input, known.write, known.read)
    if uses is None:
        return f"{known.words}, caching never costs less."
    return (
        f"{known.words}, a prefix that is cached for {LIVES[data.knobs.ttl]} costs less from its "
        f"{ordinal(uses)} use on."
    )


def ordinal(number: int) -> str:
    if number <= len(ORDINALS):
        return ORDINALS[number - 1]
    ending = {1: "st", 2: "nd", 3: "rd"}.get(number % 10 if number % 100 // 10 != 1 else 0, "th")
    return f"{number}{ending}"


def view(data: RunData, dark: bool) -> list[Part | go.Figure]:
    """Cost and wait of a prefix over its uses, with the use from which on caching is ahead."""
    if data.knobs.break_it:
        return [Note("This run broke the cache on purpose: the view Break it says what that cost.")]
    seen = findings.uses_seen(data.calls(findings.OF_A_CALL), data.baseline, data.headline_arm)
    if seen is None:
        return [Note("No call of this run has read a prefix from the cache, so nothing is drawn.")]

    def draw(uses: int) -> list[Part | go.Figure]:
        return [*_costs(data, seen, uses, dark), _waits(data, seen, uses, dark)]

    help = "How often requests begin alike while the entry lives, the first one included."
    return [Slider("Uses of this prefix", 2, MOST_USES, USES, draw, help), Note(_sources(seen))]


def _sources(seen: findings.Uses) -> str:
    return (
        f"Waits are this run's medians (calls: {whole(seen.without_n)} without a cache, "
        f"{whole(seen.write_n)} that wrote it, {whole(seen.read_n)} that read it); their sums are "
        f"computed. Cost is priced, not measured: {whole(seen.tokens)} prefix tokens, as this run "
        "read them; what follows the prefix costs the same either way."
    )


def _costs(data: RunData, seen: findings.Uses, uses: int, dark: bool) -> list[Part | go.Figure]:
    try:
        known = prices(data, seen.tokens)
    except LabError as error:
        return [Note(str(error))]
    cost = findings.over_uses(
        *(rate * seen.tokens / 1e6 for rate in (known.input, known.write, known.read)), uses
    )
    figure = _lines(data, cost, usd, dark)
    layout.from_zero(figure, "y", tickprefix="$")
    pays = when_it_pays(data)
    return [
        layout.finish(
            figure,
            pays.removeprefix("These calls have no price. ").rstrip("."),
            f"cost of the prefix, added up: {usd(cost.without[-1])} without a cache, "
            f"{usd(cost.cached[-1])} with it after {uses} uses · priced, not measured",
            200,
            dark=dark,
            x_title="uses of the prefix",
            left=layout.AXIS_PX,
            legend=layout.arm_colours(data.places, _arms(data), dark),
        )
    ]


def _waits(data: RunData, seen: findings.Uses, uses: int, dark: bool) -> go.Figure:
    """The finding says whether anything may be claimed of these waits; the sums claim nothing."""
    wait = findings.over_uses(seen.without_ms, seen.write_ms, seen.read_ms, uses)
    figure = _lines(data, wait, ms, dark)
    layout.from_zero(figure, "y")
    found = data.finding("ttft_ms", data.headline_arm)
    title = f"Time to first token of {uses} uses, added up"
    return layout.finish(
        figure,
        found.title if found.reason else title,
        f"ms: {ms(wait.without[-1])} without a cache, {ms(wait.cached[-1])} with it",
        200,
        dark=dark,
        frame=data.calls(findings.OF_A_CALL),
        reason=found.reason,
        x_title="uses of the prefix",
        left=layout.AXIS_PX,
        legend=layout.arm_colours(data.places, _arms(data), dark),
    )


def _arms(data: RunData) -> list[str]:
    return [data.baseline, data.headline_arm]


def _lines(data: RunData, series: Series, words, dark: bool) -> go.Figure:
    """Both arms over the uses; a ring where the cached one is ahead for good."""
    figure = go.Figure()
    colours = layout.arm_colours(data.places, _arms(data), dark)
    across = list(range(1, len(series.without) + 1))
    for arm, values in zip(_arms(data), (series.without, series.cached), strict=True):
        hover = [f"{layout.bold(arm)} {words(v)}<br>{n} uses" for n, v in enumerate(values, 1)]
        look = {"mode": "lines+markers", "line": {"color": colours[arm], "width": 2}}
        layout.points(figure, across, values, {"color": colours[arm], "size": 4}, hover, **look)
    if at := series.ahead_from:
        ring = {"color": colours[data.headline_arm], "size": 13, "symbol": "circle-open"}
        mark = f"cached is ahead from the {ordinal(at)} use on"
        layout.points(figure, [at], [series.cached[at - 1]], ring, [mark])
    figure.update_xaxes(range=[0.5, len(across) + 0.5], nticks=8, tickformat="d")
    return figure
