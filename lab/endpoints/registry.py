"""The endpoints by name, from environment and .streamlit/secrets.toml, read afresh each time: a key added later is found."""

from __future__ import annotations

import json
import os
import tomllib
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import urlsplit

from lab import paths
from lab.model import EndpointKind, LabError, Tier

LIVE_MODELS: dict[Tier, str] = {"small": "claude-haiku-5-5", "large": "claude-sonnet-5-5"}
OWN_MODELS: dict[str, dict[Tier, str]] = {
    "local": {"small": "smollm2-135m", "large": "smollm2-135m-f32"},
    "simulated": {"small": "simulated-small", "large": "simulated-large"},
}
CLAUDE_URL = "https://api.anthropic.com"
LOOPBACK = ("localhost", "127.0.0.1", "::1")
HEALTH_S = 0.5
# How each live default is told not to think first; the word differs by model, and others may refuse either.
THINKING_OFF = {"claude-sonnet-5-5": {"type": "between_tools"}, "claude-haiku-5-5": {"type": "disabled"}}
CAPABILITIES = frozenset({"streaming", "caching", "tools", "structured"})
"""What is assumed of a URL until `endpoints test` has tried it."""


@dataclass(frozen=True)
class Endpoint:
    """Where requests go. `base_url` is empty for the lab's own servers until connect() has started them; the key is in no repr."""

    name: str
    kind: EndpointKind
    base_url: str
    api_key: str = field(repr=False, default="")
    models: Mapping[Tier, str] = field(default_factory=dict)
    generates: Tier = "large"
    capabilities: frozenset[str] = CAPABILITIES

    def model_for(self, tier: Tier | None) -> str:
        """The model of a tier, or of the tier that generates here; LabError where there is none."""
        found = self.models.get(tier or self.generates)
        if not found:
            raise LabError(f"{self.name} has no {tier or self.generates} model; name one with --model {tier or self.generates}=NAME.")
        return found


def names() -> list[str]:
    """Every endpoint that has a name now; `anthropic` only where there is a key."""
    return ["local", "simulated", *(["anthropic"] if api_key() else []), *_configured()]


def default_name() -> str:
    return "anthropic" if api_key() else "local"


def api_key() -> str | None:
    """ANTHROPIC_API_KEY from the environment, else from .streamlit/secrets.toml; None with LAB_IGNORE_KEYS=1."""
    if _ignored():
        return None
    return os.environ.get("ANTHROPIC_API_KEY") or _secrets().get("ANTHROPIC_API_KEY") or None


def find(name: str | None = None, models: Mapping[str, str] | None = None) -> Endpoint:
    """An endpoint by name or base URL, its models replaced by `models` (tier to name; "any" is every tier). Starts nothing."""
    name = (name or default_name()).strip()
    if name in OWN_MODELS:
        found = Endpoint(name, name, "", models=OWN_MODELS[name], generates="small")
    elif name == "anthropic":
        if not (key := api_key()):
            raise LabError("No ANTHROPIC_API_KEY. Set it in the environment or in .streamlit/secrets.toml, or choose the local endpoint.")
        found = _at(name, os.environ.get("ANTHROPIC_BASE_URL") or CLAUDE_URL, key, LIVE_MODELS)
    elif name in (configured := _configured()):
        given = configured[name]
        if not given.get("base_url"):
            raise LabError(f"The endpoint {name!r} of .streamlit/secrets.toml has no base_url.")
        chosen = {tier: str(given[tier]) for tier in ("small", "large") if given.get(tier)}
        found = _at(name, str(given["base_url"]), str(given.get("api_key") or "placeholder"), chosen or LIVE_MODELS)
    elif "://" in name:
        found = _at(name.rstrip("/"), name, api_key() or "placeholder", LIVE_MODELS)
    else:
        raise LabError(f"No endpoint {name!r}. There are: {', '.join(names())}; or give the base URL of any Messages API.")
    return with_models(found, models or {})


def with_models(endpoint: Endpoint, models: Mapping[str, str]) -> Endpoint:
    if unknown := models.keys() - {"any", "small", "large"}:
        raise LabError(f"No tier {sorted(unknown)[0]!r}: --model takes NAME, small=NAME or large=NAME.")
    changed = dict(endpoint.models)
    if models.get("any"):
        changed = dict.fromkeys(("small", "large"), models["any"])
    return replace(endpoint, models={**changed, **{tier: model for tier, model in models.items() if tier != "any" and model}})


def connect(endpoint: Endpoint) -> Endpoint:
    """The endpoint with an address and a key: starts, or finds, the lab's own server where it is meant."""
    if endpoint.base_url:
        return endpoint
    from lab import processes

    card = processes.local_server(simulated=endpoint.kind == "simulated")
    return replace(endpoint, base_url=card.base_url, api_key=card.api_key)


def _at(name: str, url: str, key: str, models: Mapping[Tier, str]) -> Endpoint:
    """An endpoint by URL; the lab's own server is recognised at a loopback address, so that its rows are never labelled live."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise LabError(f"{url!r} is no base URL of a Messages API, such as https://api.anthropic.com.")
    if parts.username or parts.password:
        raise LabError("A URL with a password in it would be stored; give the key as ANTHROPIC_API_KEY instead.")
    base_url = url.rstrip("/").removesuffix("/v1")
    own = _health(base_url) if parts.hostname in LOOPBACK else None
    if own is None:
        return Endpoint(name, "live", base_url, key, models)
    from lab import processes

    own_key = os.environ.get("LAB_LOCAL_KEY") or processes.key_of(base_url) or key
    return Endpoint(name, own, base_url, own_key, OWN_MODELS[own], "small")


def _health(base_url: str) -> str | None:
    """The kind of the lab's own server, asked once; None for any other server or none."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(f"{base_url}/health", timeout=HEALTH_S) as reply:
            kind = json.load(reply).get("kind")
    except (OSError, ValueError, AttributeError, urllib.error.URLError):
        return None
    return kind if kind in OWN_MODELS else None


def _ignored() -> bool:
    return os.environ.get("LAB_IGNORE_KEYS") == "1"


def _secrets() -> dict:
    if _ignored():
        return {}
    path = Path(os.environ.get("LAB_SECRETS") or paths.ROOT / ".streamlit" / "secrets.toml")
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise LabError(f"{path.name} cannot be read as TOML; mend or remove it ({type(error).__name__}).") from None


def _configured() -> dict[str, dict]:
    """[endpoints.NAME] tables: base_url, api_key, small, large."""
    found = _secrets().get("endpoints") or {}
    return {name: given for name, given in found.items() if isinstance(given, dict) and name not in (*OWN_MODELS, "anthropic")}
