"""The endpoints by name, from environment and .streamlit/secrets.toml, read afresh each time: a key
added later is found."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, get_args

from lab import endpoint_kinds, pricing
from lab.clock import today
from lab.endpoints import caching_modes, consent, keys, model_facts, own_server
from lab.endpoints.model_facts import ModelFacts
from lab.model import Effort, EndpointKind, LabError, Tier

LIVE_MODELS: dict[Tier, str] = {"small": "claude-haiku-5-5", "large": "claude-sonnet-5-5"}
# How each live default is told not to think first; the word differs by model, and others may refuse
# either.
THINKING_OFF = {
    "claude-sonnet-5-5": {"type": "between_tools"},
    "claude-haiku-5-5": {"type": "disabled"},
}
CAPABILITIES = frozenset({"streaming", "caching", "tools", "structured"})
"""What is assumed of a URL until `endpoints test` has tried it."""
OF_CLAUDE = frozenset({"effort", "thinking"})
"""What is assumed of a Claude by its name, where an endpoint does not say what its models can."""
OF_THE_API = frozenset({"threads", "eager"})
"""What Anthropic's own address has, and a gateway only where its settings say so (`can`)."""


@dataclass(frozen=True)
class Endpoint:
    """Where requests go. `base_url` is empty for the lab's own servers until connect() has started
    them; the key is in no repr."""

    name: str
    kind: EndpointKind
    base_url: str
    api_key: str = field(repr=False, default="")
    models: Mapping[Tier, str] = field(default_factory=dict)
    generates: Tier = "large"
    capabilities: frozenset[str] = CAPABILITIES
    can: frozenset[str] = frozenset()
    """What its settings say that it can do beyond what is assumed."""
    models_said: Mapping[str, ModelFacts] = field(default_factory=dict)
    """What it has said of its models, by their names; empty where nobody has asked, or it did not
    answer."""
    caching: caching_modes.Caching | None = None
    """None where neither `endpoints test` nor the settings say it."""

    @property
    def traits(self) -> endpoint_kinds.Kind:
        """What its kind brings with it."""
        return endpoint_kinds.kind(self.kind)

    def model_for(self, tier: Tier | None) -> str:
        """The model of a tier, or of the tier that generates here; LabError where there is none."""
        tier = tier or self.generates
        if model := self.models.get(tier):
            return model
        raise LabError(f"{self.name} has no {tier} model; name one with --model {tier}=NAME.")

    def said_of(self, model: str) -> ModelFacts | None:
        """The card of a model; a name without its day finds the one with it."""
        if card := self.models_said.get(model):
            return card
        family = pricing.family(model)
        return next((c for n, c in self.models_said.items() if pricing.family(n) == family), None)

    def able(self, model: str) -> frozenset[str]:
        """What a model can do here: what its card says, else what its name lets assume."""
        if self.traits.own_server:
            return _with_levels(CAPABILITIES | self.traits.can)
        able, card = CAPABILITIES | self.can, self.said_of(model)
        if pricing.family(model).startswith("claude-"):
            is_anthropic = keys.origin(self.base_url) == keys.CLAUDE_URL
            able |= OF_CLAUDE | (OF_THE_API if is_anthropic else frozenset())
        if (price := pricing.price(model, today())) and price.fast:
            able |= {"fast"}
        said = card.can if card else {}
        able = (able | {name for name in said if said[name]}) - {n for n in said if not said[n]}
        return _with_levels(able, card.efforts if card else None)

    def thinking_off(self, model: str) -> dict[str, str] | None:
        """How a model is told not to think first; None where it would not, or nobody knows."""
        card = self.said_of(model)
        if card is None or card.thinking is None:
            return THINKING_OFF.get(model)
        if not card.can["thinking"]:
            return None
        off = next((kind for kind in ("disabled", "between_tools") if kind in card.thinking), None)
        return {"type": off} if off else None


def _with_levels(able: frozenset[str], efforts: Iterable[str] | None = None) -> frozenset[str]:
    """With "effort low" and the like: the levels that a card names, else all."""
    if "effort" not in able:
        return able
    levels = get_args(Effort) if efforts is None else efforts
    return able | {f"effort {level}" for level in levels}


def missing(needs: Iterable[str], able: Collection[str]) -> list[str]:
    """What of this is lacking, sorted; of what is lacking whole, no level."""
    lacking = set(needs).difference(able)
    return sorted(n for n in lacking if n.partition(" ")[0] not in lacking - {n})


def names() -> list[str]:
    """Every endpoint that has a name now; `anthropic` only where there is a key."""
    anthropic = ["anthropic"] if keys.anthropic_key() else []
    return [*endpoint_kinds.own_servers(), *anthropic, *_configured()]


def default_name() -> str:
    return "anthropic" if keys.anthropic_key() else endpoint_kinds.LOCAL


