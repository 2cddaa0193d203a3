"""A reply's content as it grows from an engine's pieces."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

from lab.local.engine import Closed, Grew, Opened, Piece


class Content:
    """The blocks of one message; `take` each of its pieces in their order."""

    def __init__(self, blocks: list[dict[str, Any]] | None = None) -> None:
        self.blocks = [] if blocks is None else blocks
        self._json = ""

    def take(self, piece: Piece) -> None:
        match piece:
            case Opened(block):
                self.blocks.append(dict(block))
                self._json = ""
            case Grew(delta):
                for name in ("text", "thinking", "signature"):
                    if name in delta:
                        self.blocks[-1][name] += delta[name]
                self._json += delta.get("partial_json", "")
            case Closed() if self.blocks[-1]["type"].endswith("tool_use"):
                # Where max_tokens fell inside the input, there is none.
                with suppress(ValueError):
                    self.blocks[-1]["input"] = json.loads(self._json)
