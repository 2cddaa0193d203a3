"""What is told of a load: its levels in numbers, the answer in words, and the same everywhere."""

from __future__ import annotations

import json

import pytest
from stored_loads import TOKENS, stored

from lab import load_answer, load_figures, load_requirements, load_results, load_table, results
from lab.cli import main
from lab.harness.reporters import load_html, load_object
from lab.model import LabError
from lab.store import queries
from lab.store.store import Store

OBJECTIVE = "p95 ttft_ms < 800"
"""Of the stored server: 100 ms up to 16 streams, then 100 ms more with each."""


def read(store: Store, run_id: str) -> load_results.LoadResult:
    return load_results.read(store, run_id)


def test_a_level_counts_what_was_answered_in_its_time(db):
    result = read(store := Store(), stored(store, (16,), requests=100, failed=10))
    (level,) = result.levels
    # One request every 10 ms; the last is answered 200 ms after it was due: 1.19 s.
    assert level.seconds == pytest.approx(1.19)
    assert (level.n, level.failed, level.errors) == (100, 10, {"overloaded_error": 10})
    assert level.requests_per_s == pytest.approx(90 / 1.19)
    assert level.tokens_per_s == pytest.approx(90 * TOKENS / 1.19)
    assert level.time("ttft_ms", "p95") == 100 and level.time("total_ms", "p50") == 200
    assert level.times["gap_ms"]["n"] == 90 * (TOKENS - 1)
    assert level.time("gap_ms", "p95") == 10 and level.time("second_token_ms", "p50") == 10
    assert level.time("tokens_per_s", "p50") == 100


def test_an_answer_says_up_to_where_the_objective_holds(db):
    result = read(store := Store(), stored(store, (4, 16, 24, 32), slo=[OBJECTIVE]))
    told = load_answer.answer(result)
    assert told.lead == (
        "Keeps p95 time to first token under 800 ms up to 16 streams, where it is 100 ms; at 24"
        " streams it is 900 ms; between them nothing was tried."
    )
    assert (told.tone, load_answer.number(result)) == ("good", "16 streams")
    kept = [row["objective"] for row in load_table.table(result)]
    assert kept == ["kept", "kept", "not kept", "not kept"]


def test_an_objective_that_is_not_kept_at_all_is_said_so(db):
    result = read(store := Store(), stored(store, (32,), slo=[OBJECTIVE]))
    told = load_answer.answer(result)
    assert told.lead.startswith("Does not keep p95 time to first token under 800 ms")
    assert (told.tone, load_answer.number(result)) == ("bad", "")


def test_few_calls_decide_nothing(db):
    result = read(store := Store(), stored(store, (4,), requests=20, slo=[OBJECTIVE]))
    told = load_answer.answer(result)
    assert "cannot be told" in told.lead and told.tone == "unsure"
    assert load_table.table(result)[0]["TTFT p95"] == "(100 ms)"
    assert load_table.legend(load_table.table(result))


def test_calls_that_went_out_twice_are_counted(db):
    store = Store()
    run_id = stored(store, (4, 32))
    with store._writing() as (connection, _):
        connection.execute("UPDATE calls SET attempt = 2 WHERE scheduled_ns < 30000000")
    result = read(store, run_id)
    assert [level.resent for level in result.in_order] == [3, 0]
    told = [note for note in load_answer.notes(result) if "second time" in note]
    assert len(told) == 1 and told[0].startswith("3 calls went out a second time")


def test_without_an_objective_nothing_is_judged(db):
    result = read(store := Store(), stored(store, (4, 32)))
    told = load_answer.answer(result)
    assert told.tone == "neutral" and "goes from 100 to 1,700 ms" in told.lead
    assert "objective" not in load_table.table(result)[0]


