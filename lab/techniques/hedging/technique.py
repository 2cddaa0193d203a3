"""How much shorter is the slowest wait when a late request is asked a second time, and what does
that cost?"""

import asyncio

from pydantic import Field

from lab.model import Arm, Bench, Knobs, Lever, Request, Technique, View


class HedgingKnobs(Knobs):
    delay_ms: int = Field(
        1000,
        ge=1,
        le=60_000,
        title="Ask again after, ms",
        description=(
            "without a first token for so long, the request is asked again; the view Plan, or"
            " --plan RUN, proposes it from waits that you have"
        ),
    )
    answer_tokens: int = Field(
        48,
        ge=1,
        le=2000,
        title="Longest answer, tokens",
        description="the most tokens an answer may have",
    )


class Sent:
    """A call under way. `begun` is done at its first token, and with its end at the latest."""

    def __init__(self, ask, request, **named):
        self.token = asyncio.Event()
        self.reply = asyncio.create_task(ask(request, token=self.token, **named))
        self.begun = asyncio.create_task(self._first_token())

    async def _first_token(self):
        token = asyncio.create_task(self.token.wait())
        try:
            await asyncio.wait([token, self.reply], return_when=asyncio.FIRST_COMPLETED)
        finally:
            token.cancel()

    @property
    def has_failed(self):
        return self.reply.done() and not self.reply.result().ok

    async def stop(self):
        """Cancel what is still under way, and wait until its connection is let go of."""
        tasks = (self.begun, self.reply)
        for task in tasks:
            task.cancel()
        # Looks at what became of them, or asyncio would complain of a call that the budget ended.
        await asyncio.gather(*tasks, return_exceptions=True)


async def race(bench: Bench, ask, request, delay_ms):
    """The reply to the request or to its twin, whichever has its first token first; the other is
    cancelled. The twin is sent once the first has had none for `delay_ms`; 0 sends both at once.

    A call that fails before its first token leaves the race to the other, and fails the trial only
    where there is none.
    """
    sent = [Sent(ask, request)]
    try:
        if not delay_ms or not await bench.within(sent[0].token, delay_ms):
            sent.append(Sent(ask, request, name="twin"))
        racing, kept = list(sent), None
        while kept is None:
            events = [call.begun for call in racing]
            await asyncio.wait(events, return_when=asyncio.FIRST_COMPLETED)
            first = next(call for call in racing if call.begun.done())
            if first.has_failed and len(racing) > 1:
                racing.remove(first)
            else:
                kept = first
        for call in sent:
            if call is not kept:
                await call.stop()
        reply = await kept.reply
        for call in sent if reply.ok else ():
            if not call.reply.cancelled():
                bench.replaced(call.reply.result())
        return reply
    finally:
        for call in sent:
            await call.stop()


async def trial(bench: Bench, arm, knobs, task):
    request = Request(task.body_for(knobs.answer_tokens))
    if arm == "once":
        reply = await bench.call(request)
    else:
        reply = await race(bench, bench.call, request, 0 if arm == "tied" else knobs.delay_ms)
    return reply.text if reply.ok else None


async def play(bench: Bench, ask, request, level, task):
    return await race(bench, ask, request, HedgingKnobs().delay_ms)


HEDGED = Lever(
    name="hedged",
    title="Late requests",
    levels=("once", "asked again"),
    words={"asked again": "late requests asked again"},
    play=play,
    needs=("streaming",),
    part="late",
)
PLAN = View("Plan", "figures:plan")
TECHNIQUE = Technique(
    slug="hedging",
    title="Ask twice",
    claim=(
        "A request that is late is asked a second time, and the first to answer wins: the slowest"
        " waits get shorter, for a few more requests."
    ),
    published="p99.9 from 1,800 to 74 ms at 2 % more requests, in a distributed store (2013)",
    arms=(
        Arm("once", "one request, however long it takes"),
        Arm(
            "hedged",
            "after the delay without a first token a second, equal request; the first to begin is"
            " kept, the other cancelled",
        ),
        Arm("tied", "both at once; when one begins, the other is cancelled"),
    ),
    headline="wait_ms",
    headline_arm="hedged",
    headline_quantile=0.95,
    knobs=HedgingKnobs,
    trial=trial,
    code="code.jinja",
    aliases=("ask-twice", "hedged"),
    notes={
        "local": (
            "One embedded model on this machine answers both requests in turn: a second one waits"
            " for the same cores as the first, so asking twice can only cost. That is the trap, and"
            " no measure of what it does where many machines answer."
        ),
    },
    needs=("streaming",),
    page="15_Ask_twice.py",
    views=(PLAN, "Distribution", "Pairs", View("Price", "figures:price"), "Spans"),
    proposes=PLAN,
    levers=(HEDGED,),
)
