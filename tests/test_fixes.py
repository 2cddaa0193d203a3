"""Each fix changes two recorded requests as it says, and refuses in a sentence where it cannot."""

import copy
import json

import pytest

from lab.local.ledger import keys
from lab.local.messages_api import Body, parse
from lab.model import LabError
from lab.recording.facts import CAUSES, Miss
from lab.recording.fixes import FIXES, MOST_MARKS, for_miss
from tests.app_recordings import MARK, body, text

TOOLS = [{"name": name, "input_schema": {"type": "object"}} for name in ("search", "clock", "read")]
TURNS = ("One?", "Yes.", "Two?")


def pair(first, second, **fields):
    """A call and the one after it in the same conversation, with these system prompts."""
    return body(first, *TURNS[:1], **fields), body(second, *TURNS, **fields)


def reads(before, call) -> bool:
    """Whether the call finds in the cache what the one before wrote there, by the server's rules:
    an entry at a breakpoint, at most 20 blocks back."""
    prefixes = []
    for sent in (before, call):
        prompt = parse(Body, json.dumps(sent).encode())
        blocks = prompt.blocks()
        prefixes.append((keys(prompt, blocks), [p for p, b in enumerate(blocks) if b.ttl]))
    (known, marks), (asked, ends) = prefixes
    written = {known[place] for place in marks}
    return any(asked[at] in written for end in ends for at in range(end, max(end - 20, -1), -1))


def fixed(name, before, call):
    """With the fix, after both were found unchanged: a fix works on copies."""
    was = copy.deepcopy((before, call))
    result = FIXES[name].apply(before, call)
    assert (before, call) == was
    return result


def test_a_time_before_the_breakpoint_goes_to_the_end_of_the_last_user_turn():
    before, call = pair(
        [text("It is 09:00."), text("Be kind.", **MARK)],
        [text("It is 09:01."), text("Be kind.", **MARK)],
    )
    assert not reads(before, call)
    result = fixed("move_changing", before, call)
    assert reads(result.before, result.call)
    assert result.call["system"] == [text("Be kind.", **MARK)]
    assert result.call["messages"][-1]["content"] == [text("Two?"), text("It is 09:01.")]
    assert result.words.startswith("12 changing characters moved out of the system prompt")


def test_of_a_long_block_only_the_sentence_that_changes_is_moved():
    before, call = pair(
        [text("Be kind. It is 9.01 now. Be brief.", **MARK)],
        [text("Be kind. It is 9.02 now. Be brief.", **MARK)],
    )
    result = fixed("move_changing", before, call)
    assert result.call["system"] == [text("Be kind. Be brief.", **MARK)]
    assert result.call["messages"][-1]["content"][-1] == text("It is 9.02 now.")
    assert reads(result.before, result.call)


def test_a_block_that_only_one_of_them_has_is_moved_whole():
    before, call = pair([text("Be kind.", **MARK)], [text("News: rain."), text("Be kind.", **MARK)])
    result = fixed("move_changing", before, call)
    assert result.call["system"] == [text("Be kind.", **MARK)]
    assert result.before["messages"][-1]["content"] == [text("One?")]
    assert reads(result.before, result.call)


def test_the_mark_of_a_piece_that_is_moved_stays_behind():
    before, call = pair(
        [text("Be kind."), text("It is 9.", **MARK)], [text("Be kind."), text("It is 10.", **MARK)]
    )
    result = fixed("move_changing", before, call)
    assert result.call["system"] == [text("Be kind.", **MARK)]
    assert reads(result.before, result.call)


def test_a_time_in_an_earlier_message_is_moved_too_and_the_automatic_mark_stays_before_it():
    before = body("Be kind.", "At 9. One?", cache_control={"type": "ephemeral"})
    call = body("Be kind.", "At 10. One?", *TURNS[1:], cache_control={"type": "ephemeral"})
    assert not reads(before, call)
    result = fixed("move_changing", before, call)
    assert result.call["messages"][0]["content"] == [text("One?")]
    assert result.call["messages"][-1]["content"] == [text("Two?", **MARK), text("At 10.")]
    assert reads(result.before, result.call)


@pytest.mark.parametrize(
    ("before", "call", "reason"),
    [
        (body("Be kind.", "One?"), body("Be kind.", *TURNS), "Nothing in the system prompt"),
        (
            body("Be kind.", "One?", "Yes.", "Two?"),
            body("Be kind.", "One?", "No.", "Two?"),
            "no text",
        ),
        (body("a" * 20_001, "One?"), body("b" * 20_001, *TURNS), "too much to move"),
        (
            body([text("It is 9.", **MARK)], "One?"),
            body([text("It is 10.", **MARK)], *TURNS),
            "nothing but",
        ),
    ],
    ids=["nothing differs", "an answer differs", "another prompt", "nothing is left"],
)
def test_what_is_no_changing_piece_is_not_moved(before, call, reason):
    with pytest.raises(LabError, match=reason):
        fixed("move_changing", before, call)


def test_a_breakpoint_is_added_behind_all_that_both_share():
    before, call = pair("Be kind.", "Be kind.")
    result = fixed("add_breakpoint", before, call)
    assert not reads(before, call) and reads(result.before, result.call)
    assert result.call["messages"][0]["content"] == [text("One?", **MARK)]
    assert "message 1" in result.words


def test_a_breakpoint_stands_behind_tools_where_the_system_prompt_differs():
    before, call = pair("It is 9.", "It is 10.", tools=TOOLS)
    result = fixed("add_breakpoint", before, call)
    assert result.call["tools"][-1]["cache_control"] == {"type": "ephemeral"}
    assert reads(result.before, result.call) and "tool 3" in result.words


