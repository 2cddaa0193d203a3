"""Why a prefix that is the same was not read: no breakpoint in reach of it, too short, too early,
too late; or nobody can tell."""

from __future__ import annotations

from lab import units
from lab.recording.asked import Call, looked_at
from lab.recording.cache_rules import MOST_BREAKPOINTS, SLACK, TTL_MS
from lab.recording.causes import Change
from lab.recording.entries import Entry
from lab.recording.facts import Miss
from lab.recording.wanted import BEFORE, History, Wanted

SHORT = 1.5
"""Tokens told by characters are below a minimum for sure where so many times as many were too."""


def refused(call: Call) -> Miss | None:
    """The API answers a request with more than four breakpoints with an error."""
    if len(call.marks) <= MOST_BREAKPOINTS or call.row["http_status"] != 400:
        return None
    evidence = (
        f"It has {len(call.marks)} breakpoints, and 4 are allowed: the answer was status 400."
    )
    return Miss(call.call_id, "breakpoint_beyond", evidence, 0)


def out_of_reach(call: Call, wanted: Wanted, words: str) -> Change | None:
    """No breakpoint of the call looks back as far as the prefix's last block."""
    place = wanted.place
    if place in call.reachable:
        return None
    begins = f"Up to block {place + 1} all is the same as in {words}"
    ahead = [mark.place for mark in call.marks if mark.place >= place]
    if not ahead:
        evidence = f"{begins}, which had a breakpoint there; this one has none there or later"
        return Change("no_breakpoint", evidence, "the breakpoint")
    if place in looked_at(call.marks):
        evidence = (
            f"{begins}; of its {len(call.marks)} breakpoints only one beyond the fourth is near"
        )
        return Change("breakpoint_beyond", evidence, "the breakpoint")
    evidence = (
        f"{begins}, which had a breakpoint there; the next one here stands {min(ahead) - place}"
        " blocks on, and it looks back over 20, itself the first"
    )
    return Change("breakpoint_moved", evidence, "the breakpoint")


def out_of_time(call: Call, wanted: Wanted, history: History) -> Change | None:
    """Asked too early, while it was being written, or too late."""
    entry = history.cache.entries.get(wanted.before.keys[wanted.place])
    if entry is None:
        return None
    if entry.unreadable_ms > call.sent_ms:
        evidence = (
            f"Sent {_pause(entry.unreadable_ms - call.sent_ms)} before the answer began that wrote"
            " these tokens; they can be read only from then on"
        )
        return Change("being_written", evidence, "it was still being written")
    pause_ms = call.started_ms - history.cache.last_use_ms(wanted.before, wanted.place, entry)
    if pause_ms < entry.ttl_ms:
        return None
    evidence = f"Sent {_pause(pause_ms)} after its last use, with {_ttl(entry.ttl_ms)} to live"
    return Change("expired", evidence, "the pause, longer than the time to live")


def lost(call: Call, history: History) -> Miss | None:
    """An entry that by all that is known could have been read, and was not."""
    cache, read = history.cache, history.cache.read_place(call)
    for place in call.reachable:
        entry = cache.entries.get(call.keys[place])
        if entry is None or (read is not None and place <= read):
            continue
        tokens, is_counted = cache.tokens(call, place)
        was_there = (
            tokens - call.read > SLACK
            and entry.is_readable(call.started_ms)
            and entry.used_ms > history.emptied_ms
            and cache.was_there(call, place, entry)
            and not _may_break(entry.writer, place, call)
        )
        if was_there:
            history.emptied_ms = call.started_ms
            return not_known(call, Wanted(entry.writer, place, tokens, is_counted), entry, history)
    return None


def _may_break(before: Call, place: int, call: Call) -> list[str]:
    """Settings that differ and break the messages always, tools and system prompt on some models:
    which ones is not documented."""
    if call.prompt.blocks[place].section == "messages":
        return []
    names = ("effort", "thinking", "output_format")
    return [name for name in names if before.settings[name] != call.settings[name]]


def not_known(call: Call, wanted: Wanted, entry: Entry | None, history: History) -> Miss:
    before = wanted.before
    evidence = (
        f"Everything up to the breakpoint was the same as in {history.name(call, before)}:"
        f" {about(wanted.tokens, wanted.is_counted)} tokens"
    )
    if entry:
        ago = _pause(call.started_ms - entry.used_ms)
        evidence += f", last used {ago} before, with {_ttl(entry.ttl_ms)} to live"
    evidence += f". It read {call.read:,}."
    hints = _hints(before, wanted.place, call)
    if entry and history.cache.last_use_ms(before, wanted.place, entry) > entry.used_ms:
        hints.append("a call that failed in between, which may have used it")
    if entry and entry.readable_ms > call.sent_ms:
        hints.append("the answer that wrote it was not over yet, and nobody saw it begin")
    if hints:
        evidence += f" Also seen: {', '.join(hints)}."
    return Miss(
        call.call_id,
        "not_known",
        evidence,
        wanted.tokens - call.read,
        before=before.call_id,
        is_counted=wanted.is_counted,
        place=wanted.place,
    )


