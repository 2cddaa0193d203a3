"""What the loader adds to a time, on this machine and at so many streams: measured against a server
whose answers come at known instants."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from lab.instrumentation import parsing
from lab.instrumentation.timing import LatencyCollector
from lab.load import known
from lab.load.call_frame import CallFrame
from lab.load.loading import LevelEnd, Loader, Prepared
from lab.load.profile import Level, Step
from lab.load.wire import Address, Template
from lab.model import LabError

BRIEF = known.Pace(first_ms=100.0, spread_ms=10.0, tokens=32, gap_ms=10.0)
ROUNDS = 2
"""Answers of a stream; with BRIEF they take 0.9 s together."""
SPREAD_S = 0.1


@dataclass
class Errors:
    """In ms, each a collection over calls or gaps; what the server says is the truth."""

    ttft: LatencyCollector = field(default_factory=LatencyCollector)
    """From the call to its first token's stamp, less what the server took from having read the
    request to writing it."""
    ttft_sent: LatencyCollector = field(default_factory=LatencyCollector)
    """The same from when the request had been sent."""
    gap: LatencyCollector = field(default_factory=LatencyCollector)
    """Of each gap between two tokens, without its sign."""
    late: LatencyCollector = field(default_factory=LatencyCollector)
    """How late the server itself wrote."""
    lost: int = 0
    """Tokens that were written and not stamped, and all of a call that failed."""


def errors(
    calls: Iterable[CallFrame], truth: Mapping[str, Mapping[str, Any]], gap_ms: float
) -> Errors:
    """`truth` as lab.load.known.truth tells it."""
    sums = Errors()
    unseen = {name: len(answer["written_ns"]) for name, answer in truth.items()}
    for call in calls:
        name, tokens = "", []
        for at_ns, kind, data in parsing.events(call.chunks):
            if kind == "message_start":
                name = data["message"]["id"]
            elif kind == "content_block_delta":
                tokens.append(at_ns)
        if not tokens or call.failure:
            continue
        written = truth[name]["written_ns"]
        unseen[name] -= len(tokens)
        took_ns = written[0] - truth[name]["read_ns"]
        sums.ttft.add((tokens[0] - call.started_ns - took_ns) / 1e6)
        sums.ttft_sent.add((tokens[0] - call.sent_ns - took_ns) / 1e6)
        seen = zip(tokens, tokens[1:], written, written[1:], strict=False)
        for one, next_one, sent, next_sent in seen:
            sums.gap.add(abs((next_one - one) - (next_sent - sent)) / 1e6)
        for place, at_ns in enumerate(written):
            due_ns = truth[name]["due_ns"] + place * gap_ms * 1e6
            sums.late.add((at_ns - due_ns) / 1e6)
    sums.lost = sum(unseen.values())
    return sums


def measured(truth: Mapping[str, Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """Without the answers of one token that opened the connections."""
    return {name: told for name, told in truth.items() if len(told["written_ns"]) > 1}


def request(url: str, tokens: int) -> Template:
    """What asks the known server for so many tokens."""
    body = json.dumps({
        "model": "known",
        "max_tokens": tokens,
        "stream": True,
        "messages": [{"role": "user", "content": "Tell me about the harbour in a few words."}],
    }).encode()  # fmt: skip
    head = f"POST /v1/messages HTTP/1.1\r\nhost: {urlsplit(url).netloc}\r\n"
    head += f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    return Template(head.encode(), body)


async def play(
    loader: Loader,
    url: str,
    streams: int,
    rounds: int,
    tokens: int,
    over_s: float,
    take: Callable[[CallFrame], Any] = lambda call: None,
    begin: Callable[[], Any] = lambda: None,
) -> tuple[list[CallFrame], LevelEnd]:
    """A closed level against the known server, its connections opened before. Each call is given
    to `take`, those that opened them too; `begin` is called between the two."""
    place = urlsplit(url)
    templates = request(url, 1), request(url, tokens)
    await loader.prepare(Prepared(Address(place.hostname, place.port), templates, ""))
    warm = Level(1, "closed", streams, ((Step(0),),) * streams)
    async for call in loader.level(warm):
        if not isinstance(call, LevelEnd):
            take(call)
    begin()
    level = Level(2, "closed", streams, ((Step(1),),) * (rounds * streams), over_s=over_s)
    calls = []
    async for call in loader.level(level):
        if isinstance(call, LevelEnd):
            return calls, call
        take(call)
        calls.append(call)
    raise AssertionError("a level without an end")


async def bias(streams: int) -> dict[str, Any]:
    """`load_bias` of a session's instrument: {"streams", "ttft_ms": {"p50", "p95", "p99"},
    "gap_mean_ms", "n", "lost"}, within 2 s. Raises LabError where a process does not start."""
    server, loader = known.start(BRIEF), Loader()
    try:
        url = await asyncio.to_thread(known.base_url, server)
        await loader.start()
        calls, _ = await play(loader, url, streams, ROUNDS, BRIEF.tokens, SPREAD_S)
        truth = await asyncio.to_thread(known.truth, url)
    finally:
        await loader.close()
        server.kill()
        await asyncio.to_thread(server.wait)
        server.stdin.close()
        server.stdout.close()
    sums = errors(calls, measured(truth), BRIEF.gap_ms)
    if not len(sums.ttft):
        raise LabError("The loader's own error could not be measured: no call was answered.")
    quantiles = sums.ttft.percentiles(50, 95, 99)
    return {
        "streams": streams,
        "ttft_ms": {f"p{q}": round(value, 4) for q, value in quantiles.items()},
        "gap_mean_ms": round(sum(sums.gap.values) / len(sums.gap), 4),
        "n": len(sums.ttft),
        "lost": sums.lost,
    }
