"""Why a call missed the cache, told from recordings that one can check in the head."""

from __future__ import annotations

import copy
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest

from bench.demo_agent import agent
from lab import new_recording, recordings
from lab.recording import asked, misses, prefixes, shape
from lab.recording.facts import CAUSES, Miss
from lab.recording.scribe import Scribe, Seen
from lab.recording.shape import Hasher
from lab.store.store import Store

HASHER = Hasher(b"k" * 32)
DAY = datetime(2026, 11, 20, tzinfo=UTC)
MODEL = "claude-sonnet-5-5"
MARK = {"type": "ephemeral"}
RULES = "Answer in one sentence. Never guess a fare. " * 40
SCHEMA = {"type": "object", "properties": {"from": {"type": "string"}, "to": {"type": "string"}}}
TOOLS = [
    {"name": name, "description": f"Looks up {name} for a journey.", "input_schema": SCHEMA}
    for name in ("trains", "fares", "hotels")
]


def marked(text: str, ttl: str | None = None) -> dict:
    return {"type": "text", "text": text, "cache_control": MARK | ({"ttl": ttl} if ttl else {})}


def body(*texts: str, rules: str = RULES, mark: bool = True, **more) -> dict:
    """A conversation of user and assistant by turns, a breakpoint behind its last block."""
    roles = ("user", "assistant")
    messages = [
        {"role": roles[at % 2], "content": [{"type": "text", "text": text}]}
        for at, text in enumerate(texts)
    ]
    if mark:
        messages[-1]["content"][-1]["cache_control"] = MARK
    return {
        "model": MODEL,
        "system": [{"type": "text", "text": rules}],
        "messages": messages,
    } | more


class App:
    """Calls of an application: each is told what the API counted, and goes on from the one before
    it unless it begins a conversation of its own."""

    def __init__(self, kind: str = "live"):
        self.kind, self.rows, self.prompts, self.pieces, self.lanes = kind, [], {}, {}, []

    def call(
        self,
        at_s: float,
        request: dict | None,
        read: int | None,
        written: int,
        rest: int = 10,
        *,
        begun_s: float = 0.5,
        new: bool = False,
        whole: bool = True,
        **row,
    ) -> str:
        call_id = f"call {len(self.rows) + 1}"
        if request is not None:
            prompt, texts = shape.prompt_of(copy.deepcopy(request), HASHER)
            settings = {**prompt.settings, "whole": whole}
            self.prompts[call_id] = shape.Prompt(prompt.blocks, prompt.marks, settings)
            self.pieces |= {hash: shape.pieces(text, HASHER) for hash, text in texts.items()}
        conversation, parent = len(self.rows) + 1, None
        if self.rows and not new:
            conversation, parent = self.lanes[-1]["conversation"], self.rows[-1]["call_id"]
        self.lanes.append({"conversation": conversation, "lane": 0, "turn": 1, "parent": parent})
        self.rows.append(
            {
                "call_id": call_id,
                "started_ms": at_s * 1000,
                "message_start_at_ms": begun_s * 1000,
                "ended_at_ms": begun_s * 1000 + 500,
                "started_utc": DAY + timedelta(seconds=at_s),
                "model": (request or {}).get("model", MODEL),
                "served_model": None,
                "endpoint_kind": self.kind,
                "input_tokens": None if read is None else rest,
                "cache_read_tokens": read,
                "cache_write_tokens": written,
                "cache_write_5m_tokens": written,
                "cache_write_1h_tokens": 0,
                "output_tokens": 1,
                "cost_usd": 0.01,
                "service_tier": None,
                "speed": None,
                "inference_geo": None,
                "http_status": 200,
                "cache_miss_reason": None,
            }
            | row
        )
        return call_id

    def misses(self) -> list[Miss]:
        frame = pd.DataFrame(self.rows)
        frame["follows"], frame["shared_blocks"] = None, 0
        index = pd.Index(frame["call_id"], name="call_id")
        lanes = pd.DataFrame(self.lanes, index=index)
        kept = self.pieces
        calls = asked.calls_of(frame, lanes, self.prompts)
        return misses.of(calls, lambda hash: shape.read_pieces(kept.get(hash, "")), None)

    def faults(self) -> list[Miss]:
        return [miss for miss in self.misses() if miss.cause != "first_use"]


