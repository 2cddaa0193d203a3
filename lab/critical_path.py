"""What a trial waited for: the critical path through its spans."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import pandas as pd

WAITS = {"call": "model", "tool": "tool", "join": "join"}
KINDS = ("model", "tool", "join", "own")
Span = dict[str, Any]


def critical_path(spans: pd.DataFrame) -> pd.DataFrame:
    """From the root's end back through the child that finished last; time that no child covers is
    the parent's own.

    Takes the spans of one trial. Gives, in order of time, span_id, kind (model, tool, join, own),
    name, and started_ms, ended_ms and ms from the trial's start. The pieces touch without gap or
    overlap, so their ms add up to the trial's wall time.
    """
    columns = ["span_id", "kind", "name", "started_ms", "ended_ms", "ms"]
    pieces = on_the_path(spans.to_dict("records"))
    origin = pieces[0][1] if pieces else 0
    return pd.DataFrame(
        [
            (
                span["span_id"],
                WAITS.get(span["kind"], "own"),
                span["name"],
                (begin - origin) / 1e6,
                (end - origin) / 1e6,
                (end - begin) / 1e6,
            )
            for span, begin, end in pieces
        ],
        columns=columns,
    )


def on_the_path(rows: Sequence[Span]) -> list[tuple[Span, int, int]]:
    """The same without frames: each piece's span, begin and end in ns, in order of time; none where
    the root has no end."""
    root = next((row for row in rows if pd.isna(row["parent_id"])), None)
    if root is None or pd.isna(root["ended_ns"]):
        return []
    children: dict[str, list[Span]] = defaultdict(list)
    for row in rows:
        if row is not root:
            # A span that was cut off lasted as long as its trial.
            end = root["ended_ns"] if pd.isna(row["ended_ns"]) else row["ended_ns"]
            children[row["parent_id"]].append({**row, "ended_ns": end})
    pieces: list[tuple[Span, int, int]] = []

    def walk(span: Span, begin: int, end: int) -> None:
        cursor = end
        last_first = sorted(
            children[span["span_id"]],
            key=lambda child: (child["ended_ns"], child["started_ns"]),
            reverse=True,
        )
        for child in last_first:
            child_begin = max(int(child["started_ns"]), begin)
            child_end = min(int(child["ended_ns"]), cursor)
            if child_begin >= child_end:
                continue
            if child_end < cursor:
                pieces.append((span, child_end, cursor))
            walk(child, child_begin, child_end)
            cursor = child_begin
        if begin < cursor:
            pieces.append((span, begin, cursor))

    walk(root, int(root["started_ns"]), int(root["ended_ns"]))
    return pieces[::-1]


def waited_for(spans: pd.DataFrame) -> dict[str, float]:
    """Milliseconds of the critical path by kind; together the trial's wall time."""
    return by_kind(critical_path(spans))


def by_kind(path: pd.DataFrame) -> dict[str, float]:
    return {kind: float(path.loc[path["kind"] == kind, "ms"].sum()) for kind in KINDS}
