"""A tool starts as soon as its own input is whole, and not before; what is cut runs nothing."""

import asyncio
import json
import re
from dataclasses import replace

import pandas as pd
import pytest

from lab.critical_path import critical_path
from lab.instrumentation import parsing
from lab.instrumentation.stamps import Exchange
from lab.instrumentation.whole_tools import Heard, WholeTools
from lab.ladder import stack
from lab.local.whole_parameters import Held
from lab.model import Arm, Request, ToolUse
from lab.store import queries
from lab.techniques.tool_input import TECHNIQUE, findings
from tests.measured import FAST, measure

SLOW = FAST | {"gap_ms": 20, "prefill_ms_per_token": 0}
"""20 ms a token: an input of some 25 tokens takes half a second."""


def event(kind: str, **fields) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode()


def opened(name: str) -> bytes:
    block = {"type": "tool_use", "id": f"toolu_{name}", "name": name, "input": {}}
    return event("content_block_start", index=0, content_block=block)


def piece(text: str) -> bytes:
    delta = {"type": "input_json_delta", "partial_json": text}
    return event("content_block_delta", index=0, delta=delta)


STOP = event("content_block_stop", index=0)
USED = event("message_delta", delta={"stop_reason": "tool_use"})
CUT = event("message_delta", delta={"stop_reason": "max_tokens"})


@pytest.mark.parametrize(
    ("stream", "told"),
    [
        ([opened("a"), piece('{"x":'), piece(" 1}"), STOP], [("a", {"x": 1}, 3)]),
        ([opened("a"), piece('{"x": "y'), STOP, CUT], []),
        ([opened("a"), piece(""), STOP, CUT], []),
        ([opened("a"), piece(""), STOP, USED], [("a", {}, 3)]),
        ([opened("a"), STOP, opened("b"), piece("{}"), STOP, USED], [("a", {}, 2), ("b", {}, 5)]),
        ([opened("a"), piece("[1]"), STOP, USED], []),
    ],
    ids=["whole", "cut in a text", "cut before it", "no input", "two without", "no object"],
)
def test_a_tool_is_told_when_its_input_is_whole_and_never_when_it_is_cut(stream, told):
    """The last number of each: with which piece of the stream."""
    tools = WholeTools()
    heard = [
        (u.name, u.input, place) for place, part in enumerate(stream) for u in tools.take(part)
    ]
    assert heard == told


def test_pieces_may_part_anywhere():
    stream = b"".join([opened("a"), piece('{"x": "é"}'), STOP, USED]).replace(b"\n", b"\r\n")
    tools = WholeTools()
    heard = [use for i in range(len(stream)) for use in tools.take(stream[i : i + 1])]
    assert heard == [ToolUse("toolu_a", "a", {"x": "é"})]


async def test_what_is_heard_is_read_after_the_arrivals_of_the_same_moment_are_stamped():
    """The trial hears of its tool only in the loop's next turn: nothing is parsed between two
    stamps."""
    order = []
    heard = Heard(lambda use: order.append(use.name))
    exchange = Exchange(b"", 0, heard=heard.hear)
    exchange.take(1, b"".join([opened("a"), piece('{"x": 1}'), STOP]))
    order.append("stamped")
    await asyncio.sleep(0)
    assert order == ["stamped", "a"]
    assert exchange.chunks[0][0] == 1


@pytest.mark.parametrize(
    ("stream", "whole_ns", "broken"),
    [
        ([opened("a"), piece('{"x": 1}'), STOP, USED], 3, []),
        ([opened("a"), piece('{"x": "y'), STOP, USED], None, ["toolu_a"]),
        ([opened("a"), STOP, USED], 3, []),
        ([opened("a"), STOP, CUT], None, []),
        ([opened("a").replace(b"tool_use", b"server_tool_use"), piece("{}"), STOP, USED], None, []),
    ],
    ids=["whole", "broken", "no input", "cut before it", "the server's own"],
)
async def test_a_tool_can_run_from_its_whole_input_on_and_not_on_a_broken_one(
    stream, whole_ns, broken
):
    """Piece by piece at 1, 2, 3 … ns: the block of an input ends with the third piece, and one
    without any input is known to be whole once the model goes on."""
    exchange = Exchange(b"{}", 0)
    exchange.status, exchange.headers = 200, {"content-type": "text/event-stream"}
    exchange.chunks = list(enumerate([*stream, event("message_stop")], 1))
    exchange.close(9)
    reading = parsing.read(exchange)
    assert (reading.whole_tool_ns, reading.broken_tools) == (whole_ns, broken)
    told = []
    Heard(told.append).finish(reading)
    may_run = stream[-1] == USED and not broken and b"server_" not in stream[0]
    assert [use.id for use in told] == (["toolu_a"] if may_run else [])


