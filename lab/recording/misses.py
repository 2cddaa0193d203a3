"""Why a call did not read from the cache: only causes that the recording proves."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pandas as pd

from lab.recording.facts import Miss
from lab.recording.relation import Relation
from lab.recording.shape import Piece, Prompt


def of(
    calls: pd.DataFrame,
    conversations: pd.DataFrame,
    prompts: Mapping[str, Prompt],
    pieces: Callable[[str], list[Piece]],
    relation: Relation | None,
) -> list[Miss]:
    """See lab.recordings.Recording.misses."""
    raise NotImplementedError