def second(first: dict, then: dict, at_s: float = 10, read: int = 0, kind="live", **row) -> Miss:
    """The miss of a call that goes on from one that wrote 2,000 tokens, and read none of them."""
    app = App(kind)
    app.call(0, first, 0, 2000)
    app.call(at_s, then, read, 2100 - read, **row)
    (miss,) = app.faults()
    assert (miss.call_id, miss.before) == ("call 2", "call 1")
    return miss


# What is no miss


def test_the_first_call_of_a_prefix_is_no_fault():
    app = App()
    app.call(0, body("Hello"), 0, 2000)
    (miss,) = app.misses()
    assert (miss.cause, miss.missed_tokens, miss.usd) == ("first_use", 0, None)
    assert miss.evidence == "The first call with this prefix: it wrote 2,000 tokens."


def test_what_is_new_at_the_end_of_a_conversation_is_no_miss():
    app = App()
    app.call(0, body("Hello"), 0, 2000)
    app.call(10, body("Hello", "Hi.", "How are you?"), 2000, 100)
    app.call(20, body("Hello", "Hi.", "How are you?", "Well.", "Good."), 2100, 100)
    assert app.faults() == []


def test_another_conversation_reads_the_system_prompt_and_misses_nothing():
    def asks(text: str) -> dict:
        return body(text, system=[marked(RULES)])

    app = App()
    app.call(0, asks("Where is Oslo? " * 60), 0, 2300)
    app.call(10, asks("Who wrote Peer Gynt? " * 60), 2000, 350, new=True)
    app.call(20, asks("When does the boat to Bergen leave? " * 60), 2000, 300, new=True)
    assert app.faults() == []


def test_an_agent_with_another_prompt_is_a_first_use():
    app = App()
    app.call(0, body("Plan a journey", tools=TOOLS), 0, 2000)
    app.call(
        10, body("Translate: takk", rules="You translate from Norwegian. " * 60), 0, 900, new=True
    )
    assert [miss.cause for miss in app.misses()] == ["first_use", "first_use"]


def test_a_question_asked_anew_at_the_end_misses_nothing():
    app = App()
    app.call(0, body("Hello"), 0, 2000)
    app.call(10, body("Hello", "Hi.", "Where is the northernmost town of all? " * 20), 2000, 300)
    app.call(
        20,
        body("Hello", "Hi.", "Tell me about whales, their songs and their age. " * 20),
        2000,
        320,
    )
    assert app.faults() == []


# What differs, in the order in which the API reads


def test_a_time_in_the_system_prompt_is_found_to_the_character():
    def at(time: str) -> str:
        return RULES + f"It is {time}. Be kind."

    miss = second(
        body("Hello", rules=at("2026-11-26T07:23:25.104Z")),
        body("Hello", "Hi.", "And now?", rules=at("2026-11-26T07:23:31.988Z")),
    )
    assert miss.cause == "system_differs"
    assert (miss.section, miss.place, miss.offset, miss.length, miss.look) == (
        "system",
        0,
        len(RULES) + 6,
        24,
        "time",
    )
    assert miss.evidence == (
        "System block 1 differs from the call before at character 1,766: 24 characters that look"
        " like a time."
    )
    assert miss.missed_tokens == 2000 and miss.is_counted


@pytest.mark.parametrize(
    ("was", "now", "look"),
    [
        ("9f8b2c1d-77aa-4c3e-9b1a-0d2f5e6a7b8c", "1a2b3c4d-77aa-4c3e-9b1a-0d2f5e6a7b8c", "id"),
        ("12", "13", "number"),
        ("Thursday, 26 November 2026, 07:23", "Friday, 27 November 2026, 09:01", "time"),
        ("glad", "sad", ""),
    ],
)
def test_the_changing_piece_looks_like_what_it_is(was, now, look):
    miss = second(
        body("Hi", rules=f"{RULES}, {was}."), body("Hi", "Ho", "Hu", rules=f"{RULES}, {now}.")
    )
    assert (miss.cause, miss.look) == ("system_differs", look)


