"""cache_control is real: what is read, what is written, and for how long, in exact token counts (4
characters are one token here)."""

import asyncio

import anthropic
import pytest

from lab.local.ledger import Ledger
from lab.local.messages_api import Body

MODEL = "simulated-small"
FIVE, HOUR = {"type": "ephemeral"}, {"type": "ephemeral", "ttl": "1h"}


@pytest.fixture
async def client(simulated):
    async with anthropic.AsyncAnthropic(
        base_url=simulated.base_url, api_key=simulated.api_key, max_retries=0, timeout=20
    ) as client:
        yield client


def text(tokens: int, letter: str = "p", mark: dict | None = None) -> dict:
    return {
        "type": "text",
        "text": letter * 4 * tokens,
        **({"cache_control": mark} if mark else {}),
    }


def ask(*system: dict, question: str = "q" * 40, **more) -> dict:
    return {
        "model": MODEL,
        "max_tokens": 4,
        "system": list(system),
        "messages": [{"role": "user", "content": question}],
        **more,
    }


async def counts(client, body) -> tuple[int, int, int]:
    """(uncached, written, read)"""
    usage = (await client.messages.create(**body)).usage
    return usage.input_tokens, usage.cache_creation_input_tokens, usage.cache_read_input_tokens


async def test_uncached_then_first_use_then_cached_are_cold_cold_warm(client):
    assert await counts(client, ask(text(600))) == (610, 0, 0)
    assert await counts(client, ask(text(600, mark=FIVE))) == (10, 600, 0)
    assert await counts(client, ask(text(600, mark=FIVE))) == (10, 0, 600)
    assert await counts(client, ask(text(600))) == (610, 0, 0)  # no cache_control, no reuse


async def test_below_the_minimum_nothing_is_cached_and_nothing_said(client):
    for _ in range(2):
        assert await counts(client, ask(text(255, mark=FIVE))) == (265, 0, 0)
    assert await counts(client, ask(text(256, mark=FIVE))) == (10, 256, 0)


async def test_a_changed_byte_or_another_model_reads_nothing(client):
    await counts(client, ask(text(300, mark=FIVE)))
    assert await counts(client, ask(text(300, "x", mark=FIVE))) == (10, 300, 0)
    assert await counts(client, ask(text(300, mark=FIVE), model="simulated-large")) == (10, 300, 0)


async def test_the_longest_prefix_wins_and_only_the_rest_is_written(client):
    await counts(client, ask(text(300, mark=FIVE)))
    assert await counts(client, ask(text(300, mark=FIVE), text(100, "b", FIVE))) == (10, 100, 300)
    assert await counts(client, ask(text(300, mark=FIVE), text(100, "b", FIVE))) == (10, 0, 400)


async def test_writes_are_split_by_ttl(client):
    usage = (await client.messages.create(**ask(text(300, mark=HOUR), text(100, "b", FIVE)))).usage
    assert (
        usage.cache_creation.ephemeral_1h_input_tokens,
        usage.cache_creation.ephemeral_5m_input_tokens,
    ) == (300, 100)
    assert usage.cache_creation_input_tokens == 400


async def test_a_fifth_breakpoint_and_a_short_ttl_before_a_long_one_are_refused(client):
    with pytest.raises(anthropic.BadRequestError, match="Found 5"):
        await counts(client, ask(*[text(100, letter, FIVE) for letter in "abcde"]))
    with pytest.raises(anthropic.BadRequestError, match="ttl"):
        await counts(client, ask(text(300, mark=FIVE), text(100, "b", HOUR)))
    with pytest.raises(anthropic.BadRequestError, match="Found 5"):
        await counts(
            client, ask(*[text(100, letter, FIVE) for letter in "abcd"], cache_control=FIVE)
        )


async def test_top_level_cache_control_marks_the_last_block(client):
    assert await counts(client, ask(text(300), cache_control=FIVE)) == (0, 310, 0)
    assert await counts(client, ask(text(300), cache_control=FIVE)) == (0, 0, 310)
    assert await counts(client, ask(text(300), question="other", cache_control=FIVE)) == (
        0,
        302,
        0,
    )  # a varying last block never hits


async def test_a_breakpoint_looks_twenty_blocks_back_and_no_further(client):
    def conversation(blocks: int) -> dict:
        many = [text(20, chr(97 + i), FIVE if i == blocks - 1 else None) for i in range(blocks)]
        return {"model": MODEL, "max_tokens": 1, "messages": [{"role": "user", "content": many}]}

    assert await counts(client, conversation(20)) == (0, 400, 0)
    assert await counts(client, conversation(39)) == (
        0,
        380,
        400,
    )  # block 20 is the twentieth from block 39, itself counted
    assert (await counts(client, conversation(60)))[2] == 0


async def test_tools_come_before_system_before_messages(client):
    tool = {
        "name": "t",
        "description": "d" * 1200,
        "input_schema": {"type": "object", "properties": {}},
    }
    marked = {**tool, "cache_control": FIVE}
    first = await counts(client, ask(text(10), tools=[marked], tool_choice={"type": "none"}))
    assert first[1] > 300 and first[2] == 0
    assert (await counts(client, ask(text(10, "o"), tools=[marked], tool_choice={"type": "auto"})))[
        2
    ] == first[1]
    assert (await counts(client, ask(text(10), tools=[{**marked, "description": "e" * 1200}])))[
        2
    ] == 0


