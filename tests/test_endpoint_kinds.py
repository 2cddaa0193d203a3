"""A kind of endpoint is one value: nothing else asks for its name."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from lab import endpoint_kinds
from lab.cli import main
from lab.endpoint_kinds import KINDS, Kind
from lab.store import importing
from lab.store.store import Store
from tests.recorded_runs import record

ROOT = Path(__file__).resolve().parent.parent
OBSERVED = Kind(
    "watched",
    "watched: what an application did by itself",
    caveat="watched: not measured by trials",
    document_tokens=10,
)


@pytest.fixture
def watched(monkeypatch, tmp_path):
    """One more kind, added as a stranger would: one value."""
    monkeypatch.setitem(KINDS, OBSERVED.name, OBSERVED)
    monkeypatch.setenv("LAB_DB", str(tmp_path / "lab.duckdb"))
    return record(Store(), kind=OBSERVED.name)


def test_a_further_kind_is_told_by_every_reporter(watched, capsys):
    assert main(["show", watched]) == 0
    assert "watched" in capsys.readouterr().out
    assert main(["show", watched, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["endpoint_kind"] == "watched"
    assert main(["check", watched, "--require", "cached faster than uncached"]) == 0


def test_a_further_kind_stands_in_the_report_with_its_caveat(watched, tmp_path):
    file = tmp_path / "run.html"
    assert main(["report", watched, "--out", str(file)]) == 0
    assert OBSERVED.caveat in file.read_text()


def test_an_import_takes_the_kinds_that_there_are():
    assert importing.WORDS["runs", "endpoint_kind"] == tuple(KINDS)


@pytest.mark.parametrize("page", ["app.py", "pages/21_History.py", "pages/20_Side_by_side.py"])
def test_a_further_kind_is_on_the_pages(watched, page):
    app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60)
    app = (app if page == "app.py" else app.switch_page(page)).run()
    assert not app.exception and not app.error


def test_an_unknown_kind_keeps_its_name_and_costs_nothing():
    kind = endpoint_kinds.kind("from-a-newer-lab")
    assert kind.name == "from-a-newer-lab" and not kind.priced and not kind.own_server


def test_no_other_file_names_a_kind():
    """The names of endpoints of the lab's own are the kinds' too, and come from there."""
    shared = [
        path
        for folder in ("lab", "pages")
        for path in (ROOT / folder).rglob("*.py")
        if path.name != "endpoint_kinds.py" and "techniques" not in path.parts
    ]
    literals = {
        f"{path.relative_to(ROOT)}:{node.lineno} {node.value}"
        for path in shared
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and node.value in KINDS
    }
    assert literals == set()
