"""Tool search in the API's shape: a deferred tool is found in the same reply that uses it."""

import anthropic
import pytest

MODEL = "simulated-small"
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
SEARCH = {"type": "tool_search_tool_bm25_20251119", "name": "tool_search_tool_bm25"}
TOOLS = [
    {"name": name, "input_schema": SCHEMA, "defer_loading": True} for name in ("tides", "snow")
]
QUESTION = [{"role": "user", "content": "How much snow is there?"}]


@pytest.fixture
async def client(simulated):
    async with anthropic.AsyncAnthropic(
        base_url=simulated.base_url, api_key=simulated.api_key, max_retries=0, timeout=20
    ) as client:
        yield client


async def ask(client, messages, tools, **more):
    body = {"model": MODEL, "max_tokens": 200, "messages": messages, "tools": tools, **more}
    async with client.messages.stream(**body) as stream:
        streamed = await stream.get_final_message()
    whole = await client.messages.create(**body)
    assert [block.type for block in streamed.content] == [block.type for block in whole.content]
    return whole


async def test_a_deferred_tool_is_found_and_used_in_one_reply(client):
    reply = await ask(client, QUESTION, [SEARCH, *TOOLS])
    search, result, use = reply.content
    assert (search.type, search.name) == ("server_tool_use", SEARCH["name"])
    assert search.input == {"query": "snow"}
    assert (result.type, result.tool_use_id) == ("tool_search_tool_result", search.id)
    assert [found.tool_name for found in result.content.tool_references] == ["snow"]
    assert (use.type, use.name, reply.stop_reason) == ("tool_use", "snow", "tool_use")


async def test_what_was_found_once_is_not_searched_again(client):
    first = await ask(client, QUESTION, [SEARCH, *TOOLS])
    answer = {"type": "tool_result", "tool_use_id": first.content[2].id, "content": "much"}
    turns = [
        *QUESTION,
        {"role": "assistant", "content": first.to_dict()["content"]},
        {"role": "user", "content": [answer, {"type": "text", "text": "And snow tomorrow?"}]},
    ]
    again = await ask(client, turns, [SEARCH, *TOOLS], tool_choice={"type": "any"})
    assert [block.type for block in again.content] == ["tool_use"]


async def test_without_a_search_a_deferred_tool_is_not_there(client):
    at_hand = {"name": "rain", "input_schema": SCHEMA}
    reply = await ask(client, QUESTION, [at_hand, *TOOLS])
    assert [block.name for block in reply.content] == ["rain"]


@pytest.mark.parametrize(
    ("tools", "said"),
    [
        ([{**SEARCH, "defer_loading": True}, *TOOLS], "cannot be deferred"),
        ([{**SEARCH, "name": "finder"}, *TOOLS], "tool_search_tool_bm25"),
        (TOOLS, "At least one tool"),
    ],
)
async def test_what_no_search_can_be_is_refused(client, tools, said):
    with pytest.raises(anthropic.BadRequestError, match=said):
        await client.messages.create(model=MODEL, max_tokens=9, messages=QUESTION, tools=tools)
