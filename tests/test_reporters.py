"""One result, told four ways."""

import io
import json

import pytest
from rich.console import Console

from lab import results
from lab.harness import reporter
from lab.harness.reporters import chart, console, json_object, markdown
from lab.store.store import Store
from tests.recorded_runs import record


@pytest.fixture
def result(db):
    record(Store(), blocks=8)
    return results.read("last")


def test_the_console_says_the_verdict_before_the_table(result):
    out = io.StringIO()
    reporter.ConsoleReporter(Console(file=out, width=120)).report(result)
    said = out.getvalue()
    assert result.verdicts[0].headline in said
    assert (
        said.index(result.verdicts[0].headline) < said.index("p95") < said.index("uncached: n = 8")
    )
    assert "308 ms (+64)" in said  # p95 needs 72 trials, 8 are there


def test_markdown_is_a_table_that_escapes_bars(result):
    result.run["settings"]["arms"][1]["arm"] = "a|b"
    lines = markdown.markdown(result).splitlines()
    assert "| a\\|b | no finished trial | — | — | — |" in lines


def test_json_is_strict_and_versioned(result, tmp_path):
    path = reporter.JSONReporter(tmp_path).report(result)
    found = json.loads(path.read_text(), parse_constant=lambda word: pytest.fail(word))
    assert found["version"] == json_object.VERSION
    assert found["verdict"]["headline"] == result.verdicts[0].headline


def test_an_arm_without_a_good_trial_is_there_with_nothing(db):
    record(Store(), blocks=1)
    found = results.read("last")
    found.run["settings"]["arms"].append({"technique": "caching", "arm": "pre-warmed"})
    last = json_object.as_object(found)["arms"][-1]
    assert (last["arm"], last["n"], last["metrics"]) == ("pre-warmed", 0, {})


def test_a_sparkline_runs_from_the_least_to_the_greatest():
    assert console.sparkline([0, 7, None, 3.5], 0, 7) == "▁█·▅"


@pytest.mark.browser
def test_charts_become_pictures(result, tmp_path, chromium):
    assert chart.browser() is not None
    folder = chart.ChartReporter(tmp_path).report(result)
    assert (folder / "waterfall.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (folder / "pairs.svg").read_text()
    assert (folder / "plotly.min.js").exists() and 'src="http' not in (
        folder / "waterfall.html"
    ).read_text()
