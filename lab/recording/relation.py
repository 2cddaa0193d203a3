"""How the time to the first token grows with uncached tokens in one recording."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from lab.recording.facts import Estimate


@dataclass(frozen=True)
class Relation:
    ms_per_1000_uncached: Estimate
    ms_per_1000_cached: Estimate | None
    """Of what was read from the cache; None where none was."""
    calls: int

    def seconds(self, tokens: float) -> Estimate:
        """What so many tokens more cost one call in seconds, with the interval of one such
        measurement."""
        raise NotImplementedError


def of(calls: pd.DataFrame, use: pd.DataFrame) -> Relation | None:
    """None where the calls with a first-token time are too few or too alike."""
    raise NotImplementedError
