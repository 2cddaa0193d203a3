"""Side by side answers the mission's question: arms of any techniques in one paired run, each
judged on its own headline and on the chosen clock."""

import re
from html import unescape
from io import StringIO
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console
from streamlit.testing.v1 import AppTest

from lab import requirements, results, techniques
from lab.figures import layout, palette, pareto, run_medians, trends
from lab.harness import plan
from lab.harness.plan import SIDE_BY_SIDE
from lab.harness.reporters import html, summary
from lab.harness.reporters.console import ConsoleReporter
from lab.harness.reporters.json_object import as_object
from lab.harness.reporters.markdown import markdown
from lab.model import LabError
from lab.settings import config_of
from lab.stats.arms import arm_row, wilson
from lab.store.store import Store
from pages.parts import cached_queries, frame, history
from tests.golden_runs import Call, Recording
from tests.recorded_runs import record

ROOT = Path(__file__).parent.parent
ARMS = ("streaming.whole", "streaming.streamed", "caching.cached")


def opened(**query):
    app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60)
    for name, value in query.items():
        app.query_params[name] = value
    app = app.switch_page("pages/20_Side_by_side.py").run()
    assert not app.exception, [error.value for error in app.exception]
    return app


def paired_run(number=6, metric="total_ms", arms=ARMS, blocks=7, **changes):
    """The id of a run in which whole takes 800 ms, streamed shows text after 200 and ends with it,
    and cached starts after 100 and ends after 300 ms; block b adds b ms to each."""
    second = arms[1].partition(".")[2]
    mixed = Recording(
        Store(), number, SIDE_BY_SIDE, arms, metric, headline=second, blocks=blocks, **changes
    )
    calls = {
        "whole": lambda b: Call(800 + b, out=80),
        "streamed": lambda b: Call(800 + b, 200 + b, out=80),
        "cached": lambda b: Call(300 + b, 100 + b, intended="read", read=600, out=80),
    }
    for block in range(1, blocks + 1):
        for arm in arms:
            name = arm.partition(".")[2]
            mixed.trial(block, name, [calls[name](block)])
    assert mixed.store.write_trials(mixed.finished)
    return mixed.run_id


