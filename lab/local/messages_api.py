"""The Messages API's wire format: what a request may say, and how replies, events and errors look.

Validation errors read like the API's own: the path of the field, then what is wrong with it. A
field this server cannot honour is refused, never ignored.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import secrets
from collections.abc import Callable
from typing import Annotated, Any, Literal, NamedTuple, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from lab import json_schema
from lab.model import Effort, sentence

Ttl = Literal["5m", "1h"]
SearchName = Literal["tool_search_tool_regex", "tool_search_tool_bm25"]
SEARCHES = {
    f"{name}{version}": name for name in get_args(SearchName) for version in ("", "_20251119")
}
"""Types of the server's own tool that finds deferred ones, and what each is called."""
QUERY = {"type": "object", "properties": {"query": {"type": "string"}}, "required": ["query"]}
DEEPEST = 120
WORD = re.compile(r"[a-zA-Z0-9_-]+")
ESCAPED_HALF = re.compile(rb"\\u[dD][89a-fA-F]")
NONCE = re.compile(r"\[trial \d{16}\] ")
ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    404: "not_found_error",
    405: "invalid_request_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    529: "overloaded_error",
}


class ApiError(Exception):
    """An error reply of the API; by its `details` a program can act."""

    def __init__(
        self,
        status: int,
        message: str,
        kind: str | None = None,
        headers: dict[str, str] | None = None,
        **details: Any,
    ):
        super().__init__(message)
        self.status, self.message, self.details = status, message, details
        self.kind = kind or ERROR_TYPES.get(status, "api_error")
        self.headers = headers or {}

    def body(self, request_id: str) -> dict[str, Any]:
        details = {"details": self.details} if self.details else {}
        return {
            "type": "error",
            "error": {"type": self.kind, "message": self.message, **details},
            "request_id": request_id,
        }


def unsupported(field: str, message: str) -> ApiError:
    """A 400 whose `error.details` names what to leave out of the request."""
    return ApiError(400, message, error_code="unsupported_field", unsupported=[field])


def new_id(prefix: str) -> str:
    """An id as the API makes them: `msg_`, `toolu_` or `req_`, then 24 characters."""
    alphabet = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
    return f"{prefix}_01{''.join(secrets.choice(alphabet) for _ in range(22))}"


def as_blocks(content: Any) -> Any:
    """A string is shorthand for one text block, null for none."""
    if content is None:
        return []
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class CacheControl(Strict):
    type: Literal["ephemeral"]
    ttl: Ttl = "5m"


class Cacheable(Strict):
    cache_control: CacheControl | None = None


class PlainText(Strict):
    type: Literal["text"]
    text: str
    citations: None = None


class TextBlock(PlainText, Cacheable):
    text: str = Field(min_length=1)


class Caller(Strict):
    type: Literal["direct"]


class ToolUseBlock(Cacheable):
    type: Literal["tool_use"]
    id: str = Field(pattern=r"^[a-zA-Z0-9_-]+$")
    name: str
    input: dict[str, Any]
    caller: Caller | None = None


class ToolReference(Strict):
    """From here on the deferred tool of this name is offered."""

    type: Literal["tool_reference"]
    tool_name: str


class ToolResultBlock(Cacheable):
    type: Literal["tool_result"]
    tool_use_id: str
    content: Annotated[
        list[Annotated[PlainText | ToolReference, Field(discriminator="type")]],
        BeforeValidator(as_blocks),
    ] = []
    is_error: bool | None = False


class ServerToolUseBlock(Cacheable):
    type: Literal["server_tool_use"]
    id: str = Field(pattern=r"^[a-zA-Z0-9_-]+$")
    name: SearchName
    input: dict[str, Any]
    caller: Caller | None = None


class FoundTools(Strict):
    type: Literal["tool_search_tool_search_result"]
    tool_references: list[ToolReference]


class ToolSearchResultBlock(Cacheable):
    """What the server's own search found, as its reply had it."""

    type: Literal["tool_search_tool_result"]
    tool_use_id: str
    content: FoundTools


class ThinkingBlock(Strict):
    type: Literal["thinking"]
    thinking: str
    signature: str


class RedactedThinkingBlock(Strict):
    type: Literal["redacted_thinking"]
    data: str