def test_a_system_prompt_that_changes_with_every_request_is_found_without_a_conversation():
    def asks(number: int) -> dict:
        system = [marked(f"{RULES} Request 7f3a9b{number}c41d. Be kind.")]
        return body(f"Question {number}", mark=False, system=system)

    app = App()
    app.call(0, asks(1), 0, 2000)
    app.call(10, asks(2), 0, 2000, new=True)
    miss = app.faults()[0]
    assert (miss.cause, miss.look, miss.missed_tokens) == ("system_differs", "id", 2000)
    assert "from an earlier call" in miss.evidence


def test_an_inserted_system_block_is_said_to_be_new():
    first = body("Hi", system=[{"type": "text", "text": t} for t in ("Be kind.", RULES)])
    then = body(
        "Hi",
        "Ho",
        "Hu",
        system=[{"type": "text", "text": t} for t in ("Be kind.", "Be brief.", RULES)],
    )
    miss = second(first, then)
    assert (miss.cause, miss.place) == ("system_differs", 1)
    assert miss.evidence.startswith("System block 2 is new: 9 characters")


def test_a_tool_that_waits_for_a_search_is_no_part_of_the_prompt():
    later = {**TOOLS[0], "name": "ferries", "defer_loading": True}
    miss = second(body("Hi", tools=TOOLS), body("Hi", "Ho", "Hu", tools=[later, *TOOLS]), at_s=400)
    assert miss.cause == "expired"


def test_another_description_of_a_tool_names_the_tool():
    tools = copy.deepcopy(TOOLS)
    tools[1]["description"] = "Looks up fares for a trip."
    miss = second(body("Hi", tools=TOOLS), body("Hi", "Ho", "Hu", tools=tools))
    assert (miss.cause, miss.section, miss.place) == ("tool_differs", "tools", 1)
    assert miss.evidence.startswith("Tool 2 (fares) differs from the call before at character")


def test_a_removed_tool_and_an_added_one():
    without = second(body("Hi", tools=TOOLS), body("Hi", "Ho", "Hu", tools=TOOLS[:1] + TOOLS[2:]))
    assert without.cause == "tool_differs"
    assert without.evidence == "Tool 2 (fares) of the call before is no longer there."
    added = second(body("Hi", tools=TOOLS[:2]), body("Hi", "Ho", "Hu", tools=TOOLS))
    assert (added.cause, added.place) == ("tool_differs", 2)
    assert added.evidence.startswith("Tool 3 (hotels) is new")


def test_the_same_tools_in_another_order():
    miss = second(body("Hi", tools=TOOLS), body("Hi", "Ho", "Hu", tools=TOOLS[::-1]))
    assert (miss.cause, miss.section, miss.place) == ("tool_order", "tools", 0)


def test_the_keys_of_a_tool_in_another_order_are_a_reordering():
    tools = copy.deepcopy(TOOLS)
    places = {"to": {"type": "string"}, "from": {"type": "string"}}
    tools[0]["input_schema"] = {"type": "object", "properties": places}
    miss = second(body("Hi", tools=TOOLS), body("Hi", "Ho", "Hu", tools=tools))
    assert (miss.cause, miss.look) == ("tool_differs", "reordering")
    assert "in another order" in miss.evidence


def test_a_changed_tool_result_in_the_middle():
    def loop(result: str) -> dict:
        use = {"type": "tool_use", "id": "toolu_1", "name": "fares", "input": {}}
        answer = {"type": "tool_result", "tool_use_id": "toolu_1", "content": result}
        request = body("Hi", "…", "…", "The fare is 20." * 30, "Thanks", tools=TOOLS)
        request["messages"][1]["content"], request["messages"][2]["content"] = [use], [answer]
        return request

    miss = second(loop("20 EUR, asked at 07:23:25"), loop("20 EUR, asked at 07:23:31"))
    assert (miss.cause, miss.section, miss.look) == ("message_differs", "messages", "time")
    assert miss.evidence.startswith("Message 3 (tool result) differs from the call before")


