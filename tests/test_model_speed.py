"""Models, fast mode and service tiers as arms; and what was served otherwise than asked is said."""

import json

import pandas as pd
import pytest

from lab import results, techniques
from lab.endpoints import registry
from lab.harness import plan
from lab.harness.estimate import estimate
from lab.settings import config_of
from lab.techniques.models import figures, findings
from lab.view_parts import Note, RunData
from tests.measured import FAST, measure

TECHNIQUE = techniques.find("model-speed")
LARGE, SMALL = "simulated-large", "simulated-small"


def drawn(found, place: int):
    result = results.read(found.run_id, found.store)
    data = RunData(TECHNIQUE, result.run, result.ask, result.finding)
    return techniques.draw(data, TECHNIQUE.views[place])


def notes(parts) -> list[str]:
    return [part.text for part in parts if isinstance(part, Note)]


def named(*values, **more):
    return [arm.name for arm in TECHNIQUE.arms_for(TECHNIQUE.knobs(*values, **more))]


def test_arms_are_the_endpoints_two_or_the_models_named_and_each_in_fast_mode_where_asked():
    assert named() == ["large model", "small model"]
    assert named(fast=["large"], standard_only=True) == [
        "large model",
        "small model",
        "large model, fast",
        "large model, standard tier",
    ]
    assert named(models=["opus", "sonnet"], fast=["opus"]) == ["opus", "sonnet", "opus, fast"]
    with pytest.raises(ValueError, match="twice"):
        TECHNIQUE.knobs(models=["opus", "opus"])
    with pytest.raises(ValueError, match="at most 8"):
        TECHNIQUE.knobs(models=list("abcdefghi"))


async def test_each_arm_asks_for_its_own_model_speed_and_tier(simulated, db):
    simulated.knobs(**FAST)
    knobs = {"models": [LARGE, SMALL], "fast": [SMALL], "standard_only": True}
    found = await measure(simulated, "model-speed", runs=1, knobs=knobs)
    asked = dict(zip(found.calls["arm"], found.calls["asked"], strict=True))
    assert {arm: json.loads(said) for arm, said in asked.items()} == {
        LARGE: {"model": LARGE},
        SMALL: {"model": SMALL},
        f"{SMALL}, fast": {"model": SMALL, "speed": "fast"},
        f"{LARGE}, standard tier": {"model": LARGE, "service_tier": "standard_only"},
    }
    assert set(found.trials["outcome"]) == {"ok"}


async def test_fast_mode_writes_sooner_and_starts_no_sooner(simulated, db):
    """20 pieces, 10 ms apart, in fast mode 4 ms; the first after 10 ms in both."""
    simulated.knobs(**{**FAST, "gap_ms": 10, "answer_tokens": 20}, prefill_ms_per_token=0)
    found = await measure(simulated, "model-speed", runs=3, knobs={"fast": ["large"]})
    by_arm = found.trials.groupby("arm")[["ttft_ms", "total_ms"]].min()
    fast, plain = by_arm.loc["large model, fast"], by_arm.loc["large model"]
    assert fast["ttft_ms"] >= 10 and plain["ttft_ms"] >= 10
    assert fast["total_ms"] < 0.6 * plain["total_ms"]
    (said,) = [text for text in notes(drawn(found, 0)) if "At the medians" in text]
    assert said.startswith("At the medians large model, fast writes 2")
    assert "about starting" not in said, "two medians without an interval conclude nothing"


async def test_a_silent_fallback_of_speed_is_left_out_and_said_with_its_count(simulated, db):
    """Half of the requests for fast are served at standard speed; which of them, the seed draws."""
    simulated.knobs(**FAST, serve_speed="standard", serve_rate=0.5)
    arms, knobs = ["large model", "large model, fast"], {"fast": ["large"]}
    found = await measure(simulated, "model-speed", runs=6, arms=arms, knobs=knobs)
    fast = found.arm("large model, fast")
    otherwise = found.calls[(found.calls["arm"] == "large model, fast")]["speed"] == "standard"
    left_out = (fast["outcome"] == "mismatch").sum()
    assert left_out == otherwise.sum() > 0 and (found.arm("large model")["outcome"] == "ok").all()
    words = f"{left_out} of {len(fast)} trials of large model, fast"
    for place in (0, 1):
        assert any(text.startswith(words) for text in notes(drawn(found, place)))
    table = drawn(found, 1)[1].rows.set_index("arm").loc["large model, fast"]
    assert table["left_out"] == left_out and "asked fast, served standard" in table["why"]


async def test_another_model_in_the_place_of_the_one_asked_is_named(simulated, db):
    simulated.knobs(**FAST, models={LARGE: {"serve_model": SMALL}})
    found = await measure(simulated, "model-speed", runs=2)
    assert (found.arm("large model")["outcome"] == "mismatch").all()
    result = results.read(found.run_id, found.store)
    assert f"asked {LARGE}, served {SMALL}" in str(result.counts["left_out_because"].tolist())
    served = findings.served(found.trials, found.calls).set_index("arm")
    assert served.loc["large model", ["asked", "served", "left_out"]].tolist() == [LARGE, SMALL, 2]
    assert served.loc["small model", ["served", "left_out"]].tolist() == [SMALL, 0]


