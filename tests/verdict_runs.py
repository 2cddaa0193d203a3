"""Recorded runs of every technique and verdict kind, made from planted times: each has a known
verdict, and arms beside the planned one that differ more than it does.

Nothing is drawn by chance: wobble() looks like noise and is none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from lab.store.store import Store
from tests.golden_runs import Call, Recording, Span, wobble

LATE = ("timeout", "No answer within 30 s.")
WRONG_ARM_FACTORS = (3.0, 0.2, 2.0)
"""What arms beside the planned one take of the baseline's time: whoever tells of the arm that
differs most tells of one of them."""


class Shape(NamedTuple):
    """A technique as a run of it is recorded."""

    arms: tuple[str, ...]
    """The baseline first."""
    headline: str
    metric: str


SHAPES = {
    "streaming": Shape(("whole", "streamed"), "streamed", "wait_ms"),
    "caching": Shape(("uncached", "first use", "pre-warmed", "cached"), "cached", "ttft_ms"),
    "parallelism": Shape(("sequential tools", "parallel tools"), "parallel tools", "total_ms"),
    "routing": Shape(
        ("large only", "small only", "routed", "cascade", "oracle"), "routed", "total_ms"
    ),
    "topology": Shape(("flat", "hierarchical", "pipeline"), "hierarchical", "total_ms"),
    "ab": Shape(("a", "b"), "b", "wait_ms"),
    "aa": Shape(("a", "b"), "b", "ttft_ms"),
    "side-by-side": Shape(
        ("streaming.whole", "caching.cached", "streaming.streamed"),
        "streaming.streamed",
        "wait_ms",
    ),
}


class Block(NamedTuple):
    base_ms: float
    arm_ms: float
    is_lost: bool = False
    """The planned arm's trial fails."""
    is_held_up: bool = False
    """This machine was late for it."""
    quality: float = 1.0
    """Of the planned arm's answer."""
    base_quality: float = 1.0
    out: int = 60
    """The planned arm's output tokens; all others write 60."""


@dataclass(frozen=True)
class Kind:
    """What is planted, and what must be said of it."""

    verdict: str
    less: bool | None
    """Whether the planned arm's number may be called less than the baseline's, or more; None where
    nothing may be claimed."""
    block: Callable[[int], Block]
    blocks: int = 12
    doubt: str = ""
    """How the first doubt ends; empty where there is none."""
    remark: str = ""
    """What its quality is said to be, where that withholds green and greys nothing."""
    metrics: tuple[str, ...] = field(default=("wait_ms", "ttft_ms", "total_ms"))
    """Headlines on which it can come about."""


def _fast(block: int, **more) -> Block:
    return Block(2000 + wobble(block, 1, 80), 1000 + wobble(block, 2, 50), **more)


def _equal(block: int) -> Block:
    base = 1000 + wobble(block, 1, 40)
    return Block(base, base + (30 if block % 2 else -30))


def _slow_half_fails(block: int) -> Block:
    """Both arms take 700 to 1,300 ms; the arm's trials that would take more than 1,000 fail."""
    arm = 1000 + wobble(block, 5, 300)
    return Block(1000 + wobble(block, 9, 300), arm, is_lost=arm > 1000)


def _against_medians(block: int) -> Block:
    """100 ms sooner in 11 of 12 blocks, and yet the arm's median lies 200 ms above the baseline's:
    tasks take 900 or 1,500 ms, six of each, and in block 12 a short one took the arm 2,000."""
    base = (900 if block % 2 == 0 else 1500) + block
    return Block(base, 2000 if block == 12 else base - 100 - wobble(block, 3, 9))


KINDS = {
    "faster": Kind("faster", True, _fast),
    "slower": Kind(
        "slower",
        False,
        lambda block: Block(1000 + wobble(block, 1, 50), 2000 + wobble(block, 2, 80)),
    ),
    "no difference": Kind("no_difference", None, _equal),
    "not enough": Kind("not_enough_data", None, _fast, blocks=4),
    "faster but worse": Kind(
        "faster_but_worse", True, lambda block: _fast(block, quality=float(block % 3 == 0))
    ),
    "faster only shorter": Kind(
        "faster_only_shorter",
        True,
        lambda block: Block(1000 + wobble(block, 1, 9), 600 + wobble(block, 2, 9), out=20),
        metrics=("total_ms",),
    ),
    "faster when it answers": Kind(
        "faster_when_it_answers",
        True,
        lambda block: _fast(block, is_lost=block in (5, 14)),
        blocks=20,
        doubt="2 failed",
    ),
    "fails more": Kind("fails_more", None, _slow_half_fails, doubt="failed"),
    "doubtful": Kind(
        "faster",
        True,
        lambda block: _fast(block, is_held_up=block % 3 == 0),
        doubt="(late event loop or unexpected reconnect)",
    ),
    "all wrong": Kind(
        "faster",
        True,
        lambda block: _fast(block, quality=0, base_quality=0),
        remark="Quality 0 % in both arms: no answer passed its check",
    ),
    "against the medians": Kind("faster", True, _against_medians),
}


def pairs() -> Iterator[tuple[str, str]]:
    """Every technique with every verdict kind that can come about on its headline metric."""
    for technique, shape in SHAPES.items():
        for name, kind in KINDS.items():
            if shape.metric in kind.metrics:
                yield technique, name


