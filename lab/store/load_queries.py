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
    return store.frame(
        """
        WITH arrived AS (
            SELECT
                call_id,
                at_ns,
                lag(at_ns) OVER (PARTITION BY call_id ORDER BY seq) AS before_ns
            FROM events
            WHERE run_id = $run::UUID AND characters > 0
        )
        SELECT
            call.level,
            count(*)                                    AS n,
            quantile_cont(ms(before_ns, at_ns), 0.50)   AS p50,
            quantile_cont(ms(before_ns, at_ns), 0.90)   AS p90,
            quantile_cont(ms(before_ns, at_ns), 0.95)   AS p95,
            quantile_cont(ms(before_ns, at_ns), 0.99)   AS p99,
            avg(ms(before_ns, at_ns))                   AS mean,
            max(ms(before_ns, at_ns))                   AS most
        FROM arrived
        JOIN load_calls AS call ON call.call_id = arrived.call_id
        WHERE before_ns IS NOT NULL AND call.run_id = $run::UUID
        GROUP BY call.level
        """,
        {"run": as_uuid(run_id)},
    )
