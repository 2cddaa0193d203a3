"""What a recording comes to: its conversations, its tokens and dollars, its misses by cause."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from lab import units
from lab.recording import differences, fixes, relation, worth_of_reads
from lab.recording.facts import CAUSES, NO_FAULT, Estimate, Miss, origin_of
from lab.recording.waiting import KINDS

if TYPE_CHECKING:
    from lab.recordings import Recording


@dataclass(frozen=True)
class Cause:
    """Misses with one cause, together; of by_place, at one place too."""

    cause: str
    misses: Sequence[Miss]
    tokens: int
    usd: float | None
    """None where no price is known of one of them."""
    seconds: Estimate | None

    @property
    def words(self) -> str:
        return CAUSES[self.cause]

    @property
    def look(self) -> str:
        """What the piece that changes looks like in all of them: "looks like a time"; else ""."""
        looks = {miss.look for miss in self.misses}
        look = looks.pop() if len(looks) == 1 else ""
        return f"looks like {differences.ARTICLES.get(look, 'a')} {look}" if look else ""

    @property
    def is_counted(self) -> bool:
        """Whether usages told all of its tokens."""
        return all(miss.is_counted for miss in self.misses)

    @property
    def fix(self) -> str | None:
        return fixes.for_miss(self.example)

    @property
    def example(self) -> Miss:
        """The one that missed most."""
        return max(self.misses, key=lambda miss: miss.missed_tokens)


def conversations(recording: Recording) -> pd.DataFrame:
    """A row a conversation: conversation, calls, failed, turns, sub_agents, total_ms, its parts
    first_token_ms, writing_ms, answering_ms, tool_ms and idle_ms, prompt_tokens, cost_usd."""
    placed = recording.conversations
    calls = recording.calls.drop(columns="conversation").join(placed, on="call_id")
    groups = calls.groupby("conversation")
    rows = pd.DataFrame(
        {
            "calls": groups["call_id"].count(),
            "failed": groups["error_kind"].count(),
            "turns": calls[calls["lane"] == 0].groupby("conversation")["turn"].max(),
            "sub_agents": groups["lane"].max(),
            "prompt_tokens": groups["prompt_tokens"].sum(min_count=1),
        }
    )
    rows["cost_usd"] = pd.Series(
        {number: cost(members) for number, members in groups}, dtype="float64"
    )
    bars = recording.waiting.timeline
    bars = bars[bars["is_critical"]]
    took = (bars["ended_ms"] - bars["started_ms"]).groupby([bars["conversation"], bars["kind"]])
    parts = took.sum().unstack(fill_value=0.0) if len(bars) else pd.DataFrame()
    for kind in KINDS:
        rows[f"{kind}_ms"] = parts.get(kind, 0.0)
    rows["total_ms"] = rows[[f"{kind}_ms" for kind in KINDS]].sum(axis="columns")
    return rows.fillna({f"{kind}_ms": 0.0 for kind in KINDS}).reset_index(names="conversation")


def cost(calls: pd.DataFrame) -> float | None:
    """Dollars of calls; None where the price of one that used tokens is not known. One that was
    refused cost nothing."""
    counted = calls["input_tokens"].notna() | calls["output_tokens"].notna()
    if not counted.any() or calls.loc[counted, "cost_usd"].isna().any():
        return None
    return float(calls["cost_usd"].sum())


def faults(misses: Sequence[Miss]) -> list[Miss]:
    return [miss for miss in misses if miss.cause != NO_FAULT]


def by_cause(recording: Recording) -> list[Cause]:
    """Faults alone, the cause that missed most tokens first."""
    return _together(recording, lambda miss: (miss.cause,))


def by_place(recording: Recording) -> list[Cause]:
    """As by_cause, and apart by where in the prompt and by what the changing piece looks like; the
    messages are one place, since they move on with each turn."""

    def place(miss: Miss) -> tuple:
        is_fixed = miss.section in ("tools", "system")
        return miss.cause, miss.section, miss.place if is_fixed else None, miss.look

    return _together(recording, place)


def _together(recording: Recording, key: Callable[[Miss], tuple]) -> list[Cause]:
    groups: dict[tuple, list[Miss]] = defaultdict(list)
    for miss in faults(recording.misses):
        groups[key(miss)].append(miss)
    causes = [
        Cause(
            misses[0].cause,
            misses,
            sum(miss.missed_tokens for miss in misses),
            dollars(misses),
            seconds(recording, misses),
        )
        for misses in groups.values()
    ]
    return sorted(causes, key=lambda cause: -cause.tokens)


def dollars(misses: Sequence[Miss]) -> float | None:
    known = [miss.usd for miss in misses if miss.usd is not None]
    return sum(known) if len(known) == len(misses) else None


def seconds(recording: Recording, misses: Sequence[Miss]) -> Estimate | None:
    """All together; None where that cannot be told of one of them."""
    tokens = {miss.call_id: miss.missed_tokens for miss in misses}
    return worth_of_reads.seconds(recording, tokens)


def no_seconds(recording: Recording) -> str:
    """Why what was missed cannot be told in seconds; empty where it can."""
    return "" if recording.relation else relation.missing(recording.calls)


def untold(recording: Recording) -> list[str]:
    """Questions that this recording cannot answer: what its source does not know, and what was not
    seen of single calls."""
    sentences = [str(sentence) for sentence in origin_of(recording.run).get("cannot") or ()]
    calls = recording.calls
    ended = calls[calls["error_kind"].isna()]
    without = int(ended["input_tokens"].isna().sum())
    if without:
        sentences.append(
            f"{_have(without)} no usage: {_its(without)} tokens and dollars are not in the sums."
        )
    whole = sum(1 for prompt in recording.prompts.values() if prompt.settings.get("whole", True))
    if whole and (unseen := len(calls) - whole):
        sentences.append(
            f"{_have(unseen)} no request that could be read: what {_its(unseen, 'they')} "
            "could have read from the cache is not known."
        )
    if len(ended) and recording.waiting.first_token_ms is None:
        if not sentences:
            sentences.append(
                "No answer streamed, so there is no first-token time: what a missed token costs in "
                "seconds cannot be told."
            )
    elif faults(recording.misses) and (why := no_seconds(recording)):
        sentences.append(why)
    return sentences


def _have(calls: int) -> str:
    return f"{units.counted(calls, 'call')} {'has' if calls == 1 else 'have'}"


def _its(calls: int, many: str = "their") -> str:
    return ("it" if many == "they" else "its") if calls == 1 else many
