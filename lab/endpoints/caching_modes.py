"""How a server caches prompts, as `endpoints test` has found it or the settings say it, by base
URL."""

from __future__ import annotations

from typing import Literal, get_args

from lab.endpoints import keys, settings_files

Caching = Literal["marked", "itself", "none"]
"""`marked`: cache_control is honoured, writes and reads are reported. `itself`: reads are reported
without any mark, writes are not (llama.cpp, vLLM). `none`: no cache use is reported."""
MODES: tuple[str, ...] = get_args(Caching)
FILE = "caching.json"


def caching_of(base_url: str) -> Caching | None:
    """None where nobody has tried."""
    mode = settings_files.read(FILE).get(keys.base_url(base_url))
    return mode if mode in MODES else None


def remember(base_url: str, mode: Caching) -> None:
    settings_files.write(
        FILE, {**settings_files.read(FILE), keys.base_url(base_url): mode}, "How this server caches"
    )
