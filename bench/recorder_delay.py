"""What the recorder adds: the same calls with it and without it, in pairs, in one run: `python -m
bench.recorder_delay [--pairs N] [--streams 1,16]`.

The simulated server writes each event at a set instant and stamps it; a client on the lab's stamps
asks it directly, directly once more and through a recorder, in an order drawn each time. Prints,
for each number of streams, what a call takes longer with it (to the first token and to each event,
as the difference within a pair; and the same of the two without it, below which nothing can be
seen), by how much a gap between two events comes out wrong, and how soon the server sees that a
client has hung up. Ends with 1 where a p95 of the recorder's own part is 2 ms or more, or a
gap's error at one stream 1 ms or more, or a cancel takes more than 100 ms.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import threading
import time
from itertools import pairwise

import httpx2
import numpy as np

from bench.raw_server import RawServer
from lab import calibrate, paths, recorder
from lab.instrumentation import parsing
from lab.instrumentation.stamps import OBSERVER, Exchange, transport_for
from lab.local.control import Control
from lab.store.store import Store

PLAY = {"headers": 5, "text": [10 + 5.0 * piece for piece in range(20)], "done": 110}
BODY = {
    "model": "simulated-small",
    "max_tokens": 64,
    "stream": True,
    "messages": [{"role": "user", "content": "calibrate " * 400}],
}
WAYS = ("direct", "again", "through")
MOST_ADDED_MS, MOST_GAP_MS, MOST_CANCEL_MS = 2.0, 1.0, 100.0


class Asked:
    """A client with one kept connection to each of the two ways."""

    def __init__(self, direct: str, through: str, key: str) -> None:
        self.clients = {
            way: httpx2.AsyncClient(
                transport=transport_for(url),
                base_url=url,
                headers={"x-api-key": key, "anthropic-version": "2023-06-01"},
                timeout=30,
            )
            for way, url in (("direct", direct), ("through", through))
        }

    async def call(self, way: str) -> Exchange:
        seen: list[Exchange] = []
        token = OBSERVER.set(seen.append)
        try:
            (await self.clients[way].post("/v1/messages", json=BODY)).raise_for_status()
        finally:
            OBSERVER.reset(token)
        return seen[0]

    async def close(self) -> None:
        for client in self.clients.values():
            await client.aclose()


async def stream(asked: Asked, pairs: int, rng: random.Random) -> list[dict[str, Exchange]]:
    """Pairs, one call after the other at times of their own; the first opens the connections and
    is not kept."""
    made = []
    for place in range(pairs + 1):
        pair = {}
        for way in rng.sample(WAYS, k=len(WAYS)):
            await asyncio.sleep(rng.uniform(0, 0.05))
            pair[way] = await asked.call("through" if way == "through" else "direct")
        made += [pair] if place else []
    return made


async def measured(control: Control, through: str, streams: int, pairs: int) -> list[dict]:
    """In ms, by pair: each way's first token after the server's, each event's lateness, its gaps'
    errors."""
    control.reset()
    each = -(-pairs // streams)
    control.plays(*[PLAY] * (len(WAYS) * streams * (each + 1)))
    clients = [Asked(control.base_url, through, control.api_key) for _ in range(streams)]
    rngs = (random.Random(number) for number in range(streams))
    done = await asyncio.gather(*map(stream, clients, [each] * streams, rngs))
    for client in clients:
        await client.close()
    truths = {truth["request_id"]: truth for truth in await asyncio.to_thread(control.truth)}
    return [
        {way: compared(exchange, truths) for way, exchange in pair.items()}
        for pairs in done
        for pair in pairs
    ]


def compared(exchange: Exchange, truths: dict) -> dict[str, float | list[float]]:
    truth = truths[exchange.headers["request-id"]]
    call = calibrate.compared(exchange, truth)
    reading = parsing.read(exchange)
    first = next(event["at_ns"] for event in truth["events"] if event["kind"] == "text_delta")
    served_ns = first - truth["received_ns"]
    return {
        # From the start of the request, but for the server's own time: both directions.
        "first_token": (reading.first_text_ns - exchange.started_ns - served_ns) / 1e6,
        "late": call.late_ms,
        "gaps": [abs(after - before) for before, after in pairwise(call.late_ms)],
    }


def cancel_ms(recorder_for, tries: int) -> list[float]:
    """From a client's hanging up to the server's seeing it, through a recorder."""
    seen: list[float] = []
    ended = threading.Event()

    def answer(connection) -> None:
        connection.head(200, "text/event-stream", transfer_encoding="chunked")
        connection.chunk(b'event: ping\ndata: {"type": "ping"}\n\n')
        try:
            while connection.sock.recv(4096):
                pass
        except OSError:
            pass
        seen.append(time.monotonic())
        ended.set()

    took = []
    body = json.dumps(BODY).encode()
    head = f"POST /v1/messages HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n"
    with RawServer(answer) as server:
        card = recorder_for(server.url)
        for _ in range(tries):
            ended.clear()
            with socket.create_connection(("127.0.0.1", card.port)) as sock:
                sock.sendall(head.encode() + body)
                sock.recv(65536)
                at = time.monotonic()
            if not ended.wait(5):
                took.append(5000.0)
                continue
            took.append((seen[-1] - at) * 1000)
        recorder.stop(card.run_id)
    return took


def quantiles(values: list[float]) -> str:
    p50, p95, p99 = np.quantile(values, [0.5, 0.95, 0.99])
    return f"p50 {p50:7.3f}  p95 {p95:7.3f}  p99 {p99:7.3f} ms  (n = {len(values):,})"


def main() -> int:
    flags = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    flags.add_argument("--pairs", type=int, default=200, help="calls with and without, each time")
    flags.add_argument("--streams", default="1,16", help="how many at once")
    chosen = flags.parse_args()
    folder = tempfile.mkdtemp(prefix="lab-rec-")
    os.environ |= {
        "LAB_RUNTIME": f"{folder}/r",
        "LAB_SETTINGS": f"{folder}/s",
        "LAB_DB": f"{folder}/lab.duckdb",
    }
    from lab.endpoints import consent

    def recorder_for(url: str) -> recorder.Card:
        consent.allow(url, key=False)
        return recorder.start(url)

    command = paths.module("lab.local", "--simulated", "--no-spin", "--idle-s", "600")
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=paths.home())
    wrong = []
    try:
        served = json.loads(server.stdout.readline())
        control = Control(served["base_url"], served["api_key"])
        for streams in map(int, chosen.streams.split(",")):
            card = recorder_for(control.base_url)
            pairs = asyncio.run(measured(control, card.url, streams, chosen.pairs))
            recorder.stop(card.run_id)
            added, floor = (
                [pair[way]["first_token"] - pair["direct"]["first_token"] for pair in pairs]
                for way in ("through", "again")
            )
            late, late_floor = (
                [
                    there - here
                    for pair in pairs
                    for there, here in zip(pair[way]["late"], pair["direct"]["late"], strict=True)
                ]
                for way in ("through", "again")
            )
            gaps = {
                way: [gap for pair in pairs for gap in pair[way]["gaps"]]
                for way in ("direct", "through")
            }
            rows = Store().frame(
                "SELECT added_request_ns / 1e6 AS request, added_reply_ns / 1e6 AS reply"
                " FROM recorded_calls WHERE run_id = ?::UUID",
                [card.run_id],
            )
            own = list((rows["request"] + rows["reply"]).dropna())
            print(f"\n{streams} stream{'s' if streams > 1 else ''}")
            print(f"  first token, with − without     {quantiles(added)}")
            print(f"  first token, without − without  {quantiles(floor)}")
            print(f"  each event, with − without      {quantiles(late)}")
            print(f"  each event, without − without   {quantiles(late_floor)}")
            print(f"  its own work, as it says itself {quantiles(own)}")
            print(f"  a gap's error without it        {quantiles(gaps['direct'])}")
            print(f"  a gap's error with it           {quantiles(gaps['through'])}", flush=True)
            if np.quantile(added, 0.95) >= MOST_ADDED_MS:
                wrong.append(f"at {streams} streams it adds {np.quantile(added, 0.95):.2f} ms")
            if streams == 1 and np.quantile(gaps["through"], 0.95) >= MOST_GAP_MS:
                wrong.append(f"a gap is wrong by {np.quantile(gaps['through'], 0.95):.2f} ms")
        took = cancel_ms(recorder_for, 100)
        print(f"\n  a cancel seen upstream after    {quantiles(took)}, at most {max(took):.1f} ms")
        if max(took) > MOST_CANCEL_MS:
            wrong.append(f"a cancel took {max(took):.0f} ms")
    finally:
        server.terminate()
        server.wait(10)
    for line in wrong:
        print(f"wrong: {line}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
