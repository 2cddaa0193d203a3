"""What kind of endpoint rows come from, and all that depends on it.

Rows of different kinds are never in one chart. A further kind is one more value here: whoever asks
about a kind asks its value, never its name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from lab.model import LabError, Tier


class Speed(NamedTuple):
    """Rough, and only for the sentence before a run."""

    begins_s: float
    """Seconds before any work."""
    prompt_tokens_per_s: float
    answer_tokens_per_s: float


@dataclass(frozen=True)
class Kind:
    name: str
    """As it stands in the column endpoint_kind."""
    words: str
    """What rows of this kind are, for the page's caption."""
    caveat: str = ""
    """What stands beside every figure and in a report; empty where nothing has to be said."""
    priced: bool = False
    """Requests cost real money: a budget, the user's consent and exact estimates are needed."""
    note: str = ""
    """What its runs cannot show, whatever they measure; stands with a verdict's notes."""
    own_server: bool = False
    """The lab starts the server itself, and a run takes its lease."""
    server_flags: tuple[str, ...] = ()
    """With which `python -m lab.local` serves this kind."""
    embedded: bool = False
    """Its server needs the embedded model's file on this machine."""
    hatched: bool = False
    """Drawn hatched wherever it shows: no model ran."""
    models: Mapping[Tier, str] = field(default_factory=dict)
    """The models of a server of the lab's own."""
    has_prices: bool = True
    """A price list can name its models; where not, cost is unknown, and counts as nothing."""
    marked: bool = True
    """Its name stands on every chart and report, so that nobody takes its size for Claude's."""
    can: frozenset[str] = frozenset()
    """What its models can do beyond lab.endpoints.registry.CAPABILITIES, where the server is the
    lab's own; the cards of its /v1/models say the same."""
    document_tokens: int = 3000
    """How much of the documents a task sends: the embedded model reads some 280 tokens a second
    on two cores."""
    speeds: Mapping[Tier, Speed] = field(default_factory=dict)

    def speed(self, tier: Tier) -> Speed:
        return self.speeds.get(tier, Speed(0.5, 10_000, 70))


LIVE = "live"
"""Of an address that is no server of the lab's own."""
LOCAL = "local"
"""Of the embedded model, which works on any machine, without a key."""
SIMULATED = "simulated"
"""Of the scripted server, whose true times are known: calibration holds the stamps against it."""
KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind(
            LIVE,
            "live: real requests at real prices",
            priced=True,
            marked=False,
            speeds={"small": Speed(0.5, 20_000, 150), "large": Speed(0.8, 10_000, 70)},
        ),
        Kind(
            LOCAL,
            "local: the embedded model on this machine; it shows the mechanism, not Claude's size",
            caveat="local: the mechanism, not Claude's size",
            own_server=True,
            embedded=True,
            can=frozenset({"eager", "threads"}),
            models={"small": "smollm2-135m", "large": "smollm2-135m-f32"},
            has_prices=False,
            document_tokens=600,
            speeds={"small": Speed(0.02, 260, 110), "large": Speed(0.02, 260, 35)},
        ),
        Kind(
            SIMULATED,
            "simulated: a scripted latency model; no language model runs",
            caveat="simulated: no model ran",
            note="Delays and answers are invented; this run tests the lab, not a model.",
            own_server=True,
            server_flags=("--simulated",),
            hatched=True,
            can=frozenset({"effort", "thinking", "fast", "eager", "threads"}),
            models={"small": "simulated-small", "large": "simulated-large"},
            speeds={"small": Speed(0.01, 10_000, 220), "large": Speed(0.01, 3_300, 75)},
        ),
    )
}
"""By name, in the order in which pages offer them."""

UNKNOWN = Kind("", "of a kind that this version does not know")


def kind(name: str | None) -> Kind:
    """The kind of a row; one that this version does not know has the plainest properties."""
    return KINDS.get(name or "") or replace(UNKNOWN, name=name or "")


def named(name: str) -> Kind:
    """A kind by name; LabError where there is none."""
    if name not in KINDS:
        raise LabError(f"There is no endpoint kind {name!r}; there are {', '.join(KINDS)}.")
    return KINDS[name]


def own_servers() -> tuple[str, ...]:
    """The kinds whose server is the lab's own."""
    return tuple(name for name, kind in KINDS.items() if kind.own_server)


OF_THE = " of the "


def of_tier(need: str, tier: Tier) -> str:
    """What an arm needs of the model of one tier, which need not be the one that generates."""
    return f"{need}{OF_THE}{tier} model"


def that_can(needs: Iterable[str]) -> tuple[str, ...]:
    """The kinds of the lab's own servers that can do all this beyond what any endpoint can; both of
    their models can alike."""
    wanted = {need.partition(OF_THE)[0] for need in needs}
    return tuple(name for name in own_servers() if KINDS[name].can >= wanted)


def own_models() -> frozenset[str]:
    """The models that only servers of the lab's own have: no other endpoint is asked for them."""
    return frozenset(model for kind in KINDS.values() for model in kind.models.values())
