"""Prices by day, by length of the prompt and by what the cache did; all figures are worked out by
hand."""

from datetime import date

import pytest

from lab import pricing
from lab.model import LabError
from lab.recording import cache_rules

AUTUMN = date(2026, 11, 24)
MILLION = 1_000_000


def test_a_million_fresh_tokens_in_and_out_cost_what_the_list_says():
    assert pricing.cost_usd(
        "claude-sonnet-5-5", {"input_tokens": MILLION, "output_tokens": MILLION}, AUTUMN
    ) == pytest.approx(2 + 10)


def test_sonnet_reads_its_cache_for_half_since_the_seventh_of_october():
    usage = {"cache_read_input_tokens": MILLION}
    assert pricing.cost_usd("claude-sonnet-5-5", usage, date(2026, 10, 6)) == pytest.approx(0.20)
    assert pricing.cost_usd("claude-sonnet-5-5", usage, date(2026, 10, 7)) == pytest.approx(0.10)


def test_a_long_prompt_reprices_every_token_of_haiku():
    """100,000 tokens of prompt are still short; one more, wherever it was read from, makes all of
    them five times as dear."""
    short = {"input_tokens": 50_000, "cache_read_input_tokens": 50_000, "output_tokens": 1000}
    long = {**short, "cache_creation_input_tokens": 1}
    assert pricing.cost_usd("claude-haiku-5-5", short, AUTUMN) == pytest.approx(
        0.005 + 0.0005 + 0.0005
    )
    assert pricing.cost_usd("claude-haiku-5-5", long, AUTUMN) == pytest.approx(
        0.025 + 0.0025 + 0.0025 + 0.625e-6
    )


def test_an_hour_of_cache_is_dearer_to_write_than_five_minutes():
    split = {"ephemeral_5m_input_tokens": MILLION, "ephemeral_1h_input_tokens": MILLION}
    usage = {"cache_creation_input_tokens": 2 * MILLION, "cache_creation": split}
    assert pricing.cost_usd("claude-sonnet-5", usage, AUTUMN) == pytest.approx(2.50 + 4.00)
    assert pricing.cost_usd(
        "claude-sonnet-5", {"cache_creation_input_tokens": MILLION}, AUTUMN
    ) == pytest.approx(2.50)


def test_batch_halves_fast_doubles_and_the_us_adds_a_tenth():
    usage = {"input_tokens": MILLION}
    assert pricing.cost_usd(
        "claude-opus-5", {**usage, "service_tier": "batch"}, AUTUMN
    ) == pytest.approx(2.50)
    assert pricing.cost_usd("claude-opus-5", {**usage, "speed": "fast"}, AUTUMN) == pytest.approx(
        10
    )
    assert pricing.cost_usd(
        "claude-opus-5", {**usage, "inference_geo": "us"}, AUTUMN
    ) == pytest.approx(5.5)
    assert pricing.cost_usd("claude-sonnet-5", {**usage, "speed": "fast"}, AUTUMN) is None


def test_a_model_without_a_price_has_no_cost_and_the_lab_says_so():
    assert pricing.cost_usd("smollm2-135m", {"input_tokens": 5}, AUTUMN) is None
    assert "smollm2-135m" in pricing.remark(["smollm2-135m"], AUTUMN)
    assert pricing.price("claude-haiku-5-5", date(2026, 10, 6)) is None


def test_an_unverified_price_is_called_so():
    assert "unverified" in pricing.remark(["claude-fable-5-2"], AUTUMN)
    assert pricing.remark(["claude-haiku-5-5"], AUTUMN) is None


def test_a_dated_model_name_has_the_price_of_its_family():
    assert pricing.price("claude-haiku-4-5-20251001", AUTUMN).input == 1.0


@pytest.mark.parametrize(
    ("name", "usd"),
    [
        ("global.anthropic.claude-haiku-4-5-20251001-v1:0", 1.0),
        ("us.anthropic.claude-haiku-4-5-20251001-v1:0", None),
        ("anthropic.claude-haiku-4-5-20251001-v1:0", None),
        ("claude-haiku-4-5@20251001", None),
        ("publishers/anthropic/models/claude-haiku-4-5@20251001", None),
        ("anthropic/claude-haiku-4-5", None),
    ],
)
def test_a_model_bought_elsewhere_is_known_and_its_price_is_not_guessed(name, usd):
    """Bedrock and Google ask a tenth more in some regions, and their names do not say where."""
    usage = {"input_tokens": MILLION}
    assert pricing.family(name) == "claude-haiku-4-5"
    assert cache_rules.minimum(name, "live") == 4096
    assert pricing.cost_usd(name, usage, AUTUMN) == usd
    served = pricing.priced_as(name, "claude-haiku-4-5-20251001", AUTUMN)
    is_sold_by_anthropic = usd or name == "anthropic/claude-haiku-4-5"
    assert pricing.cost_usd(served, usage, AUTUMN) == (1.0 if is_sold_by_anthropic else None)


