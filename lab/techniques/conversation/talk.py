"""One conversation, as each arm sends it: where its cache breakpoints stand, and what a thread is
spared."""

from lab.model import Bench, Request
from lab.recording.request_parts import bare, without_marks
from lab.scenarios import definitions, tools

NOTHING, LAST, EVERY = "nothing cached", "last turn marked", "every part marked"
AUTOMATIC, THREAD = "automatic", "thread"
MARK = {"cache_control": {"type": "ephemeral"}}
LOOKBACK = 20
"""Blocks in which a breakpoint finds an earlier entry, its own counted."""
LIFETIME_S = 300
"""Of a cache entry and of a thread, after their last use."""
TOOL_TOKENS = 64
"""For what a tool is asked."""
THREADS = "message-threads-2026-08-12"
"""The beta that each request of a thread needs."""


class Talk:
    """One conversation, as its arm sends it."""

    def __init__(self, arm, knobs, task):
        # Where the breakpoints stand is what the arms try: a body's own would be in all of them.
        task = task.model_copy(update={"body": without_marks(task.body)})
        self.arm, self.knobs, self.task = arm, knobs, task
        tokens = knobs.turn_tokens or task.document_tokens // 6
        text = definitions.prefix_text(task, tokens * (knobs.turns + 2))
        size = len(text) // (knobs.turns + 2)
        self.texts = [text[size * n : size * (n + 1)] for n in range(2, knobs.turns + 2)]
        instruction = "Answer in one sentence, from what was said."
        if knobs.tool_results:
            instruction = f"Before you answer, use your tool once. {instruction}"
        system = task.instructed(instruction)
        system = system if isinstance(system, list) else [{"type": "text", "text": system}]
        self.system = [*system, {"type": "text", "text": text[: 2 * size]}]
        self.tools = tools.specs(tools.names()[:1]) if knobs.tool_results else None
        self.turns = [in_blocks(turn) for turn in (task.body or {}).get("messages", ())[:-1]]
        self.most = knobs.answer_tokens + (TOOL_TOKENS if knobs.tool_results else 0)
        self.held, self.thread, self.asked = 0, None, 0

    def says(self, question, text):
        """The user's next turn."""
        size = -(-len(text) // self.knobs.turn_blocks)
        parts = [text[n : n + size] for n in range(0, len(text), size)]
        brought = [] if self.knobs.tool_results else [{"type": "text", "text": p} for p in parts]
        asks = [bare(block) for block in question.last_turn]
        self.turns.append({"role": "user", "content": [*brought, *asks]})

    def request(self, afresh=False):
        """What goes out; a thread's next turn alone, unless it is to be sent `afresh`."""
        fields = {"system": self.system, "tools": self.tools, "messages": self.turns}
        fields["tool_choice"] = {"type": "auto"} if self.tools else None
        headers = {}
        if self.arm in (LAST, EVERY):
            fields |= marked(**fields, every=self.arm == EVERY)
        elif self.arm != NOTHING:
            fields |= MARK
        if self.arm == THREAD:
            headers["anthropic-beta"] = THREADS
            fields["thread"] = {"type": "create"}
            if self.thread and not afresh:
                fields["thread"] = {"type": "continue", "previous_message_id": self.thread}
                fields |= {"system": None, "tools": None, "messages": self.turns[self.held :]}
        return Request(
            self.task.body_for(self.most, **fields),
            headers=headers,
            intended_cache=self.intended(),
        )

    def intended(self):
        """What the API's rules give this request: the entry of the one before, where a mark reaches
        that far and it still lives."""
        if self.arm == NOTHING:
            return "none"
        reaches = self.arm == EVERY or self.blocks - self.asked < LOOKBACK
        return "read" if self.asked and reaches and self.knobs.pause_s < LIFETIME_S else "write"

    @property
    def blocks(self):
        """How many the conversation has so far, after its system and tools."""
        return sum(len(turn["content"]) for turn in self.turns)

    async def ask(self, bench: Bench, role, name):
        """The reply, which the conversation keeps. A thread that is gone is replayed, as every
        application must: that is part of what it costs."""
        reply = await bench.call(self.request(), role, name)
        if self.thread and reply.error_kind == "not_found_error":
            lost, reply = reply, await bench.call(self.request(afresh=True), role, name)
            bench.replaced(lost)
        if reply.ok:
            self.asked, self.thread = self.blocks, reply.message_id
            content = [block for block in reply.content if block.get("text") != ""]
            content = content or [{"type": "text", "text": "(no answer)"}]
            self.turns.append({"role": "assistant", "content": content})
            self.held = len(self.turns)
        return reply


def marked(system, tools, messages, every, **_):
    """The last block with a mark; with `every` those of the tools, of the system and of the user's
    turn before too, which are found however much the last turn brings."""
    users = [place for place, turn in enumerate(messages) if turn["role"] == "user"]
    places = users[-2:] if every else users[-1:]
    return {
        "system": last_marked(system) if every else system,
        "tools": last_marked(tools) if every and tools else tools,
        "messages": [
            {**turn, "content": last_marked(turn["content"])} if place in places else turn
            for place, turn in enumerate(messages)
        ],
    }


def in_blocks(turn):
    content = turn["content"]
    content = [{"type": "text", "text": content}] if isinstance(content, str) else content
    return {**turn, "content": content}


def last_marked(blocks):
    return [*blocks[:-1], {**blocks[-1], **MARK}]
