"""Whose key is whose: a key belongs to one origin (scheme, host and port), and goes to no other
unless the user agrees.

Read afresh each time from the environment and .streamlit/secrets.toml: a key added later is used
without a restart.
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from lab import paths
from lab.model import LabError

CLAUDE_URL = "https://api.anthropic.com"
PLACEHOLDER = "placeholder"
"""What the SDK is given where no key goes: it refuses to make a request without any."""
VARIABLES = ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "LAB_LOCAL_KEY")
SECRET_NAMES = ("key", "token", "secret", "password")
HOST = re.compile(r"[a-z0-9_.-]+|[0-9a-f:.]+")
LOOPBACK = ("localhost", "127.0.0.1", "::1")
DEFAULT_PORTS = {"http": 80, "https": 443}


def origin(url: str) -> str:
    """scheme://host:port of a base URL, without a port that the scheme implies; LabError where it
    is no plain http address."""
    url = url.strip()
    if "?" in url or "#" in url:
        raise LabError(
            "A base URL has no ? and no #: what stands there would be stored, and a key in it too."
            " Give the address alone."
        )
    try:
        parts = urlsplit(url)
        if "@" in parts.netloc:
            raise LabError(
                "A URL with a password in it would be stored; give the key in LAB_API_KEYS or"
                " .streamlit/secrets.toml instead."
            )
        host = (parts.hostname or "").encode("ascii" if "[" in parts.netloc else "idna").decode()
        port = f":{parts.port}" if parts.port not in (None, DEFAULT_PORTS.get(parts.scheme)) else ""
    except ValueError:
        host = ""
    # Only what every parser reads alike: the address that is shown must be the one that is
    # connected to.
    plain = url.isprintable() and "\\" not in url and " " not in url
    if not (plain and HOST.fullmatch(host) and parts.scheme in DEFAULT_PORTS):
        raise LabError(f"{url!r:.200} is not the base URL of a Messages API, such as {CLAUDE_URL}.")
    return f"{parts.scheme}://{f'[{host}]' if ':' in host else host}{port}"


def base_url(url: str) -> str:
    """What the SDK appends /v1/messages to; with that path, or /v1, it is the same server."""
    return url.strip().rstrip("/").removesuffix("/v1/messages").removesuffix("/v1").rstrip("/")


def anthropic_key() -> str | None:
    """ANTHROPIC_API_KEY from the environment, else from .streamlit/secrets.toml; None with
    LAB_IGNORE_KEYS=1."""
    if ignored():
        return None
    key = os.environ.get("ANTHROPIC_API_KEY") or _text(secrets().get("ANTHROPIC_API_KEY"))
    return key.strip() or None


def anthropic_url() -> str:
    return os.environ.get("ANTHROPIC_BASE_URL") or CLAUDE_URL


def key_for(url: str) -> str | None:
    """The key that the user's own settings give to this address: LAB_API_KEYS and [keys], then
    [endpoints.*], then Anthropic's."""
    return None if ignored() else next((key for key in _assigned(url) if key), None)


def named(url: str) -> bool:
    """Whether the user's own settings name this origin, with a key or without one."""
    return not ignored() and any(True for _ in _assigned(url))


def readable_on_the_way(url: str) -> bool:
    """Whether a key would cross a network unencrypted."""
    parts = urlsplit(url)
    return parts.scheme == "http" and parts.hostname not in LOOPBACK


def _assigned(url: str) -> Iterator[str]:
    """The keys of an origin, empty where the settings name it without one."""
    wanted = origin(url)
    pairs = _per_url()
    for endpoint in table("endpoints").values():
        if isinstance(endpoint, dict):
            pairs.append((_text(endpoint.get("base_url")), _text(endpoint.get("api_key"))))
    if key := anthropic_key():
        pairs.append((anthropic_url(), key))
    for address, key in pairs:
        with suppress(LabError):
            if origin(address) == wanted:
                yield key


def _per_url() -> list[tuple[str, str]]:
    try:
        by_url = json.loads(os.environ.get("LAB_API_KEYS") or "{}")
    except (ValueError, RecursionError):
        by_url = None
    if not isinstance(by_url, dict):
        raise LabError(
            "LAB_API_KEYS is not a JSON object of base URL to key, such as"
            ' {"https://gateway.example": "key"}.'
        )
    pairs = [*by_url.items(), *table("keys").items()]
    return [(address, _text(key)) for address, key in pairs]


def ignored() -> bool:
    return os.environ.get("LAB_IGNORE_KEYS") == "1"


def secrets() -> dict[str, Any]:
    return {} if ignored() else _read(secrets_file())


def secrets_file() -> Path:
    return Path(os.environ.get("LAB_SECRETS") or paths.home() / ".streamlit" / "secrets.toml")


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise LabError(
            f"{path.name} cannot be read as TOML; correct or remove it ({type(error).__name__})."
        ) from None


def table(name: str) -> dict[str, Any]:
    """A table of the secrets file; empty where there is none."""
    values = secrets().get(name)
    return values if isinstance(values, dict) else {}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def known() -> set[str]:
    """Every secret of this user, the ignored ones too: never to be kept or shown. Never raises."""
    values = {os.environ.get(name, "") for name in VARIABLES}
    for line in os.environ.get("ANTHROPIC_CUSTOM_HEADERS", "").splitlines():
        header = line.partition(":")[2].strip()
        values |= {header, header.partition(" ")[2]}  # also without its scheme, such as Bearer
    with suppress(LabError):
        values |= set(_leaves(_read(secrets_file()), False))
    try:
        values |= {key for _, key in _per_url()}
    except LabError:
        values.add(os.environ.get("LAB_API_KEYS", ""))
    return values


def _leaves(value: Any, secret: bool) -> Iterator[str]:
    """Values of a secrets file whose name, or whose table's name, says that they are secret."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _leaves(inner, secret or any(word in name.lower() for word in SECRET_NAMES))
    elif secret and isinstance(value, str):
        yield value
