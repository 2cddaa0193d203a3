"""Figures say what their frames hold, and say when they cannot be trusted."""

import numpy as np
import pandas as pd
import pytest

from lab import endpoint_kinds, stats, units
from lab.figures import (
    clocks,
    distribution,
    forest,
    interval,
    layout,
    markup,
    noise_floor,
    pairs,
    palette,
    pareto,
    progress_dots,
    spans,
    trends,
    waterfall,
)
from lab.stats import Comparison, Finding
from lab.stats.quality import Quality
from lab.techniques.caching import figures as cache


def call(arm, first, end, **more):
    return {
        "call_id": f"c-{arm}", "trial_id": f"t-{arm}", "arm": arm, "role": "answer", "block": 1,
        "started_ms": 0.0, "sent_at_ms": 2.0, "headers_at_ms": 10.0,
        "first_sign_at_ms": None, "first_thinking_at_ms": None, "message_start_at_ms": None,
        "first_sentence_at_ms": None, "first_text_at_ms": first, "first_tool_at_ms": None,
        "whole_tool_at_ms": None, "last_token_at_ms": end,
        "ended_at_ms": end, "ttft_ms": first,
        "total_ms": end, "endpoint": "local", "endpoint_kind": "local", "model": "m",
        "error_kind": None, "connection_reused": True,
    } | more  # fmt: skip


CALLS = pd.DataFrame([call("uncached", 2000.0, 3000.0), call("cached", 100.0, 1100.0)])
TRIALS = pd.DataFrame(
    [
        {
            "trial_id": f"{arm}{n}",
            "arm": arm,
            "block": n,
            "phase": "measured",
            "outcome": "ok",
            "ttft_ms": base + n,
            "client_caused": False,
            "endpoint_kind": "local",
            "endpoint": "local",
        }
        for arm, base in (("uncached", 2000.0), ("cached", 100.0))
        for n in range(6)
    ]
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.42, "0.420 ms"),
        (12.34, "12.3 ms"),
        (999.6, "1,000 ms"),
        (2134, "2,130 ms"),
        (9_994, "9,990 ms"),
        (9_999, "10.0 s"),
        (12_340, "12.3 s"),
        (-85, "−85.0 ms"),
        (0, "0 ms"),
        (8.88e-14, "0 ms"),
        (-8.88e-14, "0 ms"),
        (None, "—"),
        (float("nan"), "—"),
    ],
)
def test_durations_are_written_with_three_figures(value, text):
    assert units.ms(value) == text


@pytest.mark.parametrize(
    ("metric", "ends", "texts"),
    [
        ("wait_ms", (-1803, -2184, -1609), ["−1,800 ms", "−2,180 ms", "−1,610 ms"]),
        ("wait_ms", (-52.8, -283, 3.2), ["−53 ms", "−283 ms", "+3 ms"]),
        ("wait_ms", (-9_500, -11_123, 0), ["−9.5 s", "−11.1 s", "0.0 s"]),
        ("wait_ms", (0, 0, 0), ["0 ms", "0 ms", "0 ms"]),
        ("quality", (-0.1, -0.5, 0.25), ["−10.0 points", "−50.0 points", "+25.0 points"]),
        ("cost_usd", (-0.0042, -0.00512, 0), ["−$0.00420", "−$0.00512", "$0.00000"]),
    ],
)
def test_an_estimate_and_its_ends_have_three_figures_of_the_widest(metric, ends, texts):
    assert units.ends(metric, *ends) == texts


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0042, "$0.0042"),
        (0.00996, "$0.010"),
        (0.9949, "$0.99"),
        (0.996, "$1.00"),
        (1.25, "$1.25"),
        (9.999, "$10.00"),
        (999.996, "$1,000.00"),
        (0, "$0.00"),
        (None, "—"),
    ],
)
def test_dollars_have_cents_and_small_sums_two_figures(value, text):
    assert units.usd(value) == text


def figures_of(text):
    digits = "".join(sign for sign in text if sign in "0123456789.").lstrip("0.")
    return len(digits.replace(".", ""))


