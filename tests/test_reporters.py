"""One result, told in several ways, and a reporter of one's own."""

import io
import json
import re
import sys
from html import escape

import pytest
from rich.console import Console

from lab import paths, results
from lab.cli import main
from lab.harness import reporter, reporters
from lab.harness.reporters import console, figure_files, html, json_object, markdown
from lab.store import queries
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


def test_a_pipe_of_eighty_columns_breaks_no_arms_name(result, monkeypatch):
    monkeypatch.setattr(type(result), "name", lambda self, *arm: f"of.two.techniques.{arm[1]}")
    out = io.StringIO()
    reporter.ConsoleReporter(Console(file=out, width=80)).report(result)
    assert re.search(r"^of\.two\.techniques\.uncached .* p?\S+ ms \(\+\d+\)$", out.getvalue(), re.M)


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


def test_help_and_documents_name_every_reporter(capsys):
    documented = (paths.ROOT / "docs" / "reporters.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `(\w+)` \|", documented, re.MULTILINE)) >= set(reporter.REPORTERS)
    with pytest.raises(SystemExit):
        main(["show", "--help"])
    told = " ".join(capsys.readouterr().out.split())
    assert ", ".join(reporter.REPORTERS) in told
    assert all(one.__doc__ for one in reporter.REPORTERS.values())


def test_one_file_makes_a_reporter(db, tmp_path, monkeypatch, capsys):
    record(Store(), blocks=6)
    (tmp_path / "shout.py").write_text(
        "class Shout:\n"
        "    '''the verdict, loudly'''\n"
        "    name = 'shout'\n"
        "    def report(self, result):\n"
        "        print(result.verdicts[0].headline.upper())\n"
    )
    monkeypatch.setattr(reporters, "__path__", [*reporters.__path__, str(tmp_path)])
    monkeypatch.setattr(reporter, "REPORTERS", reporter._in_the_house())
    assert main(["show", "--output", "shout"]) == 0
    assert capsys.readouterr().out.startswith("CACHED IS FASTER")
    with pytest.raises(SystemExit):
        main(["show", "--help"])
    assert "shout" in capsys.readouterr().out


def example() -> str:
    text = (paths.ROOT / "docs" / "reporters.md").read_text(encoding="utf-8")
    return re.search(r"```python\n(.*?)```", text, re.DOTALL)[1]


def test_a_reporter_of_ones_own_is_named_by_module_and_class(db, tmp_path, monkeypatch, capsys):
    run_id = record(Store(), blocks=6)
    (tmp_path / "one_line.py").write_text(example())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert main(["show", "--output", "one_line:OneLine", "--out", "told"]) == 0
    assert capsys.readouterr().out == f"Wrote told/{run_id}.txt\n"
    assert (tmp_path / "told" / f"{run_id}.txt").read_text().startswith("Cached is faster")


def test_an_installed_package_gives_a_reporter_its_name(db, tmp_path, monkeypatch):
    (tmp_path / "their_reporters.py").write_text(example())
    about = tmp_path / "theirs-1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1\n")
    (about / "entry_points.txt").write_text(
        f"[{reporter.GROUP}]\none-line = their_reporters:OneLine\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    assert reporter.find("one-line").__name__ == "OneLine"


@pytest.mark.parametrize(
    "name",
    [
        "nothing",
        "no_such_module:Class",
        "json:Nothing",
        "pathlib:Path",
        "unclosed:Class",
        "wants_more:Teller",
    ],
)
def test_an_output_that_is_none_is_a_sentence_before_anything_is_measured(
    name, db, capsys, tmp_path, monkeypatch
):
    (tmp_path / "unclosed.py").write_text("(")
    (tmp_path / "wants_more.py").write_text(
        "class Teller:\n    def __init__(self, more): ...\n    def report(self, result): ...\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    assert main(["streaming", "--quick", "--endpoint", "simulated", "--output", name]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert queries.runs(Store()).empty


def test_every_telling_has_the_same_figures_of_a_run(result):
    assert list(figure_files.run_figures(result))[:3] == ["waterfall", "distribution", "pairs"]
    titles = [figure.layout.meta["title"] for figure in figure_files.run_figures(result).values()]
    page = html.page(result)
    assert all(escape(title.replace("*", "")) in page for title in titles if title)


def test_a_run_is_named_alike_for_every_command(db, tmp_path, capsys):
    older, newer = record(Store(), blocks=2), record(Store(), blocks=2)
    for words in (["report"], ["show", "--output", "html"]):
        assert main([*words[:1], "last~1", *words[1:], "--out", str(tmp_path / words[0])]) == 0
    assert older in (tmp_path / "report").read_text()
    assert (tmp_path / "show" / f"{older}.html").exists()
    exported = ["export", "--run", "last~1", "--format", "csv", "--out", str(tmp_path / "rows")]
    assert main(exported) == 0
    assert newer not in (tmp_path / "rows" / "runs.csv").read_text()
    capsys.readouterr()


@pytest.mark.browser
def test_charts_become_pictures(result, tmp_path, chromium):
    assert figure_files.browser() is not None
    folder = figure_files.ChartReporter(tmp_path).report(result)
    assert (folder / "waterfall.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (folder / "pairs.svg").read_text()
    assert (folder / "plotly.min.js").exists() and 'src="http' not in (
        folder / "waterfall.html"
    ).read_text()
