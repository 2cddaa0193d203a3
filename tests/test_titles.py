"""Every figure of a run says what its verdict says: the same arm, sign, metric and doubt."""

import re

import pandas as pd
import pytest

from lab import results
from lab.figures import forest, layout, palette, progress_dots, stacked
from lab.harness.reporters import figure_files
from lab.stats import Finding
from lab.store.store import Store
from lab.techniques import draw, find
from lab.view_parts import RunData
from tests.golden_runs import Call, Recording, Span
from tests.measured import FAST, measure
from tests.recorded_runs import record

CLAIMS = re.compile(r"\b(sooner|later|faster|slower|alike|× as fast)\b")


def arms_of(
    store: Store,
    waits: dict[str, float],
    *,
    technique: str = "caching",
    metric: str = "ttft_ms",
    headline: str | None = None,
    blocks: int = 8,
    step: float = 1.0,
    failing: dict[str, set[int]] | None = None,
) -> str:
    """A run in which each arm's first text comes after its wait, `step` ms later in every block,
    and its answer ends 100 ms after that."""
    run = Recording(store, 1, technique, tuple(waits), metric, headline=headline, blocks=blocks)
    for block in range(1, blocks + 1):
        for arm, wait in waits.items():
            first = wait + step * block
            kind = ("server", "down") if block in (failing or {}).get(arm, ()) else None
            calls = [Call(first + 100, None if kind else first, error=kind)]
            run.trial(block, arm, calls, outcome="failed" if kind else "ok", error=kind)
    assert store.write_trials(run.finished)
    return run.run_id


def titles_of(run_id: str) -> dict[str, str]:
    figures = figure_files.run_figures(results.read(run_id))
    return {name: layout.title(figure) for name, figure in figures.items()}


def reasons_on(figure) -> list[str]:
    notes = [note.text for note in figure.layout.annotations if note.name == "reason"]
    return [text.replace("<br>", " ") for text in notes if text]


OF_THE_HEADLINE = ("waterfall", "distribution", "pairs", "clocks")


def test_every_figure_of_the_headline_has_the_verdicts_title(db):
    run_id = record(Store())
    title = "cached starts 66 % sooner than uncached"
    assert results.read(run_id).verdicts[0].title == title
    titles = titles_of(run_id)
    assert [titles[name] for name in OF_THE_HEADLINE] == [title] * 4
    assert titles["caching-1"] == title, "and so has the technique's own"


def test_no_title_is_of_the_arm_that_differs_most(db):
    """pre-warmed starts 900 ms sooner, but the verdict is planned on cached."""
    waits = {"uncached": 1000.0, "cached": 500.0, "pre-warmed": 100.0}
    titles = titles_of(arms_of(Store(), waits, headline="cached"))
    assert titles["distribution"] == "cached starts 50 % sooner than uncached"
    assert not any("pre-warmed" in title for title in titles.values())


def test_where_the_verdict_refuses_every_figure_does_and_says_why_on_it(db):
    """b starts 17 % sooner in three blocks, which is half of the fewest."""
    run_id = arms_of(Store(), {"a": 100.0, "b": 83.0}, technique="aa", blocks=3)
    figures = figure_files.run_figures(results.read(run_id))
    for name in OF_THE_HEADLINE:
        assert layout.title(figures[name]) == "Not enough data: b faster in 3 of 3 blocks", name
        assert reasons_on(figures[name]) == ["Not enough data: about 3 more blocks"], name
    told = [layout.title(figure) for figure in figures.values()]
    assert not any("%" in title and CLAIMS.search(title) for title in told)


def test_an_arm_that_fails_more_than_its_baseline_has_no_title_in_time(db):
    """The slow half of cached failed; what is left of it would look 40 % faster."""
    waits = {"uncached": 500.0, "cached": 300.0}
    run_id = arms_of(Store(), waits, blocks=12, failing={"cached": {1, 2, 3, 4, 5, 6}})
    result = results.read(run_id)
    assert result.comparisons[0].verdict in ("fails_more", "faster_when_it_answers")
    for title in (layout.title(figure_files.run_figures(result)[name]) for name in OF_THE_HEADLINE):
        assert title == result.verdicts[0].title and "6 of 12 failed" in title


