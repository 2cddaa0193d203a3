"""The way through a run: what stands before it, what a press does, what its verdict says first, and
what a page keeps to itself."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
from streamlit.testing.v1 import AppTest

from lab import calibrate, endpoint_kinds, machine, processes, results, settings, stats, techniques
from lab.figures import interval, palette
from lab.model import new_id
from lab.processes import RunCard
from lab.stats import Comparison, Losses, Quality
from lab.store.store import Store
from lab.techniques import all_techniques
from pages.parts import cached_queries, frame, run_panel, views
from tests import recorded_runs
from tests.measured import FAST, measure
from tests.test_pages import chosen_run, opened, well

STREAMING = frame.page_of("streaming").path
PARALLELISM = frame.page_of("parallelism").path
CARD = RunCard("0-0", "aa", pid=1, born=None, since_utc="2026-11-26T10:00:00+00:00")


def card() -> None:
    import streamlit as st

    from pages.parts import verdict_card

    verdict_card.show(st.session_state["run"])


def card_of(monkeypatch, comparison: Comparison, seconds: float | None = None) -> AppTest:
    """The verdict's card of a run with this one comparison, whose blocks took so long."""
    told = stats.verdict(comparison, seconds_per_block=seconds)
    result = SimpleNamespace(
        headlines=[comparison],
        verdicts=[told],
        notes=[],
        block_cost=(None, seconds),
        prediction="",
    )
    monkeypatch.setattr(cached_queries, "judged", lambda run_id: result)
    app = AppTest.from_function(card, default_timeout=60)
    app.session_state["run"] = {
        "run_id": new_id(),
        "technique": "streaming",
        "endpoint": "simulated",
        "endpoint_kind": "simulated",
        "models": {},
        "started_utc": datetime(2026, 11, 26, tzinfo=UTC),
        "status": "finished",
        "settings": {"runs": 6, "config": {"technique": "streaming"}},
        "imported_from": None,
    }
    app.run()
    assert not app.exception
    return app


def compared(**values) -> Comparison:
    """streamed against whole: 500 ms sooner of 1,000 in each of ten blocks, where not said
    otherwise."""
    return Comparison(
        **{
            "metric": "wait_ms",
            "technique": "streaming",
            "arm": "streamed",
            "baseline": "whole",
            "estimate": -500.0,
            "low": -520.0,
            "high": -480.0,
            "ratio": 0.5,
            "n": 10,
            "verdict": "faster",
            "planned": True,
            "p50": 500.0,
            "baseline_p50": 1000.0,
            "favourable": 10,
            **values,
        }
    )


def headline(app: AppTest) -> str:
    return app.markdown[0].value.replace("\\", "").strip("*")


def everything(app: AppTest) -> list[str]:
    texts = [*app.markdown, *app.caption, *app.get("html"), *app.info, *app.warning, *app.error]
    return [str(getattr(text, "value", "") or text.proto.body) for text in texts]


# The verdict


def test_a_doubt_stands_before_its_number_which_is_grey_and_small(monkeypatch):
    doubt = "12 of 12 trials were held up by this machine"
    app = card_of(monkeypatch, compared(doubts=(doubt,), reasons=(doubt,)))
    told = [part.proto.body for part in app.main if part.type in ("html", "markdown")]
    first, answer, number = told[:3]
    assert "lab-doubt" in first and doubt in first
    assert answer.startswith("**")
    assert "lab-number unsure" in number and f"color:{palette.LIGHT.muted}" in number


def test_a_number_that_nothing_spoils_is_large_and_has_no_doubt_above_it(monkeypatch):
    bodies = [text.proto.body for text in card_of(monkeypatch, compared()).get("html")]
    assert "lab-number good" in bodies[0]
    assert not any("lab-doubt" in body for body in bodies)


def test_the_number_and_what_is_drawn_below_it_are_the_headlines_own(monkeypatch):
    told = compared(estimate=-1803.0, low=-2184.0, high=-1609.0)
    assert "−1,800 ms [−2,180, −1,610]" in stats.verdict(told).headline
    app = card_of(monkeypatch, told)
    assert ">−1,800 ms<" in app.get("html")[0].proto.body
    drawn = interval.interval_bar(told.estimate, told.low, told.high)
    assert drawn.layout.meta["alt"] == "−1,800 ms, 95 % interval −2,180 ms to −1,610 ms"


def test_quality_of_nothing_in_both_arms_leaves_the_number_large_and_not_green(monkeypatch):
    nothing = Quality(0.0, 0.0, 0.0, n=10, same=10, shown="not worse", best=0.0)
    app = card_of(monkeypatch, compared(quality=nothing))
    assert "lab-number warn" in app.get("html")[0].proto.body
    told = " ".join(everything(app)).replace("\\", "")
    assert "Quality 0 % in both arms: no answer passed its check" in told


