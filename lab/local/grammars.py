"""Grammars as the API keeps them: the schema of an answer, or of a strict tool, is compiled at its
first use and kept for a day after its last one (the API's documentation of structured outputs)."""

from __future__ import annotations

from collections import OrderedDict

from lab.local.messages_api import Prompt, canonical

KEPT_NS = 24 * 3600 * 10**9
MOST = 1000
"""Grammars kept; beyond them the one that was used longest ago goes."""


class Grammars:
    """What is compiled, and until when it is kept; a changed letter is another schema."""

    def __init__(self) -> None:
        self.ready_ns: dict[str, int] = {}
        self.used_ns: OrderedDict[str, int] = OrderedDict()

    def wait_ms(self, prompt: Prompt, ms_per_kb: float, at_ns: int) -> float:
        """How long a request that begins at `at_ns` waits for its grammars; one that is being
        compiled for another request is waited for."""
        wait_ns = 0
        for schema in schemas(prompt):
            if at_ns - self.used_ns.get(schema, at_ns) > KEPT_NS:
                del self.ready_ns[schema]
            compile_ns = round(ms_per_kb * len(schema.encode()) / 1000 * 1e6)
            ready_ns = self.ready_ns.setdefault(schema, at_ns + compile_ns)
            self.used_ns[schema] = at_ns
            self.used_ns.move_to_end(schema)
            if len(self.used_ns) > MOST:
                del self.ready_ns[self.used_ns.popitem(last=False)[0]]
            wait_ns = max(wait_ns, ready_ns - at_ns)
        return wait_ns / 1e6

    def clear(self) -> None:
        self.ready_ns.clear()
        self.used_ns.clear()


def schemas(prompt: Prompt) -> set[str]:
    strict = {canonical(tool.input_schema) for tool in prompt.tools if tool.strict}
    return strict | ({canonical(prompt.json_schema)} if prompt.json_schema is not None else set())
