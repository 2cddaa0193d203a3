"""Names, notes, arms and models are text wherever they are drawn: no figure, report, table or
Markdown makes a link or a tag of them."""

from __future__ import annotations

import html
import inspect
import json
import re
from html.parser import HTMLParser

import duckdb
import pandas as pd
import pytest

from lab import results, units
from lab.critical_path import critical_path
from lab.figures import (
    adhoc,
    cache_by_call,
    clocks,
    distribution,
    first_token,
    forest,
    interval,
    layout,
    noise_floor,
    pareto,
    progress_dots,
    spans,
    stacked,
    timeline,
    trends,
    waterfall,
)
from lab.figures import pairs as pair_figures
from lab.harness.reporters import figure_files, markdown
from lab.harness.reporters import html as html_report
from lab.recording import growth
from lab.stats import Finding
from lab.store import queries
from lab.store.store import Store
from lab.techniques.caching import figures as cache
from lab.techniques.caching import findings
from tests.recorded_apps import App, asks, user
from tests.recorded_runs import record

LINK = "<a href='http://evil.example/a'>cached</a>"
BOLD = "<b onclick=x>un\x1b[31mcached</b>\u202e"
OWN = {"b", "br", "extra", "span"}
"""The tags that figures themselves write."""


def named(store: Store) -> str:
    """A run whose arms, models, tasks, endpoint, error kinds and spans have links and tags for
    names; beside it one that is like it."""
    run_id = record(store, blocks=3)
    record(store, blocks=3)
    with duckdb.connect(str(store.path)) as connection:
        for arm, name in (("uncached", BOLD), ("cached", LINK)):
            connection.execute("UPDATE trials SET arm = ? WHERE arm = ?", [name, arm])
            connection.execute(
                "UPDATE runs SET settings = replace(settings::VARCHAR, ?, ?)::JSON",
                [f'"{arm}"', json.dumps(name)],
            )
        connection.execute(
            "UPDATE calls SET model = $1, cache_miss_reason = $1, endpoint = $1, stop_reason = $1",
            [LINK],
        )
        connection.execute("UPDATE trials SET task_id = ?", [LINK])
        connection.execute("UPDATE spans SET name = ?", [LINK])
        connection.execute("UPDATE events SET text = ?", [LINK])
        connection.execute(
            "UPDATE runs SET endpoint = $1, name = $1, note = $1, "
            "models = json_object('small', $1)",
            [LINK],
        )
        connection.execute(
            "UPDATE trials SET outcome = 'failed', error_kind = $1 WHERE block = 3 AND arm = $1",
            [LINK],
        )
        failed = "trial_id IN (SELECT trial_id FROM trials WHERE outcome = 'failed')"
        connection.execute(f"UPDATE calls SET error_kind = ? WHERE {failed}", [LINK])
    return run_id


@pytest.fixture(scope="module")
def hostile(tmp_path_factory) -> tuple[Store, str]:
    store = Store(tmp_path_factory.mktemp("inert") / "lab.duckdb")
    return store, named(store)


def drawn(store: Store, run_id: str) -> dict[str, object]:
    """Every figure function of the lab, over the hostile run's own frames."""
    run, every = queries.run(store, run_id), queries.trials(store, run_id)
    arms = [arm["arm"] for arm in run["settings"]["arms"]]
    calls, pairs, points = (
        queries.calls(store, run_id),
        queries.pairs(store, run_id),
        findings.cache_answers(queries.calls(store, run_id)),
    )
    tree = queries.spans(store, every["trial_id"].iloc[0])
    runs = queries.runs(store)
    table = pareto.summary_table(
        queries.arm_summary(store, runs["run_id"]), queries.arm_counts(store, runs["run_id"]), runs
    )
    kind = {"endpoint": LINK, "endpoint_kind": "local"}
    doubted = Finding(LINK, LINK)
    finds = pd.DataFrame(
        [
            {
                "technique": LINK,
                "title": LINK,
                "arm": LINK,
                "run_id": "r",
                "n": 6,
                "metric": "wait_ms",
                "estimate": -5.0,
                "low": -6.0,
                "high": -4.0,
                "baseline_p50": 9.0,
                "verdict": "not_enough_data",
                "finding": doubted,
                "imported_from": LINK,
                **kind,
            }
        ]
    )
    parts = pd.DataFrame([{"arm": LINK, "part": LINK, "amount": 2.0, **kind}])
    speeds = pd.DataFrame([{"run_id": "r", "arm": LINK, "n": 3, "speed_up": 2.0, **kind}])
    errors = pd.DataFrame([{"streams": 1, "quantile": "p95", "error_ms": 0.1}])
    return {
        "waterfall": waterfall.waterfall(calls, arms=arms, finding=doubted, pair=LINK),
        "trial_rows": waterfall.trial_rows(calls[calls["arm"] == LINK]),
        "distribution": distribution.distribution(every, "ttft_ms", arms=arms, finding=doubted),
        "pairs": pair_figures.pairs(pairs, "ttft_ms", arms=arms, finding=doubted),
        "clock_ladder": clocks.clock_ladder(
            calls, arms=arms, headline="ttft_ms", finding=doubted, pair=LINK
        ),
        "cache_hits": cache.cache_hits(points, finding=doubted),
        "cache_tokens": cache.cache_tokens(points, arms=arms, arm=LINK),
        "scatter_pareto": pareto.scatter_pareto(table, label="label"),
        "forest": forest.forest(finds),
        "interval_bar": interval.interval_bar(-5, -6, -4),
        "noise_floor": noise_floor.noise_floor(errors),
        "dots": progress_dots.dots(every, arms, "ttft_ms", headline=LINK),
        "span_waterfall": spans.span_waterfall(tree, critical_path(tree), arm=LINK),
        "stacked": stacked.stacked(
            parts, {LINK: "#123456"}, title=LINK, subtitle=LINK, reason=LINK
        ),
        "speed_up": stacked.speed_up(speeds, finding=doubted),
        "history_trend": trends.history_trend(queries.history(store, "ttft_ms"), metric="ttft_ms"),
        "drift": trends.drift(
            queries.drift(store, run_id, "ttft_ms").assign(**kind), metric="ttft_ms"
        ),
        "quick": adhoc.quick(every, "arm", "ttft_ms", "task_id"),
        "empty": layout.empty(LINK, False, LINK),
        **recorded(Store(store.path.with_name("app.duckdb"))),
    }


