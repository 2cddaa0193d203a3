"""The shape of a Messages request: its blocks in the order in which the API reads them (tools,
system, messages), each as a keyed hash with its size, and its settings. No text.

A hash is made with a key of this machine: without it nobody can try words against a database.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

PIECE_DIGITS = 6
MOST_PIECES = 20_000
"""Of one block; what comes after them is one piece."""
# What changes from call to call in many prompts, and looks like it. Each is a piece of its own.
SPECIAL = re.compile(
    r"""
    (?P<t>\d{4}-\d{2}-\d{2}(?:[T ]\d{2}:\d{2}(?::\d{2}(?:[.,]\d+)?)?(?:Z|[+-]\d{2}:?\d{2})?)?
        |\d{1,2}:\d{2}(?::\d{2}(?:[.,]\d+)?)?(?:\s?[AaPp][Mm])?
        |(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z]*\.?\s\d{1,2}(?:,?\s\d{4})?
        |\d{1,2}[./]\d{1,2}[./]\d{2,4}
        |(?:Mon|Tues?|Wed(?:nes)?|Thu(?:rs)?|Fri|Sat(?:ur)?|Sun)(?:day)?\b
        |\b1[0-9]{9}(?:\.\d+|[0-9]{3}|[0-9]{6}|[0-9]{9})?\b)
    |(?P<i>\b[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}\b
        |\b(?=[0-9a-fA-F]*\d)[0-9a-fA-F]{8,}\b
        |\b(?=\w*\d)(?=\w*[A-Za-z])[A-Za-z0-9_]{16,}\b)
    |(?P<n>\d+(?:[.,]\d+)*)
    """,
    re.VERBOSE,
)
PLAIN = re.compile(r"[^\n,;:.{}\[\]]{0,200}[\n,;:.{}\[\]]|[^\n,;:.{}\[\]]{1,200}")
SETTINGS_AS_THEY_ARE = ("model", "speed", "service_tier", "max_tokens", "inference_geo")
"""Words and numbers of the API's own; `stream` is kept as true or false."""
SECTIONS = ("tools", "system", "messages")
"""In the order in which the API reads them."""


class Piece(NamedTuple):
    hash: str
    characters: int
    look: str
    """t a time, i an id, n a number, "" anything else."""


class Block(NamedTuple):
    """One block of a prompt: a tool's definition, a block of the system prompt, or one of a
    message. A text given as a plain string is one block of kind text."""

    section: str
    """tools, system or messages."""
    turn: int
    """Which message, from 0; in tools and system which block."""
    role: str
    """user, assistant or system in messages; else empty."""
    kind: str
    """text, image, tool_use, tool_result, thinking, …; tool for a definition."""
    name: str
    """Of a tool; for a tool_use or tool_result the keyed hash of its id, after a slash:
    "search/9f3a…" or "/9f3a…"."""
    characters: int
    hash: str
    """Of all it says but its cache_control, as it was sent: the order of its keys counts."""

    @property
    def tool(self) -> str:
        return self.name.partition("/")[0]

    @property
    def use_id(self) -> str:
        return self.name.partition("/")[2]


class Mark(NamedTuple):
    """A cache_control: behind which block of the prompt, and for how long ("5m" or "1h")."""

    place: int
    ttl: str


@dataclass(frozen=True)
class Prompt:
    blocks: tuple[Block, ...]
    marks: tuple[Mark, ...]
    settings: Mapping[str, Any]
    """What else the request said: model, speed, stream, max_tokens as they are; effort, thinking,
    tool_choice in words; output_format, context_management and betas as keyed hashes; `automatic`
    is the TTL of a top-level cache_control; `diagnosis` whether it asked why the cache missed."""

    @cached_property
    def parts(self) -> Mapping[str, slice]:
        """Where its tools, its system and its messages stand."""
        ends = [0]
        for section in ("tools", "system"):
            rest = range(ends[-1], len(self.blocks))
            ends.append(next((at for at in rest if self.blocks[at].section != section), rest.stop))
        ends.append(len(self.blocks))
        return {name: slice(*ends[at : at + 2]) for at, name in enumerate(SECTIONS)}

    @property
    def first_message(self) -> int:
        """How many blocks are tools or system before the messages."""
        return self.parts["messages"].start


class Hasher:
    """Keyed hashes of whatever JSON holds; lab.new_recording has the key."""

    def __init__(self, key: bytes) -> None:
        self.key = key

    def text(self, value: str, digits: int = 16) -> str:
        raw = value.encode("utf-8", "surrogatepass")
        return hashlib.blake2b(raw, key=self.key, digest_size=16).hexdigest()[:digits]

    def value(self, value: Any, digits: int = 16) -> str:
        return self.text(written(value), digits)