@pytest.fixture(scope="module")
def paired(tmp_path_factory):
    """What the page says of one paired run, and the run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAB_DB", str(tmp_path_factory.mktemp("paired") / "lab.duckdb"))
        paired_run()
        return shown(opened()), results.read("last")


def shown(app):
    """Each piece of HTML on the page as text."""
    texts = [re.sub(r"</?b\b[^>]*>", "", element.proto.body) for element in app.get("html")]
    texts = [re.sub(r"<[^>]+>", " ", text) for text in texts if "<style" not in text]
    return [" ".join(unescape(text).split()) for text in texts]


def planned(*arms, **settings):
    config = config_of(technique=SIDE_BY_SIDE, endpoint="simulated", arms=list(arms), **settings)
    return plan.experiment(config, "simulated")


# What is planned


def test_no_arm_may_answer_longer_than_another():
    """Streamed answers of 200 tokens stood beside cached ones of 48: a difference in total time
    that no technique made."""
    experiment = planned(*ARMS)
    assert {variant.knobs.answer_tokens for variant in experiment.variants} == {48}
    chosen = {"caching": {"answer_tokens": 60}, "streaming": {"answer_tokens": 60}}
    experiment = planned(*ARMS, knobs=chosen)
    assert {variant.knobs.answer_tokens for variant in experiment.variants} == {60}


@pytest.mark.parametrize(
    ("arms", "metric"),
    [
        (("streaming.whole", "streaming.streamed"), "wait_ms"),
        (("caching.uncached", "caching.cached"), "ttft_ms"),
        (ARMS, "wait_ms"),
        (("streaming.whole", "topology.pipeline"), "total_ms"),
    ],
)
def test_the_verdict_is_planned_on_what_the_arms_are_about(arms, metric):
    assert planned(*arms).metric == metric
    assert planned(*arms, metric="ttft_ms").metric == "ttft_ms"


def test_a_technique_alone_keeps_its_headline():
    config = config_of(technique="streaming", endpoint="simulated", metric="total_ms")
    with pytest.raises(LabError, match="Streaming is judged on its own headline"):
        plan.experiment(config, "simulated")


# The form


def test_the_page_opens_on_one_paired_run_that_one_press_starts(db):
    app = opened(endpoint="simulated")
    assert (
        app.button("run-button").label == "Run 10 blocks" and not app.button("run-button").disabled
    )
    groups = {group.label: group.value for group in app.get("button_group")}
    assert groups["Streaming"] == ["streaming.whole", "streaming.streamed"]
    assert groups["Prompt caching"] == ["caching.cached"]
    assert set(groups) >= {each.title for each in techniques.all_techniques() if each.in_all}
    assert app.query_params["arms"] == list(ARMS)
    assert "44 calls" in " ".join(caption.value for caption in app.caption)


def test_any_chosen_arm_can_be_the_baseline(db):
    app = opened(endpoint="simulated", arms=["caching.cached", "streaming.whole"])
    assert app.query_params["arms"] == ["caching.cached", "streaming.whole"]
    (baseline,) = [box for box in app.selectbox if box.label == "Baseline"]
    assert baseline.options == ["Prompt caching: cached", "Streaming: whole"]
    baseline.select("streaming.whole").run()
    assert app.query_params["arms"] == ["streaming.whole", "caching.cached"]


def test_one_arm_is_no_comparison(db):
    app = opened(endpoint="simulated", arms=["streaming.whole"])
    assert "Choose two arms or more" in app.info[0].value
    assert "run-button" not in [button.key for button in app.button]


# What it found


def test_each_arm_is_judged_on_its_own_headline_and_on_the_chosen_one(db):
    """Streamed against whole ended with "no difference" in total time, while its own page said
    −75 %; cached was not judged at all."""
    arms = ("streaming.streamed", "streaming.whole", "caching.cached")
    paired_run(arms=arms)
    told = " ".join(shown(opened()))
    assert "Caching.cached is faster: TTFT −100 ms" in told
    assert "Caching.cached is faster: total time −500 ms" in told


def test_an_arms_own_headline_that_the_baseline_has_not_is_no_comparison(paired, db):
    """Seven answers that came whole have no first token, and six more would have none either."""
    cause = "none of the 7 trials of streaming.whole has a time to first token"
    told = " ".join(paired[0])
    assert "Streaming.streamed is faster: perceived wait −600 ms" in told
    assert f"time to first token Not enough data, and more blocks would not help: {cause}" in told
    paired_run(9, metric="ttft_ms")
    planned = results.read("last").comparisons[0]
    assert (planned.hopeless, planned.needed_blocks) == (cause, None)


def test_every_telling_has_each_arms_verdict_on_its_own_headline_and_on_the_chosen_one(db):
    """Console, Markdown, report and JSON told the chosen metric alone."""
    paired_run(arms=("streaming.streamed", "streaming.whole", "caching.cached"))
    result = results.read("last")
    console = Console(record=True, file=StringIO(), width=200)
    ConsoleReporter(console).report(result)
    page = re.sub(r"<script.*?</script>", "", html.page(result), flags=re.DOTALL)
    tellings = [console.export_text(), unescape(page), markdown(result).replace("\\", "")]
    for verdict in ("TTFT −100 ms", "total time −500 ms"):
        for telling in tellings:
            assert f"Caching.cached is faster: {verdict}" in telling
    told = {
        (each["arm"], each["metric"]): each["headline"] for each in as_object(result)["each_arm"]
    }
    assert told["cached", "ttft_ms"].startswith("Caching.cached is faster: TTFT −100 ms")
    assert told["cached", "total_ms"].startswith("Caching.cached is faster: total time −500 ms")
    assert ("whole", "total_ms") not in told, "the planned one stands by itself"


def test_a_refusal_names_its_arm_and_metric_on_the_console(db):
    """Two arms were refused in the same words, and neither was named."""
    paired_run(arms=("streaming.whole", "streaming.streamed", "caching.cached"))
    refusals = [line for _, line in summary.each_arm(results.read("last")) if "not help" in line]
    assert all("Doubtful" not in line for line in refusals)
    assert refusals[0].startswith("caching.cached, time to first token: Not enough data")


def test_doubts_stand_before_the_words_of_an_arm(paired):
    told, result = " ".join(paired[0]), paired[1]
    (cached,) = [
        result.told(comparison)
        for comparison in result.comparisons
        if (comparison.arm, comparison.metric) == ("cached", "total_ms")
    ]
    for doubt in cached.doubts:
        assert told.index(doubt) < told.index(cached.headline)
    assert cached.headline in told


def test_the_table_has_every_arm_with_medians_and_intervals(paired):
    """Of the blocks 1 to 7 the fourth is the median; a p95 needs 72 of them."""
    (table,) = [text for text in paired[0] if text.startswith("Arm Perceived wait")]
    whole, streamed, cached = re.split(r" (?=streaming\.streamed|caching\.cached)", table)
    assert re.search(r"streaming\.whole n = 7 804 ms 801 … 807 ms — 804 ms", whole)
    assert re.search(r"n = 7 204 ms 201 … 207 ms 204 ms .* 804 ms .* \(807 ms\) — 100 %", streamed)
    assert "0 of 7" in streamed and cached.endswith("7 of 7 94 % of the prompt")


def test_a_paired_run_opens_by_its_link_and_the_others_are_listed(db):
    older = paired_run(6)
    paired_run(9, name="the newer one")
    assert "the newer one" in opened().subheader[0].value
    app = opened(run=older)
    assert "Nov 2026" in app.subheader[0].value
    links = app.get("page_link")
    labels = [link.proto.label for link in links]
    assert "the newer one" in labels
    assert any("Streaming\\.streamed" in caption.value for caption in app.caption)
    assert frame.page_of(SIDE_BY_SIDE).path == "pages/20_Side_by_side.py"


# Stored runs


def test_stored_runs_stand_by_technique_and_endpoint_kind(db):
    """Six runs of any technique and kind were drawn on one axis, eighteen arms in five colours."""
    runs = [record(Store()), record(Store()), record(Store(), kind="simulated")]
    paired_run()
    app = opened(what="Stored runs", group="caching local")
    (group,) = [box for box in app.selectbox if box.label == "Technique and endpoint kind"]
    assert set(group.options) == {
        "Prompt caching, local (2 runs)",
        "Prompt caching, simulated (1 run)",
        "Side by side, local (1 run)",
    }
    assert set(app.multiselect[0].value) == set(runs[:2])
    assert len(app.get("plotly_chart")) == 1


def test_stored_runs_are_described_and_never_judged(db):
    """Two identical runs: one without a difference, then a green "is faster"."""
    record(Store())
    record(Store())
    app = opened(what="Stored runs")
    assert "Nothing is compared here" in app.warning[0].value
    drawn = "".join(chart.proto.spec for chart in app.get("plotly_chart"))
    told = " ".join([*shown(app), drawn])
    assert not re.search(r"faster|slower|sooner|later|[Nn]othing beats", told)
    assert "of each arm, run by run" in drawn


def test_a_link_to_runs_opens_them_in_their_group(db):
    linked = record(Store())
    record(Store(), kind="simulated")
    app = opened(runs=[linked])
    assert app.multiselect[0].value == [linked]


def test_an_arm_has_one_colour_in_every_run_of_it():
    trials = pd.DataFrame(
        {"arm": ["a", "b"] * 2, "run": ["one", "one", "two", "two"], "wait_ms": [3.0, 2, 3, 2],
         "endpoint": "local", "endpoint_kind": "local"}
    )  # fmt: skip
    figure = run_medians.run_medians(trials, "wait_ms", runs=["one", "two"], arms={"a": 0, "b": 1})
    colours = [trace.marker.color for trace in figure.data if trace.marker.color]
    assert colours[0] == colours[1] != colours[2] == colours[3]


# The picture of speed, cost and quality


def points(**columns):
    same = {"n": 8, "run_id": "r", "endpoint": "local", "endpoint_kind": "local"}
    rows = {"arm": ["a", "b"], "total_ms": [100.0, 200.0], "cost_usd": None, "quality": None}
    return pd.DataFrame(rows | columns).assign(**same)


@pytest.mark.parametrize(
    ("columns", "title"),
    [
        ({}, "Speed, cost and quality"),
        ({"quality": [1.0, 0.5]}, "Total time and quality of 2 arms"),
        ({"cost_usd": [0.1, 0.2]}, "Total time and cost of 2 arms"),
        ({"cost_usd": [0.1, 0.2], "quality": 1.0}, "Total time, cost and quality of 2 arms"),
    ],
)
def test_only_what_is_known_is_spoken_of(columns, title):
    """ "Nothing beats short system: speed, cost and quality", with no price and no check."""
    figure = pareto.scatter_pareto(points(**columns))
    assert layout.title(figure) == title
    assert "beats" not in layout.alt(figure)
    assert ("higher" in layout.alt(figure)) == ("cost_usd" in columns and "quality" in columns)


def test_an_arm_without_a_price_is_not_drawn_as_free():
    figure = pareto.scatter_pareto(points(cost_usd=[0.1, None]))
    drawn = [trace.y[0] for trace in figure.data if trace.mode == "markers+text"]
    assert drawn == [0.1] and "1 without a price" in layout.alt(figure)


def test_names_have_room_in_a_window_of_420_px():
    """In a plot that is 300 px wide two names of 27 characters, 200 px each, share no line."""
    x, y = pd.Series([0.3, 0.5]), pd.Series([0.5, 0.5])
    names = pd.Series(["parallelism.sequential tools", "parallelism.parallel tools"])
    first, second = pareto.label_places(x, y, names)
    assert first is None or second is None or first.split()[0] != second.split()[0]


# The row of an arm


def test_an_arm_is_described_by_its_own_trials():
    """Waits of 1 to 8 ms: the median is 4.5; half of the prompt was read twice, nothing else. One
    more failed, and one missed the cache: they have a time, and it is in no median."""
    waits = [float(ms) for ms in (*range(1, 9), 900, 900)]
    trials = pd.DataFrame(
        {"wait_ms": waits, "ttft_ms": None, "total_ms": waits, "cost_usd": None,
         "quality": 1.0, "cached_share": [0.5, 0.5, *[0.0] * 8],
         "outcome": [*["ok"] * 8, "failed", "mismatch"],
         "counts": [*[True] * 8, False, False], "lost": [*[False] * 8, True, True]}
    )  # fmt: skip
    row = arm_row("streaming", "whole", trials, "wait_ms")
    assert row.medians["wait_ms"].estimate == 4.5 and row.medians["ttft_ms"].n == 0
    assert not row.carries_p95 and row.cost_usd is None
    assert (row.hits, row.cached_share) == (2, 0.125)
    assert (row.n, row.lost.words) == (8, "2 of 10 failed or missed the cache")


def test_eight_of_eight_right_is_not_certainty():
    """Wilson's lower bound of n of n is n / (n + z²): 8 / 11.84."""
    assert round(wilson(1.0, 8).low, 3) == 0.676 and wilson(1.0, 8).high == 1.0


def test_an_arm_has_its_runs_colours_in_the_trend_of_paired_runs_too(db):
    """Arms came by name: of an earlier run's, one that is no longer there took streamed's blue."""
    others = ("streaming.whole", "caching.cached", "streaming.streamed")
    paired_run(6, arms=others)
    paired_run(9)
    points = history._as_in_newest(cached_queries.ask("history", "wait_ms"))
    assert list(dict.fromkeys(points["arm"])) == list(ARMS)
    colours = palette.arm_colours(results.read("last").places)
    drawn = trends.history_trend(points, metric="wait_ms")
    assert list(colours.values()) == [line.line.color for line in drawn.data if line.line.color]


def test_a_requirement_names_an_arm_as_its_verdict_does(paired):
    """The gate spoke of "cached" where the run says "caching.cached"."""
    _, run = paired
    for text in ("cached p50 wait_ms < 400", "caching.cached faster than streaming.whole"):
        assert requirements.judge(run, text).seen.startswith("caching.cached ")