def test_the_oldest_messages_left_out():
    miss = second(
        body("Hello", "Hi.", "And now? " * 30, "So so.", "Well?"),
        body("And now? " * 30, "So so.", "Well?", "Yes.", "Good."),
    )
    assert miss.cause == "message_differs"


@pytest.mark.parametrize(
    ("cause", "setting", "other"),
    [
        ("tool_choice", {"tool_choice": {"type": "auto"}}, {"tool_choice": {"type": "none"}}),
        ("thinking", {}, {"thinking": {"type": "enabled", "budget_tokens": 2000}}),
        ("effort", {"output_config": {"effort": "high"}}, {"output_config": {"effort": "low"}}),
        (
            "output_format",
            {},
            {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}},
        ),
        ("speed", {}, {"speed": "fast"}),
        ("model", {}, {"model": "claude-haiku-5-5"}),
    ],
)
def test_a_setting_is_named_where_it_alone_differs(cause, setting, other):
    miss = second(body("Hi", **setting), body("Hi", "Ho", "Hu", **other))
    assert (miss.cause, miss.missed_tokens) == (cause, 2000)


def test_another_effort_is_named_where_it_broke_the_system_prompt_too_as_on_some_models():
    system = [marked(RULES)]
    low = {"output_config": {"effort": "low"}}
    miss = second(body("Hi", system=system), body("Hi", "Ho", "Hu", system=system, **low))
    assert (miss.cause, miss.missed_tokens) == ("effort", 2000)


@pytest.mark.parametrize(
    "default",
    [
        {"tool_choice": {"type": "auto"}},
        {"output_config": {"effort": "high"}},
        {"speed": "standard"},
        {"thinking": {"type": "disabled"}},
    ],
)
def test_to_state_a_default_breaks_nothing_and_is_not_named(default):
    assert second(body("Hi"), body("Hi", "Ho", "Hu", **default)).cause == "not_known"


def test_a_dated_name_and_its_alias_are_one_model():
    miss = second(body("Hi"), body("Hi", "Ho", "Hu", model=f"{MODEL}-20260928"))
    assert miss.cause == "not_known"


def test_of_two_changes_the_one_that_the_api_reads_first_is_named_and_the_other_told():
    tools = TOOLS[::-1]
    miss = second(
        body("Hi", tools=TOOLS),
        body("Hi", "Ho", "Hu", tools=tools, rules=RULES + "!", output_config={"effort": "low"}),
    )
    assert miss.cause == "tool_order"
    assert miss.evidence.endswith(" Also: system block 1, effort.")


# Breakpoints, the minimum and the clocks


def test_a_breakpoint_left_out_where_the_call_before_had_one():
    miss = second(body("Hi"), body("Hi", "Ho", "Hu", mark=False))
    assert (miss.cause, miss.missed_tokens) == ("no_breakpoint", 2000)


def test_a_long_shared_prompt_without_any_breakpoint():
    app = App()
    app.call(0, body("Hi", mark=False), 0, 0, rest=2000)
    app.call(10, body("Hi", "Ho", "Hu", mark=False), 0, 0, rest=2010)
    (miss,) = app.misses()
    assert miss.cause == "no_breakpoint" and not miss.is_counted
    assert 1950 < miss.missed_tokens < 2010


def test_a_short_shared_prompt_needs_no_breakpoint():
    app = App()
    app.call(0, body("Hi", mark=False), 0, 0, rest=500)
    app.call(10, body("Hi", "Ho", "Hu", mark=False), 0, 0, rest=505)
    assert app.misses() == []


def test_a_breakpoint_behind_what_always_changes_is_no_breakpoint():
    app = App()
    app.call(0, body("Where is Oslo? " * 60), 0, 1200)
    app.call(10, body("Who wrote Peer Gynt? " * 40), 0, 1200, new=True)
    (miss,) = app.faults()
    assert (miss.cause, miss.place) == ("no_breakpoint", 0)


