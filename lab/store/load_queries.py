"""Every question that is asked of a stored load; each answer is a frame, as those of queries."""

from __future__ import annotations

import pandas as pd

from lab.store import json_shapes
from lab.store.store import Store, as_uuid


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
    """By level, the milliseconds between arrivals that carried tokens, over all of them: n, p50,
    p90, p95, p99, mean, most. What came in one read has no gap: 0."""
    rows = _gaps(store, run_id, "")
    if not rows["is_in_order"].all():
        rows = _gaps(store, run_id, "PARTITION BY call_id ORDER BY seq")
    return rows[rows["n"] > 0].drop(columns="is_in_order").reset_index(drop=True)


def _gaps(store: Store, run_id: str, window: str) -> pd.DataFrame:
    """Without a window, in the order in which rows lie in the file: a fifth of the work. Whether
    each call's lay together there, and in their order, is in `is_in_order`."""
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
        of_level AS (
            SELECT
                call.level,
                count(*) FILTER (before_id = call_id)              AS n,
                quantile_cont(
                    CASE WHEN before_id = call_id THEN ms(before_ns, at_ns) END,
                    [0.50, 0.90, 0.95, 0.99]
                )                                                  AS cuts,
                avg(ms(before_ns, at_ns)) FILTER (before_id = call_id) AS mean,
                max(ms(before_ns, at_ns)) FILTER (before_id = call_id) AS most,
                count(*) FILTER (before_id IS DISTINCT FROM call_id)
                    = count(DISTINCT call_id) FILTER (before_id IS DISTINCT FROM call_id)
                    AND coalesce(bool_and(before_seq < seq) FILTER (before_id = call_id), TRUE)
                                                                   AS is_in_order
            FROM arrived
            JOIN (
                SELECT call_id, level FROM load_calls WHERE run_id = $run::UUID
            ) AS call USING (call_id)
            GROUP BY call.level
        )
        SELECT
            level,
            n,
            cuts[1] AS p50,
            cuts[2] AS p90,
            cuts[3] AS p95,
            cuts[4] AS p99,
            mean,
            most,
            is_in_order
        FROM of_level
        ORDER BY level
        """,
        {"run": as_uuid(run_id)},
    )
