"""A stored ladder, read and judged: what page, console, JSON and report tell of it alike.

Only the confirmation is quoted: fresh blocks of the winner and today. Rungs, interactions and the
frontier are the search's own, and say so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from pydantic import ValidationError
from scipy.special import stdtrit

from lab import metrics, stats, units
from lab.ladder.kept import Kept
from lab.ladder.ladder_settings import CONFIRMING
from lab.ladder.stack import TODAY, WINNER
from lab.metrics import FEWEST_BLOCKS
from lab.model import LADDER, LabError
from lab.stats import VerdictText
from lab.stats.quantiles import tail_shift
from lab.store import ladder_queries, queries
from lab.store.store import Store

WORTH_SAYING = 0.05
"""An interaction below this share changes nobody's mind: the lab's own smallest effect."""
LEVEL = 0.95
NO_STACK = "The ladder names no stack"
"""What stands on the figures of one that refuses."""


class Quoted(NamedTuple):
    """The winner against today, as a share: −0.71 is 71 % less. n counts pairs."""

    change: float
    low: float | None
    high: float | None
    n: int

    @property
    def is_faster(self) -> bool:
        return self.high is not None and self.high < 0


class QualityKept(NamedTuple):
    """Change of the mean quality, and its one-sided 95 % bound."""

    change: float
    low: float
    n: int
    is_kept: bool
    is_same: bool
    """Whether both were right alike in every block: no loss was seen, and one that is rarer than
    one in n stays possible."""
    is_checked: bool
    """False where no answer of either passed its check: that they are alike says nothing."""

    @property
    def is_worse(self) -> bool:
        """Whether a loss is shown, though it may be within the bar."""
        return 2 * self.change - self.low < 0


class Rung(NamedTuple):
    """A lever's share: of a step towards the winner, or of what it would do to the winner."""

    lever: str
    title: str
    words: str
    change: float
    low: float | None
    high: float | None
    reason: str
    """Why it is not in the stack; empty for a rung."""