@pytest.mark.parametrize(
    ("write", "fewest"), [(units.usd, 2), (units.number, 3), (units.ms, 3), (units.times, 2)]
)
def test_no_amount_has_fewer_figures_than_a_smaller_one_or_is_written_smaller(write, fewest):
    edges = [base * 10.0**power for power in range(-5, 4) for base in np.linspace(0.99, 1.01, 201)]
    amounts = sorted([*np.geomspace(1e-5, 9_990, 5_000), *edges])
    texts = [write(amount) for amount in amounts if amount < 9_995]
    assert min(map(figures_of, texts)) == fewest
    written = [float("".join(sign for sign in text if sign in "0123456789.")) for text in texts]
    assert written == sorted(written)


def test_what_takes_long_is_told_in_seconds_or_minutes():
    told = [units.duration(seconds) for seconds in (0.2, 12.4, 89, 90, 150, 90_000)]
    assert told == ["1 s", "12 s", "89 s", "2 min", "2 min", "1,500 min"]


def test_signs_and_shares():
    assert (units.ms(85, sign=True), units.usd(-0.5, sign=True)) == ("+85.0 ms", "−$0.50")
    shares = [units.percent(-0.95, sign=True), units.percent(0.025), units.percent(0)]
    assert shares == ["−95 %", "2.5 %", "0 %"]
    assert (units.times(20), units.value("quality", 0.5)) == ("20×", "50 %")


def test_an_arm_keeps_its_colour_and_the_baseline_is_slate():
    assert list(palette.arm_colours(["uncached", "cached"]).values()) == ["#5B6878", "#1B3FA0"]
    assert palette.arm_colours(["a", "b", "c"])["b"] == palette.arm_colours(["a", "b"])["b"]
    assert len(set(palette.arm_colours([str(n) for n in range(9)]).values())) == 9


def luminance(colour):
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("dark", [False, True])
def test_colours_stand_out_from_their_ground(dark):
    theme = palette.theme(dark)

    def contrast(colour):
        pair = sorted((luminance(colour), luminance(theme.ground)))
        return (pair[1] + 0.05) / (pair[0] + 0.05)

    assert min(map(contrast, theme.arms)) >= 3.4
    assert min(map(contrast, (theme.ink, theme.muted, theme.good, theme.bad, theme.warn))) >= 4.5
    phases = {name: theme.phases[name] for name in theme.phases if name not in palette.HATCHED}
    steps = [luminance(colour) for colour in phases.values()]
    assert steps == sorted(steps, reverse=True), "generation is the darkest"


def test_the_phases_of_a_call_touch_and_end_with_it():
    bars = waterfall.phases(CALLS.iloc[0])
    assert bars == [
        ("send", 0.0, 2.0),
        ("headers", 2.0, 8.0),
        ("prefill", 10.0, 1990.0),
        ("tokens", 2000.0, 1000.0),
    ]


def test_a_new_connection_shows_its_phases():
    bars = waterfall.phases(
        pd.Series(
            call(
                "x",
                200.0,
                300.0,
                dns_ms=1.0,
                connect_ms=4.0,
                tls_ms=5.0,
                sent_at_ms=12.0,
                headers_at_ms=50.0,
            )
        )
    )
    assert [(name, length) for name, _, length in bars] == [
        ("dns", 1.0), ("connect", 4.0), ("tls", 5.0), ("send", 2.0), ("headers", 38.0),
        ("prefill", 150.0), ("tokens", 100.0),
    ]  # fmt: skip


def test_the_waterfalls_title_is_the_finding_and_a_bar_knows_its_trial():
    finding = Finding("cached starts 95 % sooner than uncached")
    figure = waterfall.waterfall(CALLS, finding=finding, pair="the median pair: block 1, task a")
    assert layout.title(figure) == "cached starts 95 % sooner than uncached"
    assert "block 1, task a" in layout.alt(figure) and "local" in layout.alt(figure)
    assert figure.data[0].customdata[0][0] == "t-uncached"


