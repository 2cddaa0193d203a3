"""What real clients send is answered as they expect; what cannot be done is refused by a name for
programs; nothing is a 500."""

import gzip
import json
import random
import re
from pathlib import Path

import anthropic
import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.bodies import ASK, HEADERS, QUICK, complaint, written
from lab import json_schema, pattern
from lab.local.control import Control
from tests.conftest import serve

MODEL = "simulated-small"
HELLO = {"model": MODEL, **ASK}
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS = [{"name": name, "input_schema": CITY} for name in ("weather", "tides")]
FORM = {
    "type": "json_schema",
    "schema": {"type": "object", "properties": {"n": {"const": 7}}, "required": ["n"]},
}


@pytest.fixture
def client(simulated):
    with anthropic.Anthropic(
        base_url=simulated.base_url, api_key=simulated.api_key, max_retries=0, timeout=20
    ) as client:
        yield client


@pytest.fixture(scope="module")
def aliased():
    process, card = serve("--simulated", "--no-spin", "--alias")
    yield Control(card["base_url"], card["api_key"])
    process.terminate()
    process.wait(10)
    process.stdout.close()


def post(server, body, path="/v1/messages", **headers):
    sent = {"x-api-key": server.api_key, **HEADERS, **headers}
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return httpx2.post(server.base_url + path, content=content, headers=sent, timeout=20)


def refused(server, change):
    reply = post(server, {**HELLO, **change})
    assert reply.status_code == 400
    return reply.json()["error"]


# A coding agent's first request, in shape.
AGENT = {
    **HELLO,
    "max_tokens": 32000,
    "system": [
        {"type": "text", "text": "You help with files.", "cache_control": {"type": "ephemeral"}}
    ],
    "messages": [
        *HELLO["messages"],
        {"role": "system", "content": "One helper is at hand: notes."},
    ],
    "tools": [
        {
            "name": "run_plan",
            "description": "Runs a plan.",
            "input_schema": {
                "$schema": "https://json-schema.org/draft/2020-12/schema",
                "type": "object",
                "properties": {
                    "script": {"type": "string", "maxLength": 524288},
                    "args": {"description": "anything"},
                    "again": {"type": "string", "pattern": "^pl_[a-z0-9-]{6,}$"},
                    "lines": {
                        "type": "integer",
                        "exclusiveMinimum": 0,
                        "maximum": 9007199254740991,
                    },
                },
                "additionalProperties": False,
            },
        }
    ],
    "thinking": {"type": "adaptive", "display": "omitted"},
    "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
    "output_config": {"effort": "high"},
}


def test_a_coding_agents_first_request_is_answered_and_told_what_was_done(simulated):
    message = post(
        simulated,
        AGENT,
        "/v1/messages?beta=true",
        **{"anthropic-beta": "effort-2025-11-24,other-2026-01-01"},
    ).json()
    assert [block["type"] for block in message["content"]] == ["thinking", "tool_use"] and message[
        "stop_reason"
    ] == "tool_use"
    assert (
        message["content"][1]["input"]["again"].startswith("pl_")
        and message["content"][1]["input"]["lines"] >= 1
    )
    assert (
        message["context_management"] == {"applied_edits": []}
        and message["lab"]["effort"] == "high"
    )
    assert message["usage"]["output_tokens_details"]["thinking_tokens"] == 30
    lines = post(simulated, {**AGENT, "stream": True}).text.splitlines()
    (ended,) = [
        json.loads(line[6:])
        for line in lines
        if '"message_delta"' in line and line.startswith("data")
    ]
    assert ended["context_management"] == {"applied_edits": []}


CASES = {
    case["name"]: case["body"]
    for case in json.loads((Path(__file__).parent / "cases" / "requests.json").read_text())
}