@dataclass(frozen=True, eq=False)
class LadderResult:
    run: Mapping[str, Any]
    """The row of `runs`, JSON fields as dicts, with `sessions`."""
    record: Mapping[str, Any]
    """lab/ladder_record.py."""
    trials: pd.DataFrame
    """A row a trial, lab/store/ladder_queries.py."""

    @property
    def run_id(self) -> str:
        return self.run["run_id"]

    @property
    def metric(self) -> str:
        return self.record["objective"].partition(":")[0]

    @property
    def quantile(self) -> str:
        return self.record["objective"].partition(":")[2]

    @property
    def objective_words(self) -> str:
        """ "perceived wait, p50"."""
        return f"{metrics.words(self.metric)}, {self.quantile}"

    @property
    def searched_words(self) -> str:
        """What the search's shares are of: for p95 the mean, to which slow answers add."""
        return f"{metrics.words(self.metric)}, {'mean' if self.quantile == 'p95' else 'p50'}"

    @property
    def winner(self) -> Mapping[str, str] | None:
        """Its level of each lever; None where the search did not end with one."""
        return self.record["winner"]

    @property
    def why_grey(self) -> str | None:
        """What its figures say where they claim nothing."""
        return NO_STACK if self.refusal and self.rungs else None

    @property
    def winner_words(self) -> str:
        words = self.record["winner_words"] or ""
        return words[:1].upper() + words[1:]

    @cached_property
    def pairs(self) -> pd.DataFrame:
        """A row for each block of the confirmation in which both ended well: block, task_id, today
        and winner (ms), and of each quality and dollars."""
        rows = self.trials[(self.trials["phase"] == "measured") & (self.trials["outcome"] == "ok")]
        parts = [
            rows[rows["arm"] == arm]
            .set_index("block")[["task_id", "value", "quality", "served_usd"]]
            .add_suffix(f"_{arm}")
            for arm in (TODAY, WINNER)
        ]
        both = parts[0].join(parts[1], how="inner").reset_index()
        return both.dropna(subset=[f"value_{TODAY}", f"value_{WINNER}"])

    @cached_property
    def quoted(self) -> Quoted | None:
        """None where nothing was confirmed; of a run that was stopped, where it has fewer blocks
        than are planned at the least."""
        pairs = self.pairs
        is_whole = self.run["status"] == "finished"
        if len(pairs) < (FEWEST_BLOCKS if is_whole else CONFIRMING[self.quantile][0]):
            return None
        today, winner = pairs[f"value_{TODAY}"], pairs[f"value_{WINNER}"]
        if self.quantile == "p50":
            one = stats.ratio(winner, today, LEVEL)
        else:
            # Both percentiles are drawn anew together: today's is as unsure as the winner's.
            one = tail_shift(today, winner, 0.95, LEVEL, pairs[f"task_id_{TODAY}"]).ratio
        ends = [None if end is None else end - 1 for end in (one.low, one.high)]
        return Quoted(one.estimate - 1, *ends, one.n)

    @cached_property
    def quality(self) -> QualityKept | None:
        """None where nothing was checked."""
        pairs = self.pairs.dropna(subset=[f"quality_{TODAY}", f"quality_{WINNER}"])
        if len(pairs) < 2:
            return None
        changes = (pairs[f"quality_{WINNER}"] - pairs[f"quality_{TODAY}"]).to_numpy(float)
        n, mean = changes.size, float(changes.mean())
        low = mean - float(changes.std(ddof=1) / np.sqrt(n) * stdtrit(n - 1, LEVEL))
        best = float(pairs[[f"quality_{TODAY}", f"quality_{WINNER}"]].to_numpy(float).max())
        is_kept = low >= -float(self.record["bar"])
        return QualityKept(mean, low, n, is_kept, not changes.any(), best > 0)

    @cached_property
    def cost_change(self) -> float | None:
        """As a share, of the calls that somebody waits for; None where a price is unknown."""
        costs = self.pairs[[f"served_usd_{TODAY}", f"served_usd_{WINNER}"]]
        if costs.empty or costs.isna().to_numpy().any() or not costs.iloc[:, 0].sum():
            return None
        return float(costs.iloc[:, 1].sum() / costs.iloc[:, 0].sum() - 1)

    @property
    def lost(self) -> tuple[int, int]:
        """Measured trials that did not end well: of the winner, of today. One that a Stop or the
        end of the budget cut short says nothing of its stack."""
        ended = self.trials["outcome"].isin(["ok", "cancelled"])
        rows = self.trials[(self.trials["phase"] == "measured") & ~ended]
        return tuple(int((rows["arm"] == arm).sum()) for arm in (WINNER, TODAY))

    @property
    def refusal(self) -> str:
        """Why no stack is named, in one sentence; empty where one is."""
        if self.winner is None:
            ended = self.record["ended_with"] or self._ending
            return f"The search did not come to an end: {ended}."
        if self.record["winner_words"] == TODAY:
            count = units.counted(len(self.record["levers"]), "lever")
            return (
                f"No stack of {count} was shown to be faster than today's, so there is nothing to"
                " name."
            )
        quoted, quality = self.quoted, self.quality
        if quoted is None:
            ended = self.record["ended_with"] or self._ending
            return f"The search ended with {self.record['winner_words']}, unconfirmed: {ended}."
        if not quoted.is_faster:
            return (
                f"The search ended with {self.record['winner_words']}, and its {quoted.n} fresh"
                f" blocks do not show that it is faster: {self._written(quoted)}."
            )
        if self.lost[0] > self.lost[1]:
            return (
                f"{self.winner_words} is faster when it answers ({self._written(quoted)}), and"
                f" {self.lost[0]} of its trials did not end well, {self.lost[1]} of today's."
            )
        if quality is not None and not quality.is_kept:
            return (
                f"{self.winner_words} is faster ({self._written(quoted)}), but that its answers are"
                f" no more than {100 * self.record['bar']:g} points worse is not shown:"
                f" {_points(quality.change)} (at worst {_points(quality.low)})."
            )
        return ""

    @property
    def search_words(self) -> str:
        """Of a search that did not come to its end: what it saw, and what it would take."""
        if self.winner is not None:
            return ""
        rows = self.trials[self.trials["phase"] == "screened"]
        seen = (
            f"{units.counted(len(rows), 'trial')} of"
            f" {units.counted(rows['arm'].nunique(), 'stack')} were measured."
        )
        if self.run["status"] == "failed":  # a larger budget would be lost as well
            return seen
        return f"{seen} More minutes, fewer levers or shorter answers let it come to its end."

    @property
    def _ending(self) -> str:
        return {"interrupted": "it was stopped", "failed": "it failed"}.get(
            self.run["status"], "its budget was spent"
        )

    @property
    def sentence(self) -> str:
        """What is quoted, in one sentence: "Cached prefix + streamed: −71 % [−74, −67], quality not
        worse, −38 % cost"."""
        if self.refusal:
            return self.refusal
        parts = [f"{self.winner_words}: {self._written(self.quoted)}", self.quality_words]
        if self.cost_change is not None:
            parts.append(f"{_percent(self.cost_change)} cost")
        return ", ".join(filter(None, parts)) + "."

    @property
    def tone(self) -> str:
        """Green only where quality was checked and kept."""
        if self.refusal:
            return "unsure"
        return "good" if self.quality is not None and self.quality.is_checked else "neutral"

    @property
    def quality_words(self) -> str:
        quality = self.quality
        if quality is None:
            return "quality not checked"
        if not quality.is_checked:
            return "no answer passed its check, today's neither"
        if quality.is_same:
            return f"quality equal in {quality.n} of {quality.n} blocks"
        if quality.is_kept and quality.is_worse:
            return f"quality {_points(quality.change)}, within your bar"
        return "quality not worse" if quality.is_kept else "quality not shown to be kept"

    def _written(self, quoted: Quoted) -> str:
        of = f" {metrics.words(self.metric)}, {self.quantile}"
        if quoted.low is None or quoted.high is None:
            return f"{_percent(quoted.change)}{of}"
        ends = f"[{_percent(quoted.low, '')}, {_percent(quoted.high, '')}]"
        return f"{_percent(quoted.change)} {ends}{of}"

    # What the search says

    @property
    def rungs(self) -> list[Rung]:
        """From today to the winner, each with its share; the search's own estimate."""
        return [self._rung(row, "") for row in self.record["rungs"]]

    @property
    def others(self) -> list[Rung]:
        """What was tried and is not in the stack, each with the reason."""
        lost = [(row["lever"], row["reason"]) for row in self.record["given_up"]]
        return [
            *(self._rung(row, _why_not(row)) for row in self.record["others"]),
            *(Rung(name, self._title(name), self._first(name), 0.0, None, None, reason)
              for name, reason in lost),
        ]  # fmt: skip

    @property
    def interactions(self) -> list[str]:
        """A sentence for each pair of levers that was shown neither to add nor to multiply."""
        told = []
        for row in self.record["together"]:
            if row["low"] is None or row["low"] <= 0 <= row["high"]:
                continue
            if not row["alone"] or abs(row["change"]) < WORTH_SAYING:
                continue
            names = " and ".join(self._first(name) for name in row["levers"])
            how = _HOW[max(row["alone"]) < 0, row["change"] > 0]
            alone = " and ".join(map(_percent, row["alone"]))
            ends = f"{_percent(row['change'])} [{_percent(row['low'], '')}, "
            ends += f"{_percent(row['high'], '')}]"
            told.append(
                f"{names[:1].upper()}{names[1:]} {how}: {alone} alone, {_percent(row['both'])}"
                f" together ({ends} beyond both sum and product)."
            )
        return told

    @property
    def not_tried(self) -> list[str]:
        """ "tools (together): its tasks offer no two tools"."""
        return [
            f"{row['lever']}{' (' + row['level'] + ')' if row['level'] else ''}: {row['reason']}"
            for row in self.record["not_tried"]
        ]

    @cached_property
    def candidates(self) -> pd.DataFrame:
        """A row for each stack that was tried: arm, stack (levers' levels), n, lost, value (median,
        ms), quality and served_usd (means), is_today, is_winner. Of the search alone, whose tasks
        differ from stack to stack: for a frontier, not to be quoted."""
        rows = self.trials[self.trials["phase"] == "screened"]
        rows = rows[rows["outcome"] != "cancelled"]
        made = []
        for tried in self.record["tried"]:
            own = rows[rows["arm"] == tried["arm"]]
            good = own[own["outcome"] == "ok"]
            made.append(
                {
                    "arm": tried["arm"],
                    "stack": tried["stack"],
                    "n": len(good),
                    "lost": len(own) - len(good),
                    "value": good["value"].median(),
                    "quality": good["quality"].mean(),
                    "served_usd": good["served_usd"].mean(),
                    "is_today": tried["arm"] == TODAY,
                    "is_winner": tried["stack"] == self.winner,
                }
            )
        return pd.DataFrame(made)

    def _title(self, name: str) -> str:
        titles = {lever["name"]: lever["title"] for lever in self.record["levers"]}
        return titles.get(name, name)

    def _first(self, name: str) -> str:
        """The first other level of a lever in words: the one that the screening tries, of which a
        lever is given up and an interaction is told."""
        for lever in self.record["levers"]:
            if lever["name"] == name and len(lever["levels"]) > 1:
                level = lever["levels"][1]
                return lever["words"].get(level, level)
        return name

    def _rung(self, row: Mapping[str, Any], reason: str) -> Rung:
        return Rung(
            row["lever"],
            self._title(row["lever"]),
            row["words"],
            row["change"],
            row["low"],
            row["high"],
            reason,
        )


