"""What holds of every recording, whatever its application did."""

from __future__ import annotations

import random
import sys
from itertools import pairwise

import pytest
from recorded_apps import App, answer, asks, results, says, user

from lab.recording import misses

MARK = {"type": "ephemeral"}


def any_app(seed: int) -> App:
    """Some forty calls of several conversations at once, with tools, sub-agents, retries, failures,
    branches, calls without a prompt, a name, an end or a usage."""
    rng = random.Random(seed)
    app = App()
    told = [[user(rng.choice("abc"))] for _ in range(4)]
    for call in range(40):
        place = rng.randrange(len(told))
        messages, at = told[place], rng.uniform(0, 100) if rng.random() < 0.1 else call * 2.0
        reply = asks(f"toolu_{call}") if rng.random() < 0.4 else says(rng.choice("xyz") * 90)
        until = at + rng.choice((0, 0.5, 1, 5, 30))
        failed = rng.random() < 0.15
        read, written, fresh = (rng.choice((0, 100, 5000)) for _ in range(3))
        usage = {
            "input_tokens": fresh,
            "cache_read_input_tokens": read,
            "cache_creation_input_tokens": written,
            "output_tokens": 9,
        }
        known = app.call(
            None if rng.random() < 0.1 else messages,
            at,
            until,
            None if failed else reply,
            first=rng.choice((None, at, (at + until) / 2, until)),
            error=rng.choice(("overloaded", "cancelled")) if failed else None,
            usage=usage if rng.random() < 0.9 else None,
            conversation=rng.choice((None, None, "red")),
            agent=rng.choice((None, None, None, "scout")),
            whole=rng.random() < 0.9,
            system=rng.choice(("s", [{"type": "text", "text": "s", "cache_control": MARK}])),
            **rng.choice(({}, {"cache_control": MARK})),
        )
        if rng.random() < 0.05:
            app.trials[known].calls[0].ended_ns = None
        if not failed and rng.random() < 0.8:
            last = reply[0]
            more = results(last["id"]) if last["type"] == "tool_use" else user(f"and {call}?")
            told[place] = [*messages, answer(reply), more]
        if rng.random() < 0.1:
            told[place] = [user(rng.choice("abc"))]
    return app


@pytest.mark.parametrize("seed", range(25))
def test_any_recording(seed):
    recording = any_app(seed).recording()
    calls = recording.calls.set_index("call_id")
    placed, spent, use = recording.conversations, recording.waiting, recording.cache_use
    assert list(placed.index) == list(use.index) == list(calls.index)

    # Conversations and lanes are counted without gaps, and whoever is before began before.
    assert set(placed["conversation"]) == set(range(1, placed["conversation"].max() + 1))
    for _, lanes in placed.groupby("conversation")["lane"]:
        assert set(lanes) == set(range(lanes.max() + 1))
    for call_id, parent in placed["parent"].dropna().items():
        assert calls["started_ms"][parent] <= calls["started_ms"][call_id]
        assert placed["conversation"][parent] == placed["conversation"][call_id]
    assert placed["turn"].min() == 1

    # What was waited for is each conversation's time, once.
    bars = spent.timeline[spent.timeline["is_critical"]]
    ends = calls["started_ms"] + calls["total_ms"].fillna(calls["ttft_ms"]).fillna(0)
    wall = 0.0
    for number, members in placed.groupby("conversation"):
        start, end = calls["started_ms"][members.index].min(), ends[members.index].max()
        wall += end - start
        path = bars[bars["conversation"] == number].sort_values("started_ms")
        touching = pairwise(zip(path["started_ms"], path["ended_ms"], strict=True))
        assert all(abs(after[0] - before[1]) < 1e-3 for before, after in touching)
    parts = (spent.first_token_ms or 0, spent.writing_ms, spent.whole_ms, spent.tools_ms)
    assert sum(parts) + spent.idle_ms == pytest.approx(spent.total_ms) == pytest.approx(wall)

    # Nobody could have read less than was read, or more than there was.
    told = use.dropna()
    assert (told["read"] <= told["could_read"]).all()
    assert (told["could_read"] <= told[["read", "written", "uncached"]].sum(axis=1)).all()


def steps_to_read(conversations: int, turns: int) -> int:
    """How many functions run to find all that is asked of a recording, of which every tenth call
    misses the cache."""
    app, told = App(), [[user(f"question of {n}")] for n in range(conversations)]
    for turn in range(turns):
        for number, messages in enumerate(told):
            is_miss = (turn + number) % 10 == 9
            counts = (0, 600 + 100 * turn) if is_miss or not turn else (500 + 100 * turn, 100)
            usage = {"input_tokens": 4, "output_tokens": 9}
            usage["cache_read_input_tokens"], usage["cache_creation_input_tokens"] = counts
            at, reply = 9.0 * turn + number / 100, says(f"answer {turn} of {number}" * 5)
            system = f"It is {turn}" if is_miss else "Be kind"
            app.call(messages, at, at + 1, reply, first=at + 0.5, usage=usage, system=system,
                     cache_control=MARK)  # fmt: skip
            told[number] = [*messages, answer(reply), user(f"and {turn} of {number}?")]
    recording, steps = app.recording(), 0

    def count(frame, event, argument) -> None:
        nonlocal steps
        steps += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        assert len(recording.cache_use) == conversations * turns and recording.waiting.total_ms
        found = misses.of(recording.asked, recording.pieces, None)
    finally:
        sys.setprofile(None)
    assert found
    return steps


def test_a_further_call_takes_as_many_steps_whatever_came_before():
    steps_to_read(1, 1)  # whatever is imported late
    few = steps_to_read(2, 5)
    fifty = steps_to_read(12, 5) - few
    assert steps_to_read(22, 5) - few < 2.5 * fifty
    assert steps_to_read(2, 30) - few < 2 * fifty, "of prompts six times as long"
