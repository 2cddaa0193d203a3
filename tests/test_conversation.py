"""A conversation that grows: what each turn sends, what it reads from the cache, and how its wait
grows. On the simulated server four characters are one token, and a reply is four pieces."""

from dataclasses import replace

import anthropic
import pandas as pd
import pytest

from lab import techniques
from lab.endpoints import registry
from lab.harness.estimate import estimate
from lab.settings import config_of
from lab.techniques.conversation import figures, findings
from lab.techniques.conversation.technique import TECHNIQUE
from tests.measured import FAST, measure

ARMS = [arm.name for arm in TECHNIQUE.arms]
NOTHING, LAST, EVERY, AUTOMATIC, THREAD = ARMS
PLANTED = FAST | {"prefill_ms_per_token": 0.1, "read_ms_per_token": 0.01}
"""100 ms for 1,000 tokens read afresh, 10 ms for 1,000 from the cache."""


async def conversation(simulated, runs=1, **knobs):
    """The run, and its answers by arm in their order."""
    simulated.knobs(**PLANTED)
    run = await measure(simulated, "conversation", runs=runs, knobs={"turns": 4, **knobs})
    answers = run.calls[run.calls["role"].isin(["answer", "tool_turn"])]
    answers = answers.sort_values("started_ms")
    return run, {arm: answers[answers["arm"] == arm] for arm in ARMS}


async def test_each_turn_reads_what_the_one_before_wrote_and_writes_the_rest(simulated, db):
    run, calls = await conversation(simulated)
    assert set(run.trials["outcome"]) == {"ok"} and set(run.trials["arm"]) == set(ARMS)
    assert (
        calls[NOTHING]["cache_read_tokens"].sum() == calls[NOTHING]["cache_write_tokens"].sum() == 0
    )
    for arm in (LAST, EVERY, AUTOMATIC, THREAD):
        prompts = list(calls[arm]["prompt_tokens"])
        assert list(calls[arm]["cache_read_tokens"]) == [0, *prompts[:-1]]
        written = [after - before for before, after in zip([0, *prompts], prompts, strict=False)]
        assert list(calls[arm]["cache_write_tokens"]) == written


async def test_a_thread_is_sent_the_new_turn_alone_and_counted_whole(simulated, db):
    _, calls = await conversation(simulated)
    assert set(calls[THREAD]["thread_id"]) == {calls[THREAD]["message_id"].iloc[0]}
    assert calls[AUTOMATIC]["thread_id"].isna().all()
    whole, held = (list(calls[arm]["prompt_tokens"]) for arm in (AUTOMATIC, THREAD))
    assert held == whole and held[-1] > held[0] + 3 * 400


@pytest.mark.parametrize("blocks", [17, 18])
async def test_a_mark_looks_twenty_blocks_back_and_a_second_one_mends_it(simulated, db, blocks):
    """17 blocks, a question and the answer before are 19 from the mark back to the last one's; of
    18 the twenty end one before it, so that all is written again."""
    run, calls = await conversation(simulated, turn_blocks=blocks)
    assert set(run.trials["outcome"]) == {"ok"}
    for arm in (LAST, AUTOMATIC, THREAD):
        assert (calls[arm]["cache_read_tokens"].iloc[1:] > 0).all() == (blocks == 17)
        assert (calls[arm]["cache_write_tokens"].iloc[1:] > 1000).all() == (blocks == 18)
    assert (calls[EVERY]["cache_read_tokens"].iloc[1:] > 1000).all()


async def test_tool_results_take_a_request_more_each_turn_and_are_read_as_well(simulated, db):
    run, calls = await conversation(simulated, tool_results=True)
    assert set(run.trials["outcome"]) == {"ok"}
    for arm in ARMS:
        assert list(calls[arm]["role"]) == ["tool_turn", "answer"] * 4
    for arm in (LAST, EVERY, AUTOMATIC, THREAD):
        assert (calls[arm]["cache_read_tokens"].iloc[1:] > 500).all()


async def test_a_thread_that_is_gone_is_replayed_inside_the_trial(simulated, db):
    """Every turn's thread is lost: three of four turns are asked twice, and the trial is fine."""
    simulated.knobs(thread_loss=1)
    run, calls = await conversation(simulated)
    assert set(run.trials["outcome"]) == {"ok"}
    refused = calls[THREAD][calls[THREAD]["error_kind"].notna()]
    assert list(refused["http_status"]) == [404] * 3 and len(calls[THREAD]) == 7
    answered = findings.turns(run.calls, run.trials)
    table = findings.by_arm(answered, run.calls).set_index("arm")
    assert dict(table["gone"]) == dict.fromkeys(ARMS, 0) | {THREAD: 3}
    assert (answered[answered["arm"] == THREAD]["cache_read_tokens"].iloc[1:] > 0).all()


