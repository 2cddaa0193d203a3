"""The course of one conversation: its calls, the tools after them and its sub-agents as spans, and
the critical path through them."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from lab.critical_path import Span, on_the_path


class Call(NamedTuple):
    """Instants are ns of the recording."""

    conversation: int
    lane: int
    turn: int
    call_id: str
    parent: str | None
    began: int
    first: int | None
    """Its first token; None where none is known."""
    ended: int
    is_lost: bool
    """It failed; one that its application gave up did not."""
    waits_for: str = "answering"
    """The kind of its one bar where no first token is known."""


class Ran(NamedTuple):
    """A tool, or the time that an application had for several."""

    name: str
    began: int
    ended: int


class Bar(NamedTuple):
    """A part of a call, or what came after it."""

    call: Call
    kind: str
    name: str
    began: int
    ended: int
    is_critical: bool = False


def bars(calls: Sequence[Call], tools: Mapping[str, Sequence[Ran]]) -> Iterator[Bar]:
    """Of one conversation; the critical ones touch without gap or overlap from its first call's
    start to its last one's end. `tools` are by call_id."""
    calls = sorted(calls, key=lambda call: (call.began, call.ended))
    spans, parts = _spans(calls, tools)
    critical: dict[int, list[tuple[int, int]]] = defaultdict(list)
    starts = [call.began for call in calls]
    for span, begin, end in on_the_path(spans):
        if span["span_id"] in parts:
            critical[span["span_id"]].append((begin, end))
        elif begin < end:
            before = calls[bisect_right(starts, begin) - 1]
            yield Bar(before, "idle", "", begin, end, True)
    for number, part in parts.items():
        cursor = part.began
        for begin, end in critical[number]:
            if cursor < begin:
                yield part._replace(began=cursor, ended=begin)
            yield part._replace(began=begin, ended=end, is_critical=True)
            cursor = end
        if cursor < part.ended:
            yield part._replace(began=cursor)


def _spans(
    calls: Sequence[Call], tools: Mapping[str, Sequence[Ran]]
) -> tuple[list[Span], dict[int, Bar]]:
    """A sub-agent is inside the tool that it is, where it ended with it; one that ran on in the
    background stands beside the calls of its conversation."""
    spans: list[Span] = []
    parts: dict[int, Bar] = {}
    ran: dict[str, list[Span]] = defaultdict(list)

    def add(parent: int | None, begin: int, end: int) -> Span:
        spans.append(
            {"span_id": len(spans), "parent_id": parent, "started_ns": begin, "ended_ns": end}
        )
        return spans[-1]

    def add_part(parent: int, part: Bar) -> Span:
        span = add(parent, part.began, part.ended)
        parts[span["span_id"]] = part
        return span

    add(None, calls[0].began, max(call.ended for call in calls))
    lanes: dict[int, list[Call]] = defaultdict(list)
    for call in calls:
        lanes[call.lane].append(call)
    for lane in sorted(lanes.values(), key=lambda lane: lane[0].began):
        until = max(call.ended for call in lane)
        around = [
            span["span_id"]
            for span in ran.get(lane[0].parent, ())
            if span["started_ns"] <= lane[0].began and until <= span["ended_ns"]
        ]
        inside = around[0] if around else 0
        for call in lane:
            answer = add(inside, call.began, call.ended)["span_id"]
            for part in _answer(call):
                add_part(answer, part)
            for name, begin, end in tools.get(call.call_id, ()):
                part = Bar(call, "tool", name, begin, end)
                ran[call.call_id].append(add_part(inside, part))
    return spans, parts


def _answer(call: Call) -> Iterator[Bar]:
    if call.first is None:
        yield Bar(call, call.waits_for, "", call.began, call.ended)
        return
    yield Bar(call, "first_token", "", call.began, call.first)
    yield Bar(call, "writing", "", call.first, call.ended)
