"""What a watch makes of its points, one after the other: the same whether they come from a probe,
from the database, or from a bench."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

import numpy as np

from lab.stats import level_shifts
from lab.watch.changes import ANSWERS, SILENT, Change, of_shift
from lab.watch.probe import ARMS, CONTROL, YOURS

SILENT_PROBES = 3
"""So many in a row without an answer as asked are told."""
MONTH = timedelta(days=30)


class Looking:
    """`add()` each probe; it answers with what that probe made certain."""

    def __init__(self, endpoint: str, every: timedelta, least_percent: float = 0.0) -> None:
        self.endpoint, self.every, self.least = endpoint, every, least_percent / 100
        self.at_utc: list[datetime] = []
        self.hours: list[float] = []
        self.logs: dict[str, list[float]] = {arm: [] for arm in ARMS}
        self.start = 0
        """The first point of the present level."""
        self.unanswered = dict.fromkeys(ARMS, 0)
        """Probes in a row."""
        self.is_silent = dict.fromkeys(ARMS, False)

    def add(
        self,
        at_utc: datetime,
        medians: Mapping[str, float | None],
        failed: Mapping[str, int],
        is_known: bool = False,
    ) -> list[Change]:
        """`medians` in ms by arm, None where none was answered. One that `is_known` was looked at
        before, by another process."""
        found = self._silences(at_utc, medians, failed)
        if all(medians.get(arm) for arm in ARMS):
            self.at_utc.append(at_utc)
            self.hours.append(at_utc.timestamp() / 3600)
            for arm in ARMS:
                self.logs[arm].append(float(np.log(medians[arm])))
            if not is_known and (change := self._shift()):
                found.append(change)
        return [] if is_known else found

    def goes_on_from(self, told: Sequence[Change]) -> None:
        """What was told before, in order: levels that began, and who has been silent since."""
        self.is_silent = dict.fromkeys(ARMS, False)
        for change in told:
            if change.is_silence:
                arms = ARMS if change.whose == "service" else (change.whose,)
                self.is_silent |= dict.fromkeys(arms, change.kind == SILENT)
            else:
                self.start = sum(at < change.at_utc for at in self.at_utc)

    def _shift(self) -> Change | None:
        first = self.start
        series = (self.logs[CONTROL][first:], self.logs[YOURS][first:], self.hours[first:])
        shift = level_shifts.look(*series, MONTH / self.every)
        if shift is None:
            return None
        at, count = first + shift.at, len(self.at_utc)
        change = of_shift(shift, self.at_utc[at], self.at_utc[-1], count - at, self.endpoint)
        if max(abs(change.control.value), abs(change.yours.value)) < self.least:
            return None
        self.start = at
        return change

    def _silences(
        self, at_utc: datetime, medians: Mapping[str, float | None], failed: Mapping[str, int]
    ) -> list[Change]:
        """A request that stopped being answered as asked, or is again. Where the control is silent
        too, it is the service that is told."""
        turned = []
        for arm in ARMS:
            if medians.get(arm):
                self.unanswered[arm] = 0
            elif failed.get(arm):
                self.unanswered[arm] += 1
            is_silent = self.unanswered[arm] >= (1 if self.is_silent[arm] else SILENT_PROBES)
            if is_silent != self.is_silent[arm]:
                self.is_silent[arm] = is_silent
                turned.append(arm)
        both = ([arm for arm in turned if self.is_silent[arm] is held] for held in (True, False))
        return [self._turn(at_utc, arms) for arms in both if arms]

    def _turn(self, at_utc: datetime, turned: list[str]) -> Change:
        kind = SILENT if self.is_silent[turned[0]] else ANSWERS
        since = at_utc - (SILENT_PROBES - 1) * self.every if kind == SILENT else at_utc
        whose = "service" if len(turned) == 2 else "yours" if turned == [YOURS] else "control"
        probes = SILENT_PROBES if kind == SILENT else 1
        return Change(kind, whose, since, at_utc, probes, self.endpoint)
