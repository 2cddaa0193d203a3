"""What each call read from the cache, wrote to it and paid in full, and what it could have read."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from lab.recording.shape import Prompt


def of(
    calls: pd.DataFrame, conversations: pd.DataFrame, prompts: Mapping[str, Prompt]
) -> pd.DataFrame:
    """See lab.recordings.Recording.cache_use."""
    raise NotImplementedError


def hit_share(use: pd.DataFrame) -> float | None:
    """Tokens read of those that could have been read, 0 to 1; None where none could."""
    raise NotImplementedError
