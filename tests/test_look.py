"""One look on every page: colours that belong to arms, contrast, numbers that never meet."""

from __future__ import annotations

import re
import tomllib
from itertools import combinations, pairwise

import pandas as pd
import plotly.graph_objects as go
import pytest
from recorded_runs import record

from lab import paths, results, techniques, units
from lab.figures import interval, layout, markup, palette, trends
from lab.model import Arm
from lab.store.store import Store

PATTERN = re.compile(r"(?<!\d)#[0-9A-Fa-f]{6}\b")


@pytest.mark.parametrize("dark", [False, True])
def test_phases_stand_apart_from_the_ground_and_from_the_phase_before(dark):
    theme = palette.theme(dark)
    steps = list(dict.fromkeys(zip(theme.phases.values(), palette.PHASES, strict=True)))
    assert all(palette.contrast(step, theme.ground) >= 3 for step, _ in steps)
    for (step, phase), (following, after) in pairwise(steps):
        if phase in ("dns", "connect", "tls"):  # connecting and sending are one step
            assert step == following
            continue
        assert palette.contrast(step, following) >= 1.6, f"{phase} and {after}"
    without_thinking = palette.contrast(theme.phases["prefill"], theme.phases["tokens"])
    assert without_thinking >= 1.6
    assert set(palette.HATCHED) == {"thinking"}, "the one step that comes twice has a pattern"


@pytest.mark.parametrize("dark", [False, True])
def test_words_in_an_arms_colour_can_be_read(dark):
    theme = palette.theme(dark)
    colours = palette.arm_colours([str(n) for n in range(13)], dark)
    for colour in colours.values():
        words = palette.as_text(colour)
        assert min(palette.contrast(words, on) for on in (theme.ground, theme.surface)) >= 4.5
    assert palette.as_text(theme.arms[0]) == theme.arms[0], "what can be read stays as it is"
    teal = palette.as_text(palette.LIGHT.arms[2])
    assert teal in layout.bold("cached", palette.LIGHT.arms[2])


@pytest.mark.parametrize("name", ["light", "dark"])
def test_white_words_on_a_primary_button_can_be_read(name):
    theme = tomllib.loads((paths.ROOT / ".streamlit" / "config.toml").read_text())["theme"][name]
    own = palette.theme(name == "dark")
    assert theme["primaryColor"] == own.accent
    assert palette.contrast(own.accent, "#FFFFFF") >= 4.5
    assert palette.contrast(own.accent, own.ground) >= 3
    assert palette.contrast(theme.get("linkColor", own.accent), own.ground) >= 4.5


def test_an_arm_has_one_colour_in_a_quick_and_in_a_full_run():
    quick, full = ["uncached", "cached"], ["uncached", "first use", "cached", "pre-warmed"]
    colours = [colours_of([("caching", arm) for arm in arms]) for arms in (quick, full)]
    assert colours[0]["caching", "cached"] == colours[1]["caching", "cached"] == "#0D94B2"
    assert colours[0]["caching", "uncached"] == palette.LIGHT.arms[0]


def colours_of(arms, dark=False):
    places = dict(zip(arms, techniques.places(arms), strict=True))
    return palette.arm_colours(places, dark)


def test_every_technique_has_a_colour_for_each_of_its_arms_whatever_a_run_takes():
    for technique in techniques.all_techniques():
        for suite in technique.suites or (technique.arms,):
            full = colours_of([(technique.slug, arm.name) for arm in suite])
            assert len(set(full.values())) == len(suite)
            for pair in combinations(full, 2):
                assert colours_of(pair) == {arm: full[arm] for arm in pair}, technique.slug
        chosen = technique.arms_for(technique.knobs())
        declared = [arm for suite in technique.suites or (technique.arms,) for arm in suite]
        assert set(chosen) <= set(declared) or technique.files, f"{technique.slug}: arms undeclared"


def test_an_arm_that_comes_first_in_another_run_keeps_its_colour():
    swapped = [("caching", "pre-warmed"), ("caching", "cached")]
    assert list(colours_of(swapped).values()) == ["#A24BE6", "#0D94B2"]


def test_where_techniques_meet_an_arm_has_its_own_colour_if_it_is_free_and_the_next_if_not():
    arms = [
        ("streaming", "whole"),
        ("streaming", "streamed"),
        ("caching", "uncached"),
        ("caching", "cached"),
    ]
    slate, blue, teal, violet, _ = palette.LIGHT.arms
    assert list(colours_of(arms).values()) == [slate, blue, violet, teal]


