"""The words of the server with known answers (lab.load.known): a stream of the Messages API, and
one of OpenAI's chat completions, in which each token is a chunk of its own."""

from __future__ import annotations

import json
from typing import Any

WORDS = ("the", "harbour", "is", "quiet", "and", "nothing", "moves", "before", "the", "tide")


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def sse(*events: dict[str, Any]) -> bytes:
    """Events of the Messages API as one chunk."""
    texts = [f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events]
    return chunk("".join(texts).encode())


class Messages:
    """The words of POST /v1/messages."""

    start = "msg_"

    def __init__(self, name: str, model: str, tokens: int, asked: dict[str, Any]) -> None:
        self.message = {
            "id": name, "type": "message", "role": "assistant", "model": model, "content": [],
            "stop_reason": None, "stop_sequence": None,
            "usage": {"input_tokens": 12, "output_tokens": 1},
        }  # fmt: skip
        self.tokens = tokens
        self.ended = {"stop_reason": "end_turn", "stop_sequence": None}
        self.usage = {"output_tokens": tokens}

    def head(self) -> bytes:
        block = {"type": "text", "text": ""}
        return sse(
            {"type": "message_start", "message": self.message},
            {"type": "content_block_start", "index": 0, "content_block": block},
        )

    def token(self, place: int) -> bytes:
        return DELTAS[place % len(DELTAS)]

    def end(self) -> bytes:
        return sse(
            {"type": "content_block_stop", "index": 0},
            {"type": "message_delta", "delta": self.ended, "usage": self.usage},
            {"type": "message_stop"},
        )

    def whole(self, text: str) -> dict[str, Any]:
        content = [{"type": "text", "text": text}]
        usage = {**self.message["usage"], **self.usage}
        return {**self.message, **self.ended, "content": content, "usage": usage}


def delta(word: str) -> bytes:
    text = {"type": "text_delta", "text": f"{word} "}
    return sse({"type": "content_block_delta", "index": 0, "delta": text})


DELTAS = [delta(word) for word in WORDS]


class Chat:
    """The words of POST /v1/chat/completions. The first chunk with a word names the role too, so
    that no client takes an empty one for a token."""

    start = "chatcmpl-"

    def __init__(self, name: str, model: str, tokens: int, asked: dict[str, Any]) -> None:
        self.tokens = tokens
        self.about = {"id": name, "created": 0, "model": model}
        before = json.dumps({**self.about, "object": "chat.completion.chunk"})[:-1]
        self.before = f'data: {before}, "choices": '.encode()
        self.usage = {"prompt_tokens": 12, "completion_tokens": tokens, "total_tokens": 12 + tokens}
        self.tells_usage = bool((asked.get("stream_options") or {}).get("include_usage"))

    def head(self) -> bytes:
        return b""

    def token(self, place: int) -> bytes:
        role = '"role": "assistant", ' if place == 0 else ""
        text = f'{role}"content": "{WORDS[place % len(WORDS)]} "'
        choice = f'[{{"index": 0, "delta": {{{text}}}, "finish_reason": null}}]}}\n\n'
        return chunk(self.before + choice.encode())

    def end(self) -> bytes:
        stop = b'[{"index": 0, "delta": {}, "finish_reason": "stop"}]}\n\n'
        usage = b'[], "usage": %s}\n\n' % json.dumps(self.usage).encode()
        told = chunk(self.before + usage) if self.tells_usage else b""
        return chunk(self.before + stop) + told + chunk(b"data: [DONE]\n\n")

    def whole(self, text: str) -> dict[str, Any]:
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        named = {**self.about, "object": "chat.completion"}
        return {**named, "choices": [choice], "usage": self.usage}


PATHS = {b"/v1/messages": Messages, b"/v1/chat/completions": Chat}
