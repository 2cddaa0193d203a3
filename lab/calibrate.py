"""How far the instrument can be believed on this machine: its stamps against the simulated server's
own, in a process of its own.

Server and harness read the same monotonic clock, so a stamp can be held against the instant at
which the server wrote the bytes.
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import groupby, pairwise
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

import httpx2
import numpy as np

from lab import clock, endpoint_kinds, paths, processes, units
from lab.instrumentation import parsing
from lab.instrumentation.stamps import OBSERVER, Exchange, transport_for
from lab.local.control import Control
from lab.metrics import QUANTILES, needed
from lab.model import LabError

CALLS = needed(0.99)
"""At each number of streams: as many as a p99 needs for its interval."""
PLAY = {"headers": 5, "text": [10 + 2.5 * piece for piece in range(8)], "done": 30}
BLOCKS = (10, 20, needed(0.95))


class Call(NamedTuple):
    """One call as both sides saw it."""

    late_ms: list[float]
    """For each event: the harness's stamp minus the server's, just before it wrote."""
    ttft_error_ms: float
    """Time to first token from the last byte sent, minus the server's from the last byte
    received."""
    ttft_ms: float


@dataclass(frozen=True)
class Calibration:
    taken_utc: str
    host: str
    cores: int
    timer_ns: int
    """The smallest step of the clock that could be seen."""
    own_error_p95_ms: float
    """Of a time to first token, one stream: an effect below it is greyed."""
    loop_lag_ms: dict[str, float]
    """How late a timer of 5 ms woke, one stream (asyncio's own coarseness included)."""
    errors: list[dict[str, Any]]
    """streams, clock ("arrival", "ttft"), quantile, error_ms, n."""
    detectable_ms: dict[str, float]
    """By number of blocks: half the A/A interval of two identical arms on a server without noise;
    nothing smaller can be seen."""
    seconds: float


def path() -> Path:
    return paths.runtime() / "calibration.json"


def last_calibration() -> dict[str, Any] | None:
    """None where there is none, or where it is another machine's (a shared home)."""
    try:
        calibration = json.loads(path().read_text())
    except (FileNotFoundError, ValueError):
        return None
    return calibration if calibration.get("host") == platform.node() else None


def of_session() -> dict[str, Any]:
    """What a session keeps of it; nothing where this machine was never calibrated."""
    calibration = last_calibration()
    if calibration is None:
        return {}
    return {
        "calibrated_utc": calibration["taken_utc"],
        **{name: calibration[name] for name in ("own_error_p95_ms", "detectable_ms")},
    }


def calibrate(streams: Sequence[int] = (1, 4, 16)) -> Calibration:
    """Measure, keep and return; under a minute. Starts a simulated server of its own, so a run's
    server is left alone."""
    if busy := processes.running():
        raise LabError(
            f"A run of {busy.technique} is being measured; calibrate when it has ended, or each"
            " would slow the other."
        )
    flags = endpoint_kinds.named(endpoint_kinds.SIMULATED).server_flags
    command = paths.module("lab.local", *flags, "--no-spin", "--idle-s", "60")
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=paths.home())
    try:
        line = server.stdout.readline()
        if not line:
            raise LabError(
                "The simulated server did not start, so nothing was measured; `python -m lab.local"
                " --simulated` says why."
            )
        card = json.loads(line)
        calibration = asyncio.run(
            _calibrate(Control(card["base_url"], card["api_key"]), sorted({1, *streams}))
        )
    finally:
        server.terminate()
        server.wait(10)
        server.stdout.close()
    paths.write_private(path(), asdict(calibration))
    return calibration


