"""Tool calls of an answer that still comes: each is told as soon as its input is whole.

Only for calls whose trial asks for it. It reads after the stamp, in a turn of the event loop of
its own, so that no other arrival waits for it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from contextvars import copy_context
from typing import Any

from lab.instrumentation.parsing import Reading
from lab.model import ToolUse

OF_TOOLS = (b"tool_use", b"input_json_delta", b"content_block_stop", b"content_block_start")
"""What an event's text has in it that says something about a tool's input."""


class WholeTools:
    """`take(chunk)` gives the tool calls that became whole with these bytes of an SSE stream.

    Whole is an input that its content_block_stop leaves as a JSON object. Of a tool without any
    input that is known only once the model goes on, since an answer that is cut off closes its
    last block too. An input that is no JSON object is never told: a tool must not run on it.
    """

    def __init__(self) -> None:
        self.told: set[str] = set()
        """Ids of the calls that were given."""
        self._rest = b""
        self._block: dict[str, Any] | None = None
        self._pieces: list[str] = []
        self._empty: ToolUse | None = None

    def take(self, chunk: bytes) -> Iterator[ToolUse]:
        text = (self._rest + chunk).replace(b"\r\n", b"\n")
        *complete, self._rest = text.split(b"\n\n")
        for event in complete:
            if any(word in event for word in OF_TOOLS):
                yield from self._read(_data(event))

    def _read(self, event: dict[str, Any]) -> Iterator[ToolUse]:
        kind, delta = event.get("type"), event.get("delta") or {}
        goes_on = kind == "content_block_start" or delta.get("stop_reason") == "tool_use"
        if goes_on and self._empty is not None:
            yield self._tell(self._empty)
            self._empty = None
        if kind == "content_block_start":
            block = event.get("content_block") or {}
            self._block = block if block.get("type") == "tool_use" else None
            self._pieces = []
        elif kind == "content_block_delta" and self._block is not None:
            self._pieces.append(delta.get("partial_json") or "")
        elif kind == "content_block_stop" and self._block is not None:
            block, self._block = self._block, None
            yield from self._whole(block, "".join(self._pieces))

    def _whole(self, block: dict[str, Any], text: str) -> Iterator[ToolUse]:
        value = _object(text) if text else block.get("input") or {}
        if value is None or not isinstance(block.get("id"), str):
            return
        use = ToolUse(block["id"], str(block.get("name")), value)
        if value:
            yield self._tell(use)
        else:
            self._empty = use

    def _tell(self, use: ToolUse) -> ToolUse:
        self.told.add(use.id)
        return use


class Heard:
    """Tells a trial of each whole tool call while the answer still comes.

    A piece is only noted as it arrives, and read in a turn of the loop of its own: what arrives at
    the same moment on other connections is stamped first. What it starts runs in the context of
    the trial, not in that of the connection, which may be an earlier trial's.
    """

    def __init__(self, tell: Callable[[ToolUse], Any]) -> None:
        self.tell, self.tools = tell, WholeTools()
        self.context, self.loop = copy_context(), asyncio.get_running_loop()
        self.is_over = False

    def hear(self, chunk: bytes) -> None:
        self.loop.call_soon(self._read, chunk, context=self.context)

    def _read(self, chunk: bytes) -> None:
        if not self.is_over:
            for use in self.tools.take(chunk):
                self.tell(use)

    def finish(self, reading: Reading) -> None:
        """Tell what nobody heard, such as the tools of an answer that did not stream."""
        self.is_over = True
        for use in reading.tool_uses:
            if use.id not in self.tools.told:
                self.tell(use)


def _data(event: bytes) -> dict[str, Any]:
    """An event's JSON; what is broken is told by who reads the whole answer."""
    lines = [line[5:].strip() for line in event.split(b"\n") if line.startswith(b"data:")]
    return _object(b"\n".join(lines).decode("utf-8", "replace")) or {}


def _object(text: str) -> dict[str, Any] | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