def test_a_failed_call_keeps_no_objective(db):
    """Ten of a hundred were turned away at once: the fastest answers of all."""
    result = read(store := Store(), stored(store, (4,), failed=10, slo=[OBJECTIVE]))
    told = load_answer.answer(result)
    assert told.tone == "bad"
    (held,) = result.levels[0].held
    assert held.misses == 10 and result.levels[0].goodput_per_s == result.levels[0].requests_per_s
    (outcome,) = load_requirements.judge(result, OBJECTIVE)
    assert outcome.verdict == "fail" and outcome.lost == 10


def test_failures_at_the_load_that_is_told_lead_the_answer(db):
    result = read(store := Store(), stored(store, (4,), failed=10))
    (doubt,) = load_answer.doubts(result)
    assert doubt.startswith("10 % of the calls failed at 4 streams (10 overloaded_error)")


def test_a_call_that_the_load_gave_up_is_in_no_figure_and_is_said(db):
    store = Store()
    run_id = stored(store, (4,), requests=101)
    with store._writing() as (connection, _):
        for table in ("calls", "trials"):
            connection.execute(
                f"UPDATE {table} SET error_kind = 'cancelled' WHERE trial_id = (SELECT"
                " trial_id FROM trials WHERE position = 100)"
            )
    result = read(store, run_id)
    assert (result.levels[0].n, result.levels[0].failed, result.levels[0].given_up) == (100, 0, 1)
    assert result.levels[0].times["gap_ms"]["n"] == 100 * (TOKENS - 1)
    assert any(
        "1 request under way at its end was given up" in n for n in load_answer.notes(result)
    )


def test_what_was_never_asked_is_said_with_its_reason(db):
    store = Store()
    run_id = stored(store, (4,))
    with store._writing() as (connection, _):
        connection.execute(
            "UPDATE load_levels SET not_begun = 20, planned = 120, reason = 'stopped'"
        )
    assert "4 streams: 20 of 120 requests were never made: stopped." in load_answer.notes(
        read(store, run_id)
    )


def test_a_busy_client_is_never_told_as_the_server(db):
    client = {"cpu_share": 0.95, "loop_lag_p99_ms": 20.0}
    result = read(store := Store(), stored(store, (4,), client=client))
    (doubt,) = load_answer.doubts(result)
    assert doubt.startswith("At 4 streams the client was the limit, not the server")
    assert load_table.table(result)[0]["limit"] == "client"


def test_an_open_loop_is_judged_from_when_requests_were_due(db):
    """Each waits 10 ms longer to be sent than the one before: the server itself is quick."""
    store = Store()
    run_id = stored(store, (10,), mode="open", delay_ms=lambda n: 10.0 * n, slo=[OBJECTIVE])
    result = read(store, run_id)
    assert result.metric == "scheduled_ttft_ms"
    assert result.levels[0].time("ttft_ms", "p95") == 100
    # The 95th of 100 waited 940 ms, and its first token came 100 ms after it was sent.
    assert result.levels[0].held[0].value == pytest.approx(1040)
    assert load_answer.answer(result).tone == "bad"
    title = load_figures.over_time(result).layout.meta["title"]
    assert title.startswith("Scheduled latency: 245 ms at the beginning, 1,140 ms at the end")


@pytest.mark.parametrize(
    ("delay_ms", "rate", "title"),
    [
        (0, 100, "Throughput grows up to 110 a second: 100 requests a second"),
        (10, 50, "At 100 a second only 50.0 are answered"),
    ],
)
def test_an_open_loop_that_keeps_up_is_not_told_as_one_that_falls_behind(db, delay_ms, rate, title):
    """One is due every 10 ms and takes 200 ms. Answers that come at that pace keep up, however long
    the last of them takes; those that come every 20 ms do not."""
    store = Store()
    run_id = stored(store, (100, 110), mode="open", delay_ms=lambda n: float(delay_ms * n))
    result = read(store, run_id)
    assert [level.requests_per_s for level in result.levels] == pytest.approx([rate, rate])
    assert result.levels[0].tokens_per_s == pytest.approx(rate * TOKENS)
    assert load_figures.curve(result).layout.meta["title"] == title