@pytest.mark.parametrize(("new_blocks", "cause"), [(19, "not_known"), (20, "breakpoint_moved")])
def test_a_breakpoint_looks_back_over_twenty_blocks_itself_the_first(new_blocks, cause):
    first, then = body("Hi"), body("Hi", "Ho", "Hu")
    # The breakpoint of the first stands behind block 1; here behind block 1 + new_blocks.
    texts = [{"type": "text", "text": f"Fact {n}."} for n in range(new_blocks - 1)]
    then["messages"][2]["content"] = texts
    texts[-1]["cache_control"] = MARK
    assert second(first, then).cause == cause


def test_five_breakpoints_are_refused():
    app = App()
    app.call(0, body("Hi"), 0, 2000)
    then = body("Hi", "Ho", "Hu", "Ha", "He", "Hy", "Hi")
    for message in then["messages"][:5]:
        message["content"][0]["cache_control"] = MARK
    app.call(10, then, None, 0, http_status=400, cost_usd=None)
    (miss,) = app.faults()
    assert (miss.cause, miss.missed_tokens, miss.usd) == ("breakpoint_beyond", 0, None)


def test_a_fifth_breakpoint_that_a_server_passes_over():
    first, then = body("Hi"), body("Hi", "Ho", "Hu")
    # Four in the system prompt, the fifth behind the last message; only that one is near block 4.
    system = [
        marked(RULES),
        *(marked(f"Rule {n}") for n in range(3)),
        {"type": "text", "text": "."},
    ]
    first["system"] = [{"type": "text", "text": block["text"]} for block in system]
    then["system"] = system
    miss = second(first, then)
    assert miss.cause == "breakpoint_beyond"


def test_shorter_than_the_models_minimum():
    app = App()
    app.call(0, body("Hi", rules="Be kind. " * 40), 0, 0, rest=300)
    app.call(10, body("Hi", "Ho", "Hu", rules="Be kind. " * 40), 0, 0, rest=310)
    (miss,) = app.misses()
    assert miss.cause == "below_minimum" and 290 < miss.missed_tokens <= 310
    assert "caches nothing shorter than 512" in miss.evidence


def test_nothing_cached_above_the_minimum_is_not_explained():
    app = App()
    app.call(0, body("Hi"), 0, 0, rest=900)
    app.call(10, body("Hi", "Ho", "Hu"), 0, 0, rest=910)
    (miss,) = app.misses()
    assert miss.cause == "not_known"
    assert miss.evidence.endswith("No call of this recording did.")


def test_the_minimum_of_a_model_that_is_not_listed_is_not_guessed():
    app = App()
    app.call(0, body("Hi", model="claude-fable-9"), 0, 0, rest=300)
    app.call(10, body("Hi", "Ho", "Hu", model="claude-fable-9"), 0, 0, rest=310)
    assert [miss.cause for miss in app.misses()] == ["not_known"]


@pytest.mark.parametrize(("pause_s", "cause"), [(299, "not_known"), (301, "expired")])
def test_an_entry_lives_five_minutes_from_the_start_of_its_last_use(pause_s, cause):
    assert second(body("Hi"), body("Hi", "Ho", "Hu"), at_s=pause_s).cause == cause


@pytest.mark.parametrize(
    ("pause_s", "cause"), [(301, "not_known"), (3599, "not_known"), (3601, "expired")]
)
def test_an_entry_for_an_hour_lives_an_hour(pause_s, cause):
    first, then = body("Hi"), body("Hi", "Ho", "Hu")
    for request in (first, then):
        request["messages"][-1]["content"][-1]["cache_control"] = MARK | {"ttl": "1h"}
    assert second(first, then, at_s=pause_s).cause == cause


def test_a_read_begins_the_time_to_live_anew():
    app = App()
    app.call(0, body("Hi"), 0, 2000)
    app.call(200, body("Hi"), 2000, 0)
    app.call(400, body("Hi", "Ho", "Hu"), 0, 2100)
    assert [miss.cause for miss in app.faults()] == ["not_known"]


