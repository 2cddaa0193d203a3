"""A simulated server with so many slots answers so many at once; the others wait their turn."""

import json
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest

from lab.model import LabError

FIXED = {
    "network_ms": 0,
    "queue_ms": 0,
    "prefill_ms_per_token": 0,
    "read_ms_per_token": 0,
    "jitter": 0,
    "tail": 0,
    "gap_ms": 30,
    "answer_tokens": 10,
}
"""Each answer takes 300 ms from its turn to its last token."""
ASK = {
    "model": "simulated-small",
    "max_tokens": 50,
    "messages": [{"role": "user", "content": "Say something."}],
}


def client(server):
    headers = {"x-api-key": server.api_key, "anthropic-version": "2023-06-01"}
    return httpx2.Client(base_url=server.base_url, headers=headers, timeout=20, verify=False)


def ask(client, **more):
    return client.post("/v1/messages", json={**ASK, **more}).json()


def asked_together(server, requests):
    """When each one came, in ms, in order of arrival; and when its turn was."""
    with client(server) as asking, ThreadPoolExecutor(requests) as pool:
        replies = list(pool.map(lambda _: ask(asking), range(requests)))
    waited = {reply["id"]: reply["lab"]["queue_ms"] for reply in replies}
    truths = [truth for truth in server.truth() if truth["message_id"] in waited]
    truths.sort(key=lambda truth: truth["received_ns"])
    waits = [waited[truth["message_id"]] for truth in truths]
    came = [truth["received_ns"] / 1e6 for truth in truths]
    return came, [at + wait for at, wait in zip(came, waits, strict=True)]


def turns_of(came, slots):
    """A slot is free 300 ms after it was taken, and who comes later has it at once."""
    turns = []
    for place, at in enumerate(came):
        turns.append(at if place < slots else max(at, turns[place - slots] + 300))
    return pytest.approx(turns, abs=0.01)


@pytest.mark.parametrize("slots", [1, 2])
def test_so_many_are_answered_at_once_and_the_others_in_order_of_arrival(simulated, slots):
    simulated.knobs(**FIXED, slots=slots)
    for _ in range(3):  # a busy machine may send six so late, one by one, that nobody waits
        came, turns = asked_together(simulated, 6)
        assert turns == turns_of(came, slots)
        if turns != came:
            break
    assert turns != came


def test_a_place_that_was_taken_away_is_given_to_nobody(simulated):
    simulated.knobs(**FIXED, slots=3)
    asked_together(simulated, 3)
    simulated.knobs(slots=1)
    came, turns = asked_together(simulated, 3)
    assert turns == turns_of(came, 1)


def test_without_slots_nobody_waits(simulated):
    simulated.knobs(**FIXED)
    came, turns = asked_together(simulated, 4)
    assert turns == came


def test_who_goes_leaves_his_slot_and_his_place_in_the_queue(simulated):
    """The first one's stream stalls for an hour; a second one waits behind it, and gives up too."""
    simulated.knobs(**FIXED, slots=1, fault={"kind": "stall", "after": 1})
    body = json.dumps({**ASK, "stream": True})
    with client(simulated) as asking:
        with asking.stream("POST", "/v1/messages", content=body) as stalled:
            next(stalled.iter_bytes())
            with pytest.raises(httpx2.ReadTimeout):
                asking.post("/v1/messages", content=body, timeout=httpx2.Timeout(20, read=0.2))
            simulated.knobs(fault=None)
        assert ask(asking)["stop_reason"] == "end_turn"


def test_models_have_slots_of_their_own(simulated):
    simulated.knobs(**FIXED, models={"simulated-small": {"slots": 1}})
    with client(simulated) as asking:
        assert ask(asking, model="simulated-large")["lab"]["queue_ms"] == 0
    with pytest.raises(LabError, match="slots"):
        simulated.knobs(slots=0)