def test_two_sessions_add_their_streams_and_rates(db):
    """A session's clock tells nothing of another's: 100 in 1.19 s and 50 in 0.69 s."""
    store = Store()
    first, second = stored(store, (16,)), stored(store, (16,), requests=50)
    with store._writing() as (connection, _):
        for table in ("sessions", "load_levels", "trials", "calls", "events"):
            connection.execute(f"UPDATE {table} SET run_id = ? WHERE run_id = ?", [first, second])
    (level,) = read(store, first).levels
    assert (level.n, level.target, level.planned) == (150, 32, 150)
    assert level.requests_per_s == pytest.approx(100 / 1.19 + 50 / 0.69)


def test_check_judges_every_level_or_the_one_that_is_named(db):
    result = read(store := Store(), stored(store, (4, 32)))
    assert [o.verdict for o in load_requirements.judge(result, OBJECTIVE)] == ["pass", "fail"]
    (named,) = load_requirements.judge(result, f"{OBJECTIVE} at 4 streams")
    assert (named.verdict, named.arm, named.unit) == ("pass", "4 streams", "call")
    (share,) = load_requirements.judge(result, "failed share < 10 % at 32 streams")
    assert share.verdict == "pass" and share.estimate == 0
    for text, words in {
        "p95 ttft_ms < 800 at 5 streams": "no level '5 streams'; it has 4 streams, 32 streams",
        "faster than ever": "Cannot read the requirement 'faster than ever'",
        "failed share < 3": "a share is in per cent",
        "p95 wait_ms < 3": "no 'wait_ms' of a request under load",
    }.items():
        with pytest.raises(LabError) as refused:
            load_requirements.judge(result, text)
        assert words in str(refused.value)


