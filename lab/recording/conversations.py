"""Which calls of a recording belong together: conversations, turns, sub-agents as lanes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from lab.recording.shape import Block, Prompt


def of(
    calls: pd.DataFrame, prompts: Mapping[str, Prompt], replies: Mapping[str, Sequence[Block]]
) -> pd.DataFrame:
    """See lab.recordings.Recording.conversations."""
    raise NotImplementedError
