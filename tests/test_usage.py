"""What a call used: the dollars of each case are worked out by hand, from the API's list in
November 2026."""

import time
from datetime import date

import pytest

from bench.raw_server import Connection, RawServer, sse
from lab import pricing
from lab.endpoints import consent
from lab.harness.bench import SLACK_TOKENS, cache_mismatch
from lab.harness.runner import BenchmarkRunner
from lab.rows import CallRow
from lab.settings import config_of
from lab.store import queries
from lab.store.store import Store

DAY = date(2026, 11, 25)
COMPACTED = {
    "input_tokens": 900,
    "output_tokens": 300,
    "cache_read_input_tokens": 0,
    "iterations": [
        {
            "type": "compaction",
            "input_tokens": 150_000,
            "output_tokens": 2_500,
            "cache_read_input_tokens": 0,
            "cache_creation_input_tokens": 0,
        },
        {
            "type": "message",
            "input_tokens": 900,
            "output_tokens": 300,
            "cache_read_input_tokens": 0,
            "cache_creation_input_tokens": 0,
        },
    ],
}
ADVISED = {
    "input_tokens": 1_000,
    "output_tokens": 400,
    "iterations": [
        {"type": "message", "input_tokens": 600, "output_tokens": 100},
        {
            "type": "advisor_message",
            "model": "claude-opus-5-5",
            "input_tokens": 100_000,
            "output_tokens": 2_000,
        },
        {"type": "message", "input_tokens": 400, "output_tokens": 300},
    ],
}
FELL_BACK = {
    "input_tokens": 1_000,
    "output_tokens": 100,
    "iterations": [
        {
            "type": "message",
            "model": "claude-fable-5-2",
            "input_tokens": 1_000,
            "output_tokens": 500,
        },
        {"type": "message", "model": "claude-opus-5-5", "input_tokens": 200, "output_tokens": 20},
        {
            "type": "fallback_message",
            "model": "claude-opus-5-5-20260922",
            "input_tokens": 800,
            "output_tokens": 80,
        },
    ],
}


def test_a_compaction_is_billed_beside_the_answer():
    """Opus 5.5 is $4 in and $20 out: 150,900 × 4 + 2,800 × 20 = 659,600 millionths."""
    assert pricing.cost_usd("claude-opus-5-5", COMPACTED, DAY) == pytest.approx(0.6596)


def test_an_advisor_is_billed_at_its_own_models_price():
    """Sonnet 5.5: 1,000 × 2 + 400 × 10 = 6,000; the advisor on Opus 5.5: 100,000 × 4 + 2,000 × 20 =
    440,000 millionths."""
    assert pricing.cost_usd("claude-sonnet-5-5", ADVISED, DAY) == pytest.approx(0.446)


def test_a_model_that_declined_costs_nothing_and_the_one_that_answered_costs_all_its_turns():
    """1,000 × 4 + 100 × 20 = 6,000 millionths, all on Opus 5.5."""
    assert pricing.cost_usd("claude-fable-5-2", FELL_BACK, DAY) == pytest.approx(0.006)


def test_where_the_iterations_leave_out_the_answer_the_counts_at_the_top_are_its():
    only = {**COMPACTED, "iterations": COMPACTED["iterations"][:1]}
    assert pricing.cost_usd("claude-opus-5-5", only, DAY) == pytest.approx(0.6596)


def test_each_iteration_has_the_rates_of_its_own_length():
    """Haiku 5.5 is five times as dear above 100,000 tokens: 150,000 × 0.5 + 50,000 × 0.1 = 80,000
    millionths."""
    usage = {
        "iterations": [
            {"type": "compaction", "input_tokens": 150_000},
            {"type": "message", "input_tokens": 50_000},
        ]
    }
    assert pricing.cost_usd("claude-haiku-5-5", usage, DAY) == pytest.approx(0.08)


def test_the_us_and_batches_hold_for_every_iteration():
    assert pricing.cost_usd(
        "claude-opus-5-5", {**COMPACTED, "inference_geo": "us"}, DAY
    ) == pytest.approx(0.6596 * 1.1)
    assert pricing.cost_usd(
        "claude-opus-5-5", {**COMPACTED, "service_tier": "batch"}, DAY
    ) == pytest.approx(0.6596 / 2)


def test_a_budget_counts_a_part_without_a_price_at_the_dearest_one():
    unknown = {
        "iterations": [{"type": "advisor_message", "model": "novel-1", "input_tokens": 1_000_000}],
        "input_tokens": 0,
    }
    assert pricing.cost_usd("claude-sonnet-5-5", unknown, DAY) is None
    assert pricing.ceiling_usd("claude-sonnet-5-5", unknown, DAY) >= 8


def stream(usage: dict, **message) -> list[dict]:
    start = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-opus-5-5",
        "content": [],
        **message,
    }
    return [
        {
            "type": "message_start",
            "message": {
                **start,
                "usage": {"input_tokens": usage["input_tokens"], "output_tokens": 1},
            },
        },
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {
            "type": "content_block_delta",
            "index": 0,
            "delta": {"type": "text_delta", "text": "Hello."},
        },
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": usage},
        {"type": "message_stop"},
    ]