def number(technique: str, kind: str) -> int:
    return 1000 + 50 * list(SHAPES).index(technique) + list(KINDS).index(kind)


def record(store: Store, *wanted: tuple[str, str]) -> dict[tuple[str, str], str]:
    """The runs of these techniques and kinds, all where none is named, each with its run's id."""
    recordings = {pair: recording(store, *pair) for pair in wanted or pairs()}
    assert store.write_trials([row for run in recordings.values() for row in run.finished])
    return {pair: run.run_id for pair, run in recordings.items()}


def recording(store: Store, technique: str, name: str) -> Recording:
    shape, kind = SHAPES[technique], KINDS[name]
    knobs = {"suite": "tools", "n": 4} if technique == "parallelism" else {}
    recording = Recording(
        store,
        number(technique, name),
        technique,
        shape.arms,
        shape.metric,
        headline=shape.headline.rpartition(".")[2],
        kind="simulated",
        blocks=kind.blocks,
        knobs=knobs,
        config={"arms": list(shape.arms)} if technique == "side-by-side" else {},
    )
    for block in range(1, kind.blocks + 1):
        _block(recording, technique, shape, block, kind.block(block))
    return recording


def _block(recording: Recording, technique: str, shape: Shape, at: int, block: Block) -> None:
    factors = iter(WRONG_ARM_FACTORS)
    for place, ref in enumerate(shape.arms):
        slug, _, arm = ref.rpartition(".")
        slug = slug or technique
        ms, more = block.base_ms, {"quality": block.base_quality}
        out, lag = 60, 0.2
        if ref == shape.headline:
            ms, more, out = block.arm_ms, {"quality": block.quality}, block.out
            lag = 20 if block.is_held_up else lag
            if block.is_lost:
                failed = Call(30_000, 1, fresh=None, out=None, error=LATE, status=None)
                lost = {"outcome": "failed", "error": LATE}
                recording.trial(at, arm, [failed], technique=slug, **lost)
                continue
        elif place:
            ms = ms * next(factors) + wobble(at, place + 6, 10)
        calls, spans = TRIALS[slug](arm, ms, out)
        for call in calls:
            call.lag = lag
            if call.role != "prime":
                # No two arms cost the same, and none costs more for another kind's sake.
                call.usd = (1 + place / 7) * 1e-3 / len(calls)
        recording.trial(at, arm, calls, tuple(spans), technique=slug, **more)


Trial = tuple[list[Call], list[Span]]


def _streaming(arm: str, ms: float, out: int) -> Trial:
    return [Call(ms, out=out) if arm == "whole" else Call(ms + 300, ms, out=out)], []


def _request(arm: str, ms: float, out: int) -> Trial:
    return [Call(ms + 300, ms, out=out)], []


def _caching(arm: str, ms: float, out: int) -> Trial:
    state = {
        "uncached": {},
        "first use": {"intended": "write", "written": 600},
    }.get(arm, {"intended": "read", "read": 600})
    call = Call(ms + 300, ms, out=out, **state)
    if arm not in ("cached", "pre-warmed"):
        return [call], []
    prime = Call(700, 650, -1500, "prime", intended="write", written=600, out=1, usd=0.0001)
    return [prime, call], []


# A trial of several calls shows its first text at 400 ms, and spends the rest on 60 tokens: 10 ms
# each where it takes a second.
ANSWER_AT, TEXT_AT = 302, 400


def _answer(ms: float, out: int, **more) -> Call:
    return Call(ms - ANSWER_AT, min(TEXT_AT, ms - 20) - ANSWER_AT, at=ANSWER_AT, out=out, **more)


def _parallelism(arm: str, ms: float, out: int) -> Trial:
    ms = max(ms, 450)
    turn = Call(150, 100, role="tool_turn", out=0)
    step = 36 if arm.startswith("sequential") else 0
    spans = [Span("tool", name, 152 + step * n, 35) for n, name in enumerate(("tide", "fuel"))]
    return [turn, _answer(ms, out)], spans


def _routing(arm: str, ms: float, out: int) -> Trial:
    ms, size = max(ms, 450), "large" if arm == "large only" else "small"
    route = Span("route", size, ANSWER_AT - 1, 0)
    if arm == "cascade":
        draft = Call(ANSWER_AT - 2, 100, role="worker", name="draft", out=0)
        return [draft, _answer(ms, out)], [route]
    sorts = Call(ANSWER_AT - 2, 100, role="classify", out=0)
    return [sorts, _answer(ms, out)], [route]


def _topology(arm: str, ms: float, out: int) -> Trial:
    ms = max(ms, 450)
    if arm == "flat":
        turn = Call(150, 100, role="tool_turn", name="agent", out=0)
        return [turn, _answer(ms, out, name="agent")], [Span("tool", "tide", 152, 140)]
    if arm == "pipeline":
        worker = Call(ANSWER_AT - 2, 100, role="worker", name="sea", out=0)
        return [worker, _answer(ms, out, name="writer")], []
    plan = Call(100, 60, role="plan", name="supervisor", out=0)
    worker = Call(190, 60, 102, "worker", "sea", parent="workers", out=0)
    return [plan, worker, _answer(ms, out, name="supervisor")], [Span("join", "workers", 101, 195)]


TRIALS = {
    "streaming": _streaming,
    "caching": _caching,
    "parallelism": _parallelism,
    "routing": _routing,
    "topology": _topology,
    "ab": _request,
    "aa": _request,
}
