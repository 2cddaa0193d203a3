"""What an import did, as numbers and as sentences."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from lab import units
from lab.rows import FinishedTrial
from lab.store.importing import Imported


class Progress(NamedTuple):
    calls: int
    read_bytes: int
    size: int


@dataclass
class Summary:
    """What an import did."""

    name: str
    runs: list[str] = field(default_factory=list)
    """The recordings that have calls of it now; none where nothing was new anywhere."""
    added: int = 0
    known: int = 0
    """Calls that the recording had already."""
    elsewhere: Counter[str] = field(default_factory=Counter)
    """By run, calls that another recording has."""
    left_out: Counter[str] = field(default_factory=Counter)
    tokens: Counter[str] = field(default_factory=Counter)
    """Of the added calls: input (what came after the cache), read, written, output."""
    usd: float = 0.0
    unpriced: int = 0
    """Added calls with tokens and no known price."""
    sources: list[str] = field(default_factory=list)
    """Titles of the importers that read it."""
    cannot: list[str] = field(default_factory=list)
    database: Imported | None = None
    """Of another lab's rows, which come in as they are."""
    is_interrupted: bool = False

    def sentences(self) -> list[str]:
        """What happened, what it came to, what was left out, what cannot be answered."""
        if self.database:
            return [_of_database(self.database, self.name)]
        told = []
        if self.is_interrupted:
            told.append("Interrupted. What is told here is kept; importing again adds the rest.")
        told.append(self._calls())
        if self.tokens.total():
            told.append(self._sums())
        if self.left_out:
            told.append(f"Left out: {', '.join(listed(self.left_out))}.")
        return told

    @property
    def met(self) -> int:
        return self.added + self.known + self.elsewhere.total()

    def count(self, trials: Sequence[FinishedTrial]) -> None:
        """Trials that were added."""
        self.added += len(trials)
        for call in (trial.calls[0] for trial in trials):
            amounts = {
                "input": call.input_tokens,
                "read": call.cache_read_tokens,
                "written": (call.cache_write_5m_tokens or 0) + (call.cache_write_1h_tokens or 0),
                "output": call.output_tokens,
            }
            self.tokens.update({name: count or 0 for name, count in amounts.items()})
            self.usd += call.cost_usd or 0.0
            self.unpriced += call.cost_usd is None and call.output_tokens is not None

    def _calls(self) -> str:
        parts = [units.counted(self.added, "call") + " added"]
        if self.known:
            parts.append(f"{self.known:,} already there")
        if self.elsewhere:
            where = ", ".join(self.elsewhere)
            parts.append(f"{self.elsewhere.total():,} already in another recording ({where})")
        origin = f" from {' and '.join(self.sources)}" if self.sources else ""
        return f"{', '.join(parts)}{origin}."

    def _sums(self) -> str:
        tokens = self.tokens
        text = (
            f"Tokens: {tokens['input']:,} uncached input, {tokens['read']:,} read from the cache,"
            f" {tokens['written']:,} written to it, {tokens['output']:,} output."
        )
        if not self.usd:
            return f"{text} No price is known for them."
        text += f" Together {units.usd(self.usd)}"
        if self.unpriced:
            calls = units.counted(self.unpriced, "call")
            return f"{text} without {calls} whose price is not known."
        return f"{text}."


def _of_database(rows: Imported, name: str) -> str:
    if not rows.trials:
        return f"Everything in {name} is here already."
    left = f" {rows.left_out:,} rows were left out: they are no lab's." if rows.left_out else ""
    parts = ", ".join(
        units.counted(count, noun) for count, noun in ((rows.runs, "run"), (rows.trials, "trial"))
    )
    return f"Imported {parts} and {units.counted(rows.calls, 'call')} from {name}.{left}"


def listed(left_out: Counter[str]) -> list[str]:
    return [f"{count:,} {_noun(what, count)}" for what, count in left_out.items()]


def _noun(what: str, count: int) -> str:
    """ "lines that are no JSON", or "line that is no JSON"."""
    if count != 1:
        return what
    for plural, single in SINGLE.items():
        what = re.sub(rf"\b{plural}\b", single, what, count=1)
    return what


SINGLE = {
    "lines": "line",
    "entries": "entry",
    "spans": "span",
    "answers": "answer",
    "requests": "request",
    "files": "file",
    "calls": "call",
    "groups": "group",
    "are": "is",
    "were": "was",
    "their": "its",
}