def test_fast_is_no_arm_of_an_endpoint_that_has_none():
    """The embedded model writes at one speed."""
    config = config_of(technique="model-speed", endpoint="local", knobs={"fast": ["small"]})
    expected = estimate(config)
    plain = estimate(config.model_copy(update={"knobs": {}}))
    assert not expected.refusals and expected.calls == plain.calls
    named_arm = config.model_copy(update={"arms": ["large model", "small model, fast"]})
    assert estimate(named_arm).refusals[0] == (
        "local cannot do fast of the small model, which Model and speed is about; simulated can."
    )


def test_fast_is_an_arm_of_each_model_that_has_it_and_of_no_other():
    """Opus is fast and Haiku is not: it would answer the small model's fast arm with 400."""
    models = {"large": "claude-opus-5-5", "small": "claude-haiku-5-5"}
    endpoint = registry.Endpoint("live", "live", "https://api.anthropic.com", "k", models)
    able = plan.abilities(endpoint)
    knobs = TECHNIQUE.knobs(fast=["large", "small"])
    names = [arm.name for arm in TECHNIQUE.arms_for(knobs, able)]
    assert names == ["large model", "small model", "large model, fast"]
    caching = techniques.find("caching")
    broken = {arm.name for arm in caching.arms_for(caching.knobs(break_it=True))}
    played = {arm.name for arm in caching.arms_for(caching.knobs(break_it=True), able)}
    assert broken - played == {"another speed"}, "it goes to the small model"


def test_fast_mode_is_expected_at_its_own_price():
    """Twice the price: of two equal models an arm each, one fast, the run likely costs 3 parts."""
    opus = "claude-opus-5-5"
    endpoint = registry.Endpoint("live", "live", "https://api.anthropic.com", "k", {"large": opus})
    likely = [
        estimate(
            config_of(technique="model-speed", endpoint="live", knobs=knobs, runs=6, max_usd=99),
            endpoint,
        ).likely_usd
        for knobs in ({"models": [opus], "standard_only": True}, {"models": [opus], "fast": [opus]})
    ]
    assert likely[1] / likely[0] == pytest.approx(3 / 2, rel=0.01)


def test_each_reason_is_said_with_its_own_count():
    reasons = ["asked a, served b", None, "asked fast, served standard", "asked a, served b"]
    trials = pd.DataFrame({"phase": "measured", "superseded": False, "error_text": reasons})
    trials["arm"], trials["outcome"] = "fast", ["mismatch", "ok", "mismatch", "mismatch"]
    data = RunData(TECHNIQUE, {"run_id": "r"}, lambda *_: trials, None)
    assert figures._left_out(data) == [
        "2 of 4 trials of fast were left out: asked a, served b.",
        "1 of 4 trials of fast was left out: asked fast, served standard.",
    ]


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ([("m", True)], "Every answer was served as it was asked."),
        ([("m", False)], "Not confirmed by the endpoint: speed fast."),
        ([(None, False)], "Not confirmed by the endpoint: model m, speed fast."),
        ([], "No call was answered"),
    ],
)
def test_served_as_asked_is_said_only_where_the_answers_name_what_was_asked(answers, words):
    """Each answer: the model that it names, and whether it names its speed."""
    columns = ["asked", "served_model", "says_speed", "says_tier", "thought"]
    asked = json.dumps({"model": "m", "speed": "fast"})
    rows = [(asked, model, says_speed, False, False) for model, says_speed in answers]
    reports = pd.DataFrame(rows, columns=columns)
    run = {"run_id": "r", "endpoint": "e", "endpoint_kind": "live"}
    data = RunData(TECHNIQUE, run, lambda *_: reports, None)
    assert figures._as_asked(data).startswith(words)


def test_answers_that_differ_are_counted_and_silence_is_said():
    assert findings.counts(pd.Series(["fast", "fast"])) == "fast"
    assert findings.counts(pd.Series(["fast", "standard", "fast"])) == "fast (2), standard (1)"
    assert findings.counts(pd.Series([None, None])) == "not said"


def test_what_fast_mode_gains_is_counted_after_the_first_token():
    """30 tokens in 300 ms against 30 in 750 ms after the first: 2.5 times, at twice the price."""
    rows = [("m", 100.0, 850.0, 30, 0.01), ("m, fast", 100.0, 400.0, 30, 0.02)]
    columns = ["arm", "ttft_ms", "total_ms", "output_tokens", "cost_usd"]
    found = pd.DataFrame(rows, columns=columns)
    both = findings.beside_standard(found, "m, fast", "m")
    assert both == {"rate": 2.5, "ttft_ms": 100.0, "standard_ttft_ms": 100.0, "price": 2.0}
    assert findings.beside_standard(found, "n, fast", "n") is None