def test_kinds_never_share_a_chart():
    mixed = CALLS.assign(endpoint_kind=["live", "local"])
    with pytest.raises(ValueError, match="never share a chart"):
        waterfall.waterfall(mixed)


def test_doubt_greys_the_chart_and_stands_on_it():
    finding = Finding("Not enough data", "Only 6 trials")
    figure = distribution.distribution(TRIALS, "ttft_ms", finding=finding)
    assert {trace.opacity for trace in figure.data} == {layout.GREYED}
    assert "Only 6 trials" in [note.text for note in figure.layout.annotations]


def test_the_names_on_a_greyed_picture_can_still_be_read():
    points = pd.DataFrame(
        {
            "arm": ["a", "b"],
            "total_ms": [900.0, 300.0],
            "cost_usd": [0.001, 0.0004],
            "quality": 1.0,
            "n": 3,
            "run_id": "run",
            "endpoint": "local",
            "endpoint_kind": "local",
        }
    )
    figure = pareto.scatter_pareto(points, reason="Only 3 trials")
    named = [trace for trace in figure.data if "text" in trace.mode]
    assert [(trace.opacity, trace.marker.opacity) for trace in named] == [(None, layout.GREYED)] * 2


def test_the_key_of_a_greyed_chart_is_greyed_as_it_is():
    sure = waterfall.waterfall(CALLS)
    unsure = waterfall.waterfall(CALLS, finding=Finding("Not enough data", "Only 6 trials"))
    faded = {
        name: palette.fade(colour, layout.GREYED)
        for name, colour in sure.layout.meta["legend"].items()
    }
    assert unsure.layout.meta["legend"] == faded


def test_the_zero_of_an_interval_ends_above_the_words_below_it():
    figure = interval.interval_bar(1.0, -3.76, 4.62)
    words = next(note for note in figure.layout.annotations if "…" in note.text)
    assert all(min(line.y0, line.y1) > words.y + 0.3 for line in figure.layout.shapes)


def test_every_point_is_drawn_until_there_are_thousands():
    assert [len(trace.x) for trace in distribution.distribution(TRIALS, "ttft_ms").data] == [6, 6]
    many = pd.DataFrame({"arm": "a", "ttft_ms": np.linspace(1, 2, 5_000), "endpoint_kind": "local"})
    assert len(distribution.distribution(many, "ttft_ms").data[0].x) < 200


def test_no_figure_of_many_trials_has_a_point_for_each():
    """Where points become a density there is one rule for all figures: layout.DENSE."""
    for n, most in ((2_000, 2_000), (2_001, 300)):
        block = np.arange(n)
        pair = {"metric": "ttft_ms", "arm": "b", "baseline": "a", "trial_id": "t"}
        values = {"value": block + 1.0, "baseline_value": block + 2.0, "difference": block / n - 1}
        differences = pd.DataFrame({"block": block, **values}).assign(**pair, baseline_trial_id="u")
        control = pd.DataFrame({"minutes": block / 10, "value": block % 7 + 1.0, "trial_id": "t"})
        states = pd.DataFrame({"ttft_ms": block + 1.0, "cached_share": 0.0, "arm": "a"})
        states = states.assign(
            observed_cache="none", cache_miss_reason=None, trial_id="t", call_id="c"
        )
        for figure in (
            pairs.pairs(differences, "ttft_ms"),
            trends.drift(control, metric="ttft_ms"),
            cache.cache_hits(states),
        ):
            assert max(len(trace.x) for trace in figure.data) <= most
            assert (len(figure.data[0].x) == n) == (n == 2_000)
        assert ("a dot a call" in figure.layout.meta["subtitle"]) == (n == 2_000)


def test_a_percentile_that_n_cannot_carry_stands_in_brackets():
    notes = [note.text for note in distribution.distribution(TRIALS, "ttft_ms").layout.annotations]
    assert any("p95 (" in note for note in notes)
    many = pd.concat([TRIALS.assign(block=n) for n in range(12)])
    assert not any(
        "p95 (" in note.text
        for note in distribution.distribution(many, "ttft_ms").layout.annotations
    )


