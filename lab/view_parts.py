"""What a technique's own views read and are made of. A page, a report or a notebook draws them
alike.

A view is a function (RunData, dark) -> list of parts: plotly figures, and the tables, notes,
numbers and sliders below.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import ValidationError

from lab.model import Knobs, LabError, Technique, sentence
from lab.scenarios import definitions
from lab.scenarios.definitions import Task

if TYPE_CHECKING:
    import pandas as pd

    from lab.stats import Finding


class Column(NamedTuple):
    words: str
    format: str | None = None
    """As Streamlit writes numbers: localized, percent, or a pattern such as %.1f."""


@dataclass(frozen=True)
class Table:
    """Rows with the columns' words by name; a column without a single value is left out."""

    rows: pd.DataFrame
    columns: Mapping[str, str | Column]
    title: str = ""


class Note(NamedTuple):
    text: str


class Number(NamedTuple):
    words: str
    text: str
    help: str = ""


class Numbers(NamedTuple):
    """A few numbers in a row, large."""

    numbers: tuple[Number, ...]


@dataclass(frozen=True)
class Slider:
    """A whole number that the reader sets, and the parts that are drawn for it."""

    words: str
    low: int
    high: int
    value: int
    draw: Callable[[int], list[Any]]
    help: str = ""


@dataclass(frozen=True)
class Choice:
    """One of several, by id, that the reader picks, and the parts that are drawn for it."""

    words: str
    options: Mapping[str, str]
    value: str
    draw: Callable[[str], list[Any]]
    help: str = ""


@dataclass(frozen=True)
class RunData:
    """A stored run, as a view reads it."""

    technique: Technique
    run: Mapping[str, Any]
    """Its row, as lab.store.queries.run gives it."""
    ask: Callable[..., Any]
    """One query of lab.store.queries by name, less its store: ask("calls", run_id) is a frame."""
    judged: Callable[[str | None, tuple[str, str] | None], Finding]
    """RunResult.finding."""
    priced_as: str = ""
    """The model at whose price something is said where the run's own models have none."""
    control: str = ""
    """The technique whose arms are the same, by its slug: pairs of its runs are equal requests."""

    @property
    def run_id(self) -> str:
        return self.run["run_id"]

    @property
    def arms(self) -> list[str]:
        """The baseline first."""
        return [arm["arm"] for arm in self.run["settings"]["arms"]]

    @property
    def places(self) -> dict[str, int]:
        """The same arms, each with its place among the technique's, by which it is coloured."""
        return self.technique.places(self.arms)

    @property
    def baseline(self) -> str:
        return self.run["settings"]["baseline"]["arm"]

    @property
    def headline_arm(self) -> str:
        return self.run["settings"]["headline"]["arm"]

    def finding(self, metric: str | None = None, arm: str | None = None) -> Finding:
        """What a figure of arms may say, and why it is greyed: of the planned arm on the headline
        metric where none is named. A title that compares arms is this one's and no other."""
        return self.judged(metric, (self.run["technique"], arm) if arm else None)

    @property
    def endpoint(self) -> dict[str, str]:
        """The columns by which a figure says where its rows come from."""
        return {name: self.run[name] for name in ("endpoint", "endpoint_kind")}

    @property
    def knobs(self) -> Knobs:
        return self.knobs_of(self.run)

    def knobs_of(self, run: Mapping[str, Any]) -> Knobs:
        """The knobs of this run or another one; LabError where this technique no longer takes
        them."""
        values = run["settings"]["knobs"]
        try:
            return self.technique.knobs(**values)
        except ValidationError as error:
            raise LabError(sentence(error)) from None

    def trials(self) -> pd.DataFrame:
        """Those that count: what the verdict is made of."""
        trials = self.ask("trials", self.run_id)
        return trials[trials["counts"]]

    def calls(self, columns: Sequence[str] = ()) -> pd.DataFrame:
        """All calls of measured trials, whatever came of the trial; of `columns` alone where some
        are named."""
        chosen = {"columns": (*columns, "phase")} if columns else {}
        calls = self.ask("calls", self.run_id, **chosen)
        return calls[calls["phase"] == "measured"]

    @property
    def has_trials(self) -> bool:
        """Whether one counts."""
        return self.ask("has_trials", self.run_id)

    def spans(self, trial_id: str | None = None) -> pd.DataFrame:
        """Those of one trial, or of the whole run."""
        return self.ask("spans", trial_id, self.run_id)

    def typical(self) -> dict[str, pd.Series]:
        """Each arm's trial in the block of the median pair, in the order of the arms."""
        metric = self.run["settings"]["headline"]["metric"]
        trials = self.ask("typical_trials", self.run_id, metric).set_index("arm", drop=False)
        return {arm: trials.loc[arm] for arm in self.arms if arm in trials.index}

    def in_order(self, rows: pd.DataFrame) -> pd.DataFrame:
        place = {arm: at for at, arm in enumerate(self.arms)}
        return rows.sort_values("arm", key=lambda names: names.map(place), kind="stable")

    def tasks(self) -> list[Task]:
        """The built-in tasks of every category, as they are on this kind of endpoint."""
        kind = self.run["endpoint_kind"]
        return [task for name in definitions.CATEGORIES for task in definitions.load(name, kind)]


Part = Table | Note | Numbers | Slider | Choice
"""Or a plotly figure."""
COLUMNS: dict[str, Column] = {
    "total_ms": Column("total, ms, p50", "localized"),
    "calls": Column("calls", "%.1f"),
    "prompt_tokens": Column("prompt tokens", "localized"),
    "output_tokens": Column("output tokens", "localized"),
    "quality": Column("quality", "percent"),
    "cost_usd": Column("cost per trial", "$%.6f"),
}
"""What several techniques' tables have."""
