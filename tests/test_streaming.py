"""Streaming shortens the wait for text, and not the whole answer."""

import pytest

from tests.measured import FAST, measure


async def test_text_is_there_early_only_where_it_is_streamed(simulated, db):
    """40 tokens, one every 5 ms: 200 ms in all, the first of them at once."""
    simulated.knobs(**{**FAST, "gap_ms": 5, "answer_tokens": 40}, prefill_ms_per_token=0.01)
    run = await measure(simulated, "streaming", runs=1)
    (whole,), (streamed,) = (run.arm(arm).to_dict("records") for arm in ("whole", "streamed"))
    assert whole["wait_ms"] == pytest.approx(whole["total_ms"], abs=1)
    assert streamed["wait_ms"] < 0.5 * streamed["total_ms"]
    assert min(whole["total_ms"], streamed["total_ms"]) >= 190
