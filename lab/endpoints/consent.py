"""Which addresses outside the user's settings may be sent requests, and whether with the user's
key: asked once, in words, and kept.

A file, a link, a stored run or a body never consents; only a button that names the host, a question
on a terminal, or a typed command.
"""

from __future__ import annotations

from lab.endpoints import keys, own_server, settings_files
from lab.model import LabError
from lab.paths import COMMAND

FILE = "consents.json"


class ConsentNeeded(LabError):
    """Nothing has been asked of `url` yet, not even whether it is there."""

    def __init__(self, url: str) -> None:
        self.url, self.origin = url, keys.origin(url)
        command = f"{COMMAND} endpoints allow {self.origin}"
        how = f"`{command}` lets requests go there"
        if keys.anthropic_key():
            how += f" with your Anthropic API key, `{command} --no-key` without it"
        super().__init__(
            f"Nothing was sent to {self.origin}, which nobody here has agreed to."
            f" {how}.{warning(url)}"
        )


def warning(url: str) -> str:
    if not keys.readable_on_the_way(url):
        return ""
    return " The address is http://: a key would cross the network readable by others."


def key_for(url: str) -> str:
    """The key for an address, or keys.PLACEHOLDER; ConsentNeeded where neither the settings nor the
    user have named it."""
    if key := keys.key_for(url):
        return key
    if keys.named(url):
        return keys.PLACEHOLDER
    agreed = stored().get(keys.origin(url))
    if agreed is None:
        raise ConsentNeeded(url)
    return (agreed and keys.anthropic_key()) or keys.PLACEHOLDER


def typed(name: str | None) -> None:
    """The user has typed this endpoint: requests may go there, and only a key is still to be asked
    about (ConsentNeeded)."""
    if not name or "://" not in name or own_server.card_at(name):
        return
    if keys.named(name) or keys.origin(name) in stored():
        return
    if keys.anthropic_key():
        raise ConsentNeeded(name)
    allow(name, key=False)


def stored() -> dict[str, bool]:
    """Origin to whether the key may go there; empty where the file is missing, broken or another
    user's."""
    try:
        return {origin: terms["key"] is True for origin, terms in settings_files.read(FILE).items()}
    except (LookupError, TypeError):
        return {}


def allow(url: str, key: bool) -> None:
    _keep({**stored(), keys.origin(url): key})


def forget(url: str) -> bool:
    """Whether there was anything to forget."""
    agreed = stored()
    if agreed.pop(keys.origin(url), None) is None:
        return False
    _keep(agreed)
    return True


def _keep(agreed: dict[str, bool]) -> None:
    settings_files.write(
        FILE, {origin: {"key": key} for origin, key in agreed.items()}, "The consent"
    )
