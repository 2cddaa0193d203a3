"""Waterfall, race and spans draw one block: every span of it, from one zero, and in words what that
pair did."""

from pathlib import Path

import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from lab import results
from lab.figures import layout, race, spans, waterfall
from lab.stats import Comparison, Finding
from lab.store.store import Store
from tests import golden_runs, verdict_runs
from tests.golden_runs import Call, Recording

ROOT = Path(__file__).resolve().parent.parent


def span(span_id, kind, name, started, ended, parent="r"):
    return {
        "span_id": span_id,
        "trial_id": "t",
        "parent_id": parent,
        "kind": kind,
        "name": name,
        "started_ms": started,
        "ended_ms": ended,
    }


def call(span_id, role, started, first, total):
    return {
        "call_id": f"c-{span_id}",
        "span_id": span_id,
        "trial_id": "t",
        "arm": "sequential tools",
        "role": role,
        "model": "small",
        "error_kind": None,
        "connection_reused": True,
        "started_ms": started,
        "sent_at_ms": 10.0,
        "first_text_at_ms": first,
        "ttft_ms": first,
        "total_ms": total,
        "ended_at_ms": total,
    }


CALLS = pd.DataFrame(
    [call("a", "tool_turn", 0.0, 100.0, 500.0), call("d", "answer", 2900.0, 260.0, 348.0)]
)
SPANS = pd.DataFrame(
    [
        span("r", "trial", "sequential tools", 0.0, 3248.0) | {"parent_id": None},
        span("a", "call", "tool_turn", 0.0, 500.0),
        span("b", "tool", "weather", 500.0, 1700.0),
        span("c", "tool", "<b>tide</b>", 1700.0, 2800.0),
        span("d", "call", "answer", 2900.0, 3248.0),
    ]
)


def bars(figure):
    """(trace, start, end) of every bar."""
    return sorted(
        (trace.name, start, start + length)
        for trace in figure.data
        if trace.type == "bar"
        for start, length in zip(trace.base, trace.x, strict=True)
    )


def written(figure):
    return [note.text for note in figure.layout.annotations]


def test_the_tools_between_two_calls_are_drawn_and_so_is_what_lies_between():
    """2,400 ms of tools were blank paper."""
    drawn = bars(waterfall.waterfall(CALLS, spans=SPANS))
    assert [part[1:] for part in drawn if part[0] == "tools"] == [(500, 1700), (1700, 2800)]
    assert [part[1:] for part in drawn if part[0] == "between calls"] == [(2800, 2900)]
    assert max(end for *_, end in drawn) == 3248


def test_a_short_tool_beside_a_long_one_leaves_no_gap():
    beside = [span("t1", "tool", "tide", 500, 2800), span("t2", "tool", "fuel", 600, 700)]
    others = SPANS[SPANS["kind"] != "tool"]
    drawn = bars(waterfall.waterfall(CALLS, spans=pd.concat([others, pd.DataFrame(beside)])))
    assert [part[1:] for part in drawn if part[0] == "between calls"] == [(2800, 2900)]


def test_every_label_counts_from_the_trials_start():
    """An answer from 2,900 to 3,248 said "end 348 ms"."""
    texts = " ".join(written(waterfall.waterfall(CALLS, spans=SPANS)))
    assert "first token 3,160 ms · end 3,250 ms" in texts
    assert "end 2,800 ms" in texts and "end 348 ms" not in texts


def test_a_tools_name_stays_text_and_a_click_knows_the_call():
    figure = waterfall.waterfall(CALLS, spans=SPANS)
    assert any("&lt;b&gt;tide" in text for text in written(figure))
    clicked = {tuple(part) for trace in figure.data for part in trace.customdata or ()}
    assert clicked == {("t", "c-a"), ("t", "c-d"), ("t", "")}


def test_a_trial_of_one_call_is_one_row():
    figure = waterfall.waterfall(CALLS.iloc[1:], spans=SPANS[SPANS["span_id"].isin(["r", "d"])])
    assert sum("trial t" in text for text in written(figure)) == 1
    assert figure.layout.yaxis.range == (-0.5, 0.5)