def test_a_figure_of_another_metric_says_that_it_is_exploratory(db):
    result = results.read(record(Store()))
    from lab.figures import distribution, pairs

    for metric, title in (
        ("ttft_ms", "cached starts 66 % sooner than uncached"),
        ("total_ms", "cached ends 50 % sooner than uncached"),
        ("output_tokens", "Output tokens of each trial"),
    ):
        finding = result.finding(metric)
        for figure in (
            distribution.distribution(result.trials, metric, finding=finding),
            pairs.pairs(result.pairs, metric, finding=finding),
        ):
            assert layout.title(figure) == title
            subtitle = figure.layout.meta["subtitle"]
            assert subtitle.startswith("exploratory · ") is (metric == "total_ms")


def test_runs_beside_each_other_claim_nothing(db):
    from lab.figures import distribution

    trials = pd.DataFrame({"label": ["x", "y"], "total_ms": [100.0, 900.0], "block": 1})
    trials = trials.assign(trial_id=["1", "2"], client_caused=False, endpoint_kind="local")
    figure = distribution.distribution(trials, "total_ms", label="label")
    assert layout.title(figure) == "Total time of each trial" and not reasons_on(figure)


# A technique's own views


def own_figures(run_id: str) -> list:
    result = results.read(run_id)
    technique = find(result.run["technique"])
    data = RunData(technique, result.run, result.ask, result.finding)
    parts = [
        part for view in technique.views if not isinstance(view, str) for part in draw(data, view)
    ]
    return [part for part in parts if hasattr(part, "layout")]


def test_routing_speaks_of_its_planned_arm_alone(db):
    waits = {"large only": 900.0, "small only": 100.0, "routed": 500.0, "cascade": 50.0}
    run_id = arms_of(
        Store(), waits, technique="model-routing", metric="total_ms", headline="routed"
    )
    titles = [*titles_of(run_id).values(), *map(layout.title, own_figures(run_id))]
    assert not any("cascade" in title for title in titles)


def test_the_speed_up_is_drawn_only_where_there_is_more_than_one_n(db):
    recorded = Recording(
        Store(), 1, "parallelism", ("sequential tools", "parallel tools"), "total_ms", blocks=6,
        knobs={"n": 4},
    )  # fmt: skip
    for block in range(1, 7):
        for arm, total in (("sequential tools", 800.0), ("parallel tools", 200.0)):
            recorded.trial(block, arm, [Call(50)], (Span("tool", "one", 50, total - 50),))
    assert recorded.store.write_trials(recorded.finished)
    assert own_figures(recorded.run_id) == []


def test_the_speed_ups_title_is_the_runs_finding_not_the_best_dots(db):
    points = pd.DataFrame({"run_id": ["r", "r", "o"], "arm": ["x", "y", "x"], "n": [2, 2, 4]})
    points = points.assign(speed_up=[1.5, 9.0, 3.0], endpoint="local", endpoint_kind="local")
    finding = Finding("x ends 33 % sooner than one by one")
    figure = stacked.speed_up(points, finding=finding, arms={"one by one": 0, "x": 1, "y": 2})
    assert layout.title(figure) == "x ends 33 % sooner than one by one"
    greyed = Finding("Not enough data: x faster in 3 of 3 blocks", "Not enough data")
    assert reasons_on(stacked.speed_up(points, finding=greyed)) == ["Not enough data"]


# While a run goes on


def lines(*waits: tuple[str, int, float | None], phase: str = "measured") -> pd.DataFrame:
    """A progress file's trial lines: arm, block and wait; one without a wait has failed."""
    rows = [
        {"arm": arm, "block": block, "phase": phase, "wait_ms": wait, "endpoint_kind": "local"}
        | {"outcome": "failed" if wait is None else "ok"}
        for arm, block, wait in waits
    ]
    return pd.DataFrame(rows)


def blocks(n: int, a: float, b: float | None) -> pd.DataFrame:
    each = [(arm, block, wait) for block in range(n) for arm, wait in (("a", a), ("b", b))]
    return lines(*((arm, block, wait and wait + block) for arm, block, wait in each))