@pytest.mark.parametrize("own", ["claude-haiku-4-5-20251001", "claude-haiku-5-5"])
def test_a_sampling_of_a_call_that_was_bought_elsewhere_is_not_priced_by_the_list(own):
    sampling = {"type": "message", "model": own, "input_tokens": MILLION}
    usage = {"input_tokens": MILLION, "iterations": [sampling]}
    regional, everywhere = (f"{area}.anthropic.claude-haiku-4-5-v1:0" for area in ("us", "global"))
    assert pricing.cost_usd(regional, usage, AUTUMN) is None
    dearest = pricing.ceiling_usd("claude-next", {"input_tokens": MILLION}, AUTUMN)
    assert pricing.ceiling_usd(regional, usage, AUTUMN) == dearest
    by_list = pricing.cost_usd(own, {"input_tokens": MILLION}, AUTUMN)
    assert pricing.cost_usd(everywhere, usage, AUTUMN) == by_list


def test_a_sampling_is_priced_by_the_users_own_row_for_the_name_that_was_asked(
    tmp_path, monkeypatch
):
    regional = "us.anthropic.claude-haiku-4-5-v1:0"
    row = f"[[prices]]\nmodel = '{regional}'\nfrom = 2020-01-01\ninput = 1.1\noutput = 5.5"
    (tmp_path / "mine.toml").write_text(f"{row}\nwrite_5m = 1.4\nwrite_1h = 2.2\nread = 0.11\n")
    monkeypatch.setenv("LAB_PRICES", str(tmp_path / "mine.toml"))
    sampling = {"type": "message", "model": "claude-haiku-4-5", "input_tokens": MILLION}
    assert pricing.cost_usd(regional, {"iterations": [sampling]}, AUTUMN) == 1.1


def test_the_simulated_model_has_a_price_only_when_the_user_sets_one(tmp_path, monkeypatch):
    assert pricing.price("simulated-small", AUTUMN) is None
    rows = (
        "[[prices]]\nmodel = 'simulated-small'\nfrom = 2020-01-01\ninput = 1\noutput = 2\nwrite_5m"
        " = 1.25\nwrite_1h = 2\nread = 0.1\n"
    )
    (tmp_path / "mine.toml").write_text(rows)
    monkeypatch.setenv("LAB_PRICES", str(tmp_path / "mine.toml"))
    assert pricing.cost_usd("simulated-small", {"output_tokens": MILLION}, AUTUMN) == pytest.approx(
        2
    )


def test_a_budget_counts_a_model_without_a_price_at_the_dearest_listed_one():
    dearest = max(row.output for row in pricing.prices() if not row.above)
    assert pricing.ceiling_usd("claude-next", {"output_tokens": MILLION}, AUTUMN) >= dearest
    assert pricing.cost_usd("claude-next", {"output_tokens": MILLION}, AUTUMN) is None


@pytest.mark.parametrize("model", ["claude-opus-4-8", "claude-sonnet-5"])
def test_a_budget_counts_a_fast_mode_without_a_price_at_the_dearest_one(model):
    """No list has it: $16 and $80 a million are the dearest, Fable's."""
    million = {"input_tokens": MILLION, "output_tokens": MILLION}
    fast = million | {"speed": "fast"}
    assert pricing.cost_usd(model, fast, AUTUMN) is None
    assert pricing.ceiling_usd(model, fast, AUTUMN) == pytest.approx(16 + 80)
    assert pricing.cost_usd("claude-fable-5-2", fast, AUTUMN) == pytest.approx(16 + 80)


def test_a_price_file_that_is_wrong_is_named(tmp_path, monkeypatch):
    (tmp_path / "mine.toml").write_text("[[prices]]\nmodel = 'm'\n")
    monkeypatch.setenv("LAB_PRICES", str(tmp_path / "mine.toml"))
    with pytest.raises(LabError, match=r"mine\.toml"):
        pricing.prices()


def test_every_row_says_where_it_comes_from_and_when_it_was_read():
    assert all(row.source and row.read_on for row in pricing.prices())
