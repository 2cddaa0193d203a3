"""Over how many uses of a prefix a cache pays: priced in dollars, summed from measured waits."""

from __future__ import annotations

import pandas as pd
import pytest

from lab import techniques
from lab.figures import layout
from lab.results import read
from lab.store import queries
from lab.techniques.caching import break_even, findings
from lab.view_parts import RunData, Slider
from tests.measured import FAST, measure


def test_sums_of_one_write_and_reads_against_whole_prices():
    """Sonnet's ratios: 10 a use without a cache; 12.5 for the write, then 1 a read."""
    cost = findings.over_uses(10, 12.5, 1, 3)
    assert cost == ([10, 20, 30], [12.5, 13.5, 14.5])
    assert cost.ahead_from == findings.break_even_uses(10, 12.5, 1) == 2


def test_an_entry_of_an_hour_is_ahead_a_use_later():
    """A write at twice the price: 20, 21, 22 against 10, 20, 30."""
    assert findings.over_uses(10, 20, 1, 3).ahead_from == 3
    assert findings.over_uses(10, 20, 1, 2).ahead_from is None
    assert findings.over_uses(10, 10, 10, 3).ahead_from is None


def calls(*rows: tuple) -> pd.DataFrame:
    names = ["arm", "role", "observed_cache", "ttft_ms", "cache_read_tokens"]
    return pd.DataFrame(rows, columns=names).assign(error_kind=None)


ROWS = [
    ("uncached", "answer", "none", 900.0, 0),
    ("cached", "prime", "write", 950.0, 0),
    ("cached", "answer", "read", 300.0, 600),
    ("cached", "answer", "read", 320.0, 600),
]


def test_waits_are_the_medians_of_those_who_wrote_read_and_did_neither():
    seen = findings.uses_seen(calls(*ROWS), "uncached", "cached")
    assert seen == (900.0, 950.0, 310.0, 600.0, 1, 1, 2)
    with_first = calls(*ROWS, ("first use", "answer", "write", 1000.0, 0))
    assert findings.uses_seen(with_first, "uncached", "cached").write_ms == 1000.0
    assert findings.uses_seen(calls(*ROWS[:2]), "uncached", "cached") is None


@pytest.mark.parametrize(
    ("number", "words"), [(1, "first"), (2, "second"), (4, "4th"), (11, "11th"), (22, "22nd")]
)
def test_a_use_is_counted_in_words(number, words):
    assert break_even.ordinal(number) == words


def test_a_prefix_beyond_a_tier_costs_what_its_tier_says():
    """Haiku: $0.10 a million in, beyond 100,000 tokens of prompt $0.50."""
    run = {"started_utc": pd.Timestamp("2026-11-24"), "models": {"small": "claude-haiku-5-5"}}
    technique = techniques.find("caching")
    run["settings"] = {"knobs": technique.knobs().model_dump()}
    data = RunData(technique, run, None, None)
    short, long = (break_even.prices(data, tokens) for tokens in (100_000, 100_001))
    assert [short[1:4], long[1:4]] == [(0.10, 0.125, 0.01), (0.50, 0.625, 0.05)]


async def test_the_page_draws_both_over_as_many_uses_as_the_reader_sets(simulated, db):
    simulated.knobs(**FAST, prefill_ms_per_token=0.1)
    run = await measure(simulated, "caching", runs=1)
    result = read(run.run_id)

    def ask(name, *values, **named):
        return getattr(queries, name)(run.store, *values, **named)

    technique = techniques.find("caching")
    data = RunData(technique, result.run, ask, result.finding, "claude-sonnet-5-5")
    slider, sources = break_even.view(data, dark=False)
    assert isinstance(slider, Slider) and (slider.low, slider.value) == (2, 10)
    assert "priced, not measured" in sources.text and "calls: 1 without a cache" in sources.text
    for uses in (2, 30):
        cost, wait = slider.draw(uses)
        for figure in (cost, wait):
            assert [len(line.x) for line in figure.data[:2]] == [uses, uses]
        assert list(cost.data[2].x) == [2]
    assert cost.layout.meta["title"] == (
        "At the price of claude-sonnet-5-5, a prefix that is cached for five minutes costs less "
        "from its second use on"
    )


async def test_no_sum_of_waits_claims_what_the_verdict_refuses(simulated, db):
    simulated.knobs(**FAST, prefill_ms_per_token=0.1)
    run = await measure(simulated, "caching", runs=1)
    result = read(run.run_id)
    finding = result.finding("ttft_ms")
    technique = techniques.find("caching")

    def ask(name, *values, **named):
        return getattr(queries, name)(run.store, *values, **named)

    data = RunData(technique, result.run, ask, result.finding, "claude-sonnet-5-5")
    _, wait = break_even.view(data, dark=False)[0].draw(10)
    assert finding.reason and wait.layout.meta["title"] == finding.title
    assert {line.opacity for line in wait.data} == {layout.GREYED}