def test_title_and_reason_are_the_findings_and_an_absent_arm_is_named():
    finding = Finding("b is slower", "Too few blocks")
    arms = {"sequential tools": 0, "parallel tools": 1}
    figure = waterfall.waterfall(
        CALLS, spans=SPANS, arms=arms, finding=finding, pair="the median pair: block 7, task tides"
    )
    assert layout.title(figure) == "b is slower"
    assert any("Too few blocks" in text for text in written(figure))
    about = figure.layout.meta["subtitle"]
    assert "the median pair: block 7, task tides" in about
    assert "no trial of parallel tools ended well in it" in about


def test_the_figures_of_the_pair_share_the_races_clock():
    assert waterfall.waterfall(CALLS, spans=SPANS).layout.meta["clock"] == "trial"
    path = pd.DataFrame(columns=["span_id", "kind", "name", "started_ms", "ended_ms", "ms"])
    path.loc[0] = ["a", "model", "tool_turn", 0.0, 3248.0, 3248.0]
    figure = spans.span_waterfall(SPANS, path, pair="the median pair: block 7, task tides")
    assert figure.layout.meta["clock"] == "trial" and "block 7" in layout.alt(figure)


def comparison(verdict, estimate=-1480.0, metric="wait_ms"):
    return Comparison(metric, "streaming", "streamed", "whole", estimate=estimate, verdict=verdict)


def test_the_race_says_what_its_pair_did_by_the_headline_metric():
    """The verdict said −1,480 ms, and the race that whole ended first."""
    assert race.words(comparison("faster"), 670.0, 2150.0) == (
        "streamed shows text 1,480 ms sooner in this pair"
    )
    assert race.words(comparison("slower", 300.0), 2450.0, 2150.0) == (
        "streamed shows text 300 ms later in this pair"
    )


@pytest.mark.parametrize("verdict", ["not_enough_data", "no_difference", "fails_more"])
def test_where_the_verdict_claims_nothing_the_race_only_tells_two_values(verdict):
    assert race.words(comparison(verdict), 670.0, 2150.0) == (
        "In this pair, perceived wait: streamed 670 ms, whole 2,150 ms."
        " One pair alone proves nothing."
    )


def test_a_pair_of_the_other_sign_claims_nothing_either():
    assert "proves nothing" in race.words(comparison("faster"), 2200.0, 2150.0)


@pytest.fixture
def store(db):
    return Store()


def streaming(store, blocks=8):
    """Streamed shows text 1,480 ms sooner and ends 972 ms later."""
    arms = ("whole", "streamed", "third")
    recording = Recording(store, 30, "streaming", arms, "wait_ms", headline="streamed")
    for block in range(1, blocks + 1):
        recording.trial(block, "whole", [Call(2150 + block)])
        recording.trial(block, "streamed", [Call(3122 + block, 670 + block)])
        recording.trial(block, "third", [Call(2000, 1000 + block)])
    assert store.write_trials(recording.finished)
    return recording.run_id


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    store = Store(tmp_path_factory.mktemp("waterfall") / "lab.duckdb")
    return results.read(streaming(store), store)


def drawn_race(result):
    return race.race_data(
        result.ask("trial_events", result.typical),
        result.named(result.typical_calls),
        result.trials,
        metric=result.headline,
        arms=result.places,
    )


def test_race_and_waterfall_draw_the_same_trials_of_one_block(result):
    data, calls = drawn_race(result), result.typical_calls
    assert [lane["arm"] for lane in data["lanes"]] == ["whole", "streamed", "third"]
    assert {lane["trial"] for lane in data["lanes"]} == {trial[-8:] for trial in result.typical}
    assert set(calls["block"]) == {result.pair.block}


def test_the_finish_line_is_the_headlines_clock_and_not_the_end(result):
    block = result.pair.block
    whole, streamed, _ = drawn_race(result)["lanes"]
    assert (whole["finish"], streamed["finish"]) == (2150 + block, 670 + block)
    assert (whole["end"], streamed["end"]) == (2150 + block, 3122 + block)