def _hints(before: Call, place: int, call: Call) -> list[str]:
    """What differs and is not documented to break this prefix, or only may."""
    first, second = before.prompt.settings, call.prompt.settings
    hints = [
        f"another {name.replace('_', ' ')}, which on some models breaks tools and system prompt too"
        for name in _may_break(before, place, call)
    ]
    if first.get("betas") != second.get("betas"):
        hints.append("other beta headers")
    if first.get("thinking") != second.get("thinking") and not hints:
        hints.append("thinking said otherwise")
    if second.get("context_management"):
        hints.append("context management, which may have cleared earlier blocks")
    images = [any(b.kind == "image" for b in each.prompt.blocks) for each in (before, call)]
    if images[0] != images[1]:
        hints.append("images in one of the two, which break the messages' part")
    return hints


def nothing_cached(call: Call, history: History) -> Miss | None:
    """It asked for caching and neither read nor wrote: too short, or nobody knows."""
    for place in call.reachable:
        before = history.latest_like(call, place)
        if before and any(mark.place == place for mark in before.marks):
            break
    else:
        return None
    ttl_ms = max(TTL_MS[mark.ttl] for mark in before.marks)
    if call.started_ms - before.started_ms >= ttl_ms or before.answering_ms > call.sent_ms:
        return None
    tokens, is_counted = history.cache.tokens(call, place)
    # What ends with an earlier breakpoint is shorter than what ends with the last one.
    longest, is_exact = history.cache.tokens(call, call.marks[-1].place)
    least = call.minimum
    if least and (call.tokens < least or longest * SHORT < least):
        cause, evidence = (
            "below_minimum",
            f"The prompt up to its last breakpoint has {about(longest, is_exact)} tokens;"
            f" {call.model} caches nothing shorter than {least:,}.",
        )
    else:
        cause, evidence = (
            "not_known",
            f"It neither read nor wrote the cache, though {history.name(call, before)} had the same"
            f" {about(tokens, is_counted)} tokens before a breakpoint."
            + ("" if history.ever_cached else " No call of this recording did."),
        )
    return Miss(
        call.call_id,
        cause,
        evidence,
        tokens,
        before=before.call_id,
        is_counted=is_counted,
        place=place,
    )


def unmarked(call: Call, history: History) -> Miss | None:
    """Blocks that an earlier prompt begins with too, and no breakpoint of it behind them."""
    least = call.sure_minimum
    if not (history.ever_cached or call.minimum) or call.tokens - call.read < least:
        return None
    places = range(len(call.path) - 1, -1, -1)
    place = next((place for place in places if call.keys[place] in history.begun), None)
    before = None if place is None else history.latest_like(call, place)
    if before is None or call.started_ms - before.started_ms >= TTL_MS["5m"]:
        return None
    if before.answering_ms > call.sent_ms:
        return None
    tokens, is_counted = history.cache.tokens(call, place)
    behind = max((mark.place for mark in before.marks if mark.place <= place), default=None)
    marked = 0 if behind is None else history.cache.tokens(call, behind)[0]
    missed = tokens - max(call.read, marked)
    if tokens < least or missed < least:
        return None
    begins = f"The first {place + 1} blocks are" if place else "The first block is"
    evidence = (
        f"{begins} the same as in {history.name(call, before)}, {about(tokens, is_counted)} tokens,"
        " with no breakpoint" + (" behind." if behind is None else f" after block {behind + 1}.")
    )
    return Miss(
        call.call_id,
        "no_breakpoint",
        evidence,
        missed,
        before=before.call_id,
        is_counted=is_counted,
        place=place,
    )


def of_a_part(call: Call, history: History) -> Miss | None:
    """Of a request that is not known as a whole only usage and clocks speak."""
    before = history.cached_before(call)
    if before is None or call.tokens < before.through or before.through - call.read <= SLACK:
        return None
    was_short = before.row["cache_write_5m_tokens"]
    ttl = "5m" if was_short and not before.row["cache_write_1h_tokens"] else "1h"
    ended_ms = before.started_ms + (before.row["ended_at_ms"] or 0.0)
    pause_ms = call.started_ms - ended_ms
    counts = f"{before.through:,} tokens were in the cache; this one read {call.read:,}"
    if pause_ms >= TTL_MS[ttl]:
        cause, evidence = (
            "expired",
            f"Sent {_pause(pause_ms)} after the end of {BEFORE}, with {_ttl(TTL_MS[ttl])} to live;"
            f" {counts}.",
        )
    else:
        cause, evidence = (
            "not_known",
            f"After {BEFORE} {counts} of them. Only a part of the request is known, so its cause"
            " cannot be told.",
        )
    missed = before.through - call.read
    return Miss(call.call_id, cause, evidence, missed, before=before.call_id)


def about(tokens: int, is_counted: bool) -> str:
    return f"{tokens:,}" if is_counted else f"about {tokens:,}"


def _pause(ms: float) -> str:
    """Seconds where minutes would round a time to live away."""
    if ms < 10_000:
        return units.ms(ms, seconds=ms >= 1000)
    return f"{ms / 1000:.0f} s" if ms < 600_000 else f"{ms / 60_000:,.0f} min"


def _ttl(ttl_ms: float) -> str:
    return "1 h" if ttl_ms >= TTL_MS["1h"] else "5 min"