@pytest.mark.parametrize(
    ("metric", "note"),
    [
        ("ttft_ms", "median −4.00 ms · sooner in 2 of 3 blocks"),
        ("tokens_per_s", "median −4.00 · faster in 1 of 3 blocks"),
        ("cost_usd", "median −$4.00 · less in 2 of 3 blocks"),
        ("cached_share", "median −400 points · more from the cache in 1 of 3 blocks"),
    ],
)
def test_pairs_count_the_blocks_in_favour_and_which_those_are_is_the_metrics_own(metric, note):
    differences = pd.DataFrame(
        {
            "metric": metric,
            "arm": "b",
            "baseline": "a",
            "block": [1, 2, 3],
            "value": 1.0,
            "baseline_value": 2.0,
            "difference": [-5.0, -4.0, 1.0],
            "trial_id": "t",
            "baseline_trial_id": "u",
        }
    )
    figure = pairs.pairs(differences, metric)
    assert note in [drawn.text for drawn in figure.layout.annotations]


def test_only_trials_that_count_are_drawn():
    figure = distribution.distribution(TRIALS.assign(counts=TRIALS["block"] > 0), "ttft_ms")
    assert [len(trace.x) for trace in figure.data] == [5, 5]


@pytest.mark.parametrize(
    ("headline", "label"),
    [("ttft_ms", "first visible text"), ("wait_ms", "first visible text"), ("total_ms", "end")],
)
def test_one_clock_carries_the_verdict_and_the_rest_are_exploratory_which_is_said_once(
    headline, label
):
    figure = clocks.clock_ladder(CALLS, headline=headline)
    labels = [note.text for note in figure.layout.annotations if note.name is None]
    (bold,) = (text for text in labels if "the verdict's clock" in text)
    assert bold.startswith(f"<b>{label}<")
    assert layout.alt(figure).count("exploratory") == 1
    assert not any("exploratory" in text for text in labels)


def test_markup_in_names_is_text():
    figure = waterfall.waterfall(CALLS.assign(arm=["<b>x</b>", "<a href='javascript:1'>y</a>"]))
    drawn = [note.text for note in figure.layout.annotations]
    assert any("&lt;a href" in text for text in drawn) and not any("<a " in text for text in drawn)


def test_what_a_figure_says_of_a_kind_is_the_kinds_own(monkeypatch):
    kind = endpoint_kinds.Kind("observed", "observed: of a trace", hatched=True)
    monkeypatch.setitem(endpoint_kinds.KINDS, "observed", kind)
    figure = distribution.distribution(TRIALS.assign(endpoint_kind="observed"), "ttft_ms")
    assert len(figure.layout.images) == 1 and "observed · local" in layout.alt(figure)
    figure = distribution.distribution(TRIALS.assign(endpoint_kind="live"), "ttft_ms")
    assert layout.alt(figure).endswith("· local") and "live" not in layout.alt(figure)


def test_simulated_results_carry_a_hatched_band():
    assert (
        len(
            distribution.distribution(
                TRIALS.assign(endpoint_kind="simulated"), "ttft_ms"
            ).layout.images
        )
        == 1
    )
    assert len(distribution.distribution(TRIALS, "ttft_ms").layout.images) == 0


FIND = {
    "technique": "caching",
    "title": "Prompt caching",
    "estimate": -1900.0,
    "low": -1950.0,
    "high": -1800.0,
    "baseline_p50": 2000.0,
    "verdict": "faster",
    "tone": "good",
    "finding": Finding("cached starts 95 % sooner than uncached"),
    "endpoint_kind": "local",
}


def test_the_forest_has_ghosts_and_one_zero_line():
    figure = forest.forest(pd.DataFrame([FIND, {"technique": "routing", "title": "Routing"}]))
    title = "Prompt caching: cached starts 95 % sooner than uncached"
    assert layout.title(figure) == title
    assert any("not tried yet" in note.text for note in figure.layout.annotations)
    interval, dot = figure.data
    assert (list(interval.x), list(dot.x)) == ([-0.975, -0.9], [-0.95])


