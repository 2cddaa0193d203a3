"""Message threads: the server holds a conversation, and each request brings only its new turn. Four
characters are one token here, and a reply of `answer_tokens=5` is 5 pieces."""

import asyncio

import anthropic
import pytest

from lab.local.messages_api import ApiError
from lab.local.threads import BETA, LIFETIME_NS, Threads, Turn

MODEL = "simulated-small"
FIVE = {"type": "ephemeral"}
PLAIN = {"network_ms": 0, "queue_ms": 0, "gap_ms": 0, "jitter": 0, "tail": 0, "answer_tokens": 5}
CREATE = b'{"thread": {"type": "create"}, "model": "m", "messages": [{"role": "user"}]}'


@pytest.fixture
async def client(simulated):
    simulated.knobs(**PLAIN, prefill_ms_per_token=0, read_ms_per_token=0)
    async with anthropic.AsyncAnthropic(
        base_url=simulated.base_url, api_key=simulated.api_key, max_retries=0, timeout=20
    ) as client:
        yield client


def said(tokens: int, letter: str = "q") -> dict:
    return {"role": "user", "content": letter * 4 * tokens}


def begun(reply) -> dict:
    """The `thread` of the request after it."""
    return {"type": "continue", "previous_message_id": reply.id}


async def ask(client, *messages, thread=None, stream=False, **more):
    """One request; a message, or the error's code."""
    body = {"model": MODEL, "max_tokens": 50, "messages": list(messages), "betas": [BETA], **more}
    body |= {"thread": thread} if thread else {}
    try:
        if not stream:
            return await client.beta.messages.create(**body)
        async with client.beta.messages.stream(**body) as events:
            return await events.get_final_message()
    except anthropic.APIStatusError as error:
        return error.status_code, error.body["error"].get("details", {}).get("error_code")


def counts(reply) -> tuple[int, int, int]:
    """(uncached, written, read)"""
    usage = reply.usage
    return usage.input_tokens, usage.cache_creation_input_tokens, usage.cache_read_input_tokens


@pytest.mark.parametrize("stream", [False, True])
async def test_a_thread_brings_the_new_turn_and_is_read_and_counted_as_the_whole(client, stream):
    """400 tokens of system and 10 of a question, then the answer and 20 more."""
    system = "s" * 1600
    first = await ask(client, said(10), system=system, thread={"type": "create"}, stream=stream)
    assert counts(first) == (410, 0, 0)
    second = await ask(client, said(20), thread=begun(first), stream=stream)
    answer = {"role": "assistant", "content": first.content[0].text}
    whole = await ask(client, said(10), answer, said(20), system=system)
    assert counts(second) == counts(whole) and counts(second)[0] > 430
    assert second.content[0].text == whole.content[0].text
    third = await ask(client, said(30), thread=begun(second), stream=stream)
    assert counts(third)[0] > counts(second)[0] + 30