def test_by_default_a_parameter_is_sent_whole_as_the_api_sends_it():
    held = Held()
    text = '{"a": "x,}", "b": [1, 2], "c": {"d": 1}}'
    sent = [held.let_go(character) for character in text]
    assert list(filter(None, sent)) == ['{"a": "x,}"', ', "b": [1, 2]', ', "c": {"d": 1}}']
    assert "".join(sent) == text


async def test_tools_run_beside_the_model_and_the_turn_takes_less_than_its_parts(simulated, db):
    """Three inputs of half a second, three tools of 0.3 s in turn: 0.9 s after the answer; two of
    them beside it, one after."""
    simulated.knobs(**SLOW)
    given = {"n": 3, "seconds": 0.3, "note_characters": 60, "answer_tokens": 8}
    found = await measure(simulated, TECHNIQUE.slug, runs=2, knobs=given)
    assert set(found.trials["outcome"]) == {"ok"}
    totals = found.trials.pivot(index="block", columns="arm", values="total_ms")
    saved = totals["after the answer"] - totals["as each is whole"]
    assert (saved > 450).all() and (saved < 900).all()
    for trial in found.arm("as each is whole").itertuples():
        spans = found.spans(trial.trial_id)
        assert findings.overlaps(spans)[trial.trial_id] >= 500
        path = critical_path(spans)
        assert path["ms"].sum() == pytest.approx(trial.total_ms)
        assert path["ms"].min() >= 0
        gaps = path["started_ms"].iloc[1:].to_numpy() - path["ended_ms"].iloc[:-1].to_numpy()
        assert abs(gaps).max() < 1e-6
    for trial in found.arm("after the answer").itertuples():
        assert findings.overlaps(found.spans(trial.trial_id))[trial.trial_id] == 0


async def test_tools_that_run_at_once_wait_for_the_last_input_and_nothing_is_won(simulated, db):
    """The trap: with equal tools at the same time the last input is the critical path."""
    simulated.knobs(**SLOW)
    given = {"n": 2, "seconds": 0.5, "together": True, "note_characters": 0, "answer_tokens": 8}
    found = await measure(simulated, TECHNIQUE.slug, runs=1, knobs=given)
    totals = found.trials.set_index("arm")["total_ms"]
    assert abs(totals["as each is whole"] - totals["after the answer"]) < 250


async def test_the_first_piece_comes_sooner_with_eager_input_and_the_whole_input_does_not(
    simulated, db
):
    simulated.knobs(**SLOW)
    given = {"n": 2, "seconds": 0.01, "note_characters": 200, "answer_tokens": 8}
    found = await measure(simulated, TECHNIQUE.slug, runs=1, knobs=given)

    events = queries.trial_events(found.store, list(found.trials["trial_id"]))
    told = findings.by_arm(
        found.trials, events, queries.spans(found.store, run_id=found.run_id)
    ).set_index("arm")
    first, whole = told["first_piece_ms"], told["tool_input_ms"]
    assert first["eager input"] + 40 < first["as each is whole"] < whole["as each is whole"]
    assert whole["eager input"] > 0.8 * whole["as each is whole"]


async def test_a_turn_that_is_cut_inside_an_input_runs_no_tool_on_it_and_is_left_out(simulated, db):
    simulated.knobs(**FAST)
    given = {"n": 2, "seconds": 0.01, "note_characters": 200, "turn_tokens": 20}
    found = await measure(simulated, TECHNIQUE.slug, runs=1, knobs=given)
    assert set(found.trials["outcome"]) == {"mismatch"}
    assert found.trials["error_text"].str.contains("0 of 2 tools could run").all()
    spans = pd.concat([found.spans(trial_id) for trial_id in found.trials["trial_id"]])
    assert not (spans["kind"] == "tool").any()


