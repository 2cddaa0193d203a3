"""context_management really clears, and says how much; 4 characters are one token."""

import anthropic
import pytest

from lab.local.context_edits import CLEARED

MODEL = "simulated-small"
BETA = "context-management-2025-06-27"
RESULT_TOKENS = 400
SPARED = RESULT_TOKENS - -(-len(CLEARED) // 4)
"""What one cleared result saves: 400 tokens become the placeholder's 9."""
TOOL = {"name": "look", "input_schema": {"type": "object", "properties": {}}}


@pytest.fixture
async def client(simulated):
    async with anthropic.AsyncAnthropic(
        base_url=simulated.base_url, api_key=simulated.api_key, max_retries=0, timeout=20
    ) as client:
        yield client.beta.messages


def worked(uses: int, thought: bool = False) -> list[dict]:
    """A conversation in which a tool was used so many times, each time with 400 tokens to read."""
    turns: list[dict] = [{"role": "user", "content": "q" * 40}]
    for place in range(uses):
        use = {
            "type": "tool_use",
            "id": f"toolu_{place}",
            "name": "look",
            "input": {"at": "x" * 80},
        }
        mind = {"type": "thinking", "thinking": "t" * 400, "signature": "s"}
        answer = {
            "type": "tool_result",
            "tool_use_id": f"toolu_{place}",
            "content": "r" * 4 * RESULT_TOKENS,
        }
        turns.append({"role": "assistant", "content": [mind, use] if thought else [use]})
        turns.append({"role": "user", "content": [answer]})
    return turns


async def asked(client, turns: list[dict], *edits: dict, **more):
    message = await client.create(
        model=MODEL,
        max_tokens=4,
        messages=turns,
        tools=[TOOL],
        betas=[BETA],
        context_management={"edits": list(edits)},
        **more,
    )
    return message.usage.input_tokens, message.context_management.applied_edits


def tool_uses(value: int) -> dict:
    return {"type": "tool_uses", "value": value}


CLEAR = {"type": "clear_tool_uses_20250919", "trigger": {"type": "input_tokens", "value": 1000}}


async def test_all_but_the_latest_three_results_are_cleared_past_the_trigger(client):
    whole, nothing = await asked(client, worked(5))
    assert nothing == []
    length, (told,) = await asked(client, worked(5), CLEAR)
    assert (told.cleared_tool_uses, told.cleared_input_tokens) == (2, 2 * SPARED)
    assert length == whole - 2 * SPARED


async def test_what_is_short_enough_or_too_little_to_be_worth_it_stays(client):
    whole, _ = await asked(client, worked(2))
    assert await asked(client, worked(2), CLEAR) == (whole, []), "two uses are within the three"
    far = {**CLEAR, "trigger": {"type": "input_tokens", "value": 100_000}, "keep": tool_uses(0)}
    assert await asked(client, worked(2), far) == (whole, [])
    least = {"clear_at_least": {"type": "input_tokens", "value": 2 * SPARED + 1}}
    assert await asked(client, worked(2), {**CLEAR, "keep": tool_uses(0), **least}) == (whole, [])
    by_uses = {"type": CLEAR["type"], "trigger": tool_uses(1), "keep": tool_uses(1)}
    length, (told,) = await asked(client, worked(2), by_uses)
    assert (length, told.cleared_tool_uses) == (whole - SPARED, 1)


async def test_tools_can_be_spared_and_their_inputs_cleared_too(client):
    whole, _ = await asked(client, worked(3))
    spared = {**CLEAR, "keep": tool_uses(0), "exclude_tools": ["look"]}
    assert await asked(client, worked(3), spared) == (whole, [])
    with_inputs = {**CLEAR, "keep": tool_uses(1), "clear_tool_inputs": True}
    _, (told,) = await asked(client, worked(3), with_inputs)
    assert told.cleared_tool_uses == 2 and told.cleared_input_tokens > 2 * SPARED


async def test_thinking_of_older_turns_is_cleared_and_must_be_asked_first(client):
    """Four turns thought 100 tokens each; the latest keeps its own."""
    thinking = {"type": "clear_thinking_20251015"}
    whole, _ = await asked(client, worked(4, thought=True))
    length, (told,) = await asked(client, worked(4, thought=True), thinking)
    assert (told.cleared_thinking_turns, told.cleared_input_tokens) == (3, 300)
    assert length == whole - 300
    kept = {**thinking, "keep": "all"}
    assert await asked(client, worked(4, thought=True), kept) == (whole, [])
    both, told = await asked(client, worked(4, thought=True), thinking, CLEAR)
    assert both == whole - 300 - SPARED and len(told) == 2
    with pytest.raises(anthropic.BadRequestError, match="must be the first"):
        await asked(client, worked(4), CLEAR, thinking)


async def test_what_was_cleared_is_another_prefix_to_the_cache(client):
    """Up to the third use nothing is cleared and each turn reads the one before; with the fourth
    the first result goes, and all behind it is written anew."""
    mark = {"type": "ephemeral"}
    reads = []
    for uses in (2, 3, 4):
        message = await client.create(
            model=MODEL,
            max_tokens=4,
            messages=worked(uses),
            tools=[TOOL],
            betas=[BETA],
            cache_control=mark,
            context_management={"edits": [{**CLEAR, "trigger": tool_uses(3)}]},
        )
        reads.append(message.usage.cache_read_input_tokens)
    assert reads[0] == 0 and reads[1] > 2 * RESULT_TOKENS and reads[2] == 0


async def test_counting_tells_both_lengths(client):
    counted = await client.count_tokens(
        model=MODEL,
        messages=worked(5),
        tools=[TOOL],
        betas=[BETA],
        context_management={"edits": [CLEAR]},
    )
    original = counted.context_management.original_input_tokens
    assert counted.input_tokens == original - 2 * SPARED
