"""A stored load, read and judged: what page, console, JSON and report tell of it alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from lab import metrics, units
from lab.load import client_limit, slo
from lab.load.profile import Mode
from lab.load.slo import CANCELLED, Held, Objective
from lab.load.steering import Found, Tried, found
from lab.metrics import QUANTILES_OF_LOAD as QUANTILES
from lab.model import LOAD, LabError
from lab.store import load_queries, queries
from lab.store.store import Store

COMPARE = {"<": np.less, "<=": np.less_equal, ">": np.greater, ">=": np.greater_equal}


@dataclass(frozen=True)
class LevelResult:
    """One level, of all sessions that measured it. Times in ms, rates a second."""

    number: int
    label: str
    mode: str
    target: float
    """Streams at once (closed), or requests a second (open)."""
    planned: int
    not_begun: int
    n: int
    """Calls that ended by themselves, well or not."""
    given_up: int
    """Calls under way when the level was ended."""
    errors: Mapping[str, int]
    """How many failed, by kind."""
    seconds: float
    requests_per_s: float | None
    """Answered well."""
    tokens_per_s: float | None
    """Output tokens, of all streams."""
    goodput_per_s: float | None
    """Answered within every limit that a request has to keep; None where there is none."""
    times: Mapping[str, Mapping[str, float | None]]
    """Of metrics.OF_LOAD and of the gaps ("gap_ms"), in calls answered well: QUANTILES, mean, most
    and n."""
    held: Sequence[Held]
    """Of each objective."""
    reason: str
    """Why it ended before all its requests; empty where it did not."""
    client: Mapping[str, float]
    client_limit: str
    """Why what is measured here is the client's limit, and not the server's; else empty."""
    is_knee: bool = False

    @property
    def failed(self) -> int:
        return sum(self.errors.values())

    @property
    def failed_share(self) -> float:
        return self.failed / self.n if self.n else 0.0

    @property
    def tried(self) -> Tried:
        """As a search holds it against its objectives."""
        return Tried(self.number, self.mode, self.target, tuple(self.held), self.client_limit)

    def time(self, metric: str, quantile: str) -> float | None:
        return self.times.get(metric, {}).get(quantile)

    def supported(self, metric: str, quantile: str) -> bool:
        n = self.times.get(metric, {}).get("n") or 0
        return metrics.supported(int(n), QUANTILES[quantile])


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
        """What the instrument itself added, measured right after the run: sessions.instrument."""
        known = (session["instrument"].get("load_bias") for session in self.run["sessions"])
        return next(filter(None, known), {})

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
        _level(rows, calls[calls["level"] == number], of_gaps, objectives)
        for number, rows in levels.groupby("level", sort=True)
    ]
    return LoadResult(run, _with_knee(told), calls, objectives)


def _readable(text: str) -> Objective | None:
    """A database from elsewhere may hold anything."""
    try:
        return slo.objective(str(text))
    except LabError:
        return None


def _level(
    rows: pd.DataFrame,
    calls: pd.DataFrame,
    gaps: pd.DataFrame,
    objectives: Sequence[Objective],
) -> LevelResult:
    first = rows.iloc[0]
    ended = calls[calls["error_kind"].ne(CANCELLED)]
    well = ended[ended["error_kind"].isna()]
    # Each session has a clock of its own: rates are added, not counts divided by one duration.
    seconds = ((rows["ended_ns"] - rows["started_ns"]) / 1e9).to_numpy(float)
    took = dict(zip(rows["session_id"], seconds, strict=True))
    good = well[_is_good(well, objectives, first["mode"])]
    times = {name: _times(well[name]) for name in metrics.OF_LOAD}
    if first["level"] in gaps.index:
        times["gap_ms"] = {name: units.plain(v) for name, v in gaps.loc[first["level"]].items()}
    planned, client = int(rows["planned"].sum()), _worst(rows["client"])
    return LevelResult(
        number=int(first["level"]),
        label=str(first["label"]),
        mode=str(first["mode"]),
        target=float(rows["target"].sum()),
        planned=planned,
        not_begun=int(rows["not_begun"].fillna(0).sum()),
        n=len(ended),
        given_up=len(calls) - len(ended),
        errors=ended["error_kind"].value_counts().to_dict(),
        seconds=float(np.nanmax(seconds, initial=0.0)),
        requests_per_s=_rate(well, took),
        tokens_per_s=_rate(well, took, "output_tokens"),
        goodput_per_s=_rate(good, took) if objectives else None,
        times=times,
        held=tuple(_held(asked, ended, first["mode"], planned) for asked in objectives),
        reason="; ".join(dict.fromkeys(filter(None, rows["reason"].fillna("")))),
        client=client,
        client_limit=_client_limit(well, client),
    )


def _with_knee(levels: Sequence[LevelResult]) -> list[LevelResult]:
    points = [
        client_limit.Point(level.target, level.requests_per_s or 0.0, bool(level.client_limit))
        for level in levels
        if not level.reason  # one that was ended early never came to its throughput
    ]
    knee = client_limit.knee(points)
    return [replace(level, is_knee=level.target == knee) for level in levels]


def _client_limit(well: pd.DataFrame, client: Mapping[str, float]) -> str:
    """As client_limit.of, of columns."""
    first_ms = well["ttft_ms"].fillna(well["total_ms"]).median()
    gap_ms = (1000 / well["tokens_per_s"]).median()
    return client_limit.reason(client, units.plain(first_ms), units.plain(gap_ms)) or ""


def _held(asked: Objective, ended: pd.DataFrame, mode: Mode, planned: int) -> Held:
    """As slo.held_by, of columns."""
    worst = np.inf if asked.is_upper else 0.0
    values = ended[asked.judged(mode)].where(ended["error_kind"].isna(), worst)
    return slo.held(asked, values.dropna().tolist(), planned)


def _is_good(well: pd.DataFrame, objectives: Sequence[Objective], mode: Mode) -> np.ndarray:
    """Within every limit. What a call does not have, such as a first token where nothing streams,
    it does not keep."""
    good = np.ones(len(well), dtype=bool)
    for asked in objectives:
        good &= COMPARE[asked.sign](well[asked.judged(mode)].to_numpy(float), asked.limit)
    return good


def _times(values: pd.Series) -> dict[str, float | None]:
    known = values.dropna().to_numpy(float)
    if not len(known):
        return {**dict.fromkeys((*QUANTILES, "mean", "most")), "n": 0}
    at = np.quantile(known, list(QUANTILES.values()))
    ends = {"mean": float(known.mean()), "most": float(known.max()), "n": len(known)}
    return {**dict(zip(QUANTILES, map(float, at), strict=True)), **ends}


def _rate(calls: pd.DataFrame, seconds: Mapping[str, float], column: str = "") -> float | None:
    """A second: calls, or the sum of a column of them."""
    rates = []
    for session, took in seconds.items():
        mine = calls[calls["session_id"] == session]
        if took > 0:
            rates.append((mine[column].sum() if column else len(mine)) / took)
    return float(sum(rates)) if rates else None


def _worst(clients: pd.Series) -> dict[str, float]:
    """Of several sessions, whatever was worst in any of them."""
    worst: dict[str, float] = {}
    for facts in clients:
        for name, value in (facts or {}).items():
            if (number := units.plain(value)) is not None:
                worst[name] = max(number, worst.get(name, number))
    return worst
