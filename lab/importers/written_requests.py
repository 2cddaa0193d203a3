"""The requests that newer versions of Claude Code write into a transcript beside its messages:
whole, with settings and breakpoints.

`api-request-shape` has the system prompt and the tools; `api-request` the settings, the places of
cache_control, and the messages as SHA-256 of their JSON with sorted keys: the first `keep` of an
earlier request (`base`) and a `tail`. A message that no line of the transcript is alike to stands
in an `api-request-blob`. (Seen in 2.1.332.)
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from lab.importers import instants
from lab.recording import shape
from lab.recording.shape import Block, Hasher, Mark, Prompt

REMEMBERED = 64
"""Requests that a later one may be based on."""


@dataclass(frozen=True)
class Written:
    at: datetime
    prompt: Prompt | None
    """None where a message of it is not known."""
    body: dict[str, Any] | None = None
    """As it was sent but for `stream`; where text is kept."""
    betas: str = ""


@dataclass
class WrittenRequests:
    """Those of one file, and every message that they may be made of."""

    hasher: Hasher
    keep_text: bool = False
    shapes: dict[str, tuple[Block, ...]] = field(default_factory=dict)
    messages: dict[str, Sequence[Block]] = field(default_factory=dict)
    contents: dict[str, Any] = field(default_factory=dict)
    """What shapes and messages say, by the same names; where text is kept."""
    roles: dict[str, str] = field(default_factory=dict)
    requests: OrderedDict[str, list[str]] = field(default_factory=OrderedDict)
    latest: dict[str, Written] = field(default_factory=dict)
    """By its lane, the last request that has no answer yet."""
    texts: dict[str, str] = field(default_factory=dict)
    """Of new blocks by their hashes, for their pieces: taken with the next answer."""

    def take(self, line: Mapping[str, Any]) -> None:
        kind = line["type"]
        if kind == "api-request-shape":
            said = line["shape"]
            body = {"tools": said.get("tools"), "system": said.get("system")}
            prompt, texts = shape.prompt_of(body, self.hasher)
            self.shapes[str(line["shapeHash"])] = prompt.blocks
            if self.keep_text:
                self.contents[str(line["shapeHash"])] = body
            self.texts |= texts
        elif kind == "api-request-blob":
            message = line["message"]
            self.learn(str(message["role"]), message["content"], str(line["hash"]))
        elif kind == "api-request":
            lane = str(line.get("agentId") or "")
            self.latest.pop(lane, None)  # one that got no answer
            self.latest[lane] = self._request(line)

    def learn(self, role: str, content: Any, name: str | None = None) -> Sequence[Block]:
        """A message's blocks, and its name from now on."""
        body = {"messages": [{"role": role, "content": content}]}
        prompt, texts = shape.prompt_of(body, self.hasher)
        names = [name] if name else [named(role, json_of(content))]
        if isinstance(content, str) and not name:
            names.append(named(role, json_of([{"type": "text", "text": content}])))
        for known in names:
            self.messages[known], self.roles[known] = prompt.blocks, role
            if self.keep_text:
                self.contents[known] = content
        # What a tool gave is long, and differs where it does for reasons of its own.
        kinds = {block.hash: block.kind for block in prompt.blocks}
        self.texts |= {hash: text for hash, text in texts.items() if kinds[hash] != "tool_result"}
        return prompt.blocks

    def answered(self, lane: str) -> tuple[Written | None, dict[str, str]]:
        """The request of the answer that begins now, and the texts of its new blocks."""
        texts, self.texts = self.texts, {}
        written = self.latest.pop(lane, None)
        return written, texts if written else {}

    def _request(self, line: Mapping[str, Any]) -> Written:
        at, settings, thread = instants.read(line["timestamp"]), line["params"], line.get("thread")
        base = self.requests.get(str(line.get("base")), [])
        names = [*base[: int(line["keep"])], *map(str, line["tail"])]
        self.requests[str(line["id"])] = names
        while len(self.requests) > REMEMBERED:
            self.requests.popitem(last=False)
        is_known = len(base) >= line["keep"] and all(name in self.messages for name in names)
        is_thread = isinstance(thread, Mapping) and thread.get("type") != "none"
        before = self.shapes.get(str(line["shapeHash"]))
        if before is None or is_thread or not is_known:
            return Written(at, None)
        blocks, starts = list(before), []
        for turn, name in enumerate(names):
            starts.append(len(blocks))
            blocks += [block._replace(turn=turn) for block in self.messages[name]]
        marks = [_mark(control, blocks, starts) for control in line.get("cacheControl") or ()]
        betas = ",".join(map(str, settings.get("betas") or ()))
        bare = {name: settings[name] for name in settings if name not in ("betas", "messages")}
        known = dict(shape.prompt_of(bare, self.hasher, betas)[0].settings)
        known.pop("stream", None)  # it is not written
        prompt = Prompt(tuple(blocks), tuple(sorted(marks)), known)
        body = self._body(bare, str(line["shapeHash"]), names, line) if self.keep_text else None
        return Written(at, prompt, body, betas)

    def _body(
        self, settings: dict[str, Any], before: str, names: Sequence[str], line: Mapping[str, Any]
    ) -> dict[str, Any]:
        messages = [
            {"role": self.roles.get(name, "assistant"), "content": _list(self.contents[name])}
            for name in names
        ]
        said = {name: part for name, part in self.contents[before].items() if part}
        body = copy.deepcopy({**settings, **said, "messages": messages})
        for control in line.get("cacheControl") or ():
            part: Any = body
            for step in control["path"]:
                part = part[step]
            part["cache_control"] = control["value"]
        return body


def _list(content: Any) -> Any:
    """A text as a block, which can bear a breakpoint."""
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _mark(control: Mapping[str, Any], blocks: Sequence[Block], starts: Sequence[int]) -> Mark:
    section, number, *inner = control["path"]
    if section == "messages":
        place = starts[number] + int(inner[-1])
    else:
        numbered = [(block.section, block.turn) for block in blocks]
        place = numbered.index((section, number))
    if blocks[place].section != section:
        raise ValueError("a breakpoint behind no block")
    return Mark(place, "1h" if control["value"].get("ttl") == "1h" else "5m")


def json_of(value: Any) -> str:
    """As it is named by: sorted keys, no spaces."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True)


def named(role: str, content: str) -> str:
    text = f'{{"content":{content},"role":{json_of(role)}}}'
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