def test_a_call_whose_use_nobody_knows_keeps_a_pause_from_being_named():
    app = App()
    app.call(0, body("Hi"), 0, 2000)
    app.call(200, body("Hi", "Ho", "Hu"), None, 0, http_status=529)
    app.call(400, body("Hi", "Ho", "Hu"), 0, 2100)
    (miss,) = app.faults()
    assert miss.cause == "not_known"
    assert miss.evidence.endswith(
        "last used 400 s before, with 5 min to live. It read 0. Also seen: a call that failed in"
        " between, which may have used it."
    )


def test_a_refused_call_used_nothing_so_the_pause_is_named():
    app = App()
    app.call(0, body("Hi"), 0, 2000)
    app.call(200, body("Hi", "Ho", "Hu"), None, 0, http_status=400)
    app.call(400, body("Hi", "Ho", "Hu"), 0, 2100)
    assert [miss.cause for miss in app.faults()] == ["expired"]


def test_asked_while_another_was_writing_it():
    app = App()
    app.call(0, body("Hi"), 0, 2000, begun_s=2)
    app.call(1.5, body("Hi"), 0, 2000, begun_s=2, new=True)
    app.call(2.5, body("Hi"), 2000, 0, new=True)
    (miss,) = app.faults()
    assert (miss.call_id, miss.cause, miss.missed_tokens) == ("call 2", "being_written", 2000)
    assert miss.evidence.startswith("Sent 500 ms before the answer began")


@pytest.mark.parametrize(("stream", "cause"), [(True, "not_known"), (False, "being_written")])
def test_of_a_streamed_answer_its_end_does_not_say_when_its_tokens_could_be_read(stream, cause):
    """An imported one: it ended after 20 s, and may have begun after 2. One that came whole began
    when it was there."""
    app = App()
    app.call(0, body("Hi", stream=stream), 0, 2000, message_start_at_ms=None, ended_at_ms=20_000)
    app.call(10, body("Hi", stream=stream), 0, 2000, new=True)
    (miss,) = app.faults()
    assert miss.cause == cause
    assert ("nobody saw it begin" in miss.evidence) == stream


# What cannot be proven


def test_all_the_same_and_not_read_is_not_known_with_what_was_seen():
    miss = second(body("Hi"), body("Hi", "Ho", "Hu"))
    assert miss.cause == "not_known"
    assert miss.evidence == (
        "Everything up to the breakpoint was the same as in the call before: 2,000 tokens, last"
        " used 10 s before, with 5 min to live. It read 0."
    )


def test_what_may_have_broken_it_is_told_and_not_named():
    cleared = {"context_management": {"edits": [{"type": "clear_tool_uses_20250919"}]}}
    miss = second(body("Hi"), body("Hi", "Ho", "Hu", thinking={"type": "adaptive"}, **cleared))
    assert miss.cause == "not_known"
    assert miss.evidence.endswith(
        "Also seen: thinking said otherwise, context management, which may have cleared earlier"
        " blocks."
    )


def test_a_server_that_lost_one_entry_may_have_lost_others_so_a_change_is_named_again():
    app = App()
    app.call(0, body("Hi", speed="fast"), 0, 2000)
    app.call(10, body("Hi"), 0, 2000, new=True)
    app.call(20, body("Hi"), 0, 2000, new=True)
    app.call(30, body("Hi", "Ho", "Hu", speed="fast"), 0, 2100)
    assert [miss.cause for miss in app.faults()][1:] == ["not_known", "speed"]


def test_of_a_part_of_a_request_no_difference_is_told():
    app = App()
    app.call(0, body("Hi"), 0, 2000, whole=False)
    app.call(10, body("Hi", "Ho", "Hu", rules="Other."), 0, 2100, whole=False)
    app.call(900, body("Hi", "Ho", "Hu", rules="Other."), 0, 2200, whole=False)
    assert [miss.cause for miss in app.misses()] == ["not_known", "expired"]