def test_more_arms_than_colours_are_told_apart_by_more_than_a_colour():
    colours = palette.arm_colours([f"arm {n}" for n in range(9)])
    assert len(set(colours.values())) == 9
    again = [palette.is_again(colour) for colour in colours.values()]
    assert again == [False] * 5 + [True] * 4
    own, other = list(colours.values())[1], list(colours.values())[5]
    assert "symbol" not in layout.crowd(own, 6)
    assert layout.crowd(other, 6)["symbol"] == "circle-open"
    figure = go.Figure()
    layout.arm_rows(figure, {"own": own, "other": other}, ["", ""])
    assert [shape.fillcolor for shape in figure.layout.shapes] == [own, other, other, other]


def test_bodies_that_the_user_names_are_coloured_in_their_own_order():
    assert techniques.places([("ab", "b"), ("ab", "mine"), ("gone", "x"), ("gone", "y")]) == [
        0,
        1,
        0,
        1,
    ]


def test_a_stored_run_tells_its_figures_each_arms_place(db):
    assert results.read(record(Store())).places == {"uncached": 0, "cached": 2}


def test_a_metric_that_is_no_headline_is_compared_when_it_is_asked_for(db):
    result = results.read(record(Store()))
    others = [one.metric for one in result.comparisons if one.metric != result.headline]
    assert "total_ms" in others and "comparisons" in vars(result)
    again = results.read(result.run_id)
    assert again.comparison().metric == again.headline and "comparisons" not in vars(again)
    assert again.comparison("total_ms").estimate == result.comparison("total_ms").estimate


def test_a_place_is_the_same_for_an_arm_that_a_suite_declares():
    first = Arm("first", "")
    technique = next(known for known in techniques.all_techniques() if known.suites)
    for suite in technique.suites:
        assert [technique.place_of(arm.name) for arm in suite] == list(range(len(suite)))
    assert technique.place_of(first.name) is None


LONG = "A finding in a sentence of some length that a narrow window must break and a wide one not"
"""88 characters."""


def worded(**more):
    figure = go.Figure()
    figure.add_scatter(x=[1.0], y=[0.0])
    settings = {"dark": False, "legend": {"waiting for headers": "#506D8F"}} | more
    return layout.finish(figure, LONG, "perceived wait, ms · n = 6 · ", 100, **settings)


def test_a_title_is_whole_on_a_page_and_breaks_only_where_a_picture_ends():
    figure = worded()
    title, legend = figure.layout.annotations[:2]
    assert (title.name, legend.name) == ("title", "legend")
    assert LONG in title.text, "one line at 1,120 px"
    head = markup.head(figure)
    assert LONG in head and "<br>" not in head and 'role="heading"' in head
    assert "waiting for headers" in markup.key(figure)
    assert "12px" in markup.STYLE.partition(".lab-swatch")[2], "squares one can see"


def test_no_subtitle_ends_with_a_dot():
    figure = worded()
    assert layout.alt(figure).endswith("n = 6") and "n = 6 ·" not in markup.head(figure)


def test_names_in_a_title_are_text_on_a_page_too():
    figure = layout.finish(go.Figure(), "<b>x</b> is faster", "<i>", 100, dark=False)
    assert "<b>x" not in markup.head(figure) and "&lt;b&gt;x" in markup.head(figure)


def test_a_greyed_figure_keeps_its_reason_on_it():
    names = [words.name for words in worded(reason="Not enough data").layout.annotations]
    assert names == ["title", "legend", "reason"]


def test_an_axis_that_passes_ten_seconds_is_told_in_seconds():
    figure = go.Figure()
    layout.bars(figure, [0], [4_000.0], [12_000.0], "#5B6878", ["x"])
    layout.finish(figure, "t", "ms, the median pair", 100, dark=False, x_title="ms from the start")
    axis = figure.layout.xaxis
    assert axis.title.text == "s from the start"
    assert list(zip(axis.tickvals, axis.ticktext, strict=True))[:3] == [
        (0, "0"),
        (5_000, "5"),
        (10_000, "10"),
    ]
    assert figure.layout.meta["subtitle"] == "s, the median pair"


