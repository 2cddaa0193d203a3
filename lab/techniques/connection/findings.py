"""What a connection costs, and where the wait goes on each way: pure functions of frames."""

from __future__ import annotations

from typing import NamedTuple

import pandas as pd

from lab.stats import Interval, hodges_lehmann

PHASES = {
    "dns_ms": "DNS",
    "connect_ms": "TCP",
    "tls_ms": "TLS",
    "send_ms": "sending",
    "server_ms": "the server, to its headers",
    "text_ms": "headers to first text",
}
OPENING = ("dns_ms", "connect_ms", "tls_ms")


class Opened(NamedTuple):
    """What new connections took, in ms, as medians; `n` of them."""

    dns: float
    connect: float
    tls: float
    whole: float
    n: int


def answers(calls: pd.DataFrame) -> pd.DataFrame:
    """The answers of trials that ended well, with the phases of their wait in ms; those of a
    connection are 0 where none was made."""
    ended = (calls["role"] == "answer") & (calls["outcome"] == "ok") & calls["error_kind"].isna()
    rows = calls[ended].copy()
    for name in (*OPENING, "send_ms"):
        rows[name] = rows[name].astype(float).fillna(0.0)
    first = rows["first_text_at_ms"].astype(float).fillna(rows["total_ms"].astype(float))
    rows["server_ms"] = rows["headers_at_ms"].astype(float) - rows["sent_at_ms"].astype(float)
    rows["text_ms"] = first - rows["headers_at_ms"].astype(float)
    return rows


def parts(calls: pd.DataFrame) -> pd.DataFrame:
    """The median of each phase, by arm: arm, part, amount in ms."""
    medians = answers(calls).groupby("arm", sort=False)[list(PHASES)].median()
    return medians.reset_index().melt("arm", var_name="part", value_name="amount")


def added(trials: pd.DataFrame, baseline: str, arm: str) -> Interval:
    """How much longer an arm's wait is, in ms, block by block."""
    waits = trials.pivot_table(
        index=["session_id", "block"], columns="arm", values="wait_ms", observed=True
    )
    if not {baseline, arm} <= set(waits):
        return Interval(float("nan"), None, None, 0)
    return hodges_lehmann((waits[arm] - waits[baseline]).dropna().tolist())


def opened(calls: pd.DataFrame) -> Opened | None:
    """Of the answers that opened a connection for themselves; None where none did."""
    rows = answers(calls)
    rows = rows[rows["connection_reused"].eq(False).fillna(False)]
    if rows.empty:
        return None
    medians = [float(rows[name].median()) for name in OPENING]
    return Opened(*medians, float(rows[list(OPENING)].sum(axis=1).median()), len(rows))