def test_where_an_arm_fails_more_the_card_says_that_first_and_whole(monkeypatch):
    losses = Losses(arm=6)
    app = card_of(monkeypatch, compared(verdict="fails_more", n=6, favourable=6, losses=losses))
    assert headline(app).startswith("Streamed: 6 of 12 failed, whole: none; no time is claimed")
    app = card_of(monkeypatch, compared(verdict="faster_when_it_answers", n=6, losses=losses))
    assert headline(app) == "Streamed: 6 of 12 failed, whole: none; faster when it answers"


def test_more_blocks_say_how_long_they_take(monkeypatch):
    """14 blocks of 3 s."""
    wide = compared(verdict="not_enough_data", needed_blocks=14)
    label = card_of(monkeypatch, wide, seconds=3.0).button(key="more-blocks").label
    assert label.replace("\\", "") == "14 more blocks (≈ 42 s)"


@pytest.mark.parametrize(("blocks", "seconds"), [(2_400, 3.0), (500, 10.0), (1_000_000, None)])
def test_more_blocks_that_nobody_would_wait_for_are_not_offered(monkeypatch, blocks, seconds):
    wide = compared(verdict="not_enough_data", needed_blocks=blocks)
    app = card_of(monkeypatch, wide, seconds)
    assert app.button(key="more-blocks").label.startswith("10 more blocks")
    assert "hardly worth it" in headline(app)


# Before a run


def test_no_field_of_a_form_is_called_as_the_code_calls_it():
    fields = {
        (technique.slug, name): setting
        for technique in all_techniques()
        if technique.slug != "ab"  # its page has widgets of its own
        for name, setting in settings.of(technique.knobs).items()
    }
    assert [key for key, setting in fields.items() if not (setting.title and setting.help)] == []
    cryptic = {"n", "suite", "tier", "part", "breakpoint", "check", "ttl"}
    assert [key for key, field in fields.items() if field.title.lower() in cryptic] == []
    assert "0" in settings.of(techniques.find("caching").knobs)["prefix_tokens"].title


def test_the_form_names_the_arms_that_will_run(db):
    app = opened(STREAMING, endpoint="simulated")
    assert any("**whole** and **streamed** once" in words.value for words in app.caption)


def test_a_knob_stands_only_where_it_changes_something(db):
    app = opened(PARALLELISM, endpoint="simulated")
    assert "Which model answers" not in labels(app) and "Each tool takes, ms" in labels(app)
    app.selectbox(key="suite").set_value("requests").run()
    well(app)
    assert "Which model answers" in labels(app) and "Each tool takes, ms" not in labels(app)
    assert any("**one by one** and **together** once" in words.value for words in app.caption)


def labels(app: AppTest) -> list[str]:
    return [
        field.label.replace("\\", "")
        for field in (*app.selectbox, *app.number_input, *app.toggle, *app.button_group)
    ]


@pytest.mark.parametrize(
    ("processes_now", "words"), [(6.2, "busy: ± 4.00 ms or worse"), (0.3, "quiet: ± 4.00 ms")]
)
def test_a_chip_says_what_this_machine_can_see_now(db, monkeypatch, processes_now, words):
    """Half an interval of 2 ms at 40 blocks is 4 ms at the 10 that are offered."""
    monkeypatch.setattr(machine, "load", lambda: machine.Load(processes_now, 2))
    monkeypatch.setattr(calibrate, "last_calibration", lambda: {"detectable_ms": {"40": 2.0}})
    texts = everything(opened(STREAMING, endpoint="simulated"))
    assert any(words in text for text in texts)
    assert any("wait, or run anyway" in text for text in texts) == (processes_now > 2)


# A press


@pytest.fixture
def pressed(db, monkeypatch) -> Callable[[], tuple[AppTest, list[str]]]:
    """Presses Run on Streaming's page; what happened then, in its order."""
    steps: list[str] = []
    line = run_panel.line

    def drawn(text, *arguments):
        steps.append("progress in view")
        line(text, *arguments)

    monkeypatch.setattr(run_panel, "PATIENCE_S", 0.0)
    monkeypatch.setattr(run_panel, "line", drawn)

    def press() -> tuple[AppTest, list[str]]:
        app = opened(STREAMING, endpoint="simulated")
        app.button(key="run-button").click().run()
        return app, steps

    monkeypatch.setattr(
        processes, "start_run", lambda config: steps.append("worker started") or new_id()
    )
    return press


def test_progress_is_in_view_before_the_worker_is_started(pressed):
    assert pressed()[1] == ["progress in view", "worker started"]


