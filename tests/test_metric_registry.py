"""What a metric is stands in lab/metrics.py and metrics.sql, and nowhere else."""

from __future__ import annotations

import json
import re

import pytest
from streamlit.testing.v1 import AppTest

from lab import metrics, paths, requirements, results, stats
from lab.cli import main
from lab.figures.pairs import pairs
from lab.metrics import METRICS, Metric
from lab.store import migrations, queries
from lab.store.store import Store
from tests.recorded_runs import record

KEYS = ("run_id", "session_id", "block", "technique", "arm", "trial_id", "task_id", "started_utc")
READABLE = Metric(
    "readable_ms", "time to a readable answer", "ms", "is readable", "sooner", "later", judged=True
)
SPACES = Metric("spaces", "spaces", "spaces", "writes", "fewer", "more")
"""It only explains a verdict."""


def columns(store: Store, view: str) -> list[str]:
    return store.frame(f"SELECT column_name FROM (DESCRIBE {view})")["column_name"].tolist()


def test_the_registry_and_the_view_have_the_same_metrics(db):
    assert columns(Store(db), "compared_trials") == [*KEYS, *METRICS]


def test_every_clock_of_a_call_is_a_column_and_every_metric_names_a_known_one(db):
    known = columns(Store(db), "call_metrics")
    assert set(metrics.CALL_CLOCKS) <= set(known)
    assert {metric.call_clock for metric in METRICS.values()} <= {None, *metrics.CALL_CLOCKS}
    assert set(metrics.TABLE) <= set(METRICS)


def test_the_documents_say_the_sample_that_a_percentile_needs():
    readme = (paths.ROOT / "data" / "README.md").read_text(encoding="utf-8")
    for name, q in metrics.QUANTILES.items():
        if said := re.search(rf"\| {name} \|.*needs n ≥ (\d+)", readme):
            assert int(said[1]) == metrics.needed(q)
    assert [metrics.needed(q) for q in (0.5, 0.9, 0.95, 0.99)] == [6, 36, 72, 368]


@pytest.fixture
def added(db, monkeypatch, tmp_path) -> str:
    """A run as it is read with two more metrics, added as a stranger would: one line for each in
    the registry, and in metrics.sql its formula and its name in compared_trials."""
    views = migrations.VIEWS.read_text(encoding="utf-8")
    formulas = (
        "ms(trial.started_ns, answer.last_text_ns) AS readable_ms, 2.0 * trial.block AS spaces"
    )
    for before, more in (
        ("    gap_of(answer) ", f"    {formulas},\n"),
        ("\nFROM trial_metrics\nWHERE counts;", ",\n    readable_ms,\n    spaces"),
    ):
        assert views.count(before) == 1
        views = views.replace(before, more + before)
    file = tmp_path / "views" / migrations.VIEWS.name
    file.parent.mkdir()
    file.write_text(views, encoding="utf-8")
    monkeypatch.setattr(migrations, "VIEWS", file)
    for metric in (READABLE, SPACES):
        monkeypatch.setitem(METRICS, metric.name, metric)
    caches = (migrations.wanted, migrations.empty, migrations._own_definitions)
    for cached in caches:
        cached.cache_clear()
    yield record(Store(db), begun_twice=[2])
    for cached in caches:
        cached.cache_clear()


def test_a_metric_that_is_added_is_told_everywhere(added, capsys):
    assert main(["show", added, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["arms"][1]["metrics"]["readable_ms"]["p50"] == 504.5
    judged = {(one["metric"], one["verdict"]) for one in told["comparisons"]}
    assert ("readable_ms", "faster") in judged and "spaces" not in dict(judged)
    result = results.read(added)
    text = stats.verdict(next(c for c in result.comparisons if c.metric == "readable_ms"))
    assert text.headline.startswith("Cached is faster: time to a readable answer −600 ms [")
    assert requirements.judge(result, "cached p50 readable_ms < 600").verdict == "pass"
    drawn = pairs(result.pairs, "readable_ms").to_json()
    assert "time to a readable answer" in drawn
    for query in (queries.history, queries.median_trials):
        rows = query(Store(), *([] if query is queries.history else [added]), "readable_ms")
        assert not rows.empty
    assert queries.pairs(Store(), added, "spaces")["difference"].tolist() == [0.0] * 8


@pytest.mark.parametrize("page", ["2_Prompt_caching", "21_History"])
def test_a_metric_that_is_added_can_be_chosen_on_pages(added, page):
    app = AppTest.from_file(str(paths.ROOT / "app.py"), default_timeout=60)
    app.query_params["run"] = added
    app.switch_page(f"pages/{page}.py").run()
    assert not app.exception
    (choice,) = [box for box in app.selectbox if box.label == "Metric"]
    assert READABLE.words in choice.options and SPACES.words in choice.options


def test_a_metric_that_is_not_judged_is_never_faster_or_slower(added):
    result = results.read(added)
    arm = {"technique": "caching", "arm": "cached"}
    for name, metric in METRICS.items():
        comparison = stats.compare_run(result.pairs, result.counts, {"metric": name, **arm})[0]
        assert comparison.metric == name and comparison.planned
        if not metric.judged:
            assert comparison.verdict == "not_enough_data"
            text = stats.verdict(comparison)
            assert text.tone == "unsure" and "faster in" not in text.headline
    cost = stats.compare_run(result.pairs, result.counts, {"metric": "cost_usd", **arm})[0]
    assert cost.estimate == pytest.approx(-0.0006)
    assert stats.verdict(cost).headline == (
        "Not enough data, and more blocks would not help: there is no faster or slower in cost per"
        " trial."
    )