async def test_parallel_first_requests_all_miss_and_later_ones_all_hit(simulated, client):
    simulated.knobs(queue_ms=80.0, jitter=0.0)
    body = ask(text(600, mark=FIVE))
    together = await asyncio.gather(*[counts(client, body) for _ in range(4)])
    assert together == [(10, 600, 0)] * 4
    assert await asyncio.gather(*[counts(client, body) for _ in range(4)]) == [(10, 0, 600)] * 4


async def test_an_entry_is_readable_once_the_first_response_has_begun(simulated, client):
    simulated.plays(headers=10, text=[2000], done=2000)
    body = ask(text(600, mark=FIVE))
    async with client.messages.stream(**body) as stream:
        async for event in stream:
            if event.type == "message_start":
                break
        assert await counts(client, body) == (10, 0, 600)


async def test_max_tokens_zero_writes_without_answering(client):
    message = await client.messages.create(**ask(text(600, mark=FIVE), max_tokens=0))
    assert (message.content, message.stop_reason, message.usage.output_tokens) == (
        [],
        "max_tokens",
        0,
    )
    assert await counts(client, ask(text(600, mark=FIVE))) == (10, 0, 600)


async def test_diagnostics_name_what_changed(client):
    first = await client.messages.create(**ask(text(300, mark=FIVE)))
    since = {"previous_message_id": first.id}
    same = await client.messages.create(**ask(text(300, mark=FIVE)), diagnostics=since)
    changed = await client.messages.create(**ask(text(300, "x", FIVE)), diagnostics=since)
    lost = await client.messages.create(
        **ask(text(300)), diagnostics={"previous_message_id": "msg_unknown"}
    )
    assert same.diagnostics is None
    assert changed.diagnostics.cache_miss_reason.type == "system_changed"
    assert lost.diagnostics.cache_miss_reason.type == "previous_message_not_found"


def test_the_ttl_runs_from_the_start_of_the_last_use():
    ledger, minute = Ledger(), 60 * 10**9
    body = Body.model_validate(ask(text(300, mark=FIVE)))

    def read_at(now_ns: int) -> int:
        plan = ledger.plan(body, [300, 310], now_ns)
        found = plan.read_tokens
        ledger.commit(plan, [(None, 1)])
        ledger.release(plan)
        return found

    assert [read_at(minutes * minute) for minutes in (0, 4, 8, 13)] == [
        0,
        300,
        300,
        0,
    ]  # 8 + 5 = 13: over
    assert read_at(14 * minute) == 300


def test_a_full_store_lets_the_least_used_go_but_never_one_in_use():
    dropped = []
    ledger = Ledger(limit=2, discard=dropped.append)

    def use(letter: str):
        plan = ledger.plan(Body.model_validate(ask(text(300, letter, FIVE))), [300, 310], 0)
        ledger.commit(plan, [(letter, 1)])
        return plan

    for letter in "ab":
        ledger.release(use(letter))
    reading = use("a")
    ledger.release(use("c"))  # b is the least recently used
    ledger.release(use("d"))  # a goes from the ledger, but its snapshot is being read
    assert dropped == ["b"]
    ledger.release(reading)
    assert dropped == ["b", "a"]


def test_the_seed_ignores_the_nonce_the_breakpoints_and_the_delivery():
    one = Body.model_validate(ask(text(5, mark=FIVE), question="[trial 1234567890123456] hello"))
    two = Body.model_validate(ask(text(5), question="[trial 6543210987654321] hello", stream=True))
    other = Body.model_validate(ask(text(5), question="goodbye"))
    assert one.seed() == two.seed() != other.seed()


async def test_what_changes_the_models_work_loses_the_messages_and_to_state_a_default_loses_nothing(
    client,
):
    """270 tokens of a marked system before 300 of a marked turn: 570 are read where all is kept,
    270 where the messages are lost."""
    shape = {
        "format": {
            "type": "json_schema",
            "schema": {"type": "object", "properties": {"n": {"const": 1}}, "required": ["n"]},
        }
    }

    def body(**more):
        said = [{"role": "user", "content": [text(300, "t", FIVE)]}]
        return {
            "model": MODEL,
            "max_tokens": 4,
            "system": [text(270, mark=FIVE)],
            "messages": said,
            **more,
        }

    async def read(**more):
        return (await counts(client, body(**more)))[2]

    assert await counts(client, body()) == (0, 570, 0)
    defaults = {
        "output_config": {"effort": "high"},
        "speed": "standard",
        "thinking": {"type": "disabled"},
        "tool_choice": {"type": "auto"},
    }
    for name, value in defaults.items():
        assert await read(**{name: value}) == 570, name
    changes = {
        "output_config": {"effort": "low"},
        "thinking": {"type": "adaptive"},
        "tool_choice": {"type": "none"},
    }
    for name, value in changes.items():
        assert await read(**{name: value}) == 270, name
    assert await read(output_config=shape) == 270
    assert await read(speed="fast") == 0


async def test_speed_counts_from_the_system_on_and_leaves_the_tools(client):
    """300 tokens of a marked tool, then 270 of a marked system: fast mode reads the tool alone."""
    tool = {
        "name": "t",
        "description": "d" * 1200,
        "input_schema": {"type": "object", "properties": {}},
        "cache_control": FIVE,
    }
    body = ask(text(270, mark=FIVE), tools=[tool], tool_choice={"type": "none"})
    _, written, _ = await counts(client, body)
    of_tool = written - 270
    assert of_tool > 300
    assert (await counts(client, {**body, "speed": "fast"}))[1:] == (270, of_tool)
    assert (await counts(client, {**body, "output_config": {"effort": "low"}}))[1:] == (0, written)