def test_without_usage_nothing_is_told():
    app = App()
    app.call(0, body("Hi"), None, 0)
    app.call(10, body("Hi", "Ho", "Hu", rules="Other."), None, 0)
    assert app.misses() == []


def test_a_server_that_caches_by_itself_and_reads_all_misses_nothing():
    app = App("live")
    app.call(0, body("Hi", mark=False, model="qwen"), 0, 0, rest=2000)
    app.call(10, body("Hi", "Ho", "Hu", mark=False, model="qwen"), 1995, 0, rest=20)
    assert app.misses() == []


def test_a_server_that_caches_by_itself_and_read_less_is_not_explained():
    app = App("live")
    app.call(0, body("Hi", mark=False, model="qwen"), 1500, 0, rest=500)
    app.call(10, body("Hi", "Ho", "Hu", mark=False, model="qwen"), 100, 0, rest=1900)
    assert app.misses() == []


# What it cost


def test_dollars_are_what_the_tokens_were_billed_above_a_read():
    miss = second(body("Hi"), body("Hi", "Ho", "Hu", rules=RULES + "!"))
    # 2,000 tokens written at $2.50 a million and not read at $0.10.
    assert miss.usd == pytest.approx(2000 * (2.50 - 0.10) / 1e6)
    assert second(body("Hi"), body("Hi", "Ho", "Hu", rules=RULES + "!"), cost_usd=None).usd is None


def test_what_was_written_for_an_hour_cost_more_and_in_a_batch_all_cost_half():
    """Of 2,000 missed tokens the first 1,000 were written for an hour, at $4 a million."""
    first, then = body("Hi"), body("Hi", "Ho", "Hu", rules=RULES + "!")
    counts = {"cache_write_1h_tokens": 1000, "cache_write_5m_tokens": 1100}
    by_hand = (1000 * (4.00 - 0.10) + 1000 * (2.50 - 0.10)) / 1e6
    assert second(first, then, **counts).usd == pytest.approx(by_hand)
    batch = second(first, then, **counts, service_tier="batch")
    assert batch.usd == pytest.approx(by_hand / 2)


def test_the_apis_own_reason_stands_beside():
    miss = second(body("Hi"), body("Hi", "Ho", "Hu"), cache_miss_reason="system_changed")
    assert (miss.cause, miss.api_reason) == ("not_known", "system_changed")


def test_every_cause_has_its_words():
    assert second(body("Hi"), body("Hi", "Ho", "Hu")).words == CAUSES["not_known"]


# Whom a call is held against


def test_a_clean_conversation_is_not_blamed_for_the_change_in_the_one_before():
    def asks(question: str, rules: str = RULES) -> dict:
        return body(question, system=[marked(rules)])

    app = App()
    app.call(0, asks("Where is Oslo?"), 0, 2000)
    app.call(10, asks("Where is Voss?", RULES + "It is 07:23:25."), 0, 2010, new=True)
    app.call(20, asks("Where is Moss?"), 1990, 10, new=True)
    app.call(30, asks("Where is Bodø?"), 1990, 10, new=True)
    assert [(miss.call_id, miss.cause) for miss in app.faults()] == [("call 2", "system_differs")]


def test_a_prompt_too_short_to_be_cached_is_not_blamed_either():
    def asks(question: str, more: str = "") -> dict:
        return body(question, system=[marked("Be kind. " * 200 + more)])

    app = App()
    app.call(0, asks("Where is Oslo?"), 0, 0, rest=500)
    app.call(10, asks("Where is Voss?", "Be brief, too. " * 10), 0, 540, new=True)
    app.call(20, asks("Where is Moss?" * 20), 0, 560, new=True)
    assert "system_differs" not in [miss.cause for miss in app.misses()]


def test_what_was_read_by_a_count_near_the_estimate_was_read():
    def asks(question: str) -> dict:
        return body(question, system=[marked(RULES)])

    app = App()
    # By characters the system prompt would have more tokens than the 1,900 that are read of it.
    app.call(0, asks("Oslo"), 0, 2000)
    app.call(10, asks("Voss"), 1900, 100, new=True)
    assert app.faults() == []


