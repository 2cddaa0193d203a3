"""A schema's grammar is compiled at its first use and kept for a day; no two trials share one."""

import json

from lab.local import grammars as grammars_module
from lab.local.grammars import KEPT_NS, Grammars
from lab.local.messages_api import Prompt, parse
from lab.techniques.schema import TECHNIQUE
from tests.measured import FAST, measure

DAY_LATER = KEPT_NS + 1


def asking(**properties) -> Prompt:
    schema = {"type": "object", "properties": properties}
    body = {
        "model": "simulated-small",
        "messages": [{"role": "user", "content": "x"}],
        "output_config": {"format": {"type": "json_schema", "schema": schema}},
    }
    return parse(Prompt, json.dumps(body).encode())


def test_a_schema_of_a_kilobyte_is_waited_for_once_a_day():
    """At 100 ms a kilobyte; a name of 949 letters makes it 1,000 bytes. Who comes 40 ms later waits
    for the rest."""
    grammars, prompt = Grammars(), asking(**{"a" * 949: {"type": "null"}})
    assert grammars.wait_ms(prompt, 100, 0) == 100
    assert grammars.wait_ms(prompt, 100, 40_000_000) == 60
    assert grammars.wait_ms(prompt, 100, 200_000_000) == 0
    assert grammars.wait_ms(prompt, 100, KEPT_NS) == 0
    assert grammars.wait_ms(prompt, 100, KEPT_NS + DAY_LATER) == 100


def test_of_more_grammars_than_are_kept_the_one_used_longest_ago_is_compiled_again(monkeypatch):
    monkeypatch.setattr(grammars_module, "MOST", 2)
    grammars = Grammars()
    for name in ("a", "b", "a", "c"):
        grammars.wait_ms(asking(**{name: {}}), 100, 10**9)
    assert grammars.wait_ms(asking(a={}), 100, 2 * 10**9) == 0
    assert grammars.wait_ms(asking(b={}), 100, 2 * 10**9) > 0
    assert len(grammars.ready_ns) == len(grammars.used_ns) == 2


def test_another_letter_is_another_schema_and_free_text_has_none():
    grammars = Grammars()
    assert grammars.wait_ms(asking(a={}), 100, 0) > 0
    assert grammars.wait_ms(asking(a={}), 100, 10**9) == 0
    assert grammars.wait_ms(asking(b={}), 100, 10**9) > 0
    free = {"model": "simulated-small", "messages": [{"role": "user", "content": "x"}]}
    assert grammars.wait_ms(parse(Prompt, json.dumps(free).encode()), 100, 0) == 0


async def test_the_first_use_waits_for_its_grammar_and_the_warm_one_does_not(simulated, db):
    """Some 3 KB at 100 ms a kilobyte: 300 ms, planted in every first use and in no other."""
    simulated.knobs(**FAST, prefill_ms_per_token=0, schema_compile_ms=100)
    found = await measure(simulated, TECHNIQUE.slug, runs=3)
    assert set(found.trials["outcome"]) == {"ok"}
    ttft = found.trials.pivot(index="block", columns="arm", values="ttft_ms")
    later = ttft["first use"] - ttft["free text"]
    assert (later > 200).all() and later.median() < 600
    assert (ttft["first use"] - ttft["warm"] > 150).all()
    primes = found.calls[found.calls["role"] == "prime"]
    assert set(primes["arm"]) == {"warm"} and (primes["started_ms"] < 0).all()


async def test_without_a_compiler_there_is_no_difference_to_find(simulated, db):
    simulated.knobs(**FAST, prefill_ms_per_token=0, schema_compile_ms=0)
    found = await measure(simulated, TECHNIQUE.slug, runs=1)
    ttft = found.trials.set_index("arm")["ttft_ms"]
    assert ttft["first use"] < 150