@pytest.mark.parametrize(
    ("trials", "title"),
    [
        (blocks(1, 400, 100), "1 of 6 blocks: nothing is claimed before 6"),
        (blocks(5, 400, 100), "5 of 6 blocks: nothing is claimed before 6"),
        (blocks(6, 400, 400), "So far, no clear difference between a and b in perceived wait"),
        (blocks(4, 400, None), "So far, 4 of 4 trials of b do not count: no time is claimed"),
    ],
)
def test_nothing_is_claimed_live_before_six_blocks_and_nothing_by_an_arm_that_fails(trials, title):
    figure = progress_dots.dots(trials, ["a", "b"], "wait_ms", headline="b")
    assert layout.title(figure).replace("between b and a", "between a and b") == title


def test_from_six_blocks_on_the_planned_arm_is_spoken_of_and_no_other():
    trials = blocks(6, 400, 200)
    trials = pd.concat([trials, trials[trials["arm"] == "b"].assign(arm="c", wait_ms=1.0)])
    figure = progress_dots.dots(trials, ["a", "b", "c"], "wait_ms", headline="b")
    title = "So far, at the median, b shows text 50 % sooner than a"
    assert layout.title(figure) == title


def test_running_medians_beside_each_other_have_one_unit():
    figure = progress_dots.dots(lines(("a", 1, 31_500.0), ("b", 1, 4_610.0)), ["a", "b"], "wait_ms")
    notes = [note.text for note in figure.layout.annotations]
    assert {"median 31.5 s · n = 1", "median 4.61 s · n = 1"} <= set(notes)


def test_warm_up_trials_are_hollow_and_count_for_nothing():
    trials = lines(("a", 0, 900.0), phase="warmup")
    figure = progress_dots.dots(trials, ["a", "b"], "wait_ms")
    notes = [note.text for note in figure.layout.annotations]
    assert "warming up" in notes and "no trial yet" in notes
    drawn = [trace for trace in figure.data if len(trace.x)]
    assert [(list(trace.x), trace.marker.symbol) for trace in drawn] == [([900.0], "circle-open")]
    assert "hollow: warm-up" in figure.layout.meta["subtitle"]


async def test_every_arm_of_a_mixed_run_has_its_dots_while_it_runs(simulated, db, monkeypatch):
    from lab.harness.runner import BenchmarkRunner

    told, begun = [], BenchmarkRunner.__init__

    def listening(self, *values, **named):
        begun(self, *values, **named | {"on_progress": told.append})

    monkeypatch.setattr(BenchmarkRunner, "__init__", listening)
    simulated.knobs(**FAST)
    arms = ["streaming.whole", "streaming.streamed", "caching.uncached"]
    await measure(simulated, "side-by-side", arms=arms, runs=2)
    started = next(entry for entry in told if entry["kind"] == "started")
    trials = pd.DataFrame([entry for entry in told if entry["kind"] == "trial"])
    assert started["arms"] == arms and started["headline"] == "streaming.streamed"
    places = dict(zip(started["arms"], started["places"], strict=True))
    figure = progress_dots.dots(trials, places, "wait_ms", headline=started["headline"])
    notes = [note.text for note in figure.layout.annotations]
    assert sum("n = 2" in note for note in notes) == 3 and "no trial yet" not in notes


# Home


FIND = {
    "technique": "caching", "title": "Prompt caching", "arm": "cached", "metric": "ttft_ms",
    "estimate": -500.0, "baseline_p50": 1000.0, "ratio": 0.5, "ratio_low": 0.4, "ratio_high": 0.6,
    "verdict": "faster", "tone": "good", "endpoint_kind": "local", "n": 8,
    "finding": Finding("cached starts 50 % sooner than uncached"),
}  # fmt: skip
DOUBTED = {
    "tone": "unsure",
    "finding": Finding(FIND["finding"].title, "6 of 8 trials were held up by this machine"),
}
REFUSED = {
    "tone": "unsure",
    "verdict": "not_enough_data",
    "finding": Finding("Not enough data: b faster in 3 of 3 blocks", "Not enough data: 3 more"),
}
FAILING = {
    "tone": "unsure",
    "verdict": "fails_more",
    "finding": Finding("b: 6 of 12 failed", "No time is claimed; b: 6 of 12 failed, a: none"),
}


def texts(figure) -> list[str]:
    return [re.sub("<[^>]*>", "", note.text) for note in figure.layout.annotations]


