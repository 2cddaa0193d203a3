"""Prompts as paths through one tree of blocks: two begin with the same n blocks where the n-th
numbers of their paths are alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from lab.recording.shape import Prompt

Path = list[int]


def paths(calls: pd.DataFrame, prompts: Mapping[str, Prompt]) -> dict[str, Path]:
    """By call_id, a number for each block of the prompt."""
    return _paths(calls, prompts, of_messages=False)


def message_paths(calls: pd.DataFrame, prompts: Mapping[str, Prompt]) -> dict[str, Path]:
    """The same of the messages alone: with other tools, or a system prompt that changes with every
    call, it is still the same conversation."""
    return _paths(calls, prompts, of_messages=True)


def _paths(
    calls: pd.DataFrame, prompts: Mapping[str, Prompt], of_messages: bool
) -> dict[str, Path]:
    tree: dict[tuple[int, str, str, str], int] = {}
    paths: dict[str, Path] = {}
    columns = ("call_id", "follows", "shared_blocks")
    for call_id, follows, shared in zip(*(values(calls, name) for name in columns), strict=True):
        if (prompt := prompts.get(call_id)) is None:
            continue
        skipped = prompt.first_message if of_messages else 0
        # What it shares with an earlier one is not walked again: long conversations stay quick.
        known = paths.get(follows, [])[: max(0, int(shared or 0) - skipped)]
        if of_messages and known and prompts[follows].first_message != skipped:
            known = []
        path = known
        node = path[-1] if path else 0
        for block in prompt.blocks[skipped + len(path) :]:
            key = (node, block.section, block.role, block.hash)
            node = tree.setdefault(key, len(tree) + 1)
            path.append(node)
        paths[call_id] = path
    return paths


def values(calls: pd.DataFrame, name: str) -> list[Any]:
    """A column; None where nothing is known, or where there is no such column."""
    if name not in calls:
        return [None] * len(calls)
    # At once: of a column of texts one after the other takes ten times as long.
    known = calls[name].to_numpy(dtype=object, na_value=None).tolist()
    return [None if value != value else value for value in known]