def test_each_body_as_clients_send_it_is_answered_or_refused_by_name(simulated):
    """What the embedded model, which cannot think, says to the last of them:
    tests/test_local_llama.py."""
    details = {"error_code": "thread_unsupported_request", "unsupported": ["thread"]}
    for name, body in CASES.items():
        reply = post(simulated, {**body, "model": MODEL})
        assert reply.status_code == (400 if name == "tool-runner" else 200), reply.text
        if name == "tool-runner":
            assert reply.json()["error"]["details"] == details


def test_a_system_turn_counts_as_prompt_and_may_not_be_first(simulated):
    turn = {"role": "system", "content": "s" * 40}

    def read(messages):
        return post(simulated, {**HELLO, "messages": messages}).json()["usage"]["input_tokens"]

    said = HELLO["messages"]
    assert read([*said, turn]) == read(said) + 10
    once, later = (
        {**turn, "clear_at": "next_user_message"},
        [{"role": "assistant", "content": "a" * 4}, {"role": "user", "content": "b" * 4}],
    )
    assert read([*said, once]) == read(said) + 10 and read([*said, once, *later]) == read(
        [*said, *later]
    )
    assert "messages.0.role" in refused(simulated, {"messages": [turn, *said]})["message"]
    assert (
        "clear_at"
        in refused(simulated, {"messages": [{**said[0], "clear_at": "never"}]})["message"]
    )


def test_effort_and_speed_are_played_and_reported(simulated):
    simulated.knobs(answer_tokens=40, thinking_tokens=20, jitter=0, tail=0, gap_ms=2)
    ask = {**HELLO, "max_tokens": 1000, "thinking": {"type": "adaptive"}}
    low, default, most = [
        post(simulated, {**ask, **({"output_config": {"effort": e}} if e else {})}).json()
        for e in ("low", None, "max")
    ]
    assert [reply["usage"]["output_tokens"] for reply in (low, default, most)] == [30, 60, 120]
    turn = {"role": "system", "content": [], "output_config": {"effort": "low"}}
    assert (
        post(simulated, {**ask, "messages": [*ask["messages"], turn]}).json()["usage"][
            "output_tokens"
        ]
        == 30
    )
    fast = post(simulated, {**ask, "speed": "fast"}).json()
    # 60 pieces, 2 ms apart: the first is no sooner, the others come 2.5 times as fast.
    assert default["lab"]["decode_ms"] == pytest.approx(2 + 59 * 2)
    assert fast["usage"]["speed"] == "fast"
    assert fast["lab"]["decode_ms"] == pytest.approx(2 + 59 * 0.8)


def test_a_thread_without_its_beta_is_refused_by_a_code_that_the_sdks_know(simulated, client):
    """With it the tool runner has its conversation held: tests/test_local_threads.py."""
    error = refused(simulated, {"thread": {"type": "create"}})
    assert error["details"] == {
        "error_code": "thread_unsupported_request",
        "unsupported": ["thread"],
    }
    asked = []

    @anthropic.beta_tool
    def weather(city: str) -> str:
        """Weather in a city."""
        asked.append(city)
        return "Fair."

    final = client.beta.messages.tool_runner(**HELLO, tools=[weather]).until_done()
    assert len(asked) == 1 and [block.type for block in final.content] == ["text"]


def test_the_older_name_of_the_replys_format_does_the_same(simulated):
    asked = [{"output_format": FORM}, {"output_config": {"format": FORM}}]
    texts = [post(simulated, {**HELLO, **field}).json()["content"][0]["text"] for field in asked]
    assert texts == ['{"n":7}'] * 2
    assert "output_format" in refused(simulated, {**asked[0], **asked[1]})["message"]