@pytest.mark.parametrize(
    ("rows", "title"),
    [
        ([{}], "Prompt caching: cached starts 50 % sooner than uncached"),
        ([{}, {"title": "Streaming"}], "Prompt caching and Streaming are shown to be faster"),
        ([{}] * 5, "5 of the 5 techniques tried are shown to be faster"),
        ([DOUBTED], "No technique has been shown to be faster yet"),
        ([REFUSED], "No technique has been shown to be faster yet"),
        ([{"verdict": "faster_but_worse", "tone": "warn"}],
         "No technique has been shown to be faster yet"),
        ([{"tone": "warn"}], "Prompt caching: cached starts 50 % sooner than uncached"),
    ],
)  # fmt: skip
def test_the_forest_claims_what_the_verdicts_claim_without_doubt(rows, title):
    assert layout.title(forest.forest(pd.DataFrame([FIND | row for row in rows]))) == title


def test_a_row_of_the_forest_names_its_arm_and_metric():
    rows = [FIND, FIND | {"title": "Streaming", "arm": "streamed", "metric": "wait_ms"}]
    told = texts(forest.forest(pd.DataFrame(rows)))
    assert {"time to first token", "perceived wait", "Prompt caching cached"} <= set(told)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (DOUBTED, "doubtful: −50 %"),
        (REFUSED, "not enough data"),
        (FAILING, "no time is claimed"),
    ],
)
def test_a_doubted_row_of_the_forest_is_grey_and_says_so(row, words):
    figure = forest.forest(pd.DataFrame([FIND | row]))
    assert words in texts(figure) and not any("−500 ms" in text for text in texts(figure))
    colours = {trace.marker.color for trace in figure.data if trace.mode == "markers"}
    assert colours == {palette.theme().muted}
    assert row["finding"].reason in figure.data[-1].hovertext[0], "the whole reason on hover"


def test_an_end_of_the_forest_that_goes_on_has_an_arrow():
    """−50 % with an interval from −130 % to +700 %: the axis ends at −100 and at +400 %."""
    wide = FIND | {"ratio_low": -0.3, "ratio_high": 8.0}
    figure = forest.forest(pd.DataFrame([wide]))
    symbols = {
        trace.marker.symbol: list(trace.x) for trace in figure.data if trace.mode == "markers"
    }
    assert symbols["triangle-left"] == [-1.0] and symbols["triangle-right"] == [4.0]
    assert not any(
        "triangle" in str(trace.marker.symbol) for trace in forest.forest(pd.DataFrame([FIND])).data
    )


def test_left_and_right_of_zero_are_named_on_either_side_of_it():
    notes = forest.forest(pd.DataFrame([FIND])).layout.annotations
    sides = {
        note.text: (note.x, note.xanchor)
        for note in notes
        if "less" in note.text or "more" in note.text
    }
    assert sides == {"← less waiting": (0, "right"), "more →": (0, "left")}


def test_no_title_or_subtitle_of_a_run_ends_in_a_separator(db):
    for figure in figure_files.run_figures(results.read(record(Store()))).values():
        for words in figure.layout.meta.values():
            assert not str(words).rstrip().endswith(("·", ",", ":"))


def test_every_figure_of_a_simulated_run_says_so_and_is_hatched(db):
    run_id = record(Store(), kind="simulated")
    for name, figure in figure_files.run_figures(results.read(run_id)).items():
        assert "simulated" in figure.layout.meta["subtitle"], name
        assert len(figure.layout.images) == 1, name


def test_no_dot_of_the_pairs_stands_on_an_arms_name(db):
    """A name is written 10 px above its row's middle, 16 px high; a dot is 8 px wide."""
    from lab.figures import pairs

    result = results.read(record(Store()))
    figure = pairs.pairs(result.pairs, "ttft_ms")
    highest = max(max(trace.y) for trace in figure.data) * pairs.ROW_PX
    assert highest + 4 <= 10 - 8


def test_numbers_behind_a_verdict_are_written_as_everywhere():
    from pages.parts.details import _written

    table = pd.DataFrame(
        {"metric": ["ttft_ms", "cost_usd"], "estimate": [-302.8049, -0.0006], "low": [None, None]}
        | {"ratio": [0.66, None], "n": [8, 8]}
    )
    told = _written(table, "ttft_ms").to_dict("list")
    assert told["metric"] == ["time to first token", "cost per trial"]
    assert told["estimate"] == ["−303 ms", "−$0.00060"] and told["low"] == ["—", "—"]
    assert told["ratio"] == ["0.66×", "—"] and told["n"] == [8, 8]
