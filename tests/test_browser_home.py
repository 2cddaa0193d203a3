"""In a real browser: a newcomer's first press, everything as one file, a verdict as a picture."""

import struct

import pytest

from lab.store.store import Store
from tests import dashboards
from tests.recorded_runs import record

pytestmark = pytest.mark.browser
FOLD_PX = 900


@pytest.fixture(scope="module")
def newcomer(tmp_path_factory, browser):
    with dashboards.started(tmp_path_factory.mktemp("new"), browser) as dashboard:
        yield dashboard


@pytest.fixture(scope="module")
def measured(tmp_path_factory, browser):
    """A dashboard over a run on the embedded model and one of no model at all; their ids."""
    folder = tmp_path_factory.mktemp("measured")
    store = Store(folder / "lab.duckdb")
    runs = {kind: record(store, kind=kind) for kind in ("local", "simulated")}
    with dashboards.started(folder, browser) as dashboard:
        yield dashboard, runs


def test_a_newcomers_first_run_buttons_stand_above_the_fold(newcomer):
    """Seven empty rows pushed them below 900 px; the later techniques may be scrolled to."""
    page = newcomer.opened("")
    buttons = page.locator("[class*=st-key-run-] button")
    buttons.last.wait_for()
    ends = [box["y"] + box["height"] for box in (button.bounding_box() for button in buttons.all())]
    assert len(ends) > 6 and sorted(ends)[5] < FOLD_PX


def test_the_first_experiment_begins_from_its_row(newcomer):
    page = newcomer.opened("?endpoint=simulated")
    page.locator(".st-key-run-streaming button").click()
    page.locator(".st-key-run-panel").wait_for()
    assert "Streaming" in page.url
    page.locator(".st-key-verdict").wait_for()


def test_everything_leaves_history_as_one_file(measured, tmp_path):
    dashboard, runs = measured
    page = dashboard.opened("History")
    opener = page.get_by_role("button", name="Download everything")
    assert opener.bounding_box()["y"] < 200
    opener.click()
    page.get_by_role("button", name="Make the file").click()
    with page.expect_download() as download:
        page.get_by_role("button", name="Save lab.duckdb").click()
    file = tmp_path / "theirs.duckdb"
    download.value.save_as(file)
    assert Store(tmp_path / "mine.duckdb").import_from(file).runs == len(runs)


def test_a_verdict_is_saved_as_a_picture(measured, tmp_path):
    dashboard, runs = measured
    page = dashboard.opened(f"Prompt_caching?run={runs['simulated']}&endpoint=simulated")
    page.get_by_role("button", name="Share card").click()
    page.locator(".st-key-share-card .modebar-btn").wait_for(state="attached")
    with page.expect_download() as download:
        page.get_by_role("button", name="Save as PNG").click()
    file = tmp_path / "card.png"
    download.value.save_as(file)
    assert struct.unpack(">II", file.read_bytes()[16:24]) == (2400, 1260)  # 1200 × 630, twice


def test_the_explorers_first_row_is_in_view_on_a_telephone(measured):
    dashboard, _ = measured
    page = dashboard.goto(
        dashboard.browser.new_context(viewport={"width": 420, "height": FOLD_PX}).new_page(),
        "Explorer",
    )
    rows = page.locator("[data-testid=stDataFrame]").first
    rows.wait_for()
    assert rows.bounding_box()["y"] + 60 < FOLD_PX