async def _calibrate(control: Control, streams: Sequence[int]) -> Calibration:
    began = clock.now_ns()
    errors: list[dict[str, Any]] = []
    alone: list[Call] = []
    lags: list[float] = []
    for count in streams:
        calls = -(-CALLS // count) + 1
        control.reset()
        control.plays(*[PLAY] * (count * calls))
        watcher = asyncio.create_task(_watch(lags)) if count == 1 else None
        exchanges = await run_calls(control.base_url, control.api_key, count, calls)
        if watcher:
            watcher.cancel()
        truths = {truth["request_id"]: truth for truth in await asyncio.to_thread(control.truth)}
        stamped = [
            compared(exchange, truths[exchange.headers["request-id"]]) for exchange in exchanges
        ]
        alone = stamped if count == 1 else alone
        errors += [row | {"streams": count} for row in summary(stamped)]
    own = next(
        row["error_ms"]
        for row in errors
        if (row["streams"], row["clock"], row["quantile"]) == (1, "ttft", "p95")
    )
    return Calibration(
        taken_utc=clock.utc_now().isoformat(),
        host=platform.node(),
        cores=os.cpu_count() or 1,
        timer_ns=timer_step_ns(20_000),
        own_error_p95_ms=own,
        loop_lag_ms={name: float(np.quantile(lags, q)) for name, q in QUANTILES.items()},
        errors=errors,
        detectable_ms=detectable([call.ttft_ms for call in alone]),
        seconds=(clock.now_ns() - began) / 1e9,
    )


async def run_calls(base_url: str, key: str, streams: int, calls: int) -> list[Exchange]:
    """So many streams at once, each with its calls one after the other; the first call of each
    opens its connection and is not kept."""
    measured: list[Exchange] = []
    body = {
        "model": "simulated-small",
        "max_tokens": 64,
        "stream": True,
        "messages": [{"role": "user", "content": "calibrate"}],
    }
    async with httpx2.AsyncClient(
        transport=transport_for(base_url),
        base_url=base_url,
        headers={"x-api-key": key, "anthropic-version": "2023-06-01"},
        timeout=30,
    ) as client:

        async def stream() -> None:
            for place in range(calls):
                seen: list[Exchange] = []
                token = OBSERVER.set(seen.append)
                try:
                    (await client.post("/v1/messages", json=body)).raise_for_status()
                finally:
                    OBSERVER.reset(token)
                measured.extend(seen if place else [])

        async with asyncio.TaskGroup() as group:
            for _ in range(streams):
                group.create_task(stream())
    return measured


def compared(exchange: Exchange, truth: dict[str, Any]) -> Call:
    """Events are paired by order; both sides name them by the delta's type."""
    reading = parsing.read(exchange)
    written = [event for event in truth["events"] if event["kind"] != "ping"]
    arrived = [arrival for arrival in reading.arrivals if arrival.kind != "ping"]
    if [event["kind"] for event in written] != [arrival.kind for arrival in arrived]:
        raise LabError(
            "The harness did not see the events that the server wrote; the calibration is void."
        )
    late = [
        (arrival.at_ns - event["at_ns"]) / 1e6
        for arrival, event in zip(arrived, written, strict=True)
    ]
    first = next(event["at_ns"] for event in written if event["kind"] == "text_delta")
    ttft = (reading.first_text_ns - exchange.sent_ns) / 1e6
    return Call(
        late,
        ttft - (first - truth["received_ns"]) / 1e6,
        (reading.first_text_ns - exchange.started_ns) / 1e6,
    )


def summary(calls: Sequence[Call]) -> list[dict[str, Any]]:
    """The size of the error by clock and quantile."""
    rows = []
    for name, values in (
        ("arrival", [late for call in calls for late in call.late_ms]),
        ("ttft", [call.ttft_error_ms for call in calls]),
    ):
        sizes = np.abs(values)
        for quantile, share in QUANTILES.items():
            error_ms = float(np.quantile(sizes, share))
            row = {"clock": name, "quantile": quantile, "error_ms": error_ms, "n": len(values)}
            rows.append(row)
    return rows


def detectable(ttft_ms: Sequence[float]) -> dict[str, float]:
    """Identical calls taken in pairs; the interval's half-width shrinks with √n beyond the pairs
    that were run."""
    # Half a second of imports, for which a worker that only reads the last calibration need not
    # wait.
    from lab import stats

    values = np.asarray(ttft_ms)[: len(ttft_ms) // 2 * 2]
    interval = stats.hodges_lehmann(values[1::2] - values[::2])
    if interval.half_width is None:
        return {}
    return {str(n): float(interval.half_width * np.sqrt(interval.n / n)) for n in BLOCKS}


async def _watch(lags: list[float], every_ms: float = 5.0) -> None:
    while True:
        due = clock.now_ns() + int(every_ms * 1e6)
        await clock.sleep_until(due)
        lags.append((clock.now_ns() - due) / 1e6)


def timer_step_ns(readings: int) -> int:
    """The smallest step that the clock was seen to take; 0 where it took none."""
    stamps = [clock.now_ns() for _ in range(readings)]
    steps = (later - earlier for earlier, later in pairwise(stamps))
    return min(filter(None, steps), default=0)


def start() -> subprocess.Popen:
    """Calibrate in a process of its own, for the dashboard, whose threads would be part of the
    figure; poll() tells when it has ended."""
    return subprocess.Popen(
        paths.module("lab.calibrate"),
        cwd=paths.home(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def lines(calibration: Calibration) -> list[str]:
    """For a console."""
    lag_ms = calibration.loop_lag_ms
    sentences = [
        f"timer step {calibration.timer_ns} ns; 5 ms timers late by {lag_ms['p50']:.2f} ms (p50),"
        f" {lag_ms['p95']:.2f} (p95)"
    ]
    for (streams, name), errors in groupby(calibration.errors, itemgetter("streams", "clock")):
        rows = list(errors)
        shown = ", ".join(f"{row['quantile']} {row['error_ms']:.3f}" for row in rows)
        sentences.append(
            f"{name} error at {units.counted(streams, 'stream')}: {shown} ms (n = {rows[0]['n']})"
        )
    seen = ", ".join(f"{n} blocks: {ms:.3f} ms" for n, ms in calibration.detectable_ms.items())
    return [
        *sentences,
        f"smallest difference two identical arms could show: {seen}",
        f"took {units.duration(calibration.seconds)}",
    ]


if __name__ == "__main__":
    print("\n".join(lines(calibrate())))
