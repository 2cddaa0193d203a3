"""Every page, empty and with a real small run: no exception, and the words a reader needs."""

from __future__ import annotations

import asyncio
import tomllib
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import streamlit
from streamlit.testing.v1 import AppTest

from lab import paths, processes
from lab.clock import pause_s
from lab.figures import palette
from lab.model import new_id
from lab.store import queries
from lab.store.store import Store
from lab.techniques import all_techniques, find
from pages.parts import frame, run_panel
from pages.parts.answer_headers import Headed
from tests.measured import FAST, measure

ROOT = Path(__file__).resolve().parent.parent
PAGES = [page.path for page in frame.page_files()]


def opened(path: str, **query: str) -> AppTest:
    """A page as its URL opens it: app.py is not run first."""
    app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60)
    for name, value in query.items():
        app.query_params[name] = value
    return (app if path == "app.py" else app.switch_page(path)).run()


def chosen_run(app: AppTest) -> str:
    held = app.query_params["run"]
    return held if isinstance(held, str) else held[0]


def well(app: AppTest) -> None:
    assert not app.exception and not app.error, [
        (error.value, getattr(error, "stack_trace", "")) for error in (*app.exception, *app.error)
    ]


@pytest.fixture(scope="module")
def measured(simulated_server, tmp_path_factory) -> tuple[Path, Callable[[str], str]]:
    """A database, and the run id of a technique: one real block through harness, wire and store,
    measured when it is first asked for."""
    path = tmp_path_factory.mktemp("pages") / "lab.duckdb"

    @cache
    def run_of(slug: str) -> str:
        simulated_server.reset()
        simulated_server.knobs(**FAST)
        given = {"service_ms": 20} if "service_ms" in find(slug).knobs.model_fields else {}
        return asyncio.run(measure(simulated_server, slug, runs=1, seed=7, knobs=given)).run_id

    return path, run_of


@pytest.fixture
def stored(measured, monkeypatch) -> Callable[[str], str]:
    """The runs, their database in use."""
    monkeypatch.setenv("LAB_DB", str(measured[0]))
    return measured[1]


@pytest.mark.parametrize("path", ["app.py", *PAGES])
def test_an_empty_database_shows_what_to_do_next(db, path):
    app = opened(path)
    well(app)
    assert not app.get("download_button")
    assert app.info or path not in ("pages/21_History.py", "pages/22_Explorer.py")


@pytest.mark.parametrize("technique", [technique.slug for technique in all_techniques()])
def test_a_run_shows_its_verdict_and_every_view(stored, technique):
    app = opened(frame.page_of(technique).path, run=stored(technique))
    well(app)
    assert any("Not enough data" in words.value for words in app.markdown)
    for view in app.button_group(key="view").options[1:]:
        well(app.button_group(key="view").set_value(str(getattr(view, "content", view))).run())
    assert chosen_run(app) == stored(technique)


def test_home_has_a_row_for_each_technique_that_ran(stored):
    for technique in all_techniques():
        stored(technique.slug)
    app = opened("app.py")
    well(app)
    assert [button.key for button in app.button if button.key.startswith("run-")] == []


def test_a_page_says_where_its_run_was_measured_and_where_a_new_one_goes(stored):
    stored("streaming")
    app = opened(frame.page_of("streaming").path, endpoint="local")
    assert any("A new one goes to **local**" in words.value for words in app.info)


def test_home_sends_nothing_to_an_address_that_it_does_not_show(db, monkeypatch):
    asked = []
    monkeypatch.setattr(run_panel, "PATIENCE_S", 0.0)
    monkeypatch.setattr(
        processes, "start_run", lambda config: asked.append(config.endpoint) or new_id()
    )
    opened("app.py", endpoint="https://elsewhere.example").button(key="run-streaming").click().run()
    opened("app.py", endpoint="simulated").button(key="run-streaming").click().run()
    assert asked == ["local", "simulated"]


def test_another_endpoint_lets_go_of_the_run_in_the_url(stored):
    app = opened(frame.page_of("streaming").path, run=stored("streaming"), arm="whole")
    app.selectbox(key="endpoint").set_value("simulated").run()
    assert "arm" not in app.query_params


