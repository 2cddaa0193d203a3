"""What `show` tells of a recording."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import pytest
from recorded_apps import App, answer, asks, results, says, user
from rich.console import Console

from lab.cli import main
from lab.harness.reporters import recorded, recorded_object
from lab.recording import sums
from lab.recordings import Recording
from lab.store.store import Store

MARK = {"type": "ephemeral"}
FIND = [user("Find it")]
FOUND = [*FIND, answer(asks("toolu_1")), results("toolu_1")]


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    return Store(tmp_path_factory.mktemp("apps") / "lab.duckdb")


def usage(read: int, written: int, uncached: int = 10) -> dict[str, int]:
    return {
        "input_tokens": uncached,
        "cache_read_input_tokens": read,
        "cache_creation_input_tokens": written,
        "output_tokens": 100,
    }


@pytest.fixture(scope="module")
def agent(store) -> App:
    """A tool call and its answer, whose system prompt tells the time; then a call that fails."""
    app = App(store)

    def at(minute: int) -> list[dict]:
        now = f"{'Be kind. ' * 500}It is 2026-11-26 10:0{minute}"
        return [{"type": "text", "text": now, "cache_control": MARK}]

    app.call(FIND, 0, 10, asks("toolu_1"), first=4, usage=usage(0, 1000), system=at(0))
    app.call(FOUND, 20, 30, says("Here"), first=24, usage=usage(0, 1000), system=at(1))
    app.call([*FOUND, answer(says("Here")), user("So?")], 40, 50, error="overloaded", system=at(2))
    app.recording()
    return app


def told(recording: Recording, with_calls: bool = False) -> list[str]:
    file = io.StringIO()
    recorded.tell(recording, Console(file=file), with_calls)
    return file.getvalue().splitlines()


def test_the_sentence_comes_first_then_calls_tokens_and_the_cache(agent):
    title, nothing, sentence, counts, cache, *_ = told(agent.recording())
    assert title.startswith(f"Recording {agent.run['run_id'][-8:]} · recorded here · ")
    assert nothing == ""
    assert sentence == (
        "Of 50.0 s, Claude's first tokens took 36 %, its writing 24 %, your tools 20 %, nothing at "
        "all 20 %. Calls that failed took 20 % of it."
    )
    # 2 × 10 uncached at $2, 2 × 1,000 written at $2.50, 2 × 100 answered at $10 a million.
    assert counts == (
        "3 calls in 1 conversation, 1 failed · 2,020 prompt tokens, 200 output tokens · $0.0070."
    )
    assert cache == "Cache: 0 % of the tokens that could have been read from it were (0 of 1,000)."


def test_a_miss_is_told_with_its_cause_and_evidence(agent):
    lines = told(agent.recording())
    heading = next(line for line in lines if line.startswith("1 of 3 calls missed 1,000 tokens"))
    row = lines[lines.index(heading) + 2]
    assert row.split("  ")[0] == "a block of the system prompt differs"
    evidence = next(line for line in lines if line.startswith("  conversation 1, turn 2: "))
    assert "time" in evidence


def test_the_last_line_is_the_next_step_where_there_is_a_fix(agent):
    seen = agent.recording()

    def last(**changes) -> str:
        return told(replace(seen, run={**seen.run, **changes}))[-1]

    assert (
        last()
        == "To prove a fix on these calls, record again with --keep-text (in code: keep_text=True)."
    )
    assert last(keep_text=True, name="nightly").endswith("replay --scenario recording:nightly")
    assert last(keep_text=True, name="two words").endswith(f" recording:{seen.run_id}")
    assert "  2 calls with a first-token time; 10 of one model are needed to tell seconds." in (
        told(seen)
    )


def test_each_call_is_told_on_request(agent):
    lines = told(agent.recording(), with_calls=True)
    rows = lines[lines.index("Calls") + 2 :][: len(agent.ids)]
    assert [row.split()[0] for row in rows] == [call_id[-8:] for call_id in agent.ids]
    assert rows[2].split()[-1] == "overloaded"


def test_the_object_has_what_the_console_tells(agent):
    fields = recorded_object.as_object(agent.recording(), with_calls=True)
    json.dumps(fields, allow_nan=False)
    assert fields["version"] == 1
    assert fields["technique"] == "observed"
    assert fields["waiting"]["total_ms"] == 50_000
    assert fields["waiting"]["failed_ms"] == 10_000
    assert {
        name: fields["cache"][name] for name in ("hit_share", "doubt", "could_read_tokens")
    } == {
        "hit_share": 0,
        "doubt": None,
        "could_read_tokens": 1000,
    }
    assert "is_counted_tokens" not in fields["cache"]  # how many, not how many tokens
    assert fields["conversations"][0]["calls"] == 3
    assert "system_differs" in [miss["cause"] for miss in fields["misses"]]
    assert [call["could_read"] for call in fields["each_call"]] == [0, 1000, None]


def test_the_command_shows_a_recording_and_its_object(agent, capsys, monkeypatch):
    monkeypatch.setenv("LAB_DB", str(agent.store.path))
    run_id = agent.run["run_id"]
    assert main(["show", run_id]) == 0
    assert "your tools 20 %" in capsys.readouterr().out
    assert main(["show", run_id, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["run_id"] == run_id
    assert main(["show", run_id, "--output", "csv"]) == 2
    assert "shown on the console or with --json" in capsys.readouterr().err


def test_what_a_source_does_not_know_is_said(store):
    app = App(store, "claude_code")
    app.call(FIND, 0, 5, says("Here"), usage=usage(300, 0, 100), whole=False)
    app.call(None, 10, 15)
    lines = told(app.recording())
    assert (
        "Cache: 75 % of all prompt tokens were read from it; what could have been is not known."
        in (lines)
    )
    assert "  1 call has no usage: its tokens and dollars are not in the sums." in lines


def test_a_recording_in_which_nothing_happened_says_so(store):
    app = App(store)
    lines = told(app.recording())
    assert lines[2:] == ["No call was recorded."]
    fields = recorded_object.as_object(app.recording(), with_calls=True)
    assert (fields["conversations"], fields["misses"], fields["cost_usd"]) == ([], [], None)


def test_what_one_unknown_price_is_in_is_unknown(store):
    app = App(store)
    app.call(FIND, 0, 5, says("Here"), usage=usage(0, 0))
    app.call(FOUND, 6, 9, says("Here"), usage=usage(0, 0), model="nobody-knows")
    assert sums.cost(app.recording().calls) is None


def test_a_conversations_parts_are_its_time(agent):
    row = sums.conversations(agent.recording()).iloc[0]
    parts = ("first_token_ms", "writing_ms", "answering_ms", "tool_ms", "idle_ms")
    assert sum(row[part] for part in parts) == row["total_ms"] == 50_000
