"""Effort shortens the wait, shown thinking only fills it, and a running estimate breaks the
silence."""

import json

import httpx2
import pandas as pd
import pytest

from lab import results, techniques
from lab.harness.estimate import estimate
from lab.model import Request
from lab.scenarios.definitions import Task
from lab.settings import config_of
from lab.techniques.thinking import findings
from lab.view_parts import Note, RunData, Table
from tests.measured import FAST, measure

THINKING = techniques.find("thinking")
SLOW = {**FAST, "gap_ms": 5, "thinking_tokens": 40, "answer_tokens": 10}
"""At the default effort 40 tokens of thinking, 200 ms; at low half as many. Then the text."""


async def run_of(simulated, displays=("hidden", "counted", "shown"), **more):
    simulated.knobs(**SLOW)
    knobs = {"efforts": ["default", "low"], "displays": list(displays), **more}
    return await measure(simulated, "thinking", runs=1, knobs=knobs)


def parts_of(found):
    result = results.read(found.run_id, found.store)
    data = RunData(THINKING, result.run, result.ask, result.finding)
    return techniques.draw(data, THINKING.views[0])


async def test_less_effort_waits_less_and_what_is_shown_changes_neither_wait_nor_tokens(
    simulated, db
):
    found = await run_of(simulated)
    wait = found.trials.set_index("arm")["wait_ms"]
    for display in ("", ", counted", ", shown"):
        assert wait[f"default effort{display}"] >= 195
        assert wait[f"low effort{display}"] < 0.75 * wait[f"default effort{display}"]
    calls = found.calls.set_index("arm")
    for effort, thought in {"default": 40, "low": 20}.items():
        arms = [f"{effort} effort", f"{effort} effort, counted", f"{effort} effort, shown"]
        assert list(calls.loc[arms, "thinking_tokens"]) == [thought] * 3
        assert calls.loc[arms, "output_tokens"].nunique() == 1
    assert set(found.trials["outcome"]) == {"ok"}


async def test_what_shows_of_the_thinking_is_nothing_estimates_or_text(simulated, db):
    """40 tokens in 200 ms: estimates of 10 each, at 50, 100, 150 and 200 ms."""
    found = await run_of(simulated)
    events = results.read(found.run_id, found.store).ask(
        "trial_events", tuple(found.trials["trial_id"])
    )
    arms = found.trials.set_index("trial_id")["arm"]
    thoughts = events[events["kind"] == "thinking_delta"]
    pieces = thoughts.groupby(thoughts["trial_id"].map(arms))["characters"].agg(["size", "sum"])
    assert pieces["size"].to_dict() == {
        "default effort, counted": 4,
        "default effort, shown": 40,
        "low effort, counted": 2,
        "low effort, shown": 20,
    }
    assert set(pieces["sum"][lambda each: each.index.str.endswith("counted")]) == {0}
    figure = parts_of(found)[0]
    silent = [
        note.text.partition(" · ")[0] for note in figure.layout.annotations if "silent" in note.text
    ]
    assert len(silent) == 6