def test_one_tool_a_reply_the_one_that_is_named_else_the_first_that_was_not_used_yet(simulated):
    def used(body, **headers):
        return [
            block["name"]
            for block in post(simulated, {**HELLO, **body}, **headers).json()["content"]
            if block["type"] == "tool_use"
        ]

    assert used({"tools": TOOLS}) == ["weather"]
    assert used(
        {"tools": TOOLS, "messages": [{"role": "user", "content": "Look up the tides."}]}
    ) == ["tides"]
    assert used({"tools": TOOLS}, **{"x-lab-tools": "all"}) == ["weather", "tides"]
    once = {"tools": TOOLS, "tool_choice": {"type": "auto", "disable_parallel_tool_use": True}}
    assert used(once, **{"x-lab-tools": "all"}) == ["weather"]
    turns = [
        *HELLO["messages"],
        {
            "role": "assistant",
            "content": [
                {
                    "type": "tool_use",
                    "id": "a",
                    "name": "weather",
                    "input": {},
                    "caller": {"type": "direct"},
                }
            ],
        },
        {
            "role": "user",
            "content": [{"type": "tool_result", "tool_use_id": "a", "content": "Fair."}],
        },
    ]
    assert used({"tools": TOOLS, "messages": turns}) == []
    assert used({"tools": TOOLS, "messages": turns, "tool_choice": {"type": "any"}}) == ["tides"]


def test_a_deferred_tool_is_neither_read_nor_used_before_it_is_referred_to(simulated):
    tools = [{**TOOLS[0], "description": "d" * 400, "defer_loading": True}, TOOLS[1]]
    plain, deferred = (
        post(simulated, {**HELLO, "tools": TOOLS[1:]}).json(),
        post(simulated, {**HELLO, "tools": tools}).json(),
    )
    assert (
        deferred["usage"]["input_tokens"] == plain["usage"]["input_tokens"]
        and deferred["content"][0]["name"] == "tides"
    )
    found = {
        "type": "tool_result",
        "tool_use_id": "a",
        "content": [{"type": "tool_reference", "tool_name": "weather"}],
    }
    turns = [
        *HELLO["messages"],
        {
            "role": "assistant",
            "content": [{"type": "tool_use", "id": "a", "name": "tides", "input": {}}],
        },
        {"role": "user", "content": [found]},
    ]
    reply = post(
        simulated, {**HELLO, "tools": tools, "messages": turns, "tool_choice": {"type": "any"}}
    ).json()
    assert reply["content"][0]["name"] == "weather"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"mcp_servers": []}, "mcp_servers"),
        ({"messages": [{"role": "user", "content": "a", "mood": 1}]}, "messages.0.mood"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image", "source": {}}]}]},
            "messages.0.content.0",
        ),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools.0"),
        ({"output_config": {"task_budget": {}}}, "output_config.task_budget"),
        (
            {"context_management": {"edits": [{"type": "compact_20260112"}]}},
            "context_management.edits.0",
        ),
        (
            {
                "tools": [
                    {
                        "name": "t",
                        "strict": True,
                        "input_schema": {
                            "type": "object",
                            "properties": {"a": {"pattern": "(?=a)"}},
                        },
                    }
                ]
            },
            "tools.0.input_schema",
        ),
        (
            {
                "output_format": {
                    "type": "json_schema",
                    "schema": {"type": "string", "format": "colour"},
                }
            },
            "output_config.format.schema",
        ),
    ],
)
def test_what_to_leave_out_is_named_for_a_program(simulated, change, field):
    assert refused(simulated, change)["details"] == {
        "error_code": "unsupported_field",
        "unsupported": [field],
    }


def test_a_prompt_beyond_the_window_is_refused_in_the_apis_words(simulated):
    error = refused(simulated, {"messages": [{"role": "user", "content": "x" * 4_000_004}]})
    assert error["message"] == "prompt is too long: 1000001 tokens > 1000000 maximum"


def test_cards_leave_nothing_to_be_assumed(client):
    for card in client.models.list(limit=1):
        able = card.capabilities
        assert (
            able.thinking.supported
            and able.thinking.types.adaptive.supported
            and able.effort.xhigh.supported
            and able.batch.supported
        )
        assert not (
            able.image_input.supported or able.citations.supported or able.server_tools.supported
        )
        assert (card.max_input_tokens, card.max_tokens) == (1_000_000, 128_000)


