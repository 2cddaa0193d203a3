"""Calibration against a server that shares no code with the lab: `python -m bench.known_delay`.

A bare asyncio.Protocol answers any POST with a stream whose pieces are written at set delays; it
stamps its own writes. The harness's error against these stamps must agree with its error against
the simulated server's to 0.3 ms.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time

from lab import calibrate

DELAYS_MS = [10, 20, 25, 30, 35, 40, 45, 50, 55, 60]
EVENTS = [
    (
        "message_start",
        {
            "type": "message_start",
            "message": {
                "id": "msg_1",
                "role": "assistant",
                "content": [],
                "usage": {"input_tokens": 1, "output_tokens": 1},
            },
        },
    ),
    (
        "content_block_start",
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    ),
    *[
        (
            "content_block_delta",
            {
                "type": "content_block_delta",
                "index": 0,
                "delta": {"type": "text_delta", "text": "word "},
            },
        )
    ]
    * 7,
    ("message_stop", {"type": "message_stop"}),
]
HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding:"
    b" chunked\r\nrequest-id: %s\r\n\r\n"
)


class KnownDelay(asyncio.Protocol):
    """One request at a time on a kept connection; `truths` gets what was written when, by request
    id."""

    truths: dict[str, dict] = {}  # noqa: RUF012

    def connection_made(self, transport: asyncio.Transport) -> None:
        self.transport, self.buffer = transport, b""

    def data_received(self, data: bytes) -> None:
        at = time.perf_counter_ns()
        self.buffer += data
        head, found, body = self.buffer.partition(b"\r\n\r\n")
        length = next(
            (
                int(line.split(b":")[1])
                for line in head.split(b"\r\n")
                if line.lower().startswith(b"content-length")
            ),
            0,
        )
        if found and len(body) >= length:
            self.buffer = b""
            self.task = asyncio.get_running_loop().create_task(self.answer(at))

    async def answer(self, received_ns: int) -> None:
        name = f"r{len(self.truths)}"
        truth = self.truths[name] = {"request_id": name, "received_ns": received_ns, "events": []}
        self.transport.write(HEAD % name.encode())
        for delay, (kind, data) in zip(DELAYS_MS, EVENTS, strict=True):
            await asyncio.sleep(
                max(0.0, (received_ns + delay * 1_000_000 - time.perf_counter_ns()) / 1e9)
            )
            payload = f"event: {kind}\ndata: {json.dumps(data)}\n\n".encode()
            truth["events"].append(
                {"kind": data.get("delta", {}).get("type") or kind, "at_ns": time.perf_counter_ns()}
            )
            self.transport.write(b"%x\r\n%s\r\n" % (len(payload), payload))
        self.transport.write(b"0\r\n\r\n")


def serve(ready: threading.Event, port: list[int], stop: threading.Event) -> None:
    async def main() -> None:
        server = await asyncio.get_running_loop().create_server(KnownDelay, "127.0.0.1", 0)
        port.append(server.sockets[0].getsockname()[1])
        ready.set()
        await asyncio.to_thread(stop.wait)
        server.close()

    asyncio.run(main())


def outside(streams: int, calls: int) -> list[calibrate.Call]:
    """The harness against the outside server, which runs on a thread with a loop of its own."""
    ready, stop, port = threading.Event(), threading.Event(), []
    KnownDelay.truths.clear()
    thread = threading.Thread(target=serve, args=(ready, port, stop))
    thread.start()
    ready.wait()
    try:
        exchanges = asyncio.run(
            calibrate.run_calls(f"http://127.0.0.1:{port[0]}", "none", streams, calls)
        )
    finally:
        stop.set()
        thread.join()
    return [
        calibrate.compared(one, KnownDelay.truths[one.headers["request-id"]]) for one in exchanges
    ]


def main() -> None:
    inside = calibrate.calibrate((1,))
    found = {
        (row["clock"], row["quantile"]): row["error_ms"]
        for row in calibrate.summary(outside(1, 60))
    }
    print("clock    quantile  simulated  outside  apart (ms)")
    apart = []
    for row in inside.errors:
        other = found[row["clock"], row["quantile"]]
        apart.append(abs(row["error_ms"] - other))
        print(
            f"{row['clock']:8} {row['quantile']:8} {row['error_ms']:9.3f} {other:8.3f}"
            f" {apart[-1]:8.3f}"
        )
    print(f"greatest difference: {max(apart):.3f} ms")


if __name__ == "__main__":
    main()