Content = Annotated[
    TextBlock
    | ToolUseBlock
    | ToolResultBlock
    | ServerToolUseBlock
    | ToolSearchResultBlock
    | ThinkingBlock
    | RedactedThinkingBlock,
    Field(discriminator="type"),
]


class EffortConfig(Strict):
    effort: Effort | None = None


class Turn(Strict):
    """A `system` turn changes nothing of the prefix before it."""

    role: Literal["user", "assistant", "system"]
    content: Annotated[list[Content], BeforeValidator(as_blocks)]
    clear_at: Literal["next_user_message", "never"] | None = None
    output_config: EffortConfig | None = None

    @model_validator(mode="after")
    def by_role(self):
        if self.role != "system":
            for name in ("clear_at", "output_config"):
                if getattr(self, name) is not None:
                    raise ValueError(f"{name}: only permitted on system messages")
        elif any(block.type != "text" for block in self.content):
            raise ValueError("content: a system message holds text blocks only")
        if not self.content and not (self.output_config and self.output_config.effort):
            raise ValueError("content: at least one content block is required")
        return self


class Tool(Cacheable):
    name: str = Field(pattern=r"^[a-zA-Z0-9_-]{1,128}$")
    description: str = ""
    input_schema: dict[str, Any]
    type: Literal["custom", *SEARCHES] | None = None
    strict: bool | None = None
    eager_input_streaming: bool | None = None
    input_examples: list[dict[str, Any]] | None = None
    defer_loading: bool | None = None
    allowed_callers: list[Literal["direct"]] | None = None

    @model_validator(mode="before")
    @classmethod
    def by_type(cls, value: Any) -> Any:
        kind = value.get("type") if isinstance(value, dict) else None
        if kind in SEARCHES:
            if "input_schema" in value:
                raise ValueError("input_schema: the server's own tools take none")
            return {**value, "input_schema": QUERY}
        if kind not in (None, "custom"):
            raise PydanticCustomError(
                "unsupported",
                "Tools of type '{kind}' are not supported here.",
                {"kind": str(value["type"])[:80]},
            )
        return value

    @model_validator(mode="after")
    def object_schema(self):
        if self.input_schema.get("type") != "object":
            raise ValueError("input_schema.type: Input should be 'object'")
        if self.is_search and self.name != SEARCHES[self.type]:
            raise ValueError(f"name: Input should be '{SEARCHES[self.type]}'")
        if self.is_search and self.defer_loading:
            raise ValueError("defer_loading: the tool that searches cannot be deferred itself")
        return self

    @property
    def is_search(self) -> bool:
        return self.type in SEARCHES


class ToolChoice(Strict):
    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool = False


class JsonFormat(Strict):
    type: Literal["json_schema"]
    schema_: dict[str, Any] = Field(alias="schema")


class OutputConfig(EffortConfig):
    format: JsonFormat | None = None


class Thinking(Strict):
    type: Literal["enabled", "adaptive", "disabled", "between_tools"]
    budget_tokens: int | None = Field(default=None, ge=1024)
    display: Literal["omitted", "summarized"] | None = None

    @model_validator(mode="after")
    def by_type(self):
        if (self.type == "enabled") != (self.budget_tokens is not None):
            raise ValueError(
                "enabled.budget_tokens: Field required"
                if self.type == "enabled"
                else f"{self.type} takes no budget_tokens"
            )
        if self.display and self.type not in ("enabled", "adaptive"):
            raise ValueError(f"{self.type} takes no display")
        return self

    @property
    def on(self) -> bool:
        return self.type in ("enabled", "adaptive")


class Amount(Strict):
    type: Literal["input_tokens", "tool_uses", "thinking_turns", "all"]
    value: int | None = Field(default=None, ge=0)


class ClearThinking(Strict):
    type: Literal["clear_thinking_20251015"]
    keep: Literal["all"] | Amount | None = None


class ClearToolUses(Strict):
    type: Literal["clear_tool_uses_20250919"]
    trigger: Amount | None = None
    keep: Amount | None = None
    clear_at_least: Amount | None = None
    exclude_tools: list[str] | None = None
    clear_tool_inputs: bool | list[str] | None = None


class ContextManagement(Strict):
    """What is cleared of it: context_edits.py."""

    edits: list[Annotated[ClearThinking | ClearToolUses, Field(discriminator="type")]] = []

    @model_validator(mode="after")
    def thinking_first(self):
        if any(isinstance(edit, ClearThinking) for edit in self.edits[1:]):
            raise ValueError("edits: clear_thinking_20251015 must be the first of them")
        return self


