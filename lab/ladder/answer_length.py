"""The lever that is no technique of its own: how long an answer may be."""

from __future__ import annotations

from dataclasses import replace

from lab.model import Lever, Request

SHARE, FEWEST = 0.25, 16
BRIEFLY = "Answer in one short sentence."


def shorter(request: Request, level, task) -> Request:
    """Asked for at the end of the question, so that no cached prefix changes, and held to: a model
    that does not listen is cut, and the task's check sees it."""
    *earlier, last = request.body["messages"]
    content = last["content"]
    if isinstance(content, str):
        content = f"{content}\n\n{BRIEFLY}"
    else:
        content = [*content[:-1], *_asked(content[-1])]
    most = max(FEWEST, round(SHARE * request.body["max_tokens"]))
    messages = [*earlier, {**last, "content": content}]
    return replace(request, body={**request.body, "messages": messages, "max_tokens": most})


def _asked(block) -> list[dict]:
    if block.get("type") == "text":
        return [{**block, "text": f"{block['text']}\n\n{BRIEFLY}"}]
    return [block, {"type": "text", "text": BRIEFLY}]


LENGTH = Lever(
    name="answer",
    title="Answer length",
    levels=("as is", "short"),
    words={"short": "short answer"},
    change=shorter,
    unfit=lambda task, level: (
        "its answers are no longer than that"
        if task.body_for(FEWEST + 1).get("max_tokens", 0) <= FEWEST
        else None
    ),
)