def test_without_a_key_trying_on_claude_says_how_to_set_one(stored):
    app = opened(frame.page_of("streaming").path)
    assert any("ANTHROPIC_API_KEY" in words.value for words in app.markdown)


def test_with_a_key_trying_on_claude_starts_a_run_there(stored, simulated, tmp_path, monkeypatch):
    given = {
        "LAB_IGNORE_KEYS": "",
        "ANTHROPIC_API_KEY": simulated.api_key,
        "ANTHROPIC_BASE_URL": simulated.base_url,
    }
    for name, value in {
        **given,
        "LAB_SECRETS": str(tmp_path / "none.toml"),
        "LAB_DB": str(tmp_path / "lab.duckdb"),
    }.items():
        monkeypatch.setenv(name, value)
    asyncio.run(measure(simulated, "streaming", runs=1))
    app = opened(frame.page_of("streaming").path, endpoint="simulated")
    before = chosen_run(app)
    app.button(key="try-live").click().run()
    well(app)
    run_id = chosen_run(app)
    assert run_id != before and app.session_state["endpoint"] == "anthropic"
    processes.stop(run_id)
    while processes.running():
        pause_s(0.05)
    assert queries.run(Store(), run_id)["endpoint"] == "anthropic"


def test_a_run_that_goes_on_is_watched_anew(monkeypatch):
    def panel():
        from pages.parts import run_panel

        run_panel.show("0-0", "wait_ms", ["whole", "streamed"])

    app = AppTest.from_function(panel, default_timeout=60)
    for pid, kinds in ((1, ("started", "ended")), (2, ("started",))):
        card = processes.RunCard("0-0", "streaming", pid=pid, born=None, since_utc="")
        monkeypatch.setattr(processes, "running", lambda card=card: card)
        processes.start_afresh("0-0")
        for kind in kinds:
            processes.add_progress("0-0", {"kind": kind, "arms": ["whole", "streamed"], "total": 9})
        well(app.run())
        stop = app.button(key="stop")
        assert (stop.label, stop.disabled) == ("Stop", False)
        processes.stop("0-0")  # a press draws the fragment alone, which an AppTest cannot
        well(app.run())
        assert app.button(key="stop").disabled


def test_a_run_is_shared_as_one_file(stored):
    app = opened(frame.page_of("streaming").path, run=stored("streaming"))
    assert {"report", "save-distribution"} <= {button.key for button in app.get("download_button")}


def test_every_technique_has_a_page():
    assert [
        technique.slug for technique in all_techniques() if frame.page_of(technique.slug) is None
    ] == []


def test_a_bad_knob_is_one_sentence(db):
    app = opened("pages/6_Your_requests.py")
    app.text_area(key="body-0").set_value("{not json").run()
    assert ["line 1, column 2" in error.value for error in app.error] == [True]


def test_an_open_page_leaves_the_processor_to_what_is_measured():
    """With both on, one page that shows a run's progress takes 80 % of a core."""
    config = tomllib.loads((paths.ROOT / ".streamlit" / "config.toml").read_text())
    assert config["server"]["fileWatcherType"] == "none"
    assert config["runner"]["postScriptGC"] is False


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
        assert (seen["greenTextColor"], seen["redTextColor"], seen["orangeTextColor"]) == (
            colours.good,
            colours.bad,
            colours.warn,
        )


async def test_the_code_of_charts_is_fetched_with_the_page_and_with_nothing_else():
    async def app(scope, receive, send):
        headers = [(b"content-type", scope["kind"])]
        await send({"type": "http.response.start", "status": 200, "headers": headers})

    links = {}
    for kind in (b"text/html; charset=utf-8", b"application/json"):
        sent = []

        async def send(message, sent=sent):
            sent.append(message)

        await Headed(app)({"type": "http", "kind": kind}, None, send)
        links[kind] = [value for name, value in sent[0]["headers"] if name == b"link"]
    ((link,), none) = links.values()
    path = link.decode().partition("<")[2].partition(">")[0]
    code = Path(streamlit.__file__).parent / "static" / path.lstrip("/")
    assert none == [] and code.is_file() and link.endswith(b"rel=modulepreload")