def test_an_axis_below_ten_seconds_stays_in_milliseconds_and_dollars_stay_dollars():
    figure = go.Figure()
    layout.bars(figure, [0], [0.0], [9_000.0], "#5B6878", ["x"])
    layout.finish(figure, "t", "", 100, dark=False, x_title="ms")
    assert figure.layout.xaxis.title.text == "ms" and figure.layout.xaxis.tickvals is None
    figure = go.Figure()
    figure.add_scatter(x=[1], y=[20_000.0])
    layout.finish(figure, "t", "output tokens, mean", 9, dark=False, left=layout.AXIS_PX)
    assert figure.layout.yaxis.tickvals is None


def test_numbers_that_are_read_beside_each_other_have_one_unit():
    pair = units.values("wait_ms", 2_750.0, 16_100.0)
    assert pair == ["2.75 s", "16.1 s"]
    assert " against ".join(units.once(pair)) == "2.75 against 16.1 s"
    assert units.values("wait_ms", -8_970.0, -19_000.0, sign=True) == ["−8.97 s", "−19.0 s"]
    assert units.once(units.values("wait_ms", 110.0, 2_260.0)) == ["110", "2,260 ms"]
    assert units.values("cost_usd", 0.5, None) == ["$0.50", "—"]


def test_quality_has_one_form_and_its_change_is_in_points():
    assert (units.value("quality", 0.083), units.value("quality", 1.0)) == ("8.3 %", "100 %")
    assert units.value("quality", 0.08, sign=True) == "+8.0 points"
    assert units.points(-0.5) == "−50 points"
    assert units.percent(0) == "0 %" and units.percent(None) == units.MISSING == "—"


@pytest.mark.parametrize(
    ("low", "high"), [(-20.0, 40.0), (-100.0, 100.0), (-30.0, 0.0), (-1.0, 90.0), (5.0, 9.0)]
)
def test_zero_never_stands_on_the_intervals_ends(low, high):
    figure = interval.interval_bar((low + high) / 2, low, high, metric="wait_ms")
    zero, ends = figure.layout.annotations
    assert zero.text == "0" and " … " in ends.text
    bottom, top = figure.layout.yaxis.range
    apart_px = (zero.y - ends.y) / (top - bottom) * figure.layout.height
    assert apart_px >= 2 * 20, "each 13 px label is 20 px high at most"


def test_the_ends_of_an_interval_have_one_unit():
    figure = interval.interval_bar(-12_000.0, -19_000.0, -8_970.0)
    assert figure.layout.annotations[1].text == "−19.0 s … −9.0 s"


def test_no_colour_stands_outside_of_the_palette_and_the_theme():
    allowed = {paths.ROOT / "lab" / "figures" / "palette.py"}
    kinds = (".py", ".css", ".js", ".jinja")
    files = [
        path
        for folder in ("lab", "pages")
        for path in (paths.ROOT / folder).rglob("*")
        if path.suffix in kinds and path not in allowed
    ]
    assert [path.name for path in files if PATTERN.search(path.read_text(encoding="utf-8"))] == []


def test_a_table_writes_shares_with_a_space_and_none_as_a_dash():
    from streamlit.testing.v1 import AppTest

    def page():
        import pandas as pd

        from lab.view_parts import Column
        from pages.parts import tables

        frame = pd.DataFrame({"share": [0.0, None], "ms": [1234.6, None]})
        columns = {"share": Column("share", "percent"), "ms": Column("ms", "localized")}
        tables.show(frame, "table", columns)

    app = AppTest.from_function(page, default_timeout=60).run()
    assert not app.exception
    table = app.dataframe[0]
    assert table.value["share"].tolist() == [0, pd.NA] and table.value["ms"][0] == 1235
    assert '"%d %%"' in table.proto.columns and table.proto.placeholder == "—"


def test_in_historys_trend_an_arm_has_the_colour_that_it_has_everywhere():
    arms = [("caching", "cached"), ("caching", "uncached"), ("caching", "cached")]
    rows = pd.DataFrame(arms, columns=["technique", "arm"]).assign(
        place=techniques.places(arms),
        is_baseline=[False, True, False],
        started_utc=pd.to_datetime(["2026-11-24", "2026-11-24", "2026-11-25"]),
        model="m",
        p50=[300.0, 900.0, 310.0],
        n=6,
        run_id=["1", "1", "2"],
        endpoint_kind="local",
    )
    colours = layout_legend(trends.history_trend(rows))
    assert colours == {"uncached": palette.LIGHT.arms[0], "cached": palette.LIGHT.arms[2]}


def layout_legend(figure):
    return figure.layout.meta["legend"]