_HOW = {
    (True, True): "do not add",
    (True, False): "save more together than one by one",
    (False, True): "take longer together than one by one",
    (False, False): "take less time together than one by one",
}
"""By whether each saves by itself, and whether they take longer together than that foretells."""


def _why_not(row: Mapping[str, Any]) -> str:
    low, high = row["low"], row["high"]
    if low is None:
        return "too few trials to tell"
    if low > 0:
        return "makes it slower"
    if high < 0:
        return "faster by itself, but the stack without it was not shown to be slower"
    return "no difference shown"


def _percent(share: float, sign: str = "%") -> str:
    return (
        f"{units.percent(share, sign=True).removesuffix('%').strip()}{' ' + sign if sign else ''}"
    )


def _points(change: float) -> str:
    return units.points(change)


def read(reference: str, store: Store | None = None) -> LadderResult:
    """A ladder by id, first digits of it, name, `last` or `last~1`."""
    store = store or Store()
    with store.snapshot():
        run = queries.run(store, queries.resolve(store, reference))
        if run["technique"] != LADDER:
            raise LabError(f"{run['name'] or run['run_id']} is no ladder.")
        return of_run(store, run)


def of_run(store: Store, run: Mapping[str, Any]) -> LadderResult:
    """Of a row of `runs`; LabError where what it keeps of itself cannot be read."""
    try:
        record = Kept.model_validate(run["settings"].get("ladder")).model_dump()
    except ValidationError:
        raise LabError(
            f"What is kept of the ladder {run['name'] or run['run_id']} cannot be read."
        ) from None
    metric = record["objective"].partition(":")[0]
    return LadderResult(run, record, ladder_queries.trials(store, run["run_id"], metric))


