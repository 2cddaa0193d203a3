"""Whether the seconds that a recording predicts for a cache miss are those that a replay measures:
`python -m bench.predicted_misses [--misses 100] [--minutes 60] [--seed 1]
[--simulated] [--rows FILE.json]`.

An application asks the embedded model about texts of different lengths; in front of each text
stands a piece that changes with every other call, so that the cache misses. The calls are recorded,
and the recording's own relation predicts what each miss cost. After each conversation its misses
are replayed in pairs, in random order: with a new beginning, and with one that was written before.
Prints how often the measured difference lies in the predicted interval.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scipy import stats

from lab import clock, endpoint_kinds, new_recording, recordings
from lab.endpoints.client import open_client
from lab.endpoints.registry import Endpoint
from lab.instrumentation import parsing
from lab.instrumentation.stamps import OBSERVER, Exchange
from lab.recording.scribe import Scribe, Seen
from lab.store.store import Store

SENTENCE = "The lighthouse keeper wrote in the log that the wind had turned. "
QUESTIONS = (
    "Who wrote?",
    "What had turned, and who noted it down?",
    "Say in a word what the log is about.",
)
FEWEST, MOST = 21, 32
"""Sentences of a text; the server caches prefixes from 256 tokens on, some twenty sentences."""
MISSES_EACH = 5
CLOCKS = tuple(name for name in parsing.Reading.__dataclass_fields__ if name.endswith("_ns"))
STAMPS = ("dns_ns", "connected_ns", "tls_ns", "sent_ns", "headers_ns", "ended_ns")


class App:
    """Asks, and keeps each call as a recording does."""

    def __init__(self, store: Store, endpoint: Endpoint, name: str) -> None:
        self.store, self.client = store, open_client(endpoint)
        self.model = endpoint.model_for("small")
        self.run, session = new_recording.begin(
            store, "client", endpoint.name, endpoint.kind, name=name
        )
        self.scribe = Scribe(
            self.run.run_id,
            session.session_id,
            "client",
            endpoint.name,
            new_recording.hasher(),
            priced=False,
        )
        self.origin_ns = clock.now_ns()

    async def ask(self, opening: str, text: str, question: str) -> tuple[str, float, Mapping]:
        """(call_id, ms from the request's sending to the first token, usage)"""
        system = {"type": "text", "text": f"[{opening}] {text}"}
        body = {
            "model": self.model,
            "max_tokens": 2,
            "stream": True,
            "system": [{**system, "cache_control": {"type": "ephemeral"}}],
            "messages": [{"role": "user", "content": question}],
        }
        exchanges: list[Exchange] = []
        token, started_utc = OBSERVER.set(exchanges.append), clock.utc_now()
        try:
            async for _ in await self.client.messages.create(**body):
                pass
        finally:
            OBSERVER.reset(token)
        exchange = exchanges[0]
        exchange.close(clock.now_ns())
        reading = parsing.read(exchange)
        stamps = {name: getattr(exchange, name) for name in STAMPS}
        stamps |= {name: getattr(reading, name) for name in CLOCKS}
        call = {name: at and at - self.origin_ns for name, at in stamps.items()}
        finished = self.scribe.rows(
            Seen(
                started_utc=started_utc,
                started_ns=exchange.started_ns - self.origin_ns,
                body=body,
                content=reading.content,
                call=call | {"served_model": reading.model, "message_id": reading.message_id},
                usage=reading.usage,
            )
        )
        self.store.keep(finished)
        first_ms = (reading.first_token_ns - exchange.sent_ns) / 1e6
        return finished.calls[0].call_id, first_ms, reading.usage


async def conversation(
    app: App, replay: App, rng: random.Random, misses: int
) -> list[dict[str, Any]]:
    """Record one, replay its misses: a row for each."""
    text = SENTENCE * rng.randint(FEWEST, MOST)

    def opening() -> str:
        return f"{rng.randrange(10**12):012}"

    await app.ask(opening(), text, rng.choice(QUESTIONS))
    missed = []
    for _ in range(misses):
        now = opening()
        call_id, *_ = await app.ask(now, text, question := rng.choice(QUESTIONS))
        await app.ask(now, text, rng.choice(QUESTIONS))
        missed.append((call_id, question))
    rows = []
    for call_id, question in missed:
        new = opening()
        rows.append({"call_id": call_id, **await pair(replay, rng, (now, new), text, question)})
        now = new
    return rows


async def pair(
    replay: App, rng: random.Random, openings: tuple[str, str], text: str, question: str
) -> dict[str, Any]:
    """The tokens that the hit of a pair read, and how many seconds longer the miss took. Of the
    openings the first has been written; the second is new, and after the miss it can be read."""
    known, new = openings
    if hit_first := rng.random() < 0.5:
        _, hit_ms, read = await replay.ask(known, text, question)
    _, miss_ms, written = await replay.ask(new, text, question)
    if not hit_first:
        _, hit_ms, read = await replay.ask(new, text, question)
    if written["cache_read_input_tokens"] or not read["cache_read_input_tokens"]:
        raise SystemExit("A miss read from the cache, or a hit did not.")
    return {
        "read": read["cache_read_input_tokens"],
        "hit_first": hit_first,
        "measured_s": (miss_ms - hit_ms) / 1000,
    }


async def record(
    store: Store, endpoint: Endpoint, misses: int, minutes: float, seed: int
) -> tuple[str, list]:
    rng, rows, until_ns = random.Random(seed), [], clock.now_ns() + int(minutes * 60e9)
    app, replay = App(store, endpoint, "app"), App(store, endpoint, "replay")
    await app.ask("warm up", "Warm up.", "Ready?")
    while len(rows) < misses and clock.now_ns() < until_ns:
        rows += await conversation(app, replay, rng, min(MISSES_EACH, misses - len(rows)))
        print(f"\r{len(rows)} of {misses} misses", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    for opened in (app, replay):
        await opened.client.close()
    store.write_trials([])
    return app.run.run_id, rows


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--misses", type=int, default=100)
    flags.add_argument("--minutes", type=float, default=60, help="begins no conversation after")
    flags.add_argument("--seed", type=int, default=1)
    flags.add_argument(
        "--simulated", action="store_true", help="the simulated server, with noise of a known size"
    )
    flags.add_argument("--rows", type=Path, help="also write each miss as JSON")
    given = flags.parse_args()
    kind = endpoint_kinds.kind("simulated" if given.simulated else "local")
    with (
        tempfile.TemporaryDirectory() as folder,
        subprocess.Popen(
            [sys.executable, "-m", "lab.local", *kind.server_flags],
            stdout=subprocess.PIPE,
            text=True,
        ) as server,
    ):
        os.environ["LAB_SETTINGS"] = folder
        card = json.loads(server.stdout.readline())
        endpoint = Endpoint(
            kind.name, kind.name, card["base_url"], api_key=card["api_key"], models=kind.models
        )
        store = Store(Path(folder) / "lab.duckdb")
        started_ns = clock.now_ns()
        try:
            run_id, rows = asyncio.run(
                record(store, endpoint, given.misses, given.minutes, given.seed)
            )
        finally:
            server.terminate()
        took_s = (clock.now_ns() - started_ns) / 1e9
        recording = recordings.read(store, run_id)
        tell(recording, rows, took_s, given.rows)


def tell(
    recording: recordings.Recording, rows: list[dict[str, Any]], took_s: float, file: Path | None
) -> None:
    if file:
        calls = recording.calls.to_json(date_format="iso")
        file.write_text(json.dumps({"rows": rows, "calls": calls}))
    seconds = {miss.call_id: (miss.cause, miss.seconds) for miss in recording.misses}
    for row in rows:
        row["cause"], estimate = seconds.get(row["call_id"], ("no miss", None))
        row["low"], row["predicted_s"], row["high"] = (
            (estimate.low, estimate.value, estimate.high) if estimate else (None, None, None)
        )
    told = [row for row in rows if row["low"] is not None]
    slope = recording.relation.ms_per_1000_missed
    print(
        f"{recording.relation.calls} recorded calls: {slope.value:,.0f} ms per 1,000 tokens that "
        f"were not read [{slope.low:,.0f}, {slope.high:,.0f}]; {took_s / 60:.0f} min"
    )
    if not told:
        raise SystemExit("No planted miss was found in the recording.")
    inside = sum(row["low"] <= row["measured_s"] <= row["high"] for row in told)
    exact = stats.binomtest(inside, len(told)).proportion_ci(0.95, "exact")
    median = {
        name: statistics.median(row[name] for row in told) for name in ("predicted_s", "measured_s")
    }
    width = statistics.median(row["high"] - row["low"] for row in told)
    below = sum(row["measured_s"] < row["low"] for row in told)
    print(f"{'misses':>7} {'told':>5} {'inside':>7} {'share':>6}  95 % of it   below above")
    print(
        f"{len(rows):7} {len(told):5} {inside:7} {inside / len(told):6.1%}  "
        f"{exact.low:.1%}–{exact.high:.1%}  {below:5} {len(told) - inside - below:5}"
    )
    print(
        f"median: predicted {median['predicted_s']:.2f} s, measured {median['measured_s']:.2f} s, "
        f"interval {width:.2f} s wide"
    )


if __name__ == "__main__":
    main()
