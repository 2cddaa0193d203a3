"""Where the time of a recording went: first tokens, writing, tools, nothing at all.

Each conversation's wall time, from its first call's start to its last one's end, is split along its
critical path: of what ran at the same time only that counts which was waited for, so that the parts
add up to the whole. Between an answer that called tools and the first call that goes on from it the
tools ran, unless the source knows when they did. A call that failed is waited for like any other.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from lab import units
from lab.recording import course
from lab.recording.conversations import uses_tools
from lab.recording.course import Bar, Call, Ran
from lab.recording.prefixes import values
from lab.recording.shape import Block

NS = 1_000_000
ANSWERS = ("first_token", "writing", "answering")
KINDS = (*ANSWERS, "tool", "idle")
COLUMNS = ("conversation", "lane", "turn", "call_id", "kind", "name")


@dataclass(frozen=True, eq=False)
class Waiting:
    total_ms: float
    """Of all conversations, each from its first call's start to its last one's end: what follows
    adds up to it, but for `failed_ms`."""
    first_token_ms: float | None
    """None where the source has no first-token time; then `writing_ms` is the whole answering."""
    writing_ms: float
    tools_ms: float
    idle_ms: float
    sentence: str
    """ "Of 4 min 12 s, Claude's first tokens took 31 %, its writing 28 %, …"."""
    timeline: pd.DataFrame
    """A row a bar: conversation, lane, turn, call_id, kind (first_token, writing, answering, tool,
    idle), name, started_ms, ended_ms, is_critical. A bar that is critical in part is several rows,
    and the critical ones add up to the total. Tools and idle time have the call before them."""
    whole_ms: float = 0.0
    """Answers without a first-token time where others have one: most did not stream."""
    failed_ms: float = 0.0
    """How much of the answers' time failed calls took."""


def of(
    calls: pd.DataFrame,
    conversations: pd.DataFrame,
    tools: pd.DataFrame,
    replies: Mapping[str, Sequence[Block]],
) -> Waiting:
    has_first = any(first is not None for first in values(calls, "ttft_ms"))
    known = _calls(calls, conversations, "first_token" if has_first else "answering")
    ran = _gaps(known, calls, replies) | _ran(tools)
    members: dict[int, list[Call]] = defaultdict(list)
    for call in known:
        members[call.conversation].append(call)
    drawn = [bar for some in members.values() for bar in course.bars(some, ran)]
    took = dict.fromkeys(KINDS, 0.0)
    failed = 0.0
    for bar in drawn:
        if bar.is_critical:
            ms = (bar.ended - bar.began) / NS
            took[bar.kind] += ms
            failed += ms * (bar.call.is_lost and bar.kind in ANSWERS)
    return Waiting(
        total_ms=sum(took.values()),
        first_token_ms=took["first_token"] if has_first else None,
        writing_ms=took["writing"] if has_first else took["answering"],
        tools_ms=took["tool"],
        idle_ms=took["idle"],
        sentence=_sentence(took, failed, len(members), has_first, _whose(calls)),
        timeline=_timeline(drawn),
        whole_ms=took["answering"] if has_first else 0.0,
        failed_ms=failed,
    )


def _calls(calls: pd.DataFrame, conversations: pd.DataFrame, lost: str) -> list[Call]:
    """`lost` is the kind of time that a call took which ended without an answer."""
    columns = ("call_id", "started_ms", "ttft_ms", "total_ms", "error_kind")
    placed = conversations.loc[calls["call_id"]]
    places = zip(
        *(placed[name] for name in ("conversation", "lane", "turn", "parent")), strict=True
    )
    known = []
    for row, (conversation, lane, turn, parent) in zip(
        zip(*(values(calls, name) for name in columns), strict=True), places, strict=True
    ):
        call_id, start, first, total, error = row
        began = round((start or 0.0) * NS)
        ended = began + max(0, round((first or 0.0 if total is None else total) * NS))
        first = None if first is None else min(began + max(0, round(first * NS)), ended)
        is_lost = error is not None and error != "cancelled"
        kind = "answering" if error is None else lost
        known.append(
            Call(conversation, lane, turn, call_id, parent, began, first, ended, is_lost, kind)
        )
    return known