class Metadata(Strict):
    user_id: str | None = None


class Diagnostics(Strict):
    previous_message_id: str | None = None


class Block(NamedTuple):
    """One cacheable piece of a prompt."""

    section: Literal["tools", "system", "messages"]
    turn: int
    role: str
    value: dict[str, Any]
    ttl: Ttl | None


class Prompt(Cacheable):
    """The part of a request that is read by a model: all that /v1/messages/count_tokens takes."""

    model: str
    messages: list[Turn] = Field(min_length=1)
    system: Annotated[list[TextBlock], BeforeValidator(as_blocks)] = []
    tools: list[Tool] = []
    tool_choice: ToolChoice | None = None
    thinking: Thinking | None = None
    output_config: OutputConfig | None = None
    context_management: ContextManagement | None = None
    speed: Literal["standard", "fast"] | None = None

    @model_validator(mode="before")
    @classmethod
    def older_name(cls, value: Any) -> Any:
        """`output_format` is what output_config.format was called in its beta."""
        if isinstance(value, dict) and "output_format" in value:
            value = dict(value)
            form, config = value.pop("output_format"), value.get("output_config") or {}
            if form is not None and isinstance(config, dict):
                if config.get("format") is not None:
                    raise ValueError("output_format: cannot be combined with output_config.format")
                value["output_config"] = {**config, "format": form}
        return value

    @model_validator(mode="after")
    def rules(self):
        names, choice = [tool.name for tool in self.tools], self.tool_choice
        if len(set(names)) < len(names):
            raise ValueError("tools: Tool names must be unique.")
        if choice and choice.type in ("any", "tool") and not names:
            raise ValueError("tool_choice: `tools` must be given where a tool is forced.")
        if choice and choice.name in SEARCHES.values():
            raise ValueError("tool_choice.name: A tool of the server cannot be forced.")
        if choice and choice.type == "tool" and choice.name not in names:
            raise ValueError(f"tool_choice.name: Tool '{choice.name}' not found in provided tools")
        if self.tools and all(tool.defer_loading for tool in self.tools):
            raise ValueError("tools: At least one tool must have defer_loading=false.")
        if self.messages[0].role != "user":
            raise ValueError("messages.0.role: The first message must be from the user.")
        if self.last_turn.role != "user":
            raise ValueError(
                "messages: This model does not support assistant message prefill. The conversation"
                " must end with a user message."
            )
        calls: set[str] = set()
        for index, turn in enumerate(self.messages):
            if turn.role == "system" and not calls:
                continue
            answered = {block.tool_use_id for block in turn.content if block.type == "tool_result"}
            if missing := calls - answered:
                raise ValueError(
                    f"messages.{index}: `tool_use` ids were found without `tool_result` blocks"
                    f" immediately after: {', '.join(sorted(missing))}"
                )
            if unknown := answered - calls:
                raise ValueError(
                    f"messages.{index}: unexpected `tool_use_id` found in `tool_result` blocks:"
                    f" {', '.join(sorted(unknown))}"
                )
            calls = {block.id for block in turn.content if block.type == "tool_use"}
        self.blocks()
        return self

    @property
    def last_turn(self) -> Turn:
        """What is to be answered; a system turn may stand behind it."""
        return next(
            (turn for turn in reversed(self.messages) if turn.role != "system"), self.messages[-1]
        )

    @property
    def effort(self) -> Effort | None:
        """The last system turn that sets it decides for all that follows."""
        configs = [self.output_config, *(turn.output_config for turn in self.messages)]
        efforts = [config.effort for config in configs if config and config.effort]
        return efforts[-1] if efforts else None

    @property
    def json_schema(self) -> dict[str, Any] | None:
        """What a structured reply is to fit."""
        config = self.output_config
        return config.format.schema_ if config and config.format else None

    def turns(self) -> list[tuple[int, Turn]]:
        """The turns that the model sees: a system turn may have been for the next answer only."""
        last = max(i for i, turn in enumerate(self.messages) if turn.role == "user")
        return [
            (i, turn)
            for i, turn in enumerate(self.messages)
            if turn.content and (turn.clear_at != "next_user_message" or i > last)
        ]

    def loaded(self) -> list[Tool]:
        """The tools in the prompt from its start: a deferred one comes with the tool_result that
        refers to it."""
        return [tool for tool in self.tools if not tool.defer_loading]

    def blocks(self) -> list[Block]:
        """In the order in which the API caches, with their breakpoints; top-level cache_control
        marks the last one and takes one of the four."""
        parts = [("tools", 0, "", tool) for tool in self.loaded()]
        parts += [("system", 0, "system", block) for block in self.system]
        parts += [
            ("messages", i, turn.role, block) for i, turn in self.turns() for block in turn.content
        ]
        controls = [getattr(part, "cache_control", None) for *_, part in parts]
        marks = [control.ttl if control else None for control in controls]
        if self.cache_control:
            if marks[-1] not in (None, self.cache_control.ttl):
                raise ValueError(
                    "cache_control: The last block has a cache_control with another ttl."
                )
            marks[-1] = self.cache_control.ttl
        ttls = [ttl for ttl in marks if ttl]
        if len(ttls) > 4:
            raise ValueError(
                f"A maximum of 4 blocks with cache_control may be provided. Found {len(ttls)}."
            )
        if ttls != sorted(ttls):
            raise ValueError(
                "cache_control.ttl: A ttl='1h' cache_control block must not come after a ttl='5m'"
                " cache_control block."
            )
        plain = [
            part.model_dump(exclude={"cache_control"}, exclude_unset=True) for *_, part in parts
        ]
        return [
            Block(section, turn, role, value, ttl)
            for (section, turn, role, _), value, ttl in zip(parts, plain, marks, strict=True)
        ]

    def tools_due(self, every: bool = False) -> list[Tool]:
        """Which tools the reply must use: a rule of this server, not a choice of its model.

        `tool` uses the named one; `any`, and `auto` unless the last turn brings a tool_result, use
        one: the first whose name stands in that turn's text, else the first that this conversation
        has not used yet; with `every` each one that is offered, once. Otherwise the reply is text.
        """
        choice = self.tool_choice or ToolChoice(type="auto")
        if choice.type == "tool":
            return [tool for tool in self.tools if tool.name == choice.name]
        answered = any(block.type == "tool_result" for block in self.last_turn.content)
        if choice.type == "none" or (choice.type == "auto" and answered):
            return []
        blocks = [block for turn in self.messages for block in turn.content]
        known, finds = self.referred(), any(tool.is_search for tool in self.tools)
        offered = [
            tool
            for tool in self.tools
            if not tool.is_search and (finds or not tool.defer_loading or tool.name in known)
        ]
        if every and not choice.disable_parallel_tool_use:
            return offered
        used = {block.name for block in blocks if block.type == "tool_use"}
        texts = [block.text for block in self.last_turn.content if block.type == "text"]
        words = set(WORD.findall(" ".join(texts)))
        return sorted(offered, key=lambda tool: (tool.name not in words, tool.name in used))[:1]

    def referred(self) -> set[str]:
        """The deferred tools that a result of a tool, or of a search, has brought in."""
        names: set[str] = set()
        for block in (block for turn in self.messages for block in turn.content):
            if block.type == "tool_result":
                names |= {part.tool_name for part in block.content if part.type != "text"}
            elif block.type == "tool_search_tool_result":
                names |= {part.tool_name for part in block.content.tool_references}
        return names

    def check_schemas(self, work: Callable[[Any, bool], Any]) -> None:
        """Raise a 400 that names the first schema of which an engine's `work(schema, strict)` makes
        nothing."""
        schemas = [
            (f"tools.{i}.input_schema", tool.input_schema, bool(tool.strict))
            for i, tool in enumerate(self.tools)
        ]
        if self.json_schema is not None:
            schemas.append(("output_config.format.schema", self.json_schema, True))
        for field, schema, strict in schemas:
            try:
                json_schema.checked(work, schema, strict)
            except json_schema.Unsupported as error:
                raise unsupported(field, f"{field}.{error}") from None