def test_a_refusal_to_start_leaves_one_sentence_and_it_is_gone_at_the_next_look(
    pressed, monkeypatch
):
    def refuse(config):
        raise processes.Busy("Only one run is measured at a time: aa is being measured.")

    monkeypatch.setattr(processes, "start_run", refuse)
    app, _ = pressed()
    assert ["Only one run" in error.value for error in app.error] == [True]
    assert not app.run().error


def test_a_second_press_orders_nothing_more():
    def page():
        import streamlit as st

        from pages.parts import run_panel

        for name in ("first", "second"):
            run_panel.order("streaming", lambda name=name: name)
        st.text(st.session_state["ordered"]["config"]())

    assert AppTest.from_function(page).run().text[0].value == "first"


def test_a_press_on_a_page_drawn_before_another_run_began_orders_nothing(monkeypatch):
    monkeypatch.setattr(processes, "running", lambda: CARD)

    def page():
        import streamlit as st

        from pages.parts import run_panel

        run_panel.order("streaming", lambda: None)
        st.text("ordered" in st.session_state)

    assert AppTest.from_function(page).run().text[0].value == "False"


def test_while_a_run_is_measured_no_page_starts_another_and_each_says_why(db, monkeypatch):
    monkeypatch.setattr(processes, "running", lambda: CARD)
    app = opened(STREAMING, endpoint="simulated")
    run = app.button(key="run-button")
    assert run.disabled and "is being measured" in run.help.replace("\\", "")


def test_while_a_run_is_measured_an_older_one_is_drawn_only_where_its_address_asks(db, monkeypatch):
    """Two findings stood on one page, and drawing the older one slowed the run above it."""
    older = recorded_runs.record(Store(db), blocks=6, technique="streaming")
    card = RunCard("0-0", "streaming", pid=1, born=None, since_utc=CARD.since_utc)

    def has_verdict(**query) -> bool:
        return any('class="lab-number' in words for words in everything(opened(STREAMING, **query)))

    monkeypatch.setattr(processes, "running", lambda: card)
    assert not has_verdict()
    assert has_verdict(run=older)
    monkeypatch.setattr(processes, "running", lambda: None)
    assert has_verdict()


def test_a_run_is_read_again_only_after_something_of_it_was_written(db, monkeypatch):
    """Each write of a run that went on made a page read the run it showed anew, five times over."""
    store, reads = Store(db), []
    run_id = recorded_runs.record(store, blocks=6)
    read = results.read
    monkeypatch.setattr(results, "read", lambda run: reads.append(run) or read(run))

    def page():
        import streamlit as st

        from pages.parts import cached_queries

        st.text(cached_queries.judged(st.session_state["run_id"]).run["name"] or "no name")

    def told() -> str:
        app = AppTest.from_function(page, default_timeout=60)
        app.session_state["run_id"] = run_id
        return app.run().text[0].value

    assert (told(), len(reads)) == ("no name", 1)
    recorded_runs.record(store, blocks=6)
    assert (told(), len(reads)) == ("no name", 1)
    store.rename(run_id, "mine")
    assert (told(), len(reads)) == ("mine", 2)
    other = Store(db.with_name("other.duckdb"))
    store.write_trials(recorded_runs.recorded(other, run_id=run_id, blocks=1))
    assert (told(), len(reads)) == ("mine", 3)


def test_runs_in_lists_are_read_at_once_and_again_only_those_that_were_written_to(db, monkeypatch):
    store, reads = Store(db), []
    runs = [recorded_runs.record(store, blocks=6) for _ in range(3)]
    read_each = results.read_each
    monkeypatch.setattr(results, "read_each", lambda ids: reads.append(ids) or read_each(ids))

    def page():
        import streamlit as st

        from pages.parts import cached_queries

        listed = cached_queries.listed(st.session_state["runs"])
        st.text(", ".join(result.run["name"] or "no name" for result in listed.values()))

    def told() -> str:
        app = AppTest.from_function(page, default_timeout=60)
        app.session_state["runs"] = runs
        return app.run().text[0].value

    assert (told(), reads) == ("no name, no name, no name", [runs])
    store.rename(runs[1], "mine")
    assert (told(), reads) == ("no name, mine, no name", [runs, runs[1:2]])


def test_what_a_page_does_to_an_answer_is_not_in_the_next_one(db):
    """Answers are kept as they are and not copied, since they may be large."""
    run_id = recorded_runs.record(Store(db), blocks=2)

    def page():
        import streamlit as st

        from pages.parts import cached_queries

        names = ("run", "trials")
        run, trials = (cached_queries.ask(name, st.session_state["run"]) for name in names)
        st.text(f"{run['settings']['runs']} {len(trials)} {trials['block'].max()}")
        run["settings"]["runs"], trials["block"] = 99, 99
        trials.loc[0, "arm"] = "another"

    for _ in range(2):
        app = AppTest.from_function(page, default_timeout=60)
        app.session_state["run"] = run_id
        assert app.run().text[0].value == "2 4 2"


