"""What a probe asks: the user's request, and beside it a control that never changes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from lab.endpoints.registry import Endpoint
from lab.harness.bodies import completed, marks_cache
from lab.model import WATCH, Arm, Bench, Knobs, Request, Technique

CONTROL, YOURS = "control", "yours"
ARMS = (CONTROL, YOURS)
LEFT_OUT = ("model", "stream", "diagnostics", "thread")
ASKED = {
    "max_tokens": 16,
    "messages": [{"role": "user", "content": "Count from one to ten in words."}],
}
"""Short, without a cache, and the same for ever: what becomes slower here becomes so for all."""


class ProbeKnobs(Knobs):
    control: dict[str, Any] = ASKED
    answer_tokens: int = 48
    stream: bool = True


def control_body(endpoint: Endpoint, model: str) -> dict[str, Any]:
    """The control as it is sent: a model that thinks by itself is told not to, where it can be."""
    return {**completed(Request(ASKED, model=model), endpoint, True), "model": model}


def yours(knobs: ProbeKnobs, task) -> Request:
    body = task.body_for(knobs.answer_tokens)
    own = (task.body or {}).get("model")
    fields = {name: value for name, value in body.items() if name not in LEFT_OUT}
    return Request(fields, model=own, stream=knobs.stream, intended_cache="any")


async def prepare(bench: Bench, arm, knobs, task):
    """What a request marks for the cache is there before its clock starts, as in an application
    that asks again and again; every probe has a beginning of its own, so nothing else is."""
    if arm == YOURS and marks_cache((request := yours(knobs, task)).body):
        brief = {} if "thinking" in request.body else {"max_tokens": 1}
        await bench.call(replace(request, body={**request.body, **brief}), role="prime")


async def trial(bench: Bench, arm, knobs, task):
    if arm == YOURS:
        await bench.call(yours(knobs, task))
        return
    body = {name: value for name, value in knobs.control.items() if name != "model"}
    await bench.call(Request(body, model=knobs.control.get("model")))


TECHNIQUE = Technique(
    slug=WATCH,
    title="Watch",
    claim="A request of your own beside a control, again and again: whose latency changed, when.",
    published="",
    arms=(
        Arm(CONTROL, "a short request that never changes"),
        Arm(YOURS, "your own request"),
    ),
    headline="wait_ms",
    headline_arm=YOURS,
    knobs=ProbeKnobs,
    trial=trial,
    prepare=prepare,
    page="24_Watch.py",
    in_all=False,
)
"""It is in no list of techniques: its trials are a series, and not compared with each other."""
