"""Context editing as the API does it: old tool results, and thinking of old turns, are cleared from
the prompt before a model reads it, and the answer says how much.

Rules (the API's documentation of context editing, beta context-management-2025-06-27): once the
prompt is longer than the trigger (100,000 tokens), a text stands in the place of all tool results
but the latest `keep` (3); less than `clear_at_least` is not cleared at all. Thinking is kept of the
latest `keep` assistant turns that have any (1). The client's own history stays as it is, so each
request is edited anew; what was cleared is another prefix to the cache.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from lab.local.engine import Counted
from lab.local.messages_api import ClearThinking, ClearToolUses, Content, PlainText, Prompt, Turn

CLEARED = "[Old tool result content cleared]"
TRIGGER_TOKENS, KEEP_USES, KEEP_TURNS = 100_000, 3, 1
THINKING = ("thinking", "redacted_thinking")


class Edited(NamedTuple):
    prompt: Any
    """The Prompt or Body that the model reads."""
    counted: Counted
    applied: list[dict[str, Any]]
    """As the API's `applied_edits`."""


async def applied(
    prompt: Prompt, counted: Counted, count: Callable[[Prompt], Awaitable[Counted]]
) -> Edited:
    """The prompt after its edits, in their order; `counted` is what it was before."""
    told: list[dict[str, Any]] = []
    management = prompt.context_management
    for edit in management.edits if management else ():
        clear = _without_thinking if isinstance(edit, ClearThinking) else _without_results
        messages, amount = clear(prompt, edit, counted.total)
        if not amount:
            continue
        shorter = prompt.model_copy(update={"messages": messages})
        after = await count(shorter)
        cleared = counted.total - after.total
        least = edit.clear_at_least if isinstance(edit, ClearToolUses) else None
        if least and cleared < (least.value or 0):
            continue
        what = "tool_uses" if isinstance(edit, ClearToolUses) else "thinking_turns"
        told.append({"type": edit.type, f"cleared_{what}": amount, "cleared_input_tokens": cleared})
        prompt, counted = shorter, after
    return Edited(prompt, counted, told)


def _without_thinking(prompt: Prompt, edit: ClearThinking, _: int) -> tuple[list[Turn], int]:
    """The turns less the thinking of older ones, and of how many it was taken."""
    if edit.keep == "all" or (edit.keep and edit.keep.type == "all"):
        return prompt.messages, 0
    keep = KEEP_TURNS if edit.keep is None else edit.keep.value or 0
    thought = [
        place
        for place, turn in enumerate(prompt.messages)
        if any(block.type in THINKING for block in turn.content)
    ]
    old = set(thought[: max(len(thought) - keep, 0)])

    def cleared(place: int, turn: Turn) -> Turn:
        if place not in old:
            return turn
        rest = [block for block in turn.content if block.type not in THINKING]
        return turn.model_copy(update={"content": rest})

    return [cleared(place, turn) for place, turn in enumerate(prompt.messages)], len(old)


def _without_results(prompt: Prompt, edit: ClearToolUses, total: int) -> tuple[list[Turn], int]:
    """The turns with a text in the place of old tool results, and how many those are."""
    blocks = [block for turn in prompt.messages for block in turn.content]
    uses = [block for block in blocks if block.type == "tool_use"]
    trigger = edit.trigger
    length = len(uses) if trigger and trigger.type == "tool_uses" else total
    if length <= (TRIGGER_TOKENS if trigger is None else trigger.value or 0):
        return prompt.messages, 0
    answered = {block.tool_use_id for block in blocks if block.type == "tool_result"}
    kept = set(edit.exclude_tools or ())
    clearable = [use for use in uses if use.id in answered and use.name not in kept]
    keep = KEEP_USES if edit.keep is None else edit.keep.value or 0
    old = clearable[: max(len(clearable) - keep, 0)]
    ids, inputs = {use.id for use in old}, edit.clear_tool_inputs
    emptied = {use.id for use in old if inputs is True or (inputs and use.name in inputs)}

    def cleared(block: Content) -> Content:
        if block.type == "tool_result" and block.tool_use_id in ids:
            text = PlainText(type="text", text=CLEARED)
            return block.model_copy(update={"content": [text]})
        if block.type == "tool_use" and block.id in emptied:
            return block.model_copy(update={"input": {}})
        return block

    turns = [
        turn.model_copy(update={"content": [cleared(block) for block in turn.content]})
        for turn in prompt.messages
    ]
    return turns, len(old)