def recorded(store: Store) -> dict[str, object]:
    """Figures of a recording whose models, tools and errors have such names."""
    app = App(store)
    usage = {"input_tokens": 9, "output_tokens": 1}
    app.call([user("q")], 0, 2, asks("a"), first=1, usage=usage, tools=[(LINK, 2, 3)], model=LINK)
    app.call([user("r")], 3, 4, error=LINK, model=BOLD)
    recording = app.recording()
    calls = recording.calls.drop(columns="conversation").join(recording.conversations, on="call_id")
    bars, use = recording.waiting.timeline, calls.join(recording.cache_use, on="call_id")
    grown = growth.against_prompt(recording.calls)
    return {
        "timeline": timeline.timeline(bars, calls.assign(conversation=1), name=LINK, part=LINK),
        "first_token": first_token.first_token(grown, title=LINK, x_title=LINK),
        "cache_by_call": cache_by_call.cache_by_call(use, title=LINK, part=LINK),
    }


def texts(value: object) -> list[str]:
    if isinstance(value, dict):
        return [
            text
            for name, part in value.items()
            if name not in ("meta", "customdata", "template", "images")
            for text in texts(part)
        ]
    if isinstance(value, list):
        return [text for part in value for text in texts(part)]
    return [value] if isinstance(value, str) else []


def tags(text: str) -> set[str]:
    return {tag.lower() for tag in re.findall(r"</?\s*([a-zA-Z]+)", text)}


def test_every_figure_function_is_tried(hostile):
    modules = (
        pareto,
        cache,
        cache_by_call,
        clocks,
        distribution,
        first_token,
        forest,
        interval,
        noise_floor,
        pair_figures,
        progress_dots,
        adhoc,
        spans,
        stacked,
        timeline,
        trends,
        waterfall,
    )
    public = {
        name
        for module in modules
        for name, function in inspect.getmembers(module, inspect.isfunction)
        if function.__module__ == module.__name__
        and str(inspect.signature(function).return_annotation).endswith("Figure")
    }
    assert {name for name in public if not name.startswith("_")} <= set(drawn(*hostile))


def test_no_figure_makes_a_tag_of_a_name(hostile):
    for name, figure in drawn(*hostile).items():
        shown = texts(json.loads(figure.to_json()))
        assert set().union(*map(tags, shown)) <= OWN, name
        assert not [
            text for text in shown if "<b onclick" in text or "\x1b" in text or "\u202e" in text
        ], name
        if name not in ("interval_bar", "noise_floor"):
            assert any(html.escape(LINK, quote=False)[:20] in text for text in shown) or name in (
                "drift",
            ), name


class Page(HTMLParser):
    """Links, and text outside scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links, self.handlers, self.words, self.within = [], [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.within = tag
        self.links += [attributes] if tag == "a" or dict(attributes).get("href") else []
        self.handlers += [name for name, _ in attributes if name.startswith("on")]

    def handle_endtag(self, tag):
        self.within = ""

    def handle_data(self, data):
        self.words += [data] if self.within not in ("script", "style") else []


def test_a_report_has_no_link_and_shows_the_names_letter_for_letter(hostile):
    page = Page(html_report.page(results.read(hostile[1], hostile[0])))
    assert page.links == [] and page.handlers == []
    assert LINK in "".join(page.words)


def test_figures_written_as_files_have_no_link(hostile, tmp_path, monkeypatch):
    monkeypatch.setattr(figure_files, "browser", lambda: None)
    store, run_id = hostile
    folder = figure_files.ChartReporter(tmp_path).report(results.read(run_id, store))
    files = sorted(folder.glob("*.html"))
    assert len(files) == len(figure_files.run_figures(results.read(run_id, store)))
    assert not any(Page(file.read_text()).links for file in files)
    for file in files:
        assert "<a href='http" not in file.read_text()


def test_markdown_has_no_link_and_no_tag(hostile):
    store, run_id = hostile
    text = markdown.markdown(results.read(run_id, store))
    assert "evil.example" in text
    assert re.findall(r"(?<!\\)[<\[]", text) == [] and "http:/" not in text


@pytest.mark.parametrize(
    "name",
    [
        "[x](http://evil.example)",
        "<b>x</b>",
        "https://evil.example",
        "www.evil.example",
        "a@evil.example",
        "a|b",
    ],
)
def test_markdown_of_a_name_renders_as_the_name(name):
    markdown = (
        pytest.importorskip("markdown_it")
        .MarkdownIt("gfm-like", {"linkify": False})
        .enable("table")
    )
    shown = markdown.renderInline(units.in_markdown(name))
    assert "<" not in shown and html.unescape(shown).replace("\u2060", "") == name