def test_one_for_an_hour_behind_it_makes_it_one_for_an_hour():
    hour = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}
    before, call = pair([text("Kind."), text("9", **hour)], [text("Kind."), text("10", **hour)])
    assert fixed("add_breakpoint", before, call).call["system"][0] == text("Kind.", **hour)


def test_a_fifth_breakpoint_is_refused_and_one_that_is_there_as_well():
    full = [text(str(n), **MARK) for n in range(MOST_MARKS)]
    with pytest.raises(LabError, match="move one"):
        fixed("add_breakpoint", *pair(full, full))
    marked = body("Be kind.", cache_control=None)
    marked["messages"] = [{"role": "user", "content": [text("One?", **MARK)]}]
    with pytest.raises(LabError, match="already"):
        fixed("add_breakpoint", marked, marked)
    with pytest.raises(LabError, match="no block in common"):
        fixed("add_breakpoint", *pair("Be kind.", "Be brief."))


def test_a_breakpoint_that_moved_more_than_20_blocks_on_is_put_back():
    first = [{"role": "user", "content": [text("One?", **MARK)]}]
    many = [{"role": "user", "content": [text("One?"), *(text(str(n)) for n in range(24))]}]
    many[0]["content"][-1] |= MARK
    before, call = body("Be kind.") | {"messages": first}, body("Be kind.") | {"messages": many}
    assert not reads(before, call)
    result = fixed("move_breakpoint", before, call)
    assert reads(result.before, result.call)
    marks = [block for block in result.call["messages"][0]["content"] if "cache_control" in block]
    assert marks == [text("One?", **MARK)]


def test_one_behind_the_changing_piece_moves_before_it():
    before, call = pair(
        [text("Kind."), text("It is 9.", **MARK)], [text("Kind."), text("It is 10.", **MARK)]
    )
    result = fixed("move_breakpoint", before, call)
    assert result.call["system"] == [text("Kind.", **MARK), text("It is 10.")]
    with pytest.raises(LabError, match="add one"):
        fixed("move_breakpoint", *pair("Kind.", "Kind."))


def test_tools_are_sorted_by_name_and_the_mark_stays_behind_them_all():
    marked = [{**TOOLS[0]}, {**TOOLS[1]}, {**TOOLS[2], **MARK}]
    turned = [{**TOOLS[1]}, {**TOOLS[0]}, {**TOOLS[2], **MARK}]
    before, call = body("Kind.", "One?", tools=marked), body("Kind.", *TURNS, tools=turned)
    result = fixed("sort_tools", before, call)
    assert not reads(before, call) and reads(result.before, result.call)
    assert [tool["name"] for tool in result.call["tools"]] == ["clock", "read", "search"]
    assert result.call["tools"][-1]["cache_control"] == {"type": "ephemeral"}


def test_the_call_before_offers_the_same_tools():
    before = body([text("Kind.", **MARK)], "One?", tools=TOOLS[:2])
    call = body([text("Kind.", **MARK)], *TURNS, tools=TOOLS)
    result = fixed("same_tools", before, call)
    assert not reads(before, call) and reads(result.before, result.call)
    assert result.call == call


@pytest.mark.parametrize(
    "change",
    [
        {"tool_choice": {"type": "any"}, "tools": TOOLS},
        {"thinking": {"type": "enabled", "budget_tokens": 1024}, "max_tokens": 2000},
        {"output_config": {"effort": "low"}},
    ],
    ids=["tool_choice", "thinking", "effort"],
)
def test_the_call_before_asks_with_the_settings_of_this_one(change):
    shared = {name: value for name, value in change.items() if name in ("tools", "max_tokens")}
    before = body("Kind.", **shared)
    before["messages"] = [{"role": "user", "content": [text("One?", **MARK)]}]
    call = copy.deepcopy(before) | change
    result = fixed("drop_setting", before, call)
    assert not reads(before, call) and reads(result.before, result.call)
    assert result.call == call
    with pytest.raises(LabError, match="No setting"):
        fixed("drop_setting", call, call)


def test_every_breakpoint_is_kept_for_an_hour():
    before, call = pair([text("Kind.", **MARK)], [text("Kind.", **MARK)])
    result = fixed("ttl_1h", before, call)
    assert result.call["system"][0]["cache_control"] == {"type": "ephemeral", "ttl": "1h"}
    assert FIXES["ttl_1h"].expires
    with pytest.raises(LabError, match="already"):
        fixed("ttl_1h", result.before, result.call)
    with pytest.raises(LabError, match="add one"):
        fixed("ttl_1h", *pair("Kind.", "Kind."))


def test_an_answer_streams_without_a_call_before_it():
    call = body("Kind.", "One?", stream=False)
    assert fixed("stream", None, call).call["stream"] is True
    with pytest.raises(LabError, match="already"):
        fixed("stream", None, body("Kind.", "One?"))


def test_a_fix_that_needs_the_call_before_says_that_it_lacks():
    with pytest.raises(LabError, match="needs the call before"):
        fixed("move_changing", None, body("Kind.", "One?"))


def test_each_cause_has_a_fix_that_is_there_or_none():
    proposed = {cause: for_miss(Miss("c", cause, "", 1)) for cause in CAUSES}
    assert set(proposed.values()) - {None} < set(FIXES)
    mended_elsewhere = {"first_use", "model", "below_minimum", "being_written", "not_known"}
    assert {cause for cause, fix in proposed.items() if fix is None} == mended_elsewhere