def verdict(
    store: Store, run: Mapping[str, Any], confirmed: Sequence[VerdictText], provenance: str
) -> VerdictText:
    """A ladder as lists, reports and figures tell any run: its sentence, between the doubts of its
    confirmation and what was seen there. `confirmed` is empty where no block was."""
    try:
        result = of_run(store, run)
        sentence, tone, is_refused = result.sentence, result.tone, bool(result.refusal)
    except LabError as error:
        sentence, tone, is_refused = str(error), "unsure", True
    blank = dict.fromkeys(VerdictText._fields, "") | {"doubts": (), "reason": None}
    of_blocks = confirmed[0] if confirmed else VerdictText(**blank)
    around = (provenance, of_blocks.doubtful, of_blocks.seen, of_blocks.detail)
    about, doubts, *after = map(units.in_markdown, around)
    lines = [about, doubts, f"**{units.in_markdown(sentence)}**", *after]
    return of_blocks._replace(
        headline=sentence,
        title=sentence.removesuffix("."),
        reason=NO_STACK if is_refused else of_blocks.reason,
        markdown="  \n".join(filter(None, lines)),
        tone="unsure" if doubts else tone,
    )


def named(reference: str, store: Store | None = None) -> LadderResult | None:
    """As read; None where the run is something else."""
    store = store or Store()
    run = queries.run(store, queries.resolve(store, reference))
    is_one = run["technique"] == LADDER and run["settings"].get("ladder")
    return read(run["run_id"], store) if is_one else None


