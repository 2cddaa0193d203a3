"""What is found in a recording, as values: pages, console and `check` tell them as they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

CAUSES = {
    "first_use": "first use",
    "system_differs": "a block of the system prompt differs",
    "tool_differs": "a tool differs",
    "tool_order": "the tools stand in another order",
    "message_differs": "an earlier message differs",
    "model": "another model",
    "effort": "another effort",
    "thinking": "other thinking",
    "tool_choice": "another tool_choice",
    "output_format": "another output format",
    "speed": "another speed",
    "no_breakpoint": "no breakpoint",
    "breakpoint_moved": "the breakpoint moved more than 20 blocks on",
    "breakpoint_beyond": "a breakpoint beyond the fourth",
    "below_minimum": "shorter than the model's minimum",
    "expired": "a pause longer than the time to live",
    "being_written": "asked while another request was writing it",
    "not_known": "cause not known",
}
"""Why a prefix was not read from the cache, in the words of every page."""
NO_FAULT = "first_use"
"""Somebody is always first."""
SOURCES = {"recorder": "recorded here", "client": "recorded in code"}
"""How a recording came in that no importer made."""


def origin_of(run: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a recording's run keeps of where it is from: source; of an import cannot and left_out,
    sentences."""
    return (run.get("settings") or {}).get("recording") or {}


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval, all in one unit."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Miss:
    """A call that did not read what it could have, or what its application would want it to."""

    call_id: str
    cause: str
    """One of CAUSES."""
    evidence: str
    """What was seen, in one sentence: the proof, or for `not_known` all that was the same."""
    missed_tokens: int
    """Prompt tokens that were not read and, without the cause, would have been."""
    before: str | None = None
    """The call_id of the earlier call that it is held against."""
    is_counted: bool = True
    """Whether a usage told the missed tokens; else they are told by characters, and so are
    dollars and seconds: about."""
    section: str = ""
    """Where it differs: tools, system or messages, …"""
    place: int | None = None
    """… which block of the whole prompt, from 0, …"""
    offset: int | None = None
    """… how many characters into the block, …"""
    length: int | None = None
    """… and how many characters of it are other ones."""
    look: str = ""
    """What the changing piece looks like: a time, an id, a number, a reordering; "" nothing."""
    usd: float | None = None
    """What it cost more than a read would have, from the usage: exact. None without a price."""
    seconds: Estimate | None = None
    """What it took longer, from the recording's own relation: an estimate. None where there is
    none."""
    api_reason: str | None = None
    """cache_miss_reason, where the application asked for it and the API said one."""

    @property
    def words(self) -> str:
        return CAUSES[self.cause]


@dataclass(frozen=True)
class Worth:
    """What a technique would be worth in this recording."""

    title: str
    """A sentence's beginning: "Stream 14 answers that somebody waits for"."""
    calls: Sequence[str]
    """The call_ids that it is about."""
    seconds: Estimate | None
    usd: float | None
    """Dollars saved (negative: it costs more); None where no price is known."""
    assumption: str
    is_upper_bound: bool
    fix: str | None = None
    """One of lab.recording.fixes.FIXES that makes it; None where it is the application's own work
    (its tools, its connections)."""
    technique: str | None = None
    """The slug of the technique whose page shows it."""
