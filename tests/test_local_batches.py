"""Batches are a queue that the SDK's own client can fill, watch, cancel, read and delete."""

import os

import anthropic
import pytest

from lab.clock import sleep_s

ASK = {
    "model": "simulated-small",
    "max_tokens": 5,
    "messages": [{"role": "user", "content": "Say something."}],
}


@pytest.fixture
async def batches(simulated):
    async with anthropic.AsyncAnthropic(
        base_url=simulated.base_url, api_key=simulated.api_key, max_retries=0, timeout=20
    ) as client:
        yield client.messages.batches


def requests(*names, **change):
    return [{"custom_id": name, "params": {**ASK, **change}} for name in names]


async def ended(batches, batch):
    while batch.processing_status != "ended":
        await sleep_s(0.02)
        batch = await batches.retrieve(batch.id)
    return batch


async def outcomes(batches, batch):
    return {line.custom_id: line.result async for line in await batches.results(batch.id)}


def leased(simulated) -> dict:
    """The header of a measurement that has the server, so that no batch goes on meanwhile."""
    asked = {"holder": "a run", "pid": os.getpid(), "seconds": 60}
    return {"x-lab-lease": simulated.ask("POST", "/lease", json=asked)["lease"]}


def give_back(simulated, headers: dict) -> None:
    simulated.ask("DELETE", "/lease", json={"lease": headers["x-lab-lease"]})


async def test_a_batch_of_ten_is_answered_by_custom_id(simulated, batches):
    names = [f"n{i}" for i in range(10)]
    own = leased(simulated)
    batch = await batches.create(requests=requests(*names), extra_headers=own)
    assert (batch.processing_status, batch.request_counts.processing, batch.results_url) == (
        "in_progress",
        10,
        None,
    )
    with pytest.raises(anthropic.BadRequestError, match="cancel it first"):
        await batches.delete(batch.id, extra_headers=own)
    give_back(simulated, own)
    batch = await ended(batches, batch)
    assert (batch.request_counts.succeeded, batch.request_counts.processing) == (10, 0)
    results = await outcomes(batches, batch)
    assert set(results) == set(names)
    for result in results.values():
        assert (
            result.message.stop_reason,
            result.message.usage.output_tokens,
            result.message.usage.service_tier,
        ) == (
            "max_tokens",
            5,
            "batch",
        )
    assert (batch.expires_at - batch.created_at).total_seconds() == 24 * 3600
    assert (await batches.delete(batch.id)).type == "message_batch_deleted"
    with pytest.raises(anthropic.NotFoundError):
        await batches.retrieve(batch.id)


async def test_a_wrong_request_is_its_own_result_and_spoils_no_other(simulated, batches):
    wrong = [
        *requests("model", model="gpt"),
        *requests("stream", stream=True),
        *requests("warm", max_tokens=0),
        *requests("fine"),
    ]
    results = await outcomes(batches, await ended(batches, await batches.create(requests=wrong)))
    assert {name: result.type for name, result in results.items()} == {
        "model": "errored", "stream": "errored", "warm": "errored", "fine": "succeeded"
    }  # fmt: skip
    assert (
        results["model"].error.error.type == "not_found_error"
        and "stream" in results["stream"].error.error.message
    )


async def test_a_cancelled_batch_begins_no_more(simulated, batches):
    simulated.knobs(gap_ms=400, jitter=0, tail=0)
    batch = await batches.cancel(
        (await batches.create(requests=requests(*[f"n{i}" for i in range(40)]))).id
    )
    assert batch.processing_status == "canceling" and batch.cancel_initiated_at
    counts = (await ended(batches, batch)).request_counts
    assert (
        counts.canceled >= 36 and counts.canceled + counts.succeeded == 40
    )  # four are answered at a time


async def test_the_newest_batch_is_listed_first_a_page_at_a_time(batches):
    ids = [
        (await ended(batches, await batches.create(requests=requests("a")))).id for _ in range(3)
    ]
    assert [batch.id async for batch in batches.list(limit=2)] == ids[::-1]
    page = await batches.list(limit=1, after_id=ids[2])
    assert [batch.id for batch in page.data] == [ids[1]] and page.has_more


@pytest.mark.parametrize("wrong", [[], requests("a", "a"), requests("a b"), [{"custom_id": "a"}]])
async def test_a_batch_that_cannot_be_told_apart_is_refused_at_once(batches, wrong):
    with pytest.raises(anthropic.BadRequestError, match="requests"):
        await batches.create(requests=wrong)


async def test_a_batch_waits_while_a_measurement_has_the_server(simulated, batches):
    simulated.knobs(gap_ms=30, jitter=0, tail=0)
    own = leased(simulated)
    names = [f"n{i}" for i in range(12)]
    batch = await batches.create(requests=requests(*names), extra_headers=own)
    # Twelve in fours, 150 ms each, are done in half a second where nobody holds the server.
    await sleep_s(1.2)
    waiting = await batches.retrieve(batch.id, extra_headers=own)
    give_back(simulated, own)
    assert (waiting.processing_status, waiting.request_counts.processing) == ("in_progress", 12)
    assert (await ended(batches, waiting)).request_counts.succeeded == 12
