"""What each client writes about its answers, read: one `Told` per answer that came whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import duckdb

from bench.peers.bias import Told, gaps_ms


def aiperf(folder: Path) -> list[Told]:
    """profile_export.jsonl. The id is the x-request-id that AIPerf sends with each request."""
    told = []
    for line in (folder / "profile_export.jsonl").read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        about, metrics = record["metadata"], record.get("metrics") or {}
        whole = not record.get("error") and not about.get("was_cancelled")
        if whole and about["benchmark_phase"] == "profiling" and "time_to_first_token" in metrics:
            gaps = metrics.get("inter_chunk_latency")
            told.append(
                Told(
                    about["x_request_id"],
                    metrics["time_to_first_token"]["value"],
                    tuple(gaps["value"]) if gaps else None,
                )
            )
    return told


def guidellm(folder: Path) -> list[Told]:
    """export.json. The id is the answer's, response_id; of the gaps only their mean is kept."""
    export = json.loads((folder / "export.json").read_text(encoding="utf-8"))
    answers = [one for run in export["benchmarks"] for one in run["requests"]["successful"]]
    return [
        Told(
            one["response_id"],
            one["time_to_first_token_ms"],
            itl_ms=one["inter_token_latency_ms"],
        )
        for one in answers
    ]


def stamps(folder: Path) -> list[Told]:
    """stamps.jsonl of the clients in bench/peers/clients: an id, the start and each arrival of a
    token, in ns of one clock."""
    lines = (folder / "stamps.jsonl").read_text(encoding="utf-8").splitlines()
    return [from_instants(**json.loads(line)) for line in lines]


def from_instants(name: str, started_ns: int, tokens_ns: list[int]) -> Told:
    first = (tokens_ns[0] - started_ns) / 1e6 if tokens_ns else None
    return Told(name, first, gaps_ms(tokens_ns))


ANSWERS = """
SELECT
    message_id,
    (first_token_ns - calls.started_ns) / 1e6                              AS ttft_ms,
    list(at_ns ORDER BY seq) FILTER (events.kind = 'text_delta')           AS tokens_ns
FROM calls
    JOIN trials USING (run_id, trial_id)
    LEFT JOIN events USING (run_id, call_id)
WHERE trials.phase = 'load' AND calls.error_kind IS NULL
GROUP BY ALL
"""


def lab(folder: Path) -> list[Told]:
    """The lab's own database. The id is the answer's, message_id."""
    with duckdb.connect(str(folder / "lab.duckdb"), read_only=True) as store:
        rows: list[tuple[Any, ...]] = store.execute(ANSWERS).fetchall()
    return [Told(name, ttft, gaps_ms(at_ns or [])) for name, ttft, at_ns in rows]