def test_json_console_markdown_and_html_say_the_same(db, tmp_path, capsys):
    store = Store()
    run_id = stored(store, (4, 16, 24), slo=[OBJECTIVE], failed=3)
    lead = load_answer.answer(read(store, run_id)).lead
    assert main(["show", run_id, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["load"]["lead"] == lead and told["technique"] == "load"
    assert [level["label"] for level in told["load"]["levels"]] == [
        "4 streams",
        "16 streams",
        "24 streams",
    ]
    assert told["load"]["levels"][0]["metrics"]["ttft_ms"]["p95"] == 100
    assert told["load"]["levels"][0]["objectives"][0]["kept"] is True
    assert main(["show", run_id]) == 0
    assert lead in capsys.readouterr().out
    assert main(["show", run_id, "--output", "markdown,html", "--out", str(tmp_path)]) == 0
    assert lead in (tmp_path / f"{run_id}.md").read_text()
    assert lead in (tmp_path / f"{run_id}.html").read_text()


def test_the_commands_know_a_load(db, tmp_path, capsys):
    run_id = stored(Store(), (4, 32), name="mine")
    assert main(["check", "mine", "--require", OBJECTIVE]) == 3
    assert main(["check", run_id, "--require", f"{OBJECTIVE} at 4 streams"]) == 0
    capsys.readouterr()
    assert main(["show", "last"]) == 0, "what was made last is shown, as a recording is"
    assert "From 4 streams to 32 streams" in capsys.readouterr().out
    assert main(["runs"]) == 0
    assert "2 levels" in capsys.readouterr().out
    assert main(["runs", "--json"]) == 0
    (listed,) = json.loads(capsys.readouterr().out)["loads"]
    assert (listed["run_id"], listed["levels"], listed["calls"]) == (run_id, 2, 200)
    assert main(["report", run_id, "--out", str(tmp_path / "load.html")]) == 0
    assert main(["export", "--run", run_id, "--out", str(tmp_path / "out")]) == 0
    capsys.readouterr()
    for command, words in {
        ("compare", run_id, run_id, "--fail-if", "p95 ttft_ms worse by 10%"): "are not compared",
        ("resume", run_id): "is a load: there are no blocks to measure",
        ("trace", run_id, "--to", "console"): "are not sent as traces",
        ("show", run_id, "--details"): "not for loads",
        ("show", run_id, "--output", "figures"): "has no output 'figures'",
    }.items():
        assert main(list(command)) == 2
        assert words in capsys.readouterr().err
    with pytest.raises(LabError, match="is a load, and has no arms"):
        results.read(run_id)
    assert main(["forget", run_id, "--yes"]) == 0
    assert queries.loads(Store()).empty


def test_a_load_is_in_no_list_of_paired_runs(db):
    store = Store()
    stored(store)
    assert queries.runs(store).empty and queries.finds(store).empty
    assert queries.history(store, "ttft_ms").empty
    assert queries.last_run_id(store) is None
    assert queries.last_run_id(store, "load") == queries.loads(store)["run_id"].iloc[0]


def test_the_command_line_puts_the_same_load_on_again(db):
    settings = {
        "concurrency": [1, 4],
        "requests": 10,
        "models": {"any": "simulated small"},
        "stream": False,
        "max_tokens": 64,
    }
    result = read(store := Store(), stored(store, slo=[OBJECTIVE], settings=settings))
    assert load_table.command(result) == (
        "python main.py load --concurrency 1,4 --requests 10 --slo 'p95 ttft_ms < 800'"
        " --endpoint simulated --model 'simulated small' --no-stream"
    )


def test_a_curve_rings_the_knee_and_hollows_what_the_client_limits(db):
    result = read(store := Store(), stored(store, (4, 16, 32)))
    figure = load_figures.curve(result)
    assert "throughput grows no more" in figure.layout.meta["title"]
    assert load_figures.curve(read(store, stored(store, (4,)))) is None, "one point is no curve"
    failing = load_figures.curve(read(store, stored(store, (4, 16), failed=10)))
    assert "n = 90 to 100 a level" in failing.layout.meta["subtitle"], "answered calls"
    busy = read(store, stored(store, (4, 32), client={"cpu_share": 0.95}))
    assert "client" in " ".join(load_figures.curve(busy).layout.meta["legend"])


def test_some_thousand_calls_are_drawn_as_a_density(db):
    store = Store()
    few = load_figures.over_time(read(store, stored(store, (4,), requests=100)))
    assert sum(len(trace.x) for trace in few.data) == 100
    many = load_figures.over_time(read(store, stored(store, (4,), requests=2_001)))
    assert [trace.type for trace in many.data] == ["heatmap", "scatter"]
    assert len(many.data[1].x) <= 160


def test_some_thousand_calls_that_all_failed_are_drawn_as_failures(db):
    result = read(store := Store(), stored(store, (4,), requests=2_001, failed=2_001))
    (failures,) = load_figures.over_time(result).data
    assert len(failures.x) == 2_000 and failures.marker.symbol == "x-thin"


def test_a_load_of_a_foreign_database_is_only_text(db):
    store = Store()
    run_id = stored(store, (4,), slo=["<b>nonsense</b>"], name="<script>alert(1)</script>")
    page = load_html.page(read(store, run_id))
    assert "<script>alert(1)" not in page
    json.dumps(load_object.as_object(read(store, run_id)), default=str)


def test_a_distribution_counts_failed_calls_as_never(db):
    store = Store()
    some = load_figures.by_level(read(store, stored(store, (4,), failed=5)), "ttft_ms")
    assert some.layout.meta["title"] == "Time to first token: p95 is 100 ms at 4 streams"
    assert max(some.data[0].y) == 0.95, "five of a hundred never had a first token"
    many = load_figures.by_level(read(store, stored(store, (4,), failed=6)), "ttft_ms")
    assert many.layout.meta["title"] == "Time to first token: p95 is never reached at 4 streams"