def test_the_sidebar_links_to_a_run_by_its_techniques_title(db, monkeypatch):
    titles = {"side-by-side": "Side by side", "aa": "Same thing twice"}
    for technique, title in titles.items():
        card = RunCard("0-0", technique, pid=1, born=None, since_utc=CARD.since_utc)
        monkeypatch.setattr(processes, "running", lambda card=card: card)
        links = [link.proto.label for link in opened("app.py").get("page_link")]
        assert f"{title}: watch or stop" in links


# What a page keeps to itself


@pytest.fixture(scope="module")
def recorded(simulated_server, tmp_path_factory) -> tuple[Path, str]:
    path = tmp_path_factory.mktemp("way") / "lab.duckdb"
    simulated_server.reset()
    simulated_server.knobs(**FAST)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAB_DB", str(path))
        run = asyncio.run(measure(simulated_server, "streaming", runs=1, seed=7))
    return path, run.run_id


@pytest.fixture
def run_id(recorded, monkeypatch) -> str:
    monkeypatch.setenv("LAB_DB", str(recorded[0]))
    return recorded[1]


def model(app: AppTest) -> str:
    return next(field.value for field in app.selectbox if field.label == "Model")


def test_another_endpoint_is_asked_for_a_model_of_its_own(db):
    app = opened(frame.page_of("aa").path, endpoint="local")
    assert model(app) == endpoint_kinds.kind("local").models["small"]
    app.selectbox(key="endpoint").set_value("simulated").run()
    assert model(app) == endpoint_kinds.kind("simulated").models["small"]


def test_a_link_does_not_ask_an_endpoint_for_anothers_model(db):
    app = opened(STREAMING, endpoint="simulated", model_small="smollm2-135m")
    assert model(app) == "simulated-small"


def test_the_url_holds_a_metrics_name_and_not_its_words(run_id):
    app = opened(STREAMING, run=run_id, view="Distribution")
    app.selectbox(key="metric").set_value("total_ms").run()
    assert app.query_params["metric"] in ("total_ms", ["total_ms"])
    app = opened(STREAMING, run=run_id, view="Distribution", metric="total_ms")
    assert app.selectbox(key="metric").value == "total_ms"


def test_a_new_run_is_set_up_at_the_top_above_its_results(run_id):
    app = opened(STREAMING, run=run_id)
    assert "run-button" not in {button.key for button in app.button}
    app.button(key="new-run").click().run()
    well(app)
    keys = [button.key for button in app.button]
    assert keys.index("run-button") < keys.index("more-blocks")
    app.button(key="new-run").click().run()
    assert "run-button" not in {button.key for button in app.button}


def test_a_result_stays_in_view_while_its_run_gets_more_blocks(run_id, monkeypatch):
    card = RunCard(run_id, "streaming", pid=1, born=None, since_utc="2126-01-01T00:00:00+00:00")
    monkeypatch.setattr(processes, "running", lambda: card)
    app = opened(STREAMING, run=run_id)
    more = app.button(key="more-blocks")
    assert more.disabled and "is being measured" in more.help.replace("\\", "")
    assert app.button(key="stop")


def test_a_run_from_another_kind_of_endpoint_says_so_before_its_verdict(run_id):
    app = opened(STREAMING, endpoint="local")
    assert chosen_run(app) == run_id
    assert any("A new one goes to **local**" in words.value for words in app.info)


# A technique of one's own


def test_a_technique_that_cannot_be_loaded_is_told_on_its_page(db, monkeypatch, tmp_path):
    (tmp_path / "my_idea.py").write_text("import nothing_like_it\n")
    monkeypatch.setenv("LAB_TECHNIQUES", str(tmp_path))
    app = opened(frame.SHARED, technique="my-idea")
    assert not app.exception
    (error,) = app.error
    text = error.value.replace("\\", "")
    assert "my-idea" in text and "line 1" in text and "nothing_like_it" in text
    assert any("my-idea: cannot be loaded" in link.proto.label for link in app.get("page_link"))


def test_a_technique_may_name_a_view_that_every_page_has():
    """A technique written when the race was a view of its own got "There is no view 'Race'"."""
    known = techniques.find("streaming")
    asked = dataclasses.replace(known, views=("Race", "Pairs", "Rows"))
    assert list(views.of(asked)) == ["Pairs", "Rows", "Use it in your app"]
