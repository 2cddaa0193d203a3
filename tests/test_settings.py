"""A run's settings are said once: flags, form, document and limits all say the same."""

import re
from typing import Literal

import pytest
from pydantic import BaseModel, Field, ValidationError
from streamlit.testing.v1 import AppTest

from lab import cli, endpoint_kinds, paths, settings, techniques
from lab.cli import flags
from lab.harness import runner
from lab.ladder.ladder_settings import LadderConfig
from lab.load.load_settings import LoadConfig
from lab.model import LabError, sentence
from lab.settings import BenchmarkConfig, config_of
from lab.watch.watch_settings import WatchConfig
from pages.parts import knob_form

SETTINGS = settings.of(BenchmarkConfig)
OF_A_LOAD = settings.of(LoadConfig)
OF_A_LADDER = settings.of(LadderConfig)
OF_A_WATCH = settings.of(WatchConfig)
ALL = (*SETTINGS.values(), *OF_A_LOAD.values(), *OF_A_LADDER.values(), *OF_A_WATCH.values())
DOCUMENT = paths.ROOT / "docs" / "settings.md"
FORM = {"blocks": "runs", "warmup": "warmup", "seed": "seed", "precision": "target_half_width_ms"}
"""Key of a page's widget -> the setting that it asks for."""


def row(setting: settings.Setting) -> str:
    """A setting as a line of the document's table."""
    flag = setting.flag
    option = f"`{f'{setting.option} {flag.metavar}'.strip()}`" if flag else ""
    cells = [f"`{setting.name}`", option, setting.limits, setting.usual, setting.help]
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') or '—' for cell in cells)} |"


def test_the_promised_name_is_the_one_definition():
    assert runner.BenchmarkConfig is BenchmarkConfig


def test_every_setting_says_what_it_is():
    silent = [setting.name for setting in ALL if not setting.help]
    knobs = [
        f"{technique.slug}.{knob.name}"
        for technique in techniques.all_techniques()
        for knob in settings.of(technique.knobs).values()
        if not knob.help
    ]
    assert silent + knobs == []


def test_the_document_lists_every_setting_as_it_is():
    lines = DOCUMENT.read_text(encoding="utf-8").splitlines()
    rows = [row(setting) for setting in ALL]
    assert [line for line in lines if line.startswith("| `")] == rows


@pytest.mark.parametrize(
    ("command", "known"),
    [
        ("streaming", SETTINGS),
        ("load", OF_A_LOAD),
        ("ladder", OF_A_LADDER),
        ("watch", OF_A_WATCH),
    ],
)
def test_the_commands_flags_are_the_settings(command, known):
    options = cli.commands()[command].parser()._option_string_actions
    for setting in known.values():
        if setting.flag:
            assert setting.help.replace("%", "%%") in options[setting.option].help
            assert setting.limits in options[setting.option].help


def form() -> None:
    import streamlit as st

    from lab import techniques
    from lab.endpoints import registry
    from pages.parts import set_up

    st.query_params["more-options"] = "true"
    set_up.show(techniques.find("streaming"), registry.find("simulated"), opened=True)


def test_the_pages_limits_are_the_commands(db):
    """500 blocks and 10 warm-ups were the page's most where the command took 10,000 and 100."""
    app = AppTest.from_function(form, default_timeout=60)
    app.session_state["more-options"] = True
    app.run()
    assert not app.exception
    fields = {field.key: field for field in app.number_input}
    for key, name in FORM.items():
        setting = SETTINGS[name]
        assert (fields[key].min, fields[key].max) == (setting.low, setting.high)
        assert fields[key].value == setting.default
        assert fields[key].label == setting.title


def test_a_budget_that_nobody_named_is_the_same_everywhere():
    config = config_of(technique="streaming")
    kinds = endpoint_kinds.KINDS.values()
    assert {kind.name: config.budget_usd(kind.name) for kind in kinds} == {
        kind.name: settings.LIVE_MAX_USD if kind.priced else None for kind in kinds
    }
    assert config_of(technique="streaming", max_usd=0).budget_usd("live") == 0
    assert config_of(technique="streaming", max_usd=2).budget_usd("local") == 2


class Sample(BaseModel):
    workers: int = Field(2, ge=1, le=4)
    rate: float | None = Field(None, gt=0)
    name: str = Field("", max_length=3)
    mode: Literal["a", "b"] = "a"
    sizes: tuple[int, ...] = (1, 2)
    extra: dict[str, int] = {}


def test_a_setting_is_read_from_its_field():
    seen = {
        setting.name: (setting.kind, setting.many, setting.optional, setting.limits, setting.usual)
        for setting in settings.of(Sample).values()
    }
    assert seen == {
        "workers": (int, False, False, "1 to 4", "2"),
        "rate": (float, False, True, "", ""),
        "name": (str, False, False, "", ""),
        "mode": (str, False, False, "", "a"),
        "sizes": (int, True, False, "", "1,2"),
        "extra": (dict[str, int], False, False, "", ""),
    }
    assert settings.of(Sample)["mode"].choices == ("a", "b")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"workers": 0}, "workers: 0 should be greater than or equal to 1"),
        ({"rate": "fast"}, "rate: 'fast' should be a valid number"),
        ({"name": "long"}, "name: String should have at most 3 characters"),
        ({"extra": {"x": None}}, "extra.x: None should be a valid integer"),
    ],
)
def test_a_refusal_is_a_sentence(values, words):
    with pytest.raises(ValidationError) as refused:
        Sample(**values)
    assert sentence(refused.value).startswith(words)
    assert "Input" in sentence(refused.value, quoted=False) or "String" in words


def test_a_refusal_calls_the_setting_what_the_user_calls_it():
    values = {"technique": "streaming", "target_half_width_ms": 0}
    reason = "0 should be greater than 0."
    told = {
        config_of: f"target_half_width_ms: {reason}",
        lambda **given: flags.checked(BenchmarkConfig, given): f"--until-precision: {reason}",
        lambda **given: knob_form.checked(
            BenchmarkConfig, given
        ): f"Stop once known to ± ms: {reason}",
    }
    for make, words in told.items():
        with pytest.raises(LabError, match=re.escape(words)):
            make(**values)
