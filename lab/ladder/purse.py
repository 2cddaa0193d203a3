"""What a ladder may still spend, in dollars and seconds, and how its stages share that."""

from __future__ import annotations

from dataclasses import dataclass

SHARES = {"screening": 0.50, "elimination": 0.70, "confirmation": 1.0}
"""How much of the whole may be spent once a stage has ended: the rest is kept for those after it.
What a stage leaves, the next ones have."""
SLOWER = 1.25
"""A block is expected to take as long as the trials so far, and a quarter more."""
ENDING_S = 2.0
"""Kept for the end itself: a trial that lets go, rows that are written."""


@dataclass
class Purse:
    """`usd` is None where nothing limits it."""

    usd: float | None
    seconds: float

    def lacks(
        self, stage: str, spent_usd: float, worst_usd: float, spent_s: float, likely_s: float
    ) -> str | None:
        """Why a block must not begin, in words; None where it may. `worst_usd` is the most that it
        can cost, so that the budget is never passed; its seconds can only be expected."""
        share = SHARES[stage]
        if self.usd is not None and spent_usd + worst_usd > share * self.usd:
            return f"the dollars of the {stage} are spent"
        if spent_s + SLOWER * likely_s > share * self.seconds - ENDING_S:
            return f"the minutes of the {stage} are spent"
        return None

    def pairs(
        self, spent_usd: float, worst_usd: float, spent_s: float, likely_s: float, most: int
    ) -> int:
        """How many blocks of two can be measured with what is left, `most` at most; settled before
        the first of them, since a number that depends on what is seen would spoil their interval.
        """
        count = most
        if self.usd is not None and worst_usd > 0:
            count = min(count, int((self.usd - spent_usd) / worst_usd))
        if likely_s > 0:
            left_s = self.seconds - ENDING_S - spent_s
            count = min(count, int(left_s / (SLOWER * likely_s)))
        return max(count, 0)
