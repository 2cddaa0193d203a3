"""Calls of a load as tables: each is a trial of its own, with a span around its call's."""

from __future__ import annotations

import os
import uuid
from collections.abc import Sequence
from datetime import datetime
from operator import attrgetter
from typing import Any

import numpy as np
import pyarrow as pa

from lab import scrub
from lab.load.plain_streams import Arrivals
from lab.load.profile import CANCELLED, WARM_UP, OfTrial
from lab.model import LOAD
from lab.rows import CallRow, EventRow
from lab.store import row_batches
from lab.store.row_batches import Batch

IDS = {"call_id", "trial_id", "run_id", "session_id", "span_id"}


def batch(
    calls: Sequence[CallRow],
    of_trials: Sequence[OfTrial],
    arrivals: Sequence[Arrivals],
    origin_ns: int,
    origin_utc: datetime,
) -> Batch:
    """Of calls of one session, of which each list has one. Ids are new, and sort by the calls'
    starts; instants of rows count from the origin, those of arrivals become so."""
    count = len(calls)
    started_ns = np.array([call.started_ns for call in calls], np.int64)
    ended_ns = np.array([call.ended_ns for call in calls], np.int64)
    wall_ns = started_ns + round(origin_utc.timestamp() * 1e6) * 1000
    ids = {
        "run_id": _same(calls[0].run_id, count),
        "session_id": _same(calls[0].session_id, count),
        "trial_id": _new(wall_ns),
    }
    call_ids = {"call_id": _new(wall_ns), "span_id": _new(wall_ns)}
    clock = {"started_ns": started_ns, "ended_ns": ended_ns}
    return Batch(
        _trials(calls, of_trials, ids | clock, wall_ns),
        _calls(calls, ids | call_ids),
        _spans(of_trials, ids, _new(wall_ns), call_ids["span_id"], clock),
        _events(arrivals, ids["run_id"], call_ids["call_id"], origin_ns),
    )


def _trials(
    calls: Sequence[CallRow],
    of_trials: Sequence[OfTrial],
    known: dict[str, Any],
    wall_ns: np.ndarray,
) -> pa.Table:
    columns = {
        "technique": [LOAD] * len(calls),
        "arm": [trial.label for trial in of_trials],
        "block": [trial.level for trial in of_trials],
        "position": [trial.request for trial in of_trials],
        "attempt": [1] * len(calls),
        "phase": ["warmup" if trial.level == WARM_UP else LOAD for trial in of_trials],
        "task_id": [trial.task_id for trial in of_trials],
        "started_utc": pa.array(wall_ns // 1000).cast(pa.timestamp("us", "UTC")),
        "outcome": [OUTCOMES.get(call.error_kind, "failed") for call in calls],
        "error_kind": [call.error_kind for call in calls],
        "error_text": [call.error_text for call in calls],
        "cost_usd": [call.cost_usd for call in calls],
    }
    return row_batches.table("trials", columns | _uuids(known))


OUTCOMES = {None: "ok", CANCELLED: "cancelled"}


def _calls(calls: Sequence[CallRow], ids: dict[str, np.ndarray]) -> pa.Table:
    names = [name for name in CallRow.__dataclass_fields__ if name not in IDS]
    columns = {name: list(map(attrgetter(name), calls)) for name in names}
    return row_batches.table("calls", columns | _uuids(ids))


def _spans(
    of_trials: Sequence[OfTrial],
    ids: dict[str, np.ndarray],
    roots: np.ndarray,
    span_ids: np.ndarray,
    clock: dict[str, np.ndarray],
) -> pa.Table:
    """A root each, and then the call's."""
    count = len(of_trials)
    twice = {name: np.concatenate([values, values]) for name, values in (ids | clock).items()}
    parents = pa.concat_arrays([pa.nulls(count, pa.uuid()), _uuid(roots)])
    columns = {
        "span_id": _uuid(np.concatenate([roots, span_ids])),
        "parent_id": parents,
        "kind": ["trial"] * count + ["call"] * count,
        "name": [trial.label for trial in of_trials] + ["answer"] * count,
    }
    return row_batches.table("spans", columns | _uuids(twice))


def _events(
    arrivals: Sequence[Arrivals], run_ids: np.ndarray, call_ids: np.ndarray, origin_ns: int
) -> pa.Table:
    counts = np.array([len(one.kinds) for one in arrivals], np.int64)
    total = int(counts.sum())
    kinds, codes = _coded(arrivals)
    columns = {
        "call_id": _uuid(np.repeat(call_ids, counts, axis=0)),
        "run_id": _uuid(np.repeat(run_ids, counts, axis=0)),
        "seq": np.arange(total, dtype=np.int32)
        - np.repeat(np.cumsum(counts) - counts, counts).astype(np.int32),
        "at_ns": np.concatenate([one.at_ns for one in arrivals]) - origin_ns,
        "kind": pa.DictionaryArray.from_arrays(codes, kinds),
        "characters": np.fromiter(
            (length for one in arrivals for length in one.characters), np.int64, total
        ),
    }
    if any(one.texts for one in arrivals):
        columns["text"] = [text for one in arrivals for text in _scrubbed(one)]
    return row_batches.table("events", columns)


def _coded(arrivals: Sequence[Arrivals]) -> tuple[pa.Array, pa.Array]:
    """Each kind once, and of each event which."""
    places: dict[str, int] = {}
    codes = [places.setdefault(kind, len(places)) for one in arrivals for kind in one.kinds]
    return pa.array(list(map(scrub.word, places)), pa.string()), pa.array(codes, pa.int32())


def _scrubbed(arrivals: Arrivals) -> list[str | None]:
    """Its texts, without a key in or across them."""
    if not arrivals.texts:
        return [None] * len(arrivals.kinds)
    parts = zip(arrivals.kinds, arrivals.characters, arrivals.texts, strict=True)
    events = [EventRow("", "", 0, 0, *part) for part in parts]
    scrub.events(events)
    return [event.text or None for event in events]


# Ids


def _new(wall_ns: np.ndarray) -> np.ndarray:
    """A UUIDv7 for each instant, a row of 16 bytes; below the millisecond the instant stands in the
    twelve bits behind it (RFC 9562, 6.2, method 3)."""
    ms, below = np.divmod(wall_ns.astype(np.uint64), np.uint64(1_000_000))
    high = (ms << np.uint64(16)) | np.uint64(0x7000) | (below * np.uint64(4096)) // np.uint64(10**6)
    low = np.frombuffer(os.urandom(8 * len(wall_ns)), np.uint64) >> np.uint64(2)
    low = low | np.uint64(1 << 63)
    return np.stack([high, low], axis=1).astype(">u8").view(np.uint8).reshape(-1, 16)


def _same(id: str, count: int) -> np.ndarray:
    return np.tile(np.frombuffer(uuid.UUID(id).bytes, np.uint8), (count, 1))


def _uuid(ids: np.ndarray) -> pa.Array:
    buffer = pa.py_buffer(np.ascontiguousarray(ids))
    storage = pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), len(ids), [None, buffer])
    return pa.ExtensionArray.from_storage(pa.uuid(), storage)


def _uuids(columns: dict[str, np.ndarray]) -> dict[str, Any]:
    """Those of them that are ids as such, the others as they are."""
    return {name: _uuid(v) if name.endswith("_id") else v for name, v in columns.items()}