async def test_a_judge_is_none_of_the_conversation(simulated, db):
    """Four turns at $1, and a judge's opinion of the last answer at $1: the arm cost $4."""
    simulated.knobs(**FAST)
    task = {"task_id": "t", "prompt": "Why?", "check": {"kind": "judge", "criteria": "short"}}
    run = await measure(simulated, "conversation", runs=1, tasks=[task], knobs={"turns": 4})
    calls = run.calls.assign(cost_usd=1.0, prompt_tokens=100)
    assert (calls["role"] == "check").sum() == len(run.trials)
    table = findings.by_arm(findings.turns(calls, run.trials), calls).set_index("arm")
    assert table.loc[NOTHING, ["cost_usd", "prompt_tokens"]].tolist() == [4, 400]


async def test_who_knows_no_threads_answers_the_new_turn_alone_and_is_left_out(
    simulated, db, monkeypatch
):
    """A gateway that drops the field `thread`: the length of the prompt betrays it."""

    post = anthropic.AsyncAnthropic.post

    def forgetful(self, path, *, body, **options):
        left = {name: part for name, part in body.items() if name != "thread"}
        return post(self, path, body=left, **options)

    monkeypatch.setattr(anthropic.AsyncAnthropic, "post", forgetful)
    run, _ = await conversation(simulated)
    outcomes = run.trials.set_index("arm")["outcome"].to_dict()
    assert outcomes == dict.fromkeys(ARMS, "ok") | {THREAD: "mismatch"}
    assert "answered without what it held" in run.arm(THREAD)["error_text"].iloc[0]


def test_the_thread_is_an_arm_only_where_the_endpoint_has_it_and_else_left_out_aloud():
    def said(**able) -> tuple[int, str]:
        endpoint = replace(registry.find("simulated"), **able)
        config = config_of(technique="conversation", endpoint="simulated", runs=6)
        expected = estimate(config, endpoint)
        return expected.calls, expected.text

    with_thread, words = said()
    assert "left out" not in words
    without, words = said(capabilities=registry.CAPABILITIES)
    assert without / with_thread == 4 / 5
    assert "thread is left out: simulated is not known to have threads" in words


# The slope


def talks(slope_ms: float, blocks: int = 6, arm: str = "a", noise: float = 0.0) -> pd.DataFrame:
    """Conversations of five turns of 1,000 tokens each; the first turn takes 9 s."""
    rows = []
    for block in range(1, blocks + 1):
        for turn in range(1, 6):
            stray = noise * (-1) ** (turn + block)
            at_ms = 9000 if turn == 1 else 50 + slope_ms * turn + stray
            rows.append(
                {"arm": arm, "block": block, "trial_id": f"{arm}{block}", "turn": turn}
                | {"prompt_tokens": 1000 * turn, "ttft_ms": at_ms}
            )
    return pd.DataFrame(rows)


def test_the_first_turn_is_read_afresh_in_every_arm_and_is_in_no_slope():
    (slope,) = findings.slopes(talks(100), "a")
    assert [round(end, 6) for end in slope.slope[:3]] == [100, 100, 100] and slope.less is None


def test_one_turn_that_hung_bends_no_slope():
    rows = talks(100, blocks=1, noise=2)
    rows.loc[3, "ttft_ms"] += 5000
    assert findings.slope_of(rows) == pytest.approx(100, abs=20)


def test_an_arm_s_slope_is_held_against_the_baseline_s_of_its_block():
    both = pd.concat([talks(100), talks(10, arm="b")])
    base, other = findings.slopes(both, "a")
    assert (other.less.estimate, other.less.n) == (pytest.approx(-90), 6)
    assert figures.bare(base.slope) == "+100 [100, 100]"
    assert figures.bare(other.less) == "−90.0 [−90.0, −90.0]"


def test_too_few_conversations_have_a_slope_without_an_interval():
    (slope,) = findings.slopes(talks(100, blocks=5), "a")
    assert figures.bare(slope.slope) == "+100" and slope.slope.low is None
    assert findings.slopes(talks(100).head(0), "a") == []
    assert pd.isna(findings.slope_of(talks(100, blocks=1).query("turn < 4")))


async def test_a_planted_slope_comes_back_and_is_told_in_words(simulated, db):
    """100 and 10 ms per 1,000 tokens are planted; bench/conversation_slope.py holds them to 5 %,
    and a busy machine here only to their order."""
    from lab import results
    from lab.store import queries

    run, _ = await conversation(simulated, runs=6)
    told = findings.slopes(findings.turns(run.calls, run.trials), NOTHING)
    by_arm = {slope.arm: slope for slope in told}
    assert 50 < by_arm[NOTHING].slope.estimate < 200
    assert by_arm[AUTOMATIC].slope.estimate < by_arm[NOTHING].slope.estimate / 2
    assert by_arm[AUTOMATIC].less.high < 0

    def ask(query, *arguments, **named):
        return getattr(queries, query)(run.store, *arguments, **named)

    judged = results.read(run.run_id, run.store).finding
    (figure,) = techniques.figures_of(ask("run", run.run_id), ask, judged)
    text = figure.to_json()
    assert "Each 1,000 tokens of conversation delay automatic by " in text
    assert f"{NOTHING} {figures.bare(by_arm[NOTHING].slope)}" in text
