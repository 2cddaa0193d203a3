"""What is asked of a stored ladder beside what is asked of every run."""

from __future__ import annotations

import pandas as pd

from lab.store.store import Store, as_uuid


def trials(store: Store, run_id: str, metric: str) -> pd.DataFrame:
    """A row for each screened and measured trial, in their order: block, arm, phase, outcome,
    task_id, value (of the metric, in ms), quality, served_usd and why.

    `served_usd` is what the calls cost that somebody waits for: a prime was paid by whoever asked
    before, once for many.
    """
    if not metric.isidentifier():
        raise ValueError(metric)
    return store.frame(
        f"""
        SELECT
            trial.block,
            trial.arm,
            trial.phase,
            trial.outcome,
            trial.task_id,
            trial.{metric}                       AS value,
            trial.quality,
            served.usd                           AS served_usd,
            coalesce(trial.error_text, trial.error_kind) AS why
        FROM trial_metrics AS trial
        LEFT JOIN (
            SELECT
                trial_id,
                -- A sum with an unknown price in it is unknown.
                CASE WHEN count(cost_usd) = count(*) THEN sum(cost_usd) END AS usd
            FROM calls
            WHERE run_id = $run::UUID AND role NOT IN ('prime', 'check')
            GROUP BY trial_id
        ) AS served ON served.trial_id = trial.trial_id
        WHERE trial.run_id = $run::UUID AND trial.phase IN ('screened', 'measured')
        ORDER BY trial.block, trial.position
        """,
        {"run": as_uuid(run_id)},
    )