def find(name: str | None = None, models: Mapping[str, str] | None = None) -> Endpoint:
    """An endpoint by name or base URL, its models replaced by `models` (tier to name; "any" is
    every tier). Starts nothing.

    A URL that neither the settings name nor the user has agreed to is ConsentNeeded.
    """
    name = (name or default_name()).strip()
    if name in endpoint_kinds.own_servers():
        endpoint = _own(name, name, "", "")
    elif name == "anthropic":
        if not (key := keys.anthropic_key()):
            raise LabError(
                "No ANTHROPIC_API_KEY. Set it in the environment or in .streamlit/secrets.toml, or"
                " choose the local endpoint."
            )
        endpoint = _at(name, keys.anthropic_url(), key, LIVE_MODELS)
    elif name in (configured := _configured()):
        settings = configured[name]
        if not settings.get("base_url"):
            raise LabError(f"The endpoint {name!r} of .streamlit/secrets.toml has no base_url.")
        url = str(settings["base_url"])
        named = {tier: str(settings[tier]) for tier in LIVE_MODELS if settings.get(tier)}
        key = str(settings.get("api_key") or "") or consent.key_for(url)
        endpoint = replace(_at(name, url, key, named or LIVE_MODELS), can=_can_said(name, settings))
    elif "://" in name:
        keys.origin(name)
        key = "" if own_server.card_at(name) else consent.key_for(name)
        endpoint = _at(name.rstrip("/"), name, key, LIVE_MODELS)
    else:
        raise LabError(
            f"No endpoint {name!r:.200}. There are: {', '.join(names())}; or give the base URL of"
            " any Messages API."
        )
    return with_models(endpoint, models or {})


def beside(name: str, endpoint: Endpoint) -> Endpoint:
    """Another endpoint for a call of a run: of the same kind, as all that share a chart."""
    other = find(name)
    if other.kind != endpoint.kind:
        raise LabError(
            f"{name} is {other.kind} and this run is {endpoint.kind}: one run keeps to one kind of"
            " endpoint."
        )
    return other


def with_models(endpoint: Endpoint, models: Mapping[str, str]) -> Endpoint:
    """With these models in place of its own, and what the one that generates can do."""
    if unknown := models.keys() - {"any", "small", "large"}:
        raise LabError(
            f"No tier {sorted(unknown)[0]!r}: --model takes NAME, small=NAME or large=NAME."
        )
    by_tier = {tier: model for tier, model in models.items() if model}
    every = by_tier.pop("any", None)
    others = dict.fromkeys(LIVE_MODELS, every) if every else endpoint.models
    said = {} if endpoint.traits.own_server else model_facts.known(endpoint.base_url)
    named = replace(endpoint, models={**others, **by_tier}, models_said=said)
    return replace(named, capabilities=named.able(named.models.get(named.generates, "")))


def connect(endpoint: Endpoint) -> Endpoint:
    """The endpoint with an address and a key: the lab's own server is found, or started."""
    if endpoint.base_url:
        return endpoint
    from lab import processes

    card = processes.local_server(endpoint.kind)
    return replace(endpoint, base_url=card.base_url, api_key=card.api_key)


def _at(name: str, url: str, key: str, models: Mapping[Tier, str]) -> Endpoint:
    """An endpoint that may be asked; rows of the lab's own server are never labelled live."""
    keys.origin(url)
    base_url = keys.base_url(url)
    if card := own_server.card_at(base_url):
        return _own(name, card.kind, base_url, card.api_key)
    if kind := own_server.kind_at(base_url):
        return _own(name, kind, base_url, os.environ.get("LAB_LOCAL_KEY") or key)
    caching = _caching_said(base_url) or caching_modes.caching_of(base_url)
    return Endpoint(name, endpoint_kinds.LIVE, base_url, key, models, caching=caching)


def _own(name: str, kind: EndpointKind, base_url: str, key: str) -> Endpoint:
    return Endpoint(
        name, kind, base_url, key, endpoint_kinds.kind(kind).models, "small", caching="marked"
    )


def _caching_said(base_url: str) -> caching_modes.Caching | None:
    """What the settings say of a server, whether it is meant by name or by URL."""
    for name, table in _configured().items():
        caching = table.get("caching")
        if caching is None or keys.base_url(str(table.get("base_url", ""))) != base_url:
            continue
        if caching not in caching_modes.MODES:
            raise LabError(
                f"caching of the endpoint {name!r} in .streamlit/secrets.toml is {caching!r:.40};"
                f" it is one of {', '.join(caching_modes.MODES)}."
            )
        return caching
    return None


def _can_said(name: str, settings: Mapping[str, Any]) -> frozenset[str]:
    """`can` of an endpoint's table; LabError for what is no list of capabilities."""
    said, known = settings.get("can", []), CAPABILITIES | OF_CLAUDE | OF_THE_API | {"fast"}
    if not isinstance(said, list) or not all(isinstance(c, str) and c in known for c in said):
        raise LabError(
            f"can of the endpoint {name!r} in .streamlit/secrets.toml is a list of some of"
            f" {', '.join(sorted(known))}."
        )
    return frozenset(said)


def _configured() -> dict[str, dict]:
    """[endpoints.NAME] tables: base_url, api_key, small, large, caching, can."""
    return {
        name: table
        for name, table in keys.table("endpoints").items()
        if isinstance(table, dict) and name not in (*endpoint_kinds.own_servers(), "anthropic")
    }
