"""One level of a stored load, in figures: from the rows of its calls, of all sessions that measured
it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from lab import metrics, units
from lab.load import client_limit, slo
from lab.load.profile import Mode
from lab.load.slo import CANCELLED, Held, Objective
from lab.load.steering import Tried
from lab.metrics import QUANTILES_OF_LOAD as QUANTILES

MIDDLE, FEW = (0.1, 0.9), 10
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
    resent: int
    """Calls that went out a second time, on a new connection: the one that they were to reuse had
    gone."""
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


def level(
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
    if first["mode"] == "open":
        took |= _middle_s(well)
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
        resent=int((calls["attempt"] > 1).sum()),
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


def with_knee(levels: Sequence[LevelResult]) -> list[LevelResult]:
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


def _middle_s(well: pd.DataFrame) -> dict[str, float]:
    """By session, how long so many answers take at the pace of the middle eight tenths of them. An
    open loop asks nothing more once its last request is out: to wait for that answer is no pace."""
    took = {}
    for session, ended_ms in well.groupby("session_id")["ended_ms"]:
        if (n := len(ended_ms)) >= FEW:
            low, high = np.quantile(ended_ms.to_numpy(float), MIDDLE)
            took[session] = (high - low) / 1e3 / (MIDDLE[1] - MIDDLE[0]) * n / (n - 1)
    return took


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