def written(value: Any) -> str:
    """As it would be sent, its keys in their own order."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def prompt_of(
    body: Mapping[str, Any], hasher: Hasher, betas: str = ""
) -> tuple[Prompt, dict[str, str]]:
    """The shape of a request body, and by its hash the text of each block (what `pieces` cuts).
    `betas` is the header anthropic-beta. Whatever the body is, this ends in a shape."""
    blocks: list[Block] = []
    marks: list[Mark] = []
    texts: dict[str, str] = {}
    for section, turn, role, value in _values(body):
        value = value if isinstance(value, Mapping) else {"type": "text", "text": value}
        bare = {name: part for name, part in value.items() if name != "cache_control"}
        kind = "tool" if section == "tools" else str(value.get("type") or "text")
        text = bare.get("text") if kind == "text" and set(bare) <= {"type", "text"} else None
        text = text if isinstance(text, str) else written(bare)
        mark = hasher.text(f"{kind}\0{text}")
        texts[mark] = text
        blocks.append(Block(section, turn, role, kind, _name(value, hasher), len(text), mark))
        if isinstance(control := value.get("cache_control"), Mapping):
            marks.append(Mark(len(blocks) - 1, "1h" if control.get("ttl") == "1h" else "5m"))
    return Prompt(tuple(blocks), tuple(marks), _settings(body, hasher, betas)), texts


def _values(body: Mapping[str, Any]) -> Iterator[tuple[str, int, str, Any]]:
    for place, tool in enumerate(_list(body.get("tools"))):
        # What waits for a tool search is no part of the prompt: to add one breaks no cache.
        if not (isinstance(tool, Mapping) and tool.get("defer_loading") is True):
            yield "tools", place, "", tool
    for place, block in enumerate(_list(body.get("system"))):
        yield "system", place, "", block
    for turn, message in enumerate(_list(body.get("messages"))):
        message = message if isinstance(message, Mapping) else {"content": message}
        for block in _list(message.get("content")):
            yield "messages", turn, str(message.get("role") or "")[:20], block


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value in (None, "") else [value]


def _name(value: Mapping[str, Any], hasher: Hasher) -> str:
    own = str(value.get("name") or "")[:100] if isinstance(value.get("name"), str) else ""
    use = value.get("tool_use_id") or (value.get("id") if value.get("type") != "text" else None)
    return f"{own}/{hasher.text(use, 8)}" if isinstance(use, str) and use else own


def reply_of(content: Iterable[Mapping[str, Any]], hasher: Hasher) -> list[Block]:
    """The blocks of an answer, hashed as they are when they come back in a next prompt."""
    body = {"messages": [{"role": "assistant", "content": list(content)}]}
    return list(prompt_of(body, hasher)[0].blocks)


def _settings(body: Mapping[str, Any], hasher: Hasher, betas: str) -> dict[str, Any]:
    settings: dict[str, Any] = {
        name: value if isinstance(value, int | float) else str(value)[:100]
        for name in SETTINGS_AS_THEY_ARE
        if (value := body.get(name)) is not None
    }
    settings["stream"] = body.get("stream") is True
    config = body.get("output_config") if isinstance(body.get("output_config"), Mapping) else {}
    if effort := config.get("effort"):
        settings["effort"] = str(effort)[:40]
    if isinstance(thinking := body.get("thinking"), Mapping):
        words = (str(thinking[name])[:40] for name in sorted(thinking))
        settings["thinking"] = " ".join(words)
    if isinstance(choice := body.get("tool_choice"), Mapping):
        settings["tool_choice"] = " ".join(str(part)[:100] for part in choice.values())
    if form := config.get("format") or body.get("output_format"):
        settings["output_format"] = hasher.value(form)
    if body.get("context_management"):
        settings["context_management"] = hasher.value(body["context_management"])
    if betas:
        settings["betas"] = hasher.text(betas)
    if isinstance(control := body.get("cache_control"), Mapping):
        settings["automatic"] = "1h" if control.get("ttl") == "1h" else "5m"
    if body.get("diagnostics"):
        settings["diagnosis"] = True
    return settings


def pieces(text: str, hasher: Hasher) -> str:
    """A block's pieces as text to keep: "a1b2c3.25 0f0f0f.36i …": hash, length, look."""
    return " ".join(
        f"{hasher.text(part, PIECE_DIGITS)}.{len(part)}{look}" for part, look in _cut(text)
    )


def read_pieces(kept: str) -> list[Piece]:
    """The pieces again; what is no piece is left out."""
    found = []
    for word in kept.split():
        digits, _, rest = word.partition(".")
        look = rest[-1:] if rest[-1:] in ("t", "i", "n") else ""
        length = rest.removesuffix(look) if look else rest
        if length.isdigit():
            found.append(Piece(digits, int(length), look))
    return found


def _cut(text: str) -> Iterator[tuple[str, str]]:
    at, count = 0, 0
    for match in SPECIAL.finditer(text):
        for plain in PLAIN.finditer(text, at, match.start()):
            yield plain[0], ""
            count += 1
        yield match[0], match.lastgroup or ""
        at, count = match.end(), count + 1
        if count > MOST_PIECES:
            break
    for plain in PLAIN.finditer(text, at):
        if count > MOST_PIECES:
            break
        yield plain[0], ""
        at, count = plain.end(), count + 1
    if at < len(text):
        yield text[at:], ""


def shared(first: Sequence[Block], second: Sequence[Block]) -> int:
    """How many blocks two prompts begin with alike."""
    count = 0
    for one, other in zip(first, second, strict=False):
        if (one.section, one.role, one.hash) != (other.section, other.role, other.hash):
            break
        count += 1
    return count
