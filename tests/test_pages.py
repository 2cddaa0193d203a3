"""Every page, empty and with a real small run: no exception, and the words a reader needs."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from lab import paths, processes
from lab.clock import pause_s
from lab.figures import palette
from lab.harness.plan import BenchmarkConfig
from lab.techniques import all_techniques
from pages.parts import frame

ROOT = Path(__file__).resolve().parent.parent
PAGES = [page.path for page in frame.page_files()]


def opened(path: str, **query: str) -> AppTest:
    app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60).run()
    if path != "app.py":
        app.switch_page(path)
        for name, value in query.items():
            app.query_params[name] = value
        app.run()
    return app


def finish(run_id: str) -> None:
    for _ in range(600):
        if any(entry["kind"] == "ended" for entry in processes.read_progress(run_id)[0]) and processes.running() is None:
            return
        pause_s(0.1)
    raise AssertionError(f"the run {run_id} did not end")


@pytest.fixture(scope="module")
def recorded(tmp_path_factory) -> tuple[Path, dict[str, str]]:
    """One real run of each technique through the worker, against the simulated endpoint: (database, technique -> run id)."""
    path = tmp_path_factory.mktemp("pages") / "lab.duckdb"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAB_DB", str(path))
        runs = {}
        for technique in all_techniques():
            runs[technique.slug] = processes.start_run(
                BenchmarkConfig(technique=technique.slug, endpoint="simulated", runs=1, warmup=0, seed=7, db=str(path))
            )
            finish(runs[technique.slug])
    return path, runs


@pytest.mark.parametrize("path", ["app.py", *PAGES])
def test_an_empty_database_shows_what_to_do_next(db, path):
    app = opened(path)
    assert not app.exception
    assert not app.error


@pytest.mark.parametrize("technique", [technique.slug for technique in all_techniques()])
def test_a_run_shows_its_verdict_and_every_view(recorded, monkeypatch, technique):
    database, runs = recorded
    monkeypatch.setenv("LAB_DB", str(database))
    path = frame.page_of(technique).path
    app = opened(path, run=runs[technique])
    assert not app.exception and not app.error, [error.value for error in app.error]
    assert any("Not enough data" in words.value for words in app.markdown)
    for view in app.button_group(key="view").options:
        app = opened(path, run=runs[technique], view=str(getattr(view, "content", view)))
        assert not app.exception and not app.error, (view, [error.value for error in app.error])


def test_home_has_a_row_for_each_technique_that_ran(recorded, monkeypatch):
    monkeypatch.setenv("LAB_DB", str(recorded[0]))
    app = opened("app.py")
    assert not app.exception and not app.error


def test_every_technique_has_a_page():
    assert [technique.slug for technique in all_techniques() if frame.page_of(technique.slug) is None] == []


def test_a_bad_knob_is_one_sentence(db):
    app = opened("pages/6_Your_requests.py")
    app.text_area(key="body-0").set_value("{not json").run()
    assert ["not JSON" in error.value for error in app.error] == [True]


def test_the_theme_has_the_palettes_colours():
    theme = tomllib.loads((paths.ROOT / ".streamlit" / "config.toml").read_text())["theme"]
    for name, colours in (("light", palette.LIGHT), ("dark", palette.DARK)):
        seen = theme[name]
        assert tuple(seen["chartCategoricalColors"]) == colours.arms
        assert (seen["backgroundColor"], seen["secondaryBackgroundColor"], seen["textColor"]) == (
            colours.ground,
            colours.surface,
            colours.ink,
        )
        assert (seen["greenTextColor"], seen["redTextColor"], seen["orangeTextColor"]) == (colours.good, colours.bad, colours.warn)
