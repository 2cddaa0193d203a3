"""A stored load, read and judged: what page, console, JSON and report tell of it alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from lab import load_levels
from lab.load import slo
from lab.load.profile import Mode
from lab.load.slo import Objective
from lab.load.steering import Found, found
from lab.load_levels import LevelResult
from lab.model import LOAD, LabError
from lab.store import load_queries, queries
from lab.store.store import Store


@dataclass(frozen=True, eq=False)
class LoadResult:
    run: Mapping[str, Any]
    """The row of `runs`, JSON fields as dicts, with `sessions`."""
    levels: Sequence[LevelResult]
    """In the order in which they were measured."""
    calls: pd.DataFrame
    """A row a call, view load_calls, with due_s: seconds since its session's load began."""
    objectives: Sequence[Objective]

    @property
    def run_id(self) -> str:
        return self.run["run_id"]

    @property
    def config(self) -> Mapping[str, Any]:
        return self.run["settings"].get("config") or {}

    @property
    def metric(self) -> str:
        """What the run is told on: that of its first objective, else the first token, or where
        nothing streamed the whole answer."""
        asked = [objective.judged(self.mode) for objective in self.objectives]
        streamed = any(level.time("ttft_ms", "p50") is not None for level in self.levels)
        usual = "ttft_ms" if streamed or not self.levels else "total_ms"
        return next(iter(asked), slo.SINCE_DUE[usual] if self.is_open else usual)

    @property
    def mode(self) -> Mode:
        return "open" if any(level.mode == "open" for level in self.levels) else "closed"

    @property
    def is_open(self) -> bool:
        return self.mode == "open"

    @cached_property
    def in_order(self) -> list[LevelResult]:
        """By load, the least first."""
        return sorted(self.levels, key=lambda level: (level.target, level.number))

    @cached_property
    def found(self) -> Found | None:
        """What it keeps; None where nothing was asked, or no call ended."""
        tried = [level.tried for level in self.levels if level.n and level.held]
        most = self.config.get("most") if self.config.get("search") else None
        return found(tried, most) if tried else None

    @property
    def bias(self) -> Mapping[str, Any]:
        """What the instrument itself added, measured right after the run (sessions.instrument): of
        several sessions, where it was most."""
        known = (session["instrument"].get("load_bias") for session in self.run["sessions"])
        p95 = lambda told: (told.get("ttft_ms") or {}).get("p95") or 0.0
        return max(filter(None, known), key=p95, default={})

    @property
    def sum_tokens(self) -> int:
        return int(self.calls["output_tokens"].sum())

    @property
    def cost_usd(self) -> float | None:
        costs = self.calls["cost_usd"]
        return float(costs.sum()) if costs.notna().any() else None


def named(reference: str, store: Store | None = None) -> LoadResult | None:
    """A load by its id, first digits of it, or name; None where that is another run, or a file."""
    if reference.endswith(".duckdb"):
        return None
    store = store or Store()
    run_id = queries.resolve(store, reference)
    return read(store, run_id) if queries.run(store, run_id)["technique"] == LOAD else None


def read(store: Store, run_id: str) -> LoadResult:
    """Raises LabError where there is no such load."""
    with store.snapshot():
        run = queries.run(store, run_id)
        if run["technique"] != LOAD:
            raise LabError(f"{run_id} is no load.")
        levels = load_queries.levels(store, run_id)
        calls = load_queries.calls(store, run_id)
        gaps = load_queries.gaps(store, run_id)
    return result_of(run, levels, calls, gaps)


def result_of(
    run: Mapping[str, Any], levels: pd.DataFrame, calls: pd.DataFrame, gaps: pd.DataFrame
) -> LoadResult:
    """From rows of load_levels, of load_calls, and of each level's gaps."""
    asked = (run["settings"].get("config") or {}).get("slo") or ()
    objectives = [objective for text in asked if (objective := _readable(text))]
    of_gaps = gaps.set_index("level")
    told = [
        load_levels.level(rows, calls[calls["level"] == number], of_gaps, objectives)
        for number, rows in levels.groupby("level", sort=True)
    ]
    return LoadResult(run, load_levels.with_knee(told), calls, objectives)


def _readable(text: str) -> Objective | None:
    """A database from elsewhere may hold anything."""
    try:
        return slo.objective(str(text))
    except LabError:
        return None
