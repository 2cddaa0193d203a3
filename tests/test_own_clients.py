"""Code of the user's own: measured where it uses the lab's client, named where it does not, and
never faster by silence."""

import asyncio
import functools
import threading
from concurrent.futures import ThreadPoolExecutor

import anthropic
import httpx
import httpx2
import pytest

from lab import Lab
from lab.harness import runner
from lab.model import LabError
from tests.measured import FAST

MODEL = "simulated-small"


def body(words="What is a tide?", most=4):
    return {"model": MODEL, "max_tokens": most, "messages": [{"role": "user", "content": words}]}


@pytest.fixture
def lab(db, simulated, monkeypatch):
    monkeypatch.setenv("LAB_LOCAL_KEY", simulated.api_key)
    simulated.knobs(**FAST)
    return Lab(simulated.base_url, progress=False)


@pytest.fixture
def other(simulated_other):
    """The address and key of a server that the lab is not told of."""
    return {
        "base_url": simulated_other["base_url"],
        "api_key": simulated_other["api_key"],
        "max_retries": 0,
    }


@pytest.fixture(scope="module")
def simulated_other():
    from tests.conftest import serve

    process, card = serve("--simulated", "--no-spin")
    yield card
    process.terminate()
    process.wait(10)
    process.stdout.close()


async def asks(client, task):
    return (await client.messages.create(**body())).content[0].text


def blocking(client, task):
    return client.messages.create(**body(task.prompt)).content[0].text


def blocking_stream(client, task):
    with client.messages.stream(**body(task.prompt)) as stream:
        return "".join(stream.text_stream)


async def never(client, task):
    return "nothing asked"


async def forgets(client, task):
    client.messages.create(**body())


async def answers_unawaited(client, task):
    return client.messages.create(**body())


def plain_without_await(client, task):
    return asks(client, task)


async def starts_and_leaves(client, task):
    started = asyncio.ensure_future(asks(client, task))
    await asyncio.sleep(0.001)
    started.add_done_callback(lambda task: task.cancelled() or task.exception())
    return "on its way"


async def makes_do(client, task):
    try:
        return (await client.messages.create(**body(most=-1))).content[0].text
    except anthropic.APIError:
        return "the API refused"


async def reads_the_beginning(client, task):
    async with client.messages.stream(**body(most=64)) as stream:
        async for text in stream.text_stream:
            return text


def test_a_plain_function_is_measured_on_the_loop_s_own_sockets(lab):
    result = lab.compare(
        {"whole": blocking, "streamed": blocking_stream},
        tasks=["x"],
        runs=2,
        warmup=0,
        metric="wait_ms",
    )
    calls, trials = result.calls(), result.trials()
    assert len(calls) == 4 and calls["error_kind"].isna().all() and set(trials["outcome"]) == {"ok"}
    streamed = trials[trials["arm"] == "streamed"]
    assert (streamed["wait_ms"] < streamed["total_ms"]).all() and calls[
        "connection_reused"
    ].tolist() == [False, True, True, True]


def test_a_plain_function_runs_beside_the_loop_and_an_error_of_the_api_is_its_own(lab, simulated):
    threads = []

    def asks_wrongly(client, task):
        threads.append(threading.current_thread())
        with pytest.raises(anthropic.BadRequestError):
            client.messages.create(**body() | {"messages": []})
        return blocking(client, task)

    result = lab.measure(asks_wrongly, tasks=["x"], runs=1, warmup=0)
    assert result.calls()["http_status"].tolist() == [400, 200] and threads[0].name == "lab-call"


def test_a_plain_function_past_its_deadline_gets_nothing_more(lab, simulated):
    simulated.plays(headers=1, text=[2, 60_000], done=60_000)
    ended, trials = threading.Event(), []

    def slow(client, task):
        trials.append(task)
        if len(trials) > 1:
            return blocking(client, task)
        with pytest.raises(httpx2.ReadError, match="the trial is over"):
            blocking_stream(client, task)
        with pytest.raises(anthropic.APIConnectionError):
            blocking(client, task)
        ended.set()

    result = lab.measure(slow, tasks=["x"], runs=2, warmup=0, deadline_s=5)
    assert ended.wait(20)
    assert (
        result.trials()["error_kind"].fillna("ok").tolist() == ["deadline", "ok"]
        and len(result.calls()) == 2
    )