@pytest.mark.parametrize("metric", ["tokens_per_s", "gap_ms", "cost_usd"])
def test_a_metric_that_is_no_moment_of_the_trial_is_raced_to_the_end(result, metric):
    data = race.race_data(
        result.ask("trial_events", result.pair.trial_id),
        result.calls[result.calls["trial_id"] == result.pair.trial_id],
        result.trials,
        metric=metric,
    )
    assert [lane["finish"] for lane in data["lanes"]] == [3122 + result.pair.block]
    assert data["line"] == "total time"


def opened(run_id, page):
    app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60)
    app.query_params["run"] = run_id
    app.switch_page(f"pages/{page}").run()
    assert not app.exception
    return app


def texts(app):
    return [part.value for part in (*app.markdown, *app.caption, *app.info)]


def test_the_race_stands_between_verdict_and_waterfall_with_its_blocks_name(result, monkeypatch):
    monkeypatch.setenv("LAB_DB", str(result.database))
    app = opened(result.run_id, "1_Streaming.py")
    said = texts(app)
    assert any("in this pair" in text for text in said)
    assert any(text.startswith("The median pair") for text in said)
    assert "Race" not in app.get("button_group")[0].options


def test_a_failed_run_says_nothing_of_bars_and_shows_no_empty_table(store):
    recording = Recording(store, 31, "streaming", ("whole", "streamed"), "wait_ms", status="failed")
    late = ("timeout", "No answer within 30 s.")
    for arm in ("whole", "streamed"):
        refused = Call(30_000, None, fresh=None, out=None, error=late, status=None)
        recording.trial(1, arm, [refused], outcome="failed", error=late)
    assert store.write_trials(recording.finished)
    app = opened(recording.run_id, "1_Streaming.py")
    assert not [text for text in texts(app) if "Click" in text or "In brackets" in text]
    assert not [table for table in app.dataframe if table.value.empty]


def test_tools_of_a_recorded_run_fill_the_time_between_its_calls(store):
    recording = golden_runs.parallel_tools(store)
    assert store.write_trials(recording.finished)
    result = results.read(recording.run_id, store)
    figure = waterfall.waterfall(
        result.named(result.typical_calls),
        spans=result.ask("spans", result.typical),
        arms=result.places,
    )
    assert len([part for part in bars(figure) if part[0] == "tools"]) == 8


def test_text_that_was_kept_is_not_said_to_be_missing():
    lane = {"arm": "whole", "arrivals": [[10.0, "One"]]}
    kept = {"lanes": [lane], "line": "perceived wait"}
    hidden = {"lanes": [lane | {"arrivals": [[10.0, 3]]}], "line": "perceived wait"}
    assert "not kept" not in race.about(kept, ["whole"])
    assert "not kept" in race.about(hidden, ["whole"])


def test_a_label_of_two_instants_has_one_unit(store):
    recording = Recording(store, 32, "streaming", ("whole", "streamed"), "wait_ms")
    for arm in ("whole", "streamed"):
        recording.trial(1, arm, [Call(43_300, 9_090, fresh=None, out=None)])
    assert store.write_trials(recording.finished)
    result = results.read(recording.run_id, store)
    figure = waterfall.waterfall(result.named(result.typical_calls), arms=result.places)
    texts = [note.text for note in figure.layout.annotations]
    assert "first token 9.09 s · end 43.3 s" in texts


def test_where_no_time_is_claimed_none_is_drawn(store):
    runs = verdict_runs.record(store, ("streaming", "fails more"), ("streaming", "faster"))
    for kind, numbers in (("fails more", 0), ("faster", 1)):
        app = opened(runs["streaming", kind], "1_Streaming.py")
        drawn = [part for part in app.get("html") if 'class="lab-number' in part.proto.body]
        assert len(drawn) == numbers, kind


def test_a_run_that_failed_before_its_first_trial_does_not_say_that_rows_are_kept(store):
    recording = Recording(store, 33, "streaming", ("whole", "streamed"), "wait_ms", status="failed")
    app = opened(recording.run_id, "1_Streaming.py")
    assert not [text for text in (part.value for part in app.error) if "kept" in text]