async def test_the_lever_starts_the_tools_of_a_stack_while_the_turn_is_written(simulated, db):
    """Alone among the levers: the same calls, and tools of 300 ms that no longer wait in turn."""
    simulated.knobs(**SLOW)
    pulled = stack.StackKnobs(levels={"eager": "while it writes"}, answer_tokens=400)

    async def trial(bench, arm, knobs, task):
        used = pulled if arm == "eager" else pulled.model_copy(update={"levels": {}})
        return await stack.trial(bench, arm, used, task)

    technique = replace(
        stack.technique("total_ms"),
        slug="lever",
        arms=(Arm("today"), Arm("eager")),
        headline_arm="eager",
        trial=trial,
        prepare=None,
        category="tools",
    )
    found = await measure(simulated, technique.slug, runs=1, own=technique)
    assert set(found.trials["outcome"]) == {"ok"}
    (eager,) = found.arm("eager")["trial_id"]
    assert findings.overlaps(found.spans(eager))[eager] > 100
    totals = found.trials.set_index("arm")["total_ms"]
    assert totals["today"] - totals["eager"] > 250


async def test_a_tool_that_was_started_does_not_outlive_a_turn_that_was_cancelled():
    ended = []

    class Quiet:
        async def tool(self, name, given):
            try:
                await asyncio.Event().wait()
            finally:
                ended.append(name)

    async def ask(request, on_tool):
        on_tool(ToolUse("toolu_a", "a", {}))
        await asyncio.sleep(0)
        raise asyncio.CancelledError

    asked = Request({"messages": [{"role": "user", "content": "x"}]})
    with pytest.raises(asyncio.CancelledError):
        await TECHNIQUE.levers[0].play(Quiet(), ask, asked, "while it writes", None)
    assert ended == ["a"]


STACK = replace(
    stack.technique("total_ms"),
    arms=(Arm("after the turn"), Arm("while it writes")),
    headline_arm="while it writes",
    category="tools",
    trial=lambda bench, arm, knobs, task: stack.trial(
        bench, arm, stack.StackKnobs(levels={"eager": arm}, answer_tokens=400, stream=True), task
    ),
    prepare=None,
)
RUN_TOOLS = pytest.mark.parametrize(
    ("slug", "own"),
    [(TECHNIQUE.slug, None), ("parallelism", None), ("topology", None), ("ladder", STACK)],
    ids=["tool-input", "parallelism", "topology", "ladder"],
)


EARLY = ("as each is whole", "eager input", "while it writes")


def tools_of(found, but=()):
    trials = found.trials[~found.trials["arm"].isin(but)]
    spans = pd.concat([found.spans(trial_id) for trial_id in trials["trial_id"]])
    return spans[spans["kind"] == "tool"]


@RUN_TOOLS
async def test_a_turn_that_is_cut_runs_no_tool_and_is_left_out(simulated, db, slug, own):
    """Unless it was started before anybody could know."""
    simulated.knobs(**FAST)
    cut = {"tools": [{"name": "weather", "input": {"place": "Lowmoor"}}] * 2}
    simulated.plays(*[cut | {"stop_reason": "max_tokens"}] * 8)
    found = await measure(simulated, slug, runs=1, own=own)
    assert set(found.trials["outcome"]) == {"mismatch"}
    assert found.trials["error_text"].str.contains("asked for tools ended by max_tokens").all()
    assert tools_of(found, EARLY).empty


@RUN_TOOLS
async def test_an_answer_whose_input_is_broken_runs_no_tool_and_is_left_out(
    simulated, db, monkeypatch, slug, own
):
    """The first brace of each input is lost on its way."""
    take = Exchange.take

    def lossy(exchange, at_ns, data):
        return take(exchange, at_ns, re.sub(rb'("partial_json": ?"){', rb"\1", data))

    monkeypatch.setattr(Exchange, "take", lossy)
    simulated.knobs(**FAST)
    found = await measure(simulated, slug, runs=1, own=own)
    assert set(found.trials["outcome"]) == {"mismatch"}
    assert found.trials["error_text"].str.contains("the input of a tool was no JSON object").all()
    assert tools_of(found).empty


async def test_a_conversation_goes_on_after_a_turn_whose_tool_call_was_cut(simulated, db):
    """The API wants a result for each call that it reads: without one the next turn is refused."""
    simulated.knobs(**FAST)
    cut = {"tools": [{"name": "records", "input": {}}], "stop_reason": "max_tokens"}
    simulated.plays(*[cut, {"text": [0]}] * 40)
    knobs = {"turns": 4, "tool_results": True}
    found = await measure(simulated, "conversation", runs=1, knobs=knobs)
    assert set(found.trials["outcome"]) == {"mismatch"}
    said = found.trials["error_text"]
    assert said.str.contains("asked for tools ended by max_tokens").all()
    assert not said.str.contains("without its tool").any()
    assert found.calls["error_kind"].isna().all() and tools_of(found).empty
