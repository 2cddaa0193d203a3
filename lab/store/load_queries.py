"""Every question that is asked of a stored load; each answer is a frame, as those of queries."""

from __future__ import annotations

import numpy as np
import pandas as pd

from lab.store import json_shapes
from lab.store.store import Store, as_uuid

QUANTILES = {"p50": 0.50, "p90": 0.90, "p95": 0.95, "p99": 0.99}


def levels(store: Store, run_id: str) -> pd.DataFrame:
    """The rows of load_levels in their order, `client` as a dict."""
    rows = store.frame(
        "SELECT * FROM load_levels WHERE run_id = ?::UUID ORDER BY level, session_id",
        [as_uuid(run_id)],
    )
    clients = [json_shapes.facts(json_shapes.parsed(text)) for text in rows["client"]]
    return rows.assign(client=pd.Series(clients, index=rows.index, dtype=object))


def calls(store: Store, run_id: str) -> pd.DataFrame:
    """The view load_calls in the order of the plan, and `due_s`: when each was due, in seconds from
    the first level's start on its session's clock."""
    return store.frame(
        """
        SELECT
            call.* EXCLUDE (trial_id, call_id),
            call.scheduled_ms / 1e3 - began.at_ns / 1e9 AS due_s
        FROM load_calls AS call
        LEFT JOIN (
            SELECT session_id, min(started_ns) AS at_ns
            FROM load_levels
            WHERE run_id = $run::UUID
            GROUP BY session_id
        ) AS began ON began.session_id = call.session_id
        WHERE call.run_id = $run::UUID
        ORDER BY call.level, call.session_id, call.request
        """,
        {"run": as_uuid(run_id)},
    )


def gaps(store: Store, run_id: str) -> pd.DataFrame:
    """By level, the milliseconds between arrivals that carried tokens, in calls that were answered
    well: n, the percentiles p50, p90, p95 and p99 (to a microsecond, interpolated linearly), mean,
    most. What came in one read has no gap: 0."""
    rows = _gaps(store, run_id, "")
    starts = rows[rows["us"].isna()]
    if not rows["is_rising"].all() or not (starts["n"] == starts["calls"]).all():
        rows = _gaps(store, run_id, "PARTITION BY call_id ORDER BY seq")
    known = rows[rows["us"].notna()]
    told = [{"level": level, **_summary(of_level)} for level, of_level in known.groupby("level")]
    return pd.DataFrame(told, columns=["level", "n", *QUANTILES, "mean", "most"])


def _summary(counted: pd.DataFrame) -> dict[str, float]:
    """Of one level's gaps, of which each length is there with how often it occurred."""
    below, n = np.cumsum(counted["n"]), counted["n"].sum()
    places = np.array(list(QUANTILES.values())) * (n - 1)
    low, high = (
        counted["us"].to_numpy()[np.searchsorted(below, side(places), side="right")] / 1e3
        for side in (np.floor, np.ceil)
    )
    at = low + (high - low) * (places % 1)
    mean = counted["sum_ms"].sum() / n
    return {
        "n": n,
        **dict(zip(QUANTILES, at, strict=True)),
        "mean": mean,
        "most": counted["most"].max(),
    }


def _gaps(store: Store, run_id: str, window: str) -> pd.DataFrame:
    """By level and whole microseconds how many gaps there are; without a length the first arrivals,
    and of how many calls they are.

    Without a window, in the order in which rows lie in the file: a fifth of the work, and right
    where each call's lie together and in their order.
    """
    return store.frame(
        f"""
        WITH arrived AS (
            SELECT
                call_id,
                seq,
                at_ns,
                lag(call_id) OVER ({window}) AS before_id,
                lag(seq) OVER ({window})     AS before_seq,
                lag(at_ns) OVER ({window})   AS before_ns
            FROM events
            WHERE run_id = $run::UUID AND characters > 0
        ),
        measured AS (
            SELECT
                call.level,
                arrived.call_id,
                arrived.before_id = arrived.call_id AS goes_on,
                before_seq < seq                    AS is_rising,
                ms(before_ns, at_ns)                AS gap_ms
            FROM arrived
            JOIN (SELECT call_id, level FROM load_calls WHERE run_id = $run::UUID AND ok) AS call
                ON call.call_id = arrived.call_id
        ),
        counted AS (
            SELECT
                level,
                CASE WHEN goes_on THEN round(gap_ms * 1e3) END AS us,
                count(*)                                       AS n,
                sum(gap_ms)                                    AS sum_ms,
                max(gap_ms)                                    AS most,
                bool_and(is_rising OR goes_on IS NOT TRUE)     AS is_rising
            FROM measured
            GROUP BY ALL
        )
        SELECT counted.*, started.calls
        FROM counted
        LEFT JOIN (
            SELECT level, count(DISTINCT call_id) AS calls
            FROM measured
            WHERE goes_on IS NOT TRUE
            GROUP BY level
        ) AS started ON started.level = counted.level
        ORDER BY counted.level, us
        """,
        {"run": as_uuid(run_id)},
    )