def test_the_forests_dot_and_interval_are_on_the_scale_of_the_verdicts_words():
    """Where blocks differ in size, their ratio is not their difference over the median."""
    ratios = {"ratio": 0.862, "ratio_low": 0.85, "ratio_high": 0.875}
    find = FIND | ratios | {"estimate": -238.0, "low": -238.0, "high": -238.0}
    interval, dot = forest.forest(pd.DataFrame([find])).data
    assert [round(x, 3) for x in (*interval.x, *dot.x)] == [-0.15, -0.125, -0.138]
    assert "−14 % [−15 %, −12 %]" in dot.hovertext[0]


def test_the_forest_writes_a_change_with_the_figures_of_its_interval_as_the_card_does():
    find = FIND | {"estimate": -98.2, "low": -104.3, "high": -91.1}
    notes = [note.text for note in forest.forest(pd.DataFrame([find])).layout.annotations]
    assert any(text.startswith("<b>−98 ms</b>") for text in notes)


def test_the_forest_says_what_a_gain_costs_in_dollars_and_quality():
    quality = Quality(change=-0.5, low=-0.9, high=0.1, n=6, same=3, shown="unclear")
    comparison = Comparison(
        metric="wait_ms",
        technique="caching",
        arm="cached",
        baseline="uncached",
        estimate=-5.0,
        baseline_p50=9.0,
        cost_change_usd=0.5,
        quality=quality,
    )
    notes = forest.forest(pd.DataFrame([vars(comparison)])).layout.annotations
    assert "cost +$0.50 · quality −50 points" in [note.text for note in notes]


def test_live_dots_count_what_failed():
    rows = pd.DataFrame(
        [
            {"arm": "a", "outcome": "ok", "phase": "measured", "wait_ms": 5.0},
            {"arm": "a", "outcome": "failed", "phase": "measured", "wait_ms": None},
        ]
    )
    notes = [
        note.text for note in progress_dots.dots(rows, ["a", "b"], "wait_ms").layout.annotations
    ]
    assert "median 5.00 ms · n = 1 · 1 not counted" in notes and "no trial yet" in notes


def test_the_front_is_what_nothing_beats():
    points = pd.DataFrame(
        {"total_ms": [1, 2, 3, 2], "cost_usd": [3, 2, 1, 3], "quality": [1, 1, 1, 1]}
    )
    assert pareto.pareto(points, "total_ms", "cost_usd", "quality").tolist() == [
        True,
        True,
        True,
        False,
    ]


def test_more_tokens_a_second_are_the_faster_ones():
    points = pd.DataFrame({"tokens_per_s": [10, 20], "cost_usd": [1, 1], "quality": [1, 1]})
    assert pareto.pareto(points, "tokens_per_s", "cost_usd", "quality").tolist() == [False, True]


def test_cache_hits_are_in_the_arms_colours_and_tokens_in_no_arms():
    points = pd.DataFrame(
        {"arm": ["u", "c"], "trial_id": ["1", "2"], "call_id": ["1", "2"],
         "ttft_ms": [2000.0, 100.0], "cached_share": [0.0, 0.9],
         "observed_cache": ["none", "read"], "cache_miss_reason": [None, None],
         "cache_read_tokens": [0, 90], "cache_write_tokens": [0, 0], "prompt_tokens": [100, 100]}
    )  # fmt: skip
    figure = cache.cache_hits(points, arms=["u", "c"])
    assert layout.title(figure) == "Time to first token by what was read from the cache"
    colours = palette.arm_colours(["u", "c"])
    assert [trace.marker.color for trace in figure.data] == [
        palette.fade(colours[arm], 0.9) for arm in ("u", "c")
    ]
    figure = cache.cache_tokens(points, arms=["u", "c"], arm="c")
    assert layout.title(figure) == "c reads 90 % of its prompt from the cache"
    drawn = {trace.marker.color for trace in figure.data}
    assert not drawn & set(palette.theme().arms), "an arm's colour is an arm's only"


