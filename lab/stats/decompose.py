"""Where a difference in total time comes from, so that "faster" and "only shorter" are told
apart."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from lab.stats.intervals import hodges_lehmann
from lab.stats.paired_rows import ArmPairs, arm_pairs


class Parts(NamedTuple):
    """Mean differences in ms that sum to `total` exactly: Δtotal = Δconnection + Δwait + Δtokens ×
    gap + Δgap × tokens."""

    connection: float
    wait: float
    """To the first token, without the connection."""
    tokens: float
    """More or fewer tokens, each at the mean gap of the two trials."""
    gap: float
    """Slower or faster tokens, for the mean number of tokens of the two trials."""
    total: float
    n: int


def decompose(
    rows: pd.DataFrame | ArmPairs, connections: pd.DataFrame | None = None
) -> Parts | None:
    """One arm's rows of pair_differences, of trials with one answer each; None where either arm
    does not stream.

    `connections` (trial_id, connection_ms) splits the connection off the wait. With a midpoint gap
    and a midpoint count the two products sum to the difference of generation time without a rest.
    """
    wide = _wide(rows)
    if wide.empty:
        return None
    connection = np.zeros(len(wide))
    if connections is not None and not connections.empty:
        ms = (
            connections.drop_duplicates("trial_id")
            .set_index("trial_id")["connection_ms"]
            .astype(float)
        )
        connection = (
            wide["trial_id"].map(ms).fillna(0) - wide["baseline_trial_id"].map(ms).fillna(0)
        ).to_numpy()
    means = [
        connection,
        wide["wait"] - connection,
        wide["tokens_part"],
        wide["gap_part"],
        wide["total"],
    ]
    return Parts(*(float(np.mean(part)) for part in means), len(wide))


def shorter_only(rows: pd.DataFrame | ArmPairs, metric: str, estimate: float, level: float) -> bool:
    """Whether fewer tokens account for most of a gain in total time, and nothing certain is left of
    it without them.

    Needs a first-token time in both arms; an answer that arrived whole does not tell its pace.
    """
    if metric != "total_ms" or estimate >= 0:
        return False
    wide = _wide(rows)
    if wide.empty or wide["tokens_part"].median() > estimate / 2:
        return False
    rest = hodges_lehmann(wide["total"] - wide["tokens_part"], level)
    return rest.high is None or rest.high >= 0


def _wide(rows: pd.DataFrame | ArmPairs) -> pd.DataFrame:
    """A row for each pair: its trials; total, wait (both differences), and the two parts of the
    difference in generation time."""
    pairs = arm_pairs(rows)
    blank = pd.Series(np.nan, index=pairs.trials.index)

    def get(side: str, metric: str) -> pd.Series:
        part = pairs.metrics.get(metric)
        return blank if part is None else part[side].astype(float).reindex(blank.index)

    out = pairs.trials.copy()
    generation, tokens, waits = {}, {}, {}
    for side in ("value", "baseline_value"):
        # An answer that arrived whole does not tell its pace: its block is left out.
        waits[side] = get(side, "ttft_ms")
        generation[side] = get(side, "total_ms") - waits[side]
        counted = get(side, "output_tokens")
        tokens[side] = counted.where(counted > 0)
    known = tokens["value"].notna() & tokens["baseline_value"].notna()
    new, old = (tokens[side].where(known, 1.0) for side in ("value", "baseline_value"))
    new_gap, old_gap = generation["value"] / new, generation["baseline_value"] / old
    out["total"] = get("value", "total_ms") - get("baseline_value", "total_ms")
    out["wait"] = waits["value"] - waits["baseline_value"]
    out["tokens_part"] = (new - old) * (new_gap + old_gap) / 2
    out["gap_part"] = (new_gap - old_gap) * (new + old) / 2
    return out.dropna()
