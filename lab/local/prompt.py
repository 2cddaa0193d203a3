"""A request as the text a model reads, with the end of every cacheable block marked, so that
prefixes are exact in tokens too."""

from __future__ import annotations

from typing import Any

from lab.local.messages_api import Prompt, canonical

MARK = "\ue000"
TOOLS = (
    "You can call these functions. Each call is one line of JSON between <tool_call> and"
    " </tool_call>, with the keys name and arguments.\n"
)


def tool_call(name: str, arguments: str) -> str:
    return f'<tool_call>\n{{"name": {canonical(name)}, "arguments": {arguments}}}\n</tool_call>\n'


def begun_call(name: str) -> str:
    """A tool call up to where the model writes its arguments."""
    return tool_call(name, MARK).partition(MARK)[0]


def text_of(value: dict[str, Any]) -> str:
    """One content block as a chat model sees it: earlier thinking is left out."""
    kind = value.get("type")
    if kind == "text":
        text = value["text"]
    elif kind == "tool_use":
        text = tool_call(value["name"], canonical(value["input"]))
    elif kind == "tool_result":
        failed = "Error: " if value.get("is_error") else ""
        text = f"<tool_response>\n{failed}{result_text(value)}\n</tool_response>\n"
    else:
        text = ""
    return text.replace(MARK, "\ufffd")


def result_text(value: dict[str, Any]) -> str:
    """What a tool_result block says."""
    return "".join(part.get("text") or canonical(part) for part in value.get("content", []))


def chat(prompt: Prompt) -> list[dict[str, str]]:
    """Messages for a chat template; MARK follows each block of prompt.blocks(), in that order."""
    head = ""
    for index, tool in enumerate(prompt.loaded()):
        examples = {"examples": tool.input_examples} if tool.input_examples else {}
        shown = {
            "name": tool.name,
            "description": tool.description,
            "parameters": tool.input_schema,
            **examples,
        }
        head += f"{'' if index else TOOLS}{canonical(shown).replace(MARK, chr(0xFFFD))}{MARK}\n"
    head += "".join(text_of(block.model_dump()) + MARK for block in prompt.system)
    turns = [
        {
            "role": turn.role,
            "content": "".join(text_of(b.model_dump()) + MARK for b in turn.content),
        }
        for _, turn in prompt.turns()
    ]
    return [*([{"role": "system", "content": head}] if head else []), *turns]


def first_stop(text: str, sequences: list[str]) -> tuple[str | None, int]:
    """The stop sequence that comes first in a text, or None, and where it begins."""
    places = {stop: place for stop in sequences if (place := text.find(stop)) >= 0}
    stop = min(places, key=places.__getitem__, default=None)
    return stop, places.get(stop, -1)


class Stopper:
    """Looks for stop sequences in streamed text; what may begin one waits."""

    def __init__(self, sequences: list[str]):
        self.sequences, self.waiting, self.found = sequences, "", None

    def feed(self, text: str) -> str:
        """What can be shown now; `found` is set once a sequence is complete."""
        self.waiting += text
        self.found, place = first_stop(self.waiting, self.sequences)
        if self.found:
            return self.waiting[:place]
        longest = max(
            (
                n
                for stop in self.sequences
                for n in range(1, len(stop))
                if self.waiting.endswith(stop[:n])
            ),
            default=0,
        )
        cut = len(self.waiting) - longest
        shown, self.waiting = self.waiting[:cut], self.waiting[cut:]
        return shown

    def rest(self) -> str:
        return "" if self.found else self.waiting