async def calls_of(events, headers=None, technique="aa", tell=None, **settings):
    def pieces():
        for event in events:
            yield sse([event])
            time.sleep(0.02)

    def answer(connection: Connection) -> None:
        connection.stream(pieces(), **(headers or {}))

    with RawServer(answer) as server:
        consent.allow(server.url, key=False)
        store = Store()
        config = config_of(
            technique=technique, endpoint=server.url, runs=1, warmup=0, max_usd=100.0, **settings
        )
        await BenchmarkRunner(config, store, tell).run()
        run_id = queries.last_run_id(store)
        return store, store.frame("SELECT * FROM call_metrics WHERE run_id = ?::UUID", [run_id])


async def test_a_row_has_what_was_billed_who_answered_and_what_the_headers_said_of_limits(db):
    headers = {
        "anthropic_ratelimit_input_tokens_remaining": "1000",
        "anthropic_fast_x": "1",
        "retry_after": "3",
        "x_other": "no",
    }
    usage = {**COMPACTED, "inference_geo": "us"}
    store, calls = await calls_of(stream(usage), headers, models={"any": "claude-sonnet-5-5"})
    call = calls.iloc[0]
    assert (call.billed_input_tokens, call.billed_output_tokens, call.prompt_tokens) == (
        150_900,
        2_800,
        150_000,
    )
    assert (call.input_tokens, call.output_tokens) == (900, 300)
    assert (call.model, call.served_model, call.inference_geo) == (
        "claude-sonnet-5-5",
        "claude-opus-5-5",
        "us",
    )
    assert call.cost_usd == pytest.approx(0.6596 * 1.1), "by the model that answered"
    limits = store.frame("SELECT rate_limits FROM calls LIMIT 1")["rate_limits"].iloc[0]
    assert (
        limits == '{"ratelimit-input-tokens-remaining": "1000", "fast-x": "1", "retry-after": "3"}'
    )


async def test_a_first_token_of_a_new_kind_is_the_same_for_live_dots_and_for_the_view(db):
    summary = [
        {
            "type": "content_block_start",
            "index": 0,
            "content_block": {"type": "compaction", "content": None},
        },
        {
            "type": "content_block_delta",
            "index": 0,
            "delta": {"type": "compaction_delta", "content": "So far: nothing."},
        },
        {"type": "content_block_stop", "index": 0},
    ]
    start, *rest = stream(COMPACTED)
    told = []
    store, _ = await calls_of(
        [start, *summary, *(event | {"index": 1} for event in rest)], tell=told.append
    )
    stored = store.frame("SELECT trial_id, ttft_ms, wait_ms FROM trial_metrics").set_index(
        "trial_id"
    )
    dots = [entry for entry in told if entry["kind"] == "trial"]
    assert len(dots) == 2
    for dot in dots:
        assert (dot["ttft_ms"], dot["wait_ms"]) == pytest.approx(tuple(stored.loc[dot["trial_id"]]))
        assert dot["ttft_ms"] < dot["wait_ms"] - 40, "three pauses of 20 ms lie between"


async def test_counts_that_fall_keep_the_larger_one_and_leave_a_note(db):
    events = stream({"input_tokens": 0, "output_tokens": 9, "cache_read_input_tokens": 0})
    events[0]["message"]["usage"] |= {"input_tokens": 21, "cache_read_input_tokens": 1_800}
    _, calls = await calls_of(events)
    call = calls.iloc[0]
    assert (call.input_tokens, call.cache_read_tokens, call.prompt_tokens) == (21, 1_800, 1_821)
    assert (
        call.usage_note
        == "input_tokens fell from 21 to 0; cache_read_input_tokens fell from 1800 to 0"
    )


async def test_a_name_that_no_list_prices_is_billed_as_the_model_that_was_asked(db):
    _, calls = await calls_of(
        stream({"input_tokens": 1_000, "output_tokens": 0}, model="gw/opus"),
        models={"any": "claude-opus-5-5"},
    )
    assert calls.cost_usd.iloc[0] == pytest.approx(0.00402), "1,000 in and 1 out"


def row(intended: str, read: int = 0, written: int = 0) -> CallRow:
    call = CallRow(*[""] * 6, 1, "e", "m")
    call.intended_cache, call.input_tokens, call.cache_read_tokens, call.cache_write_5m_tokens = (
        intended,
        10,
        read,
        written,
    )
    return call


def test_a_template_that_every_prompt_begins_with_is_no_hit():
    """llama.cpp reads 3 to 7 tokens of its chat template on every call."""
    assert cache_mismatch(row("none", read=7)) is None
    assert (
        cache_mismatch(row("none", read=SLACK_TOKENS + 1))
        == "cache state read where none was meant"
    )
    assert (
        cache_mismatch(row("read", read=7))
        == "the endpoint reported no cache use (0 tokens written, 7 read)"
    )


def test_of_a_server_that_caches_by_itself_a_cold_read_is_what_a_write_looks_like():
    assert cache_mismatch(row("write"), by_itself=True) is None
    assert cache_mismatch(row("read"), by_itself=True) is not None
    assert (
        cache_mismatch(row("write", read=500), by_itself=True)
        == "cache state read where write was meant"
    )
    assert (
        cache_mismatch(row("write"))
        == "the endpoint reported no cache use (0 tokens written, 0 read)"
    )


def test_the_view_has_the_slack_of_the_judge(db):
    assert Store().frame("SELECT slack_tokens() AS slack")["slack"].iloc[0] == SLACK_TOKENS