def test_spans_show_what_the_trial_waited_for():
    rows = pd.DataFrame(
        [
            {
                "span_id": "r",
                "trial_id": "t",
                "parent_id": None,
                "kind": "trial",
                "name": "arm",
                "started_ms": 0.0,
                "ended_ms": 100.0,
            },
            {
                "span_id": "a",
                "trial_id": "t",
                "parent_id": "r",
                "kind": "tool",
                "name": "weather",
                "started_ms": 10.0,
                "ended_ms": 90.0,
            },
        ]
    )
    path = pd.DataFrame(
        [
            ("r", "own", "arm", 0.0, 10.0, 10.0),
            ("a", "tool", "weather", 10.0, 90.0, 80.0),
            ("r", "own", "arm", 90.0, 100.0, 10.0),
        ],
        columns=["span_id", "kind", "name", "started_ms", "ended_ms", "ms"],
    )
    assert (
        layout.title(spans.span_waterfall(rows, path))
        == "The trial waits 80 % of its 100 ms for tools"
    )


def test_drift_says_how_far_the_control_moved():
    values = [100.0, 100.0, 140.0, 140.0]
    frame = pd.DataFrame({"minutes": [0.0, 1.0, 2.0, 3.0], "value": values, "trial_id": "t"})
    assert layout.title(trends.drift(frame, effect=-50.0)).startswith(
        "The control moved by +40.0 ms"
    )


def test_drift_is_the_one_that_the_verdict_doubts():
    """The halves' medians are 45 ms apart, and the median of their 16 differences is 40."""
    values = [100.0, 100.0, 100.0, 130.0, 190.0, 140.0, 140.0, 150.0]
    frame = pd.DataFrame({"minutes": range(8), "value": values, "trial_id": "t"})
    assert stats.drift(values, np.arange(8)).change == 40.0
    assert "moved by +40.0 ms" in layout.title(trends.drift(frame))


@pytest.mark.parametrize(
    "draw",
    [
        lambda: waterfall.waterfall(CALLS.iloc[:0]),
        lambda: distribution.distribution(TRIALS.iloc[:0], "ttft_ms"),
        lambda: pairs.pairs(pd.DataFrame(columns=["metric", "difference"]), "wait_ms"),
        lambda: forest.forest(pd.DataFrame()),
        lambda: noise_floor.noise_floor(pd.DataFrame()),
        lambda: progress_dots.dots(pd.DataFrame(), [], "wait_ms"),
        lambda: cache.cache_tokens(pd.DataFrame()),
        lambda: trends.history_trend(pd.DataFrame(columns=["p50"])),
        lambda: trends.drift(pd.DataFrame(columns=["minutes", "value"])),
        lambda: clocks.clock_ladder(pd.DataFrame()),
    ],
)
def test_an_empty_frame_says_what_to_do(draw):
    figure = draw()
    assert len(figure.data) == 0 and len(figure.layout.annotations) >= 1


def test_pictures_are_made_in_the_browser_in_both_formats():
    assert [
        markup.config("A name", kind)["toImageButtonOptions"]["format"] for kind in ("png", "svg")
    ] == ["png", "svg"]
    assert "plotly.js v" in markup.interactive(waterfall.waterfall(CALLS))[:4_000_000]


def test_names_of_points_never_cover_each_other_and_those_without_room_get_a_key():
    x, y = pd.Series([0.1, 0.1, 0.1, 0.1, 0.9]), pd.Series([0.5, 0.5, 0.5, 0.5, 0.5])
    names = pd.Series(["a.one", "a.two", "a.three", "a.four", "b.one"])
    assert pareto.label_places(x, y, names) == [
        "top right", "bottom right", None, None, "top left",
    ]  # fmt: skip
    summary = pd.DataFrame(
        {
            "arm": list("abcdef"),
            "total_ms": [100.0] * 6,
            "quality": [0.0] * 6,
            "cost_usd": None,
            "n": 6,
            "run_id": "r",
            "endpoint": "local",
            "endpoint_kind": "local",
        }
    )
    drawn = [trace.text[0] for trace in pareto.scatter_pareto(summary).data if trace.text]
    assert 0 < len([text for text in drawn if text]) < 6