def test_the_latest_call_is_named_where_several_are_nearly_the_same():
    def asks(time: str) -> dict:
        return body("Hi", mark=False, system=[marked(f"{RULES} It is {time}. Be kind.")])

    app = App()
    for at, time in enumerate(("07:23:25", "07:23:31", "07:23:40")):
        app.call(10 * at, asks(time), 0, 2000, new=True)
    assert [(miss.call_id, miss.before) for miss in app.faults()] == [
        ("call 2", "call 1"),
        ("call 3", "call 2"),
    ]


def test_an_answer_edited_in_the_middle_is_found_though_the_conversation_branches_there():
    long = "The fare is 20 EUR, asked at 07:23:25. " * 20
    app = App()
    first = app.call(0, body("Hello"), 0, 2000)
    app.call(10, body("Hello", "Hi.", long), 2000, 300)
    app.call(20, body("Hello", "Hi.", long.replace("25", "31"), "Yes.", "Well?"), 2000, 320)
    app.lanes[-1]["parent"] = first
    (miss,) = app.faults()
    assert (miss.cause, miss.before, miss.missed_tokens) == ("message_differs", "call 2", 300)


# The demo agent, and a recording that was stored


@pytest.mark.parametrize(
    ("mistake", "cause"),
    [
        ("time", "system_differs"),
        ("id", "system_differs"),
        ("tools", "tool_differs"),
        ("order", "tool_order"),
        ("message", "message_differs"),
        ("breakpoint", "no_breakpoint"),
    ],
)
def test_each_mistake_of_the_demo_agent_is_named(mistake, cause):
    demo = agent.Agent(None, MODEL)
    for text in ("How do I get to Bergen?", "And what does it cost? " * 20):
        demo.say([{"type": "text", "text": text}])
    clean = demo.request()
    broken = copy.deepcopy(clean)
    agent.BREAKS[mistake](broken)
    # Behind the system prompt is a breakpoint too: a change in the messages loses these alone.
    assert second(clean, broken, read=1800 if mistake == "message" else 0).cause == cause


def test_a_stored_recording_tells_its_misses(tmp_path, monkeypatch):
    monkeypatch.setenv("LAB_SETTINGS", str(tmp_path))
    with closing(Store(tmp_path / "lab.duckdb")) as store:
        run, session = new_recording.begin(store, "recorder", "api", "live")
        scribe = Scribe(run.run_id, session.session_id, "recorder", "api", new_recording.hasher())
        for at_s, text in ((0, "07:23:25"), (10, "07:23:35")):
            request = body("Hi", rules=f"{RULES} It is {text}.")
            usage = {"input_tokens": 0, "cache_read_input_tokens": 0, "output_tokens": 1}
            usage["cache_creation_input_tokens"] = 2000
            start = at_s * 10**9
            clocks = {"message_start_ns": start + 10**8, "ended_ns": start + 2 * 10**8}
            utc = DAY + timedelta(seconds=at_s)
            store.keep(scribe.rows(Seen(utc, start, request, usage=usage, call=clocks)))
        store.write_trials([])
        found = recordings.read(store, run.run_id).misses
    assert [miss.cause for miss in found] == ["first_use", "system_differs"]
    assert (found[1].look, found[1].usd) == ("time", pytest.approx(0.0048))


def test_what_nobody_knows_of_a_call_is_none_in_every_kind_of_column():
    calls = pd.DataFrame(
        {
            "text": pd.array(["a", None], dtype="string"),
            "number": [1.5, float("nan")],
            "count": pd.array([1, None], dtype="Int64"),
            "object": [{"a": 1}, None],
        }
    )
    known = ["a", 1.5, 1, {"a": 1}, None]
    assert [prefixes.values(calls, name)[0] for name in [*calls, "other"]] == known
    assert all(prefixes.values(calls, name)[1] is None for name in [*calls, "other"])