async def test_the_beta_alone_brings_estimates_and_they_add_up_to_what_was_thought(simulated):
    simulated.knobs(**SLOW)
    body = {
        "model": "simulated-small",
        "max_tokens": 100,
        "stream": True,
        "messages": [{"role": "user", "content": "Why?"}],
        "thinking": {"type": "adaptive"},
    }
    beta = {"anthropic-beta": "other-2026-01-01, thinking-token-count-2026-05-13"}
    own = {"x-api-key": simulated.api_key, "anthropic-version": "2023-06-01"}
    url = f"{simulated.base_url}/v1/messages"
    streams = [httpx2.post(url, json=body, headers=own | more).text for more in ({}, beta)]
    told = [
        [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: ")]
        for text in streams
    ]
    counts = [
        [
            event["delta"]["estimated_tokens"]
            for event in events
            if event.get("delta", {}).get("type") == "thinking_delta"
        ]
        for events in told
    ]
    assert counts == [[], [10, 10, 10, 10]]


async def test_the_view_tells_instants_tokens_and_the_traps(simulated, db):
    found = await run_of(simulated, displays=("hidden", "shown"), most_tokens=42)
    figure, table, *notes = parts_of(found)
    assert all(isinstance(part, Table if part is table else Note) for part in (table, *notes))
    rows = table.rows.set_index("arm")
    assert list(rows.index) == [arm.name for arm in THINKING.arms]
    # 40 tokens of thinking leave 2 for the text at the default effort, and 22 at low: 5 are said.
    assert rows["cut"].to_dict() == {
        "default effort": 1,
        "default effort, shown": 1,
        "low effort": 0,
        "low effort, shown": 0,
    }
    assert notes[0].text.startswith("2 answers of 4 ended at the limit of tokens")
    assert (rows["first_sign_ms"] <= rows["wait_ms"]).all()
    assert (rows["wait_ms"] <= rows["total_ms"]).all()
    assert figure.layout.meta["title"]


def test_silence_is_the_longest_time_without_anything_new_before_the_text():
    trial = pd.Series({"first_sign_ms": 20.0, "wait_ms": 200.0, "total_ms": 300.0})
    kinds = ["thinking_delta"] * 2 + ["text_delta", "thinking_delta"]
    events = pd.DataFrame({"kind": kinds, "at_ms": [50.0, 180.0, 200.0, 250.0]})
    seen = findings.shown(events, trial)
    assert seen == {
        "sign": 20.0,
        "text": 200.0,
        "end": 300.0,
        "thoughts": [50.0, 180.0],
        "silence": 130.0,
    }
    none = findings.shown(events.iloc[:0], trial.replace(20.0, float("nan")))
    assert (none["sign"], none["silence"]) == (200.0, 200.0)


def test_thinking_that_no_answer_counts_is_unknown_and_not_none():
    trials = pd.DataFrame({"trial_id": ["a", "b"], "arm": ["told", "silent"]}).assign(
        **dict.fromkeys((*findings.INSTANTS, "output_tokens", "tokens_per_s"), 1.0),
        quality=1.0,
        cost_usd=0.1,
    )
    calls = trials[["trial_id"]].assign(
        role="answer", thinking_tokens=pd.array([40, None], "Int64"), stop_reason="end_turn"
    )
    thought = findings.by_arm(trials, calls).set_index("arm")["thinking_tokens"]
    assert thought["told"] == 40 and pd.isna(thought["silent"])


def test_an_endpoint_that_cannot_think_is_refused_in_words():
    (refusal,) = estimate(config_of(technique="thinking", endpoint="local", quick=True)).refusals
    assert refusal == (
        "local cannot do effort, thinking, which Effort and thinking is about; simulated can."
    )


@pytest.mark.parametrize("knobs", [{"efforts": ["low", "low"]}, {"displays": []}])
def test_knobs_that_make_no_arms_are_refused(knobs):
    with pytest.raises(ValueError, match=r"twice|at least 1"):
        THINKING.knobs(**knobs)


def test_levers_change_the_request_and_keep_what_else_it_asks():
    effort, shown = THINKING.levers
    task = Task(prompt="Why?")
    asked = Request(
        {"max_tokens": 9, "output_config": {"format": {"type": "json_schema"}}},
        headers={"anthropic-beta": "a"},
    )
    changed = shown.change(effort.change(asked, "low", task), "shown", task)
    assert changed.body == {
        "max_tokens": 9,
        "output_config": {"format": {"type": "json_schema"}, "effort": "low"},
        "thinking": {"type": "adaptive", "display": "summarized"},
    }
    assert changed.headers == {"anthropic-beta": "a"} and "effort" in effort.needs
    assert shown.unfit(task, "shown") == "the task does not ask for thinking"