def test_an_arm_without_a_call_fails_by_name_and_is_never_faster(lab, monkeypatch):
    monkeypatch.setattr(runner, "FAILURES_IN_A_ROW", 99)
    odd = {
        "Never": never,
        "Forgets": forgets,
        "Unawaited": answers_unawaited,
        "Plain": plain_without_await,
        "Leaves": starts_and_leaves,
    }
    with pytest.raises(LabError, match=r"Every trial of (\w+) failed \(2 of 2\): .*\1"):
        lab.compare({"asks": asks} | odd, tasks=["x"], runs=2, warmup=0)
    read = lab.read()
    failed = read.trials().query("arm != 'asks'")
    assert read.run.run["status"] == "failed" and read.summary()["failed"].tolist() == [
        0,
        2,
        2,
        2,
        2,
        2,
    ]
    kinds = dict.fromkeys(odd, "not_awaited") | {"Never": "no_call"}
    assert dict(zip(failed["arm"], failed["error_kind"], strict=True)) == kinds
    assert all(arm in text for arm, text in zip(failed["arm"], failed["error_text"], strict=True))
    assert "faster" not in read._repr_html_()


def test_an_arm_whose_calls_all_failed_is_not_faster_and_one_that_stops_reading_is_measured(lab):
    with pytest.raises(
        LabError, match=r"Every trial of makes do failed \(2 of 2\): invalid_request_error"
    ):
        lab.compare(
            {"asks": asks, "makes do": makes_do, "begins": reads_the_beginning},
            tasks=["x"],
            runs=2,
            warmup=0,
        )
    assert lab.read().summary()["failed"].to_dict() == {"asks": 0, "makes do": 2, "begins": 0}


def own_async(other):
    async def agent(client, task):
        async with anthropic.AsyncAnthropic(**other) as own:
            return (await own.messages.create(**body())).content[0].text

    return agent


def own_blocking(other):
    def agent(client, task):
        with anthropic.Anthropic(**other) as own:
            return own.messages.create(**body()).content[0].text

    return agent


def own_in_a_pool(other):
    async def agent(client, task):
        with ThreadPoolExecutor(1) as pool:
            return await asyncio.wrap_future(pool.submit(own_blocking(other), None, None))

    return agent


def own_httpx(other):
    async def agent(client, task):
        async with httpx.AsyncClient() as own:
            reply = await own.post(
                f"{other['base_url']}/v1/messages",
                json=body(),
                headers={"x-api-key": other["api_key"], "anthropic-version": "2023-06-01"},
            )
            return reply.json()["content"][0]["text"]

    return agent


def own_that_is_refused(other):
    async def agent(client, task):
        async with anthropic.AsyncAnthropic(**other) as own:
            await own.messages.create(**body(most=-1))

    return agent


def own_and_ours(other):
    async def agent(client, task):
        return await asks(client, task) + await own_async(other)(client, task)

    return agent


def test_a_client_that_the_lab_does_not_see_is_named(lab, other, monkeypatch):
    monkeypatch.setattr(runner, "FAILURES_IN_A_ROW", 99)
    makers = {
        "SDK": own_async,
        "Blocking": own_blocking,
        "Pool": own_in_a_pool,
        "httpx": own_httpx,
        "Both": own_and_ours,
    }
    makers["Refused"] = own_that_is_refused
    words = r"1 call of \1 went past the lab's client \(1 to 127\.0\.0\.1\)"
    with pytest.raises(LabError, match=rf"Every trial of (\w+) failed \(1 of 1\): {words}"):
        lab.compare(
            {"asks": asks, **{name: maker(other) for name, maker in makers.items()}},
            tasks=["x"],
            runs=1,
            warmup=0,
        )
    failed = lab.read().trials().query("arm != 'asks'")
    assert set(failed["error_kind"]) == {"unseen_call"} and len(failed) == 6
    assert all(
        f"1 call of {arm} went past" in text
        for arm, text in zip(failed["arm"], failed["error_text"], strict=True)
    )


def test_copies_of_the_client_and_functions_bound_to_a_setting_are_seen(lab, other):
    async def copied(client, task, most):
        return (
            (await client.with_options(timeout=30).messages.create(**body(most=most)))
            .content[0]
            .text
        )

    send = httpx2.AsyncClient.send
    result = lab.measure(functools.partial(copied, most=4), tasks=["x"], runs=1, warmup=0)
    assert httpx2.AsyncClient.send is send  # outside a trial nothing is watched
    assert len(result.calls()) == 1 and result.trials()["outcome"].tolist() == ["ok"]
