"""In words: what became of an arm's trials that have no time to compare, and how many of those that
have one this machine itself held up."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import pandas as pd

from lab import units
from lab.metrics import METRICS, words

REASONS = 3
"""So many of an arm's reasons are told, the most frequent first."""
HELD_UP = 0.1
"""The share of trials from which on this machine's own delays are a doubt, not a remark."""


class Sides(NamedTuple):
    """An arm and its baseline, each (technique, arm), and as a reader of the run calls them."""

    arm: tuple[str, str]
    baseline: tuple[str, str]
    name: str
    baseline_name: str

    @property
    def named(self) -> tuple[tuple[tuple[str, str], str], ...]:
        return (self.arm, self.name), (self.baseline, self.baseline_name)


def _rows_of(counts: pd.DataFrame | None, sides: Sides) -> Iterator[dict]:
    """The arms' rows of arm_counts, what is missing as 0 or an empty text."""
    rows = [] if counts is None else counts.to_dict("records")
    for arm, name in sides.named:
        for row in (row for row in rows if (row["technique"], row["arm"]) == arm):
            numbers = ("n", "failed", "cancelled", "mismatched", "client_caused")
            cause, mismatches = row.get("left_out_because"), row.get("mismatches")
            yield {
                **{key: 0 if units.missing(row.get(key)) else int(row[key]) for key in numbers},
                "arm": name,
                "cause": cause if isinstance(cause, str) else "",
                "mismatches": json.loads(mismatches) if isinstance(mismatches, str) else {},
            }


def all_left_out(counts: pd.DataFrame | None, sides: Sides) -> str | None:
    """ "all 3 trials of cached were left out: the endpoint reported no cache use …"; None where
    each arm has a trial that counts."""
    for row in _rows_of(counts, sides):
        lost = row["failed"] + row["mismatched"]
        if row["n"] or not lost:
            continue
        trials = (
            f"the only trial of {row['arm']}" if lost == 1 else f"all {lost} trials of {row['arm']}"
        )
        was = "was" if lost == 1 else "were"
        became = f"{was} failed or left out"
        if not row["mismatched"]:
            became = "failed"
        elif not row["failed"]:
            became = f"{was} left out"
        return f"{trials} {became}" + (f": {row['cause']}" if row["cause"] else "")
    return None


def lacking(
    counts: pd.DataFrame | None, summary: pd.DataFrame | None, sides: Sides
) -> dict[str, str]:
    """For each metric that none of an arm's trials has, though some ended well: "none of the 8
    trials of whole has a time to first token"."""
    lacks: dict[str, str] = {}
    if summary is None:
        return lacks
    for row, (arm, _) in zip(_rows_of(counts, sides), sides.named, strict=False):
        mine = summary[(summary["technique"] == arm[0]) & (summary["arm"] == arm[1])]
        for metric in METRICS.keys() - set(mine["metric"]) if row["n"] else ():
            none = "the only trial" if row["n"] == 1 else f"none of the {row['n']} trials"
            has = "has no" if row["n"] == 1 else "has a"
            lacks[metric] = f"{none} of {row['arm']} {has} {words(metric)}"
    return lacks


def left_out(counts: pd.DataFrame | None, sides: Sides) -> tuple[list[str], list[str]]:
    """Of both arms, as (doubts, other reasons)."""
    rows, doubts, reasons = list(_rows_of(counts, sides)), [], []
    is_told = all_left_out(counts, sides) is not None  # it says of the last one why
    for row in rows:
        is_own = row["cause"] and row["cause"] not in row["mismatches"]
        last = f" (the last: {row['cause'].removesuffix('.')})" if is_own and not is_told else ""
        if row["failed"]:
            doubts.append(f"{row['arm']}: {row['failed']} failed{last}")
        if row["mismatched"]:
            doubts += _mismatches(row, row["mismatches"] if not is_told else {})
    held_up, n = (sum(row[name] for row in rows) for name in ("client_caused", "n"))
    if held_up:
        of_them = "the only trial" if n == 1 else f"{held_up} of {n} trials"
        was = "was" if held_up == 1 else "were"
        text = f"{of_them} {was} held up by this machine and kept in"
        (doubts if held_up > HELD_UP * n else reasons).append(
            f"{text} (late event loop or unexpected reconnect)"
        )
    return doubts, reasons


def _mismatches(row: Mapping[str, Any], counts: Mapping[str, int]) -> list[str]:
    """ "4 of 20 trials of fast were left out: asked fast, served standard", one for each of the
    most frequent reasons, and how many were left out for others."""
    n = row["n"] + row["failed"] + row["cancelled"] + row["mismatched"]
    of_arm, rest = f"of {units.counted(n, 'trial')} of {row['arm']}", row["mismatched"]
    told = []
    for reason, count in sorted(counts.items(), key=lambda item: -item[1])[:REASONS]:
        was = "was" if count == 1 else "were"
        told.append(f"{count} {of_arm} {was} left out: {reason.removesuffix('.')}")
        rest -= count
    if rest > 0:
        was = "was" if rest == 1 else "were"
        told.append(f"{rest} {of_arm} {was} left out" + (" for other reasons" if told else ""))
    return told