class Body(Prompt):
    """A whole request to /v1/messages."""

    max_tokens: int = Field(ge=0)
    stream: bool = False
    stop_sequences: list[Annotated[str, Field(min_length=1)]] = Field(default=[], max_length=16)
    temperature: float | None = Field(default=None, ge=0, le=1)
    top_p: float | None = Field(default=None, ge=0, le=1)
    top_k: int | None = Field(default=None, ge=0)
    metadata: Metadata | None = None
    service_tier: Literal["auto", "standard_only"] | None = None
    diagnostics: Diagnostics | None = None
    container: None = None
    inference_geo: None = None
    thread: None = None

    @model_validator(mode="after")
    def prewarm(self):
        refused = {
            "stream": self.stream,
            "thinking": self.thinking and self.thinking.type == "enabled",
            "output_config.format": self.json_schema is not None,
            "tool_choice": self.tool_choice and self.tool_choice.type in ("any", "tool"),
        }
        wrong = [name for name, value in refused.items() if value]
        if self.thinking and (self.thinking.budget_tokens or 0) >= self.max_tokens > 0:
            raise ValueError("max_tokens: must be greater than thinking.budget_tokens")
        if self.max_tokens == 0 and wrong:
            raise ValueError(f"max_tokens: 0 cannot be combined with {wrong[0]}.")
        return self

    def seed(self) -> int:
        """Equal for requests that differ only in nonce, cache_control or delivery."""
        delivery = {"stream", "metadata", "diagnostics", "service_tier", "context_management"}
        value = self.model_dump(mode="json", by_alias=True, exclude_none=True, exclude=delivery)
        text = NONCE.sub("", canonical(bare(value)))
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4])


