"""A body of the user's that marks its cache itself: an arm without a cache still has none, and no
arm has what another lacks."""

from lab.recording.request_parts import marks, without_marks
from lab.scenarios import definitions
from tests.measured import FAST, measure

MARK = {"cache_control": {"type": "ephemeral"}}
TEXT = "The harbour is open. " * 100
OWN = definitions.Task(
    body={
        "max_tokens": 9,
        "system": [{"type": "text", "text": TEXT, **MARK}],
        "tools": [{"name": "look", "input_schema": {"type": "object"}, **MARK}],
        "tool_choice": {"type": "any"},
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "Hi.", **MARK}]},
            {"role": "assistant", "content": "Yes?"},
            {"role": "user", "content": [{"type": "text", "text": "Why?", **MARK}]},
        ],
    }
)


def test_a_body_without_marks_is_a_copy():
    assert marks(without_marks(OWN.body)) == [] and len(marks(OWN.body)) == 4
    assert without_marks({**OWN.body, **MARK}).get("cache_control") is None
    assert without_marks(None) is None


def test_blocks_within_a_block_lose_their_marks_and_data_keeps_its_words():
    """A tool's input may have a field of that name."""
    text = {"type": "text", "text": "Open.", **MARK}
    source = {"type": "content", "content": [text]}
    use = {"type": "tool_use", "id": "toolu_1", "name": "look", "input": dict(MARK)}
    content = [text, {"type": "document", "source": source, **MARK}]
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": content}
    turns = [{"role": "assistant", "content": [use]}, {"role": "user", "content": [result]}]
    left = without_marks({"messages": turns, **MARK})
    assert str(left).count("cache_control") == 1
    assert left["messages"][0]["content"] == [use]


async def calls_of(simulated, technique, **settings):
    simulated.knobs(**FAST)
    run = await measure(simulated, technique, runs=1, tasks=[OWN.model_dump()], **settings)
    assert set(run.trials["outcome"]) == {"ok"}, set(run.trials["outcome_reason"])
    answers = run.calls[run.calls["role"] == "answer"]
    return {arm: calls for arm, calls in answers.groupby("arm")}


async def test_a_conversation_with_nothing_cached_caches_nothing_of_it(simulated, db):
    by_arm = await calls_of(simulated, "conversation", knobs={"turns": 4})
    nothing = by_arm.pop("nothing cached")
    assert nothing[["cache_read_tokens", "cache_write_tokens"]].to_numpy().sum() == 0
    assert len(by_arm) == 4, "four marks of one's own and those of the arms would be too many"
    for calls in by_arm.values():
        assert (calls.sort_values("started_ms")["cache_read_tokens"].iloc[1:] > 0).all()


async def test_uncached_is_uncached(simulated, db):
    by_arm = await calls_of(simulated, "caching", knobs={"prefix_tokens": 1000})
    assert by_arm["uncached"][["cache_read_tokens", "cache_write_tokens"]].to_numpy().sum() == 0
    assert (by_arm["cached"]["cache_read_tokens"] > 0).all()


async def test_what_makes_a_schema_warm_leaves_nothing_of_the_prompt_behind(simulated, db):
    by_arm = await calls_of(simulated, "schema")
    assert {arm: calls["cache_read_tokens"].sum() for arm, calls in by_arm.items()} == {
        "free text": 0, "first use": 0, "warm": 0
    }  # fmt: skip
