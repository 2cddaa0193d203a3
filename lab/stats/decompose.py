"""Where a difference in total time comes from, so that "faster" and "only shorter" are told
apart."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from lab.stats.intervals import hodges_lehmann


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


def decompose(rows: pd.DataFrame, connections: pd.DataFrame | None = None) -> Parts | None:
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


def connections(calls: pd.DataFrame) -> pd.DataFrame:
    """Connection time of each trial's first answer, from call_metrics: name look-up, TCP and TLS, 0
    where one was reused."""
    answers = calls[calls["role"] == "answer"].sort_values("started_ms")
    first = answers.drop_duplicates("trial_id").copy()
    phases = first[["dns_ms", "connect_ms", "tls_ms"]].astype(float)
    first["connection_ms"] = phases.fillna(0).sum(axis=1)
    return first[["trial_id", "connection_ms"]]


def shorter_only(rows: pd.DataFrame, metric: str, estimate: float, level: float) -> bool:
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


def _wide(rows: pd.DataFrame) -> pd.DataFrame:
    """A row for each block: total, wait (both differences), and the two parts of the difference in
    generation time."""
    keep = rows[rows["metric"].isin(["total_ms", "ttft_ms", "output_tokens"])]
    of_a_block = ["session_id", "block", "trial_id", "baseline_trial_id"]
    sides = keep.set_index([*of_a_block, "metric"])[["value", "baseline_value"]].unstack("metric")
    blank = pd.Series(np.nan, index=sides.index)

    def get(side: str, metric: str) -> pd.Series:
        return sides[(side, metric)].astype(float) if (side, metric) in sides else blank

    out = pd.DataFrame(index=sides.index)
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
    return out.dropna().reset_index()