def test_claudes_names_are_answered_where_that_was_asked_for_and_nobody_can_mistake_it(
    simulated, aliased
):
    assert post(simulated, {**HELLO, "model": "claude-haiku-5-5"}).status_code == 404
    for asked, served in (
        ("claude-haiku-5-5", "simulated-small"),
        ("claude-opus-5-5", "simulated-large"),
    ):
        whole, streamed = (
            post(aliased, {**HELLO, "model": asked, "stream": stream}) for stream in (False, True)
        )
        assert whole.json()["model"] == served and whole.json()["lab"]["asked_model"] == asked
        assert whole.headers["x-lab-model"] == streamed.headers["x-lab-model"] == served
        assert (
            f'"model": "{served}"' in streamed.text and f'"asked_model": "{asked}"' in streamed.text
        )
        card = httpx2.get(
            f"{aliased.base_url}/v1/models/{asked}",
            headers={"x-api-key": aliased.api_key, **HEADERS},
        ).json()
        assert (
            card["id"] == served
            and asked in card["display_name"]
            and "no Claude" in card["display_name"]
        )
    assert "x-lab-model" not in post(aliased, HELLO).headers


def test_a_compressed_body_is_unpacked_within_limits_or_refused_by_code(simulated):
    raw = json.dumps(HELLO).encode()

    def code(body, encoding):
        return post(simulated, body, **{"content-encoding": encoding}).json()["error"]["details"][
            "error_code"
        ]

    assert post(simulated, gzip.compress(raw), **{"content-encoding": "gzip"}).json()["stop_reason"]
    assert code(raw, "zstd") == "request_body_encoding_unsupported"
    assert (
        code(raw, "gzip")
        == code(gzip.compress(raw)[:-9], "gzip")
        == "request_body_encoding_invalid"
    )
    assert (
        code(gzip.compress(b" " * (33 * 2**20)), "gzip") == "request_body_too_large_after_decoding"
    )


def test_clients_look_before_they_ask(simulated):
    assert httpx2.head(simulated.base_url).status_code == 200
    asked = httpx2.options(
        f"{simulated.base_url}/v1/messages", headers={"origin": "http://x.example"}
    )
    assert asked.status_code == 204 and "access-control-allow-origin" not in asked.headers
    assert (
        httpx2.head(
            f"{simulated.base_url}/v1/models", headers={"x-api-key": simulated.api_key, **HEADERS}
        ).status_code
        == 200
    )


def test_no_body_is_a_500(simulated):
    simulated.knobs(**QUICK)
    headers = {"x-api-key": simulated.api_key, **HEADERS}
    with httpx2.Client(base_url=simulated.base_url, headers=headers, timeout=20) as client:

        @settings(max_examples=200, deadline=None)
        @given(st.integers(0, 2**32))
        def send(seed):
            assert (
                complaint(client.post("/v1/messages", content=written(MODEL, random.Random(seed))))
                is None
            )

        send()


@pytest.mark.parametrize(
    "expression",
    ["^pl_[a-z0-9-]{6,}$", r"^\d{4}-\d\d$", "^(foo|bar)+$", "[^abc]", r"^[A-Z][\w ]*\.$", "^$"],
)
def test_a_text_is_made_that_its_pattern_matches(expression):
    assert re.search(expression, pattern.example(expression, random.Random(1)))


@pytest.mark.parametrize(
    "expression", ["(?!x)a", "a^b", "(a{999}){999}", "((((){9999}){9999}){9999})", "(", r"(a)\1", 5]
)
def test_a_pattern_that_is_too_hard_gives_nothing_and_soon(expression):
    assert pattern.example(expression, random.Random(1)) is None


def test_a_schema_that_contains_itself_ends():
    tree = {
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "kids": {"type": "array", "items": {"$ref": "#"}},
        },
    }
    assert json.dumps(json_schema.sample(tree, rng=random.Random(1))).count("kids") < 10
    with pytest.raises(json_schema.Unsupported, match="without an end"):
        json_schema.checked(
            json_schema.short,
            {**tree, "required": ["kid"], "properties": {"kid": {"$ref": "#"}}},
            False,
        )