def told(result: LadderResult) -> Sequence[str]:
    """The result in plain lines: what a terminal shows."""
    lines = [result.sentence, *filter(None, [result.search_words]), ""]
    if result.rungs:
        lines.append(_rungs_words(result))
        lines += [f"  {_line(rung)}" for rung in result.rungs]
    if result.others:
        lines.append("Not in the stack:")
        lines += [f"  {_line(rung)}: {rung.reason}" for rung in result.others]
    lines += result.interactions
    if result.not_tried:
        lines.append("Not tried:")
        lines += [f"  {text}" for text in result.not_tried]
    return lines


def _rungs_words(result: LadderResult) -> str:
    return f"The rungs, by the search ({result.searched_words}):"


def _line(rung: Rung) -> str:
    if rung.low is None or rung.high is None:
        return rung.words
    ends = f"[{_percent(rung.low, '')}, {_percent(rung.high, '')}]"
    return f"{rung.words}  {_percent(rung.change)} {ends}"


def frontier(result: LadderResult) -> pd.DataFrame:
    """The stacks that were tried, as lab/figures/pareto.py takes them: arm, n, lost, the metric of
    the objective (median, ms), quality and cost_usd (means), run_id, endpoint, endpoint_kind."""
    rows = result.candidates
    if rows.empty:
        return rows
    rows = rows.rename(columns={"value": result.metric, "served_usd": "cost_usd"})
    rows = rows.drop(columns=["stack"]).sort_values("is_today", ascending=False)
    about = {name: result.run[name] for name in ("run_id", "endpoint", "endpoint_kind")}
    return rows.assign(**about).reset_index(drop=True)


def markdown(result: LadderResult, lead: str = "") -> str:
    """The sentence and its rungs, to paste into a pull request; `lead` is its verdict's Markdown,
    which has the doubts before it."""
    lines = [lead or f"**{result.sentence}**", ""]
    if result.rungs:
        lines += [_rungs_words(result), ""]
    lines += [f"- {_line(rung)}" for rung in result.rungs]
    lines += [f"- not in it: {_line(rung)}: {rung.reason}" for rung in result.others]
    lines += [f"- {text}" for text in result.interactions]
    run = result.run
    lines += ["", f"{run['endpoint_kind']} endpoint {run['endpoint']}, {result.objective_words}."]
    return "\n".join(lines)
