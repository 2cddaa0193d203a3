"""A recording's own sessions as what users do under load: `recording:RUN` as a load's scenario.

Each conversation is a play: its requests as recorded, one after the other, with the pauses that the
application made between them: a person who read, a tool that ran. A sub-agent is a play of its own,
since what it does overlaps the conversation that began it, and a play does one thing at a time: the
conversation waits as long as it did when recorded, and the sub-agent begins when a stream is free
for it, or with `--arrivals recorded` when it did. What was asked at the same time within one lane
is asked one after the other.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from lab import recorded_tasks, recordings, units
from lab.endpoints.registry import Endpoint
from lab.load.load_settings import RECORDED, LoadConfig
from lab.load.profile import Play, Step
from lab.recorded_tasks import Calls, Pair
from lab.recordings import Recording
from lab.scenarios.definitions import RECORDING, Task
from lab.store.store import Store

MOST_CALLS = 1_000
"""Of a recording under load: the requests are held as bytes by the process that sends them."""
LONGEST_PAUSE_S = 60.0
"""Somebody went for lunch: a stream of a load does not."""


class Sessions(NamedTuple):
    endpoint: Endpoint
    tasks: Sequence[Task]
    plays: tuple[Play, ...]
    """Their templates are places in `tasks`."""
    at_s: tuple[float, ...]
    """When each began, in seconds from the first of them."""
    about: str
    """What they are, and what is simplified, in a sentence."""


class Recorded(NamedTuple):
    """One call, in seconds of the recording."""

    call_id: str
    began_s: float
    ended_s: float


class Lane(NamedTuple):
    """What of a conversation, or of a sub-agent, can be asked again."""

    is_agent: bool
    began_s: float
    calls: Sequence[str]
    pauses_s: Sequence[float]
    """Before each of them; before the first none counts."""
    left: int
    """Its calls that cannot be asked, or were not named."""


def sessions(config: LoadConfig, store: Store | None = None) -> Sessions:
    """Sends nothing. LabError where there is no such recording, or it kept no text."""
    store = store or Store(config.db)
    reference, _, words = (config.scenario or "").removeprefix(RECORDING).partition(":")
    run = recorded_tasks.replayable(store, reference)
    calls = Calls(store, run)
    kept = {calls.pair(word).call for word in words.split(",") if word} or set(calls.ids)
    endpoint = recorded_tasks.endpoint_of(config, run)
    recording = recordings.read(store, run["run_id"])
    known = [lane for lane in _lanes(recording, kept) if lane.calls]
    shown = _within(known)
    asked = [call for lane in shown for call in lane.calls]
    places = {call: place for place, call in enumerate(asked)}
    plays = tuple(tuple(map(Step, map(places.get, lane.calls), _pauses_s(lane))) for lane in shown)
    models = set(config.models.values())
    model = models.pop() if len(models) == 1 else None
    tasks = calls.tasks([Pair(call) for call in asked], endpoint, model)
    at_s = tuple(lane.began_s - shown[0].began_s for lane in shown)
    about = _about(shown, len(known) - len(shown), config.arrivals == RECORDED)
    return Sessions(endpoint, tasks, plays, at_s, about)


def _lanes(recording: Recording, kept: set[str]) -> list[Lane]:
    """In the order of their starts."""
    calls = recording.calls
    placed = recording.conversations.loc[calls["call_id"]]
    columns = calls["call_id"], calls["started_ms"], calls["total_ms"].fillna(0.0)
    lanes: dict[tuple[int, int], list[Recorded]] = defaultdict(list)
    for call_id, started_ms, total_ms, *place in zip(
        *columns, placed["conversation"], placed["lane"], strict=True
    ):
        began_s = float(started_ms) / 1e3
        lanes[*place].append(Recorded(call_id, began_s, began_s + float(total_ms) / 1e3))
    made = (_lane(number > 0, members, kept) for (_, number), members in lanes.items())
    return sorted(made, key=lambda lane: lane.began_s)


def _lane(is_agent: bool, members: Sequence[Recorded], kept: set[str]) -> Lane:
    """A pause is how long nothing was asked: calls that cannot be asked again are no part of it."""
    members = sorted(members, key=lambda call: call.began_s)
    calls, pauses, idle_s, until = [], [], 0.0, members[0].began_s
    for call in members:
        idle_s += max(0.0, call.began_s - until)
        until = max(until, call.ended_s)
        if call.call_id in kept:
            calls.append(call.call_id)
            pauses.append(idle_s)
            idle_s = 0.0
    return Lane(is_agent, members[0].began_s, calls, pauses, len(members) - len(calls))


def _within(known: Sequence[Lane]) -> list[Lane]:
    """The first lanes, as far as their calls are not too many; of a first one whose own are, its
    beginning."""
    shown, count = [], 0
    for lane in known:
        count += len(lane.calls)
        if count > MOST_CALLS and shown:
            break
        shown.append(lane._replace(calls=lane.calls[:MOST_CALLS]))
    return shown


def _pauses_s(lane: Lane) -> list[float]:
    pauses = [0.0, *(min(pause_s, LONGEST_PAUSE_S) for pause_s in lane.pauses_s[1:])]
    return [round(pause_s, 6) for pause_s in pauses]


def _about(shown: Sequence[Lane], more: int, is_on_time: bool) -> str:
    agents = sum(lane.is_agent for lane in shown)
    users = [units.counted(len(shown) - agents, "conversation")] if agents < len(shown) else []
    users += [units.counted(agents, "sub-agent")] if agents else []
    asked = units.counted(sum(len(lane.calls) for lane in shown), "request")
    parts = [f"{' and '.join(users)} of the recording, {asked}, with their own pauses"]
    if long := sum(pause_s > LONGEST_PAUSE_S for lane in shown for pause_s in lane.pauses_s[1:]):
        longest = units.duration(LONGEST_PAUSE_S)
        parts.append(f"{units.counted(long, 'pause')} shortened to {longest}")
    if agents and not is_on_time:
        parts.append("a sub-agent begins when a stream is free, not when it was called")
    if left := sum(lane.left for lane in shown):
        parts.append(f"{units.counted(left, 'call')} left out: failed, not kept whole or not named")
    if more:
        later = units.counted(more, "later conversation")
        parts.append(f"{later} left out: a load asks {MOST_CALLS:,} recorded calls at most")
    return "; ".join(parts) + "."
