"""Where the time of a recording went: first tokens, writing, tools, nothing at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from lab.recording.shape import Block


@dataclass(frozen=True, eq=False)
class Waiting:
    total_ms: float
    first_token_ms: float | None
    """None where the source has no first-token time; then `writing_ms` is the whole answering."""
    writing_ms: float
    tools_ms: float
    idle_ms: float
    sentence: str
    """ "Of 4 min 12 s, Claude's first tokens took 31 %, its writing 28 %, …"."""
    timeline: pd.DataFrame
    """A row a bar: conversation, lane, turn, call_id, kind (first_token, writing, answering, tool,
    idle), name, started_ms, ended_ms, is_critical."""


def of(
    calls: pd.DataFrame,
    conversations: pd.DataFrame,
    tools: pd.DataFrame,
    replies: Mapping[str, Sequence[Block]],
) -> Waiting:
    raise NotImplementedError