def _ran(tools: pd.DataFrame) -> dict[str, list[Ran]]:
    """What the source knows of them, by call_id."""
    ran: dict[str, list[Ran]] = defaultdict(list)
    columns = ("call_id", "name", "started_ms", "ended_ms")
    for call_id, name, start, end in zip(*(values(tools, name) for name in columns), strict=True):
        if start is not None and end is not None and end > start:
            ran[call_id].append(Ran(name or "", round(start * NS), round(end * NS)))
    return ran


def _gaps(
    known: Sequence[Call], calls: pd.DataFrame, replies: Mapping[str, Sequence[Block]]
) -> dict[str, list[Ran]]:
    """From the end of each answer that called tools to the first call that goes on from it in its
    lane, by call_id."""
    by_id = {call.call_id: call for call in known}
    stops = zip(values(calls, "call_id"), values(calls, "stop_reason"), strict=True)
    asking = {id for id, stop in stops if uses_tools(stop, replies.get(id, ()))}
    gaps: dict[str, list[Ran]] = {}
    for call in sorted(known, key=lambda call: call.began):
        before = by_id.get(call.parent)
        if before is None or before.call_id not in asking or before.call_id in gaps:
            continue
        if before.lane == call.lane and before.turn < call.turn and before.ended < call.began:
            uses = [b.tool for b in replies.get(before.call_id, ()) if b.kind == "tool_use"]
            name = ", ".join(dict.fromkeys(filter(None, uses)))
            gaps[before.call_id] = [Ran(name, before.ended, call.began)]
    return gaps


def _timeline(drawn: Sequence[Bar]) -> pd.DataFrame:
    frame = pd.DataFrame(
        [(*bar.call[:4], bar.kind, bar.name, *bar[3:]) for bar in drawn],
        columns=[*COLUMNS, "started_ms", "ended_ms", "is_critical"],
    )
    for column in ("started_ms", "ended_ms"):
        frame[column] = frame[column].astype("float64") / NS
    return frame.astype({"is_critical": bool}).sort_values("started_ms", ignore_index=True)


def _whose(calls: pd.DataFrame) -> str:
    models = {str(model) for model in values(calls, "model") if model is not None}
    is_claude = bool(models) and all("claude" in model.lower() for model in models)
    return "Claude's" if is_claude else "the model's"


def _sentence(
    took: Mapping[str, float], failed: float, conversations: int, has_first: bool, whose: str
) -> str:
    total = sum(took.values())
    if not total:
        return "No call has ended yet." if conversations else "No call was recorded."
    shares = dict(zip(took, whole_percents(list(took.values())), strict=True))
    unanswered = not has_first and 0 < failed == took["answering"]
    # In the order in which they are told; the first one says whose it is.
    words = {
        "first_token": (f"{whose} first tokens", ""),
        "writing": (f"{whose} writing", "its writing"),
        "answering": (f"{whose} answers", "its answers that did not stream"),
        "tool": ("your tools", "your tools"),
        "idle": ("nothing at all", "nothing at all"),
    }
    if unanswered:  # no answer is anybody's then
        words["answering"] = ("calls that failed", "")
    told = [kind for kind in KINDS if shares[kind]]
    parts = [f"{words[kind][place > 0]} {shares[kind]} %" for place, kind in enumerate(told)]
    parts[0] = f"{words[told[0]][0]} took {shares[told[0]]} %"
    several = f" in {conversations:,} conversations" if conversations > 1 else ""
    sentence = f"Of {units.stretch(total)}{several}, {', '.join(parts)}."
    if failed >= total / 200 and not unanswered:
        sentence += f" Calls that failed took {units.percent(failed / total)} of it."
    return sentence


def whole_percents(amounts: Sequence[float]) -> list[int]:
    """Shares in whole per cents that add up to 100: what rounding down takes goes to those that
    lost most."""
    total = sum(amounts)
    exact = [100 * amount / total for amount in amounts]
    whole = [int(share) for share in exact]
    short = sorted(range(len(exact)), key=lambda place: whole[place] - exact[place])
    for place in short[: 100 - sum(whole)]:
        whole[place] += 1
    return whole