def bare(value: Any) -> Any:
    """The value without any cache_control, at every depth."""
    if isinstance(value, dict):
        return {key: bare(item) for key, item in value.items() if key != "cache_control"}
    return [bare(item) for item in value] if isinstance(value, list) else value


def canonical(value: Any) -> str:
    """JSON in the order given: the API's cache key is exact, so a changed order is another
    prefix."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def no_number(text: str) -> Any:
    raise ValueError(f"{text} is not a number of JSON")


def finite(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else no_number(text)


def loaded(raw: bytes) -> dict[str, Any]:
    """A JSON object that can be written as JSON again; ApiError 400 for anything else."""
    try:
        value = json.loads(raw.decode(), parse_constant=no_number, parse_float=finite)
        if ESCAPED_HALF.search(raw):
            canonical(value).encode()
        level = [value]
        for _ in range(DEEPEST):
            level = [
                part
                for item in level
                if isinstance(item, dict | list)
                for part in (item.values() if isinstance(item, dict) else item)
            ]
        if level:
            raise RecursionError
    except RecursionError:
        raise ApiError(400, "The request body is nested too deeply.") from None
    except ValueError as error:
        raise ApiError(400, f"The request body is not valid JSON: {error}") from None
    if not isinstance(value, dict):
        raise ApiError(400, "The request body should be a JSON object.")
    return value


def parse(kind: type[Strict], raw: bytes) -> Any:
    """Read a JSON body; ApiError 400 names the first field that is wrong. A known field that is
    null is absent."""
    value = loaded(raw)
    if value.get("thread") is not None:
        # By this code the tool runners of the SDKs know to send the whole conversation instead.
        raise ApiError(
            400,
            "thread: Only a request to /v1/messages is part of a thread; send the whole"
            " conversation without it.",
            error_code="thread_unsupported_request",
            unsupported=["thread"],
        )
    try:
        fields = kind.model_fields
        return kind.model_validate(
            {name: item for name, item in value.items() if item is not None or name not in fields}
        )
    except ValidationError as error:
        first, text = error.errors(include_url=False)[0], sentence(error, quoted=False)
        field = ".".join(map(str, first["loc"])) or text.partition(":")[0]
        if first["type"] in ("extra_forbidden", "union_tag_invalid", "unsupported"):
            raise unsupported(field, text) from None
        raise ApiError(400, text, error_code="invalid_field", field=field) from None


def message(
    message_id: str, model: str, usage: dict[str, Any], diagnostics: dict[str, Any] | None
) -> dict[str, Any]:
    """An empty assistant message, as message_start carries it."""
    return {
        "id": message_id,
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "stop_details": None,
        "container": None,
        "diagnostics": diagnostics,
        "usage": usage,
    }


def event(kind: str, **fields: Any) -> bytes:
    """One server-sent event."""
    data = json.dumps({"type": kind, **fields}, ensure_ascii=False)
    return f"event: {kind}\ndata: {data}\n\n".encode()