@pytest.mark.parametrize("threaded", [False, True])
async def test_the_replayed_prefix_costs_what_the_ledger_says(client, threaded):
    """A thread caches nothing by itself: marked, it reads and writes to the token what the same
    conversation does that is sent whole; unmarked, it reads nothing."""
    system, turns, history, seen = "s" * 1600, [said(40, letter) for letter in "abc"], [], []
    for mark in ({"cache_control": FIVE}, {}):
        reply, history = None, []
        for turn in turns:
            history.append(turn)
            if threaded and reply:
                reply = await ask(client, turn, thread=begun(reply), **mark)
            else:
                thread = {"type": "create"} if threaded else None
                reply = await ask(client, *history, system=system, thread=thread, **mark)
            history.append({"role": "assistant", "content": reply.content[0].text})
            seen.append(counts(reply))
    answers = [-(-len(turn["content"]) // 4) for turn in history[1::2]]
    grown = [answer + 40 for answer in answers]
    assert seen[:3] == [(0, 440, 0), (0, grown[0], 440), (0, grown[1], 440 + grown[0])]
    assert seen[3:] == [(440, 0, 0), (440 + grown[0], 0, 0), (440 + sum(grown[:2]), 0, 0)]


@pytest.mark.model
async def test_on_the_embedded_model_a_thread_reads_and_writes_what_the_whole_does(local_server):
    """Of two systems as long as each other: the first turn writes all, each later one reads what
    the one before wrote."""
    async with anthropic.AsyncAnthropic(
        base_url=local_server.base_url, api_key=local_server.api_key, max_retries=0, timeout=120
    ) as client:
        seen = {}
        for name, threaded in (("Anna", True), ("Emma", False)):
            system, history, reply = f"{name} sailed to the quay. " * 60, [], None
            for _ in range(3):
                history.append({"role": "user", "content": "Who sailed?"})
                thread = threaded and (begun(reply) if reply else {"type": "create"})
                sent = history[-1:] if threaded and reply else history
                more = {} if threaded and reply else {"system": system}
                more |= {"model": "smollm2-135m", "max_tokens": 4, "cache_control": FIVE}
                reply = await ask(client, *sent, thread=thread, **more)
                history.append({"role": "assistant", "content": reply.content[0].text})
                seen.setdefault(name, []).append(counts(reply))
    for turns in seen.values():
        prompts = [sum(turn) for turn in turns]
        assert [read for _, _, read in turns[1:]] == [
            read + written for _, written, read in turns[:-1]
        ]
        assert turns[0][2] == 0 and prompts[0] > 256 and prompts == sorted(prompts)
    assert seen["Anna"][1][2] == pytest.approx(seen["Emma"][1][2], abs=2)


async def test_marks_are_of_the_request_that_had_them(client):
    """Five turns with a mark each: a request that carried all of them would have too many."""
    mark = {"type": "text", "text": "t" * 1200, "cache_control": FIVE}
    reply = await ask(client, {"role": "user", "content": [mark]}, thread={"type": "create"})
    for _ in range(5):
        reply = await ask(client, {"role": "user", "content": [mark]}, thread=begun(reply))
        assert counts(reply)[2] > 0


async def test_a_response_is_continued_once_and_by_one_request_at_a_time(client, simulated):
    first = await ask(client, said(10), thread={"type": "create"})
    simulated.knobs(queue_ms=300)
    twins = [ask(client, said(5, letter), thread=begun(first)) for letter in "ab"]
    answered, refused = sorted(await asyncio.gather(*twins), key=lambda reply: type(reply) is tuple)
    assert refused == (400, "thread_continue_in_flight")
    simulated.knobs(queue_ms=0)
    again = await ask(client, said(5), thread=begun(first))
    assert again == (400, "thread_already_continued")
    assert counts(await ask(client, said(5), thread=begun(answered)))[0] > 20


async def test_a_turn_that_broke_was_not_kept_and_can_be_asked_again(client, simulated):
    first = await ask(client, said(10), thread={"type": "create"})
    simulated.plays(headers=1, text=[1, 2], fault={"kind": "error", "after": 1})
    assert (await ask(client, said(5), thread=begun(first), stream=True))[1] is None
    simulated.plays(headers=0, fault={"kind": "http", "status": 529})
    assert (await ask(client, said(5), thread=begun(first)))[0] == 529
    whole = await ask(client, said(5), thread=begun(first))
    assert counts(whole)[0] == 10 + 5 + -(-len(first.content[0].text) // 4)


async def test_what_a_thread_keeps_is_neither_sent_again_nor_changed(client):
    first = await ask(client, said(10), system="s", thread={"type": "create"})

    async def refusal(**more):
        return await ask(client, said(5), thread=begun(first), **more)

    mismatch = (400, "thread_fingerprint_mismatch")
    assert await refusal(system="s") == (400, "invalid_field")
    assert await refusal(model="simulated-large") == mismatch
    assert await refusal(output_config={"effort": "low"}) == mismatch
    unsupported = (400, "thread_unsupported_request")
    assert await refusal(context_management={"edits": []}) == unsupported
    assert await refusal(betas=["another"]) == unsupported
    assert (await refusal()).stop_reason == "end_turn"
    lost = {"type": "continue", "previous_message_id": "msg_nobody"}
    assert await ask(client, said(5), thread=lost) == (404, "thread_not_found")
    assert await ask(client, said(5), thread={"type": "fork"}) == (400, "invalid_field")


async def test_the_sdks_helper_replays_what_the_server_lost(client, simulated):
    """Every turn's thread is lost: each of three turns is sent whole, and the third, after two in a
    row, without a thread."""
    simulated.knobs(thread_loss=1)
    helper = client.beta.messages.thread(
        model=MODEL, max_tokens=50, unsupported_request_behavior="continue_unthreaded"
    )
    totals = [counts(await helper.send(said(10, letter)))[0] for letter in "abc"]
    assert totals[0] == 10 and totals[0] < totals[1] < totals[2]
    simulated.knobs(thread_loss=0)
    kept = client.beta.messages.thread(model=MODEL, max_tokens=50)
    ids = []
    for letter in "abc":
        await kept.send(said(10, letter))
        ids.append(kept.previous_message_id)
    assert len(set(ids)) == 3 and len(kept.messages) == 6


async def test_the_sdks_tool_runner_has_its_conversation_held(client):
    asked = []

    @anthropic.beta_async_tool
    async def weather(city: str) -> str:
        """Weather in a city."""
        asked.append(city)
        return "Fair."

    runner = client.beta.messages.tool_runner(
        model=MODEL, max_tokens=100, messages=[said(10)], tools=[weather]
    )
    final = await runner.until_done()
    assert len(asked) == 1 and [block.type for block in final.content] == ["text"]


# The book of threads itself, with a clock of one's own.


def turn_of(threads: Threads, raw: bytes, now_ns: int) -> Turn:
    return threads.begin(raw, f"another, {BETA}", now_ns)


def continued(message_id: str, text: str = "more") -> bytes:
    thread = f'{{"type": "continue", "previous_message_id": "{message_id}"}}'
    messages = f'[{{"role": "user", "content": "{text}"}}]'
    return f'{{"thread": {thread}, "model": "m", "messages": {messages}}}'.encode()


def opened(threads: Threads, message_id: str, now_ns: int = 0) -> None:
    threads.keep(turn_of(threads, CREATE, now_ns), message_id, now_ns)


def test_a_thread_is_gone_five_minutes_after_its_last_response():
    threads = Threads()
    opened(threads, "a")
    turn = turn_of(threads, continued("a"), LIFETIME_NS - 1)
    threads.keep(turn, "b", LIFETIME_NS - 1)
    threads.end(turn)
    later = LIFETIME_NS - 1 + LIFETIME_NS
    threads.end(turn_of(threads, continued("b"), later - 1))
    with pytest.raises(ApiError, match="No usable Thread") as gone:
        turn_of(threads, continued("b"), later)
    assert gone.value.status == 404 and not threads.by_id


def test_the_longest_unused_thread_goes_when_there_are_too_many_or_they_are_too_large():
    threads = Threads(most=2)
    for name in "abc":
        opened(threads, name)
    assert list(threads.by_id) == ["b", "c"]
    threads = Threads(most_bytes=400)
    for name in "abc":
        opened(threads, name)
    assert list(threads.by_id) == ["a", "b", "c"]
    turn = turn_of(threads, continued("c", "x" * 320), 0)
    threads.keep(turn, "d", 0)
    assert list(threads.by_id) == ["c", "d"]
    giant = turn_of(threads, continued("d", "x" * 320), 0)
    threads.keep(giant, "e", 0)
    assert not threads.by_id and not threads.held


def test_a_thread_that_went_for_others_while_it_was_answered_stays_gone():
    threads = Threads(most=1)
    opened(threads, "a")
    turn = turn_of(threads, continued("a"), 0)
    opened(threads, "b")
    threads.keep(turn, "c", 0)
    assert list(threads.by_id) == ["b"]


def test_a_request_without_a_thread_is_none():
    threads = Threads()
    for raw in (b"{}", b'{"thread": null}', b'{"messages": "a \\"thread\\""}', b"\xff"):
        assert threads.begin(raw, "", 0) is None
