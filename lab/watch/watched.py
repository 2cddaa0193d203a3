"""A stored watch, read: its series, its findings, and where nothing was measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from itertools import pairwise
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from lab import units
from lab.harness.budget import COUNTED, stored_usd
from lab.model import WATCH, LabError
from lab.stats import level_shifts
from lab.store import json_shapes, queries
from lab.store.store import Store, as_uuid
from lab.watch.changes import Change, change_of
from lab.watch.probe import ARMS

LATE = 2.5
"""Intervals without a probe after which one was missed."""
HELD_UP_MS, HELD_UP = 5.0, 0.02
"""Of a lag of this machine's loop during a request, and of its share in what was measured."""


class Series(NamedTuple):
    """A point a probe in which both requests were answered: medians in ms."""

    at_utc: list[datetime]
    hours: np.ndarray
    """Since the beginning of 1970: a day's wave stands still."""
    control: np.ndarray
    yours: np.ndarray

    def since(self, place: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What lab.stats.level_shifts takes, from a point on."""
        return np.log(self.control[place:]), np.log(self.yours[place:]), self.hours[place:]


class Gap(NamedTuple):
    from_utc: datetime
    to_utc: datetime
    text: str


@dataclass(frozen=True, eq=False)
class Watched:
    run: Mapping[str, Any]
    trials: pd.DataFrame
    """probe, arm, started_utc, outcome, error_kind, error_text, value (ms, null where none),
    lag_ms."""

    @property
    def run_id(self) -> str:
        return self.run["run_id"]

    @property
    def settings(self) -> Mapping[str, Any]:
        return self.run["settings"].get("watch") or {}

    @property
    def metric(self) -> str:
        return self.settings.get("metric", "wait_ms")

    @property
    def every(self) -> timedelta:
        return timedelta(seconds=float(self.settings.get("every_s", 900)))

    @property
    def arms(self) -> dict[str, int]:
        """By what the figure calls them, their places."""
        return {name: place for place, name in enumerate(ARMS)}

    @cached_property
    def probes(self) -> pd.DataFrame:
        """A row a probe: at (utc), control and yours (median ms, null where none was answered),
        failed_control, failed_yours (not answered as asked)."""
        rows = self.trials[self.trials["outcome"] != "cancelled"]
        if rows.empty:
            columns = ["at", *ARMS, *(f"failed_{arm}" for arm in ARMS)]
            return pd.DataFrame({name: [] for name in columns})
        at = rows.groupby("probe")["started_utc"].min().rename("at")
        ok = self._answered[~self._answered["is_left_out"]]
        medians = ok.pivot_table(index="probe", columns="arm", values="value", aggfunc="median")
        failed = rows[rows["outcome"] != "ok"]
        counts = failed.pivot_table(
            index="probe", columns="arm", values="outcome", aggfunc="count"
        ).reindex(columns=ARMS, fill_value=0)
        table = pd.concat([at, medians.reindex(columns=ARMS)], axis=1)
        counts = counts.reindex(table.index).fillna(0).astype(int)
        return table.join(counts.add_prefix("failed_")).sort_values("at")

    @cached_property
    def _answered(self) -> pd.DataFrame:
        rows = self.trials[self.trials["outcome"] == "ok"]
        held_up = is_held_up(rows["value"].astype(float), rows["lag_ms"].astype(float))
        by_arm = held_up.groupby([rows["probe"], rows["arm"]])
        return rows.assign(is_left_out=held_up & ~by_arm.transform("all"))

    @property
    def left_out(self) -> str:
        """How many answers count in no point; empty where each does."""
        count = int(self._answered["is_left_out"].sum())
        were = "was" if count == 1 else "were"
        of = f"{count} of {units.counted(len(self._answered), 'answer')}"
        return f"{of} {were} held up by this machine and left out." if count else ""

    @cached_property
    def series(self) -> Series:
        whole = self.probes.dropna(subset=list(ARMS))
        at = [_utc(instant) for instant in whole["at"]]
        hours = np.array([instant.timestamp() / 3600 for instant in at])
        control, yours = (whole[arm].to_numpy(float) for arm in ARMS)
        return Series(at, hours, control, yours)

    def told(self) -> Iterator[tuple[datetime, dict[str, float | None], dict[str, int]]]:
        """Each probe as lab.watch.looking takes it, in their order."""
        for row in self.probes.to_dict("records"):
            medians = {arm: None if pd.isna(row[arm]) else float(row[arm]) for arm in ARMS}
            yield _utc(row["at"]), medians, {arm: int(row[f"failed_{arm}"]) for arm in ARMS}

    @cached_property
    def changes(self) -> list[Change]:
        """What was told, each by what was measured since: how much, and whose it is by that."""
        stored = self.settings.get("findings") or ()
        found = [change for each in stored if (change := _readable(each))]
        return [self._by_now(place, found) for place in range(len(found))]

    def _by_now(self, place: int, found: Sequence[Change]) -> Change:
        change, series = found[place], self.series
        levels = [each for each in found if not each.is_silence]
        if change.is_silence or change not in levels:
            return change
        own = levels.index(change)
        before = levels[own - 1].at_utc if own else None
        after = levels[own + 1].at_utc if own + 1 < len(levels) else None
        stretch = [
            n
            for n, at in enumerate(series.at_utc)
            if (before is None or at >= before) and (after is None or at < after)
        ]
        if not stretch:
            return change
        at = sum(instant < change.at_utc for instant in series.at_utc)
        # As many before as after it, and no more than a look takes.
        reach = level_shifts.MOST // 2
        first, last = max(stretch[0], at - reach), min(stretch[-1] + 1, at + reach)
        control, yours, hours = series.since(first)
        count = last - first
        moved = level_shifts.moved(control[:count], yours[:count], hours[:count], at - first)
        return change.by(moved) if moved else change

    @cached_property
    def gaps(self) -> list[Gap]:
        """Probes that were due and did not take place, neighbours of one reason together."""
        noted = self.trials[self.trials["outcome"] == "cancelled"]
        gaps = [
            Gap(_utc(row.started_utc), _utc(row.started_utc) + self.every, row.error_text or "")
            for row in noted.itertuples()
        ]
        taken = sorted([_utc(at) for at in self.probes["at"]] + [gap.from_utc for gap in gaps])
        for earlier, later in pairwise(taken):
            if later - earlier > LATE * self.every:
                gaps.append(Gap(earlier + self.every, later, "the watch was not running"))
        joined: list[Gap] = []
        for gap in sorted(gaps):
            last = joined[-1] if joined else None
            if last and last.text == gap.text and gap.from_utc <= last.to_utc + 0.5 * self.every:
                joined[-1] = last._replace(to_utc=max(last.to_utc, gap.to_utc))
            else:
                joined.append(gap)
        return joined

    @property
    def last_utc(self) -> datetime | None:
        """When the latest probe took place, or was due."""
        return _utc(self.trials["started_utc"].max()) if len(self.trials) else None


def is_held_up(value: Any, lag_ms: Any) -> Any:
    """Whether this machine, not the endpoint, made an answer late: numbers, or columns of them."""
    return lag_ms > np.maximum(HELD_UP_MS, HELD_UP * value)


def typical(answers: Sequence[tuple[float, float]]) -> float | None:
    """The median of one request's answers in a probe, each (ms, the loop's lag in ms): of those
    that this machine did not hold up, unless it held up all. As `Watched.probes` has it."""
    free = [value for value, lag_ms in answers if not is_held_up(value, lag_ms)]
    known = free or [value for value, _ in answers]
    return median(known) if known else None


def read(store: Store, reference: str) -> Watched:
    """By id, first digits of it, or name; `last` is the newest watch."""
    run_id = _resolved(store, reference)
    with store.only(run_id):
        run = queries.run(store, run_id)
        if run["technique"] != WATCH:
            raise LabError(f"{run_id} is no watch.")
        settings = run["settings"].get("watch") or {}
        metric = settings.get("metric", "wait_ms")
        if metric not in ("wait_ms", "ttft_ms", "total_ms"):
            raise LabError(f"What is stored of the watch {run_id} cannot be read.")
        trials = store.frame(
            f"""
            SELECT
                block,
                arm,
                started_utc,
                outcome,
                error_kind,
                error_text,
                CASE WHEN outcome = 'ok' THEN coalesce({metric}, total_ms) END AS value,
                loop_lag_ms AS lag_ms
            FROM trial_metrics
            WHERE run_id = ?::UUID AND phase = 'watched'
            ORDER BY started_utc
            """,
            [run_id],
        )
    pairs = max(1, int(settings.get("pairs", 1)))
    return Watched(run, trials.assign(probe=(trials["block"] - 1) // pairs + 1))


def _resolved(store: Store, reference: str) -> str:
    known = watches(store)
    named = known[(known["name"] == reference) | known["run_id"].str.startswith(reference)]
    if reference == "last":
        named = known
    if named.empty:
        raise LabError(f"There is no watch {reference}.")
    return named["run_id"].iloc[0]


def watches(store: Store) -> pd.DataFrame:
    """run_id, name, endpoint, endpoint_kind, status, started_utc; the newest first."""
    return store.frame(
        """
        SELECT run_id, name, endpoint, endpoint_kind, status, started_utc
        FROM runs
        WHERE technique = ?
        ORDER BY started_utc DESC, run_id DESC
        """,
        [WATCH],
    )


def spent_usd(store: Store, run_id: str, endpoint_kind: str, day: datetime) -> float:
    """What a budget counts of a day (UTC) of a watch: every call, of all its processes."""
    begins = day.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    columns = ", ".join(f"calls.{name}" for name in COUNTED)
    rows = store.frame(
        f"""
        SELECT {columns}
        FROM calls JOIN trials USING (run_id, session_id, trial_id)
        WHERE run_id = ?::UUID AND trials.started_utc >= ?::TIMESTAMPTZ
        """,
        [as_uuid(run_id), begins.isoformat()],
    )
    known = rows.astype(object).where(rows.notna(), None).to_dict("records")
    for row in known:
        row["iterations"] = json_shapes.iterations(json_shapes.parsed(row["iterations"]))
    return stored_usd(endpoint_kind, known)


def _readable(stored: Any) -> Change | None:
    """None for what another's file may hold."""
    try:
        return change_of(stored)
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def _utc(instant: Any) -> datetime:
    at = pd.Timestamp(instant)
    return (at.tz_localize("UTC") if at.tzinfo is None else at.tz_convert("UTC")).to_pydatetime()
