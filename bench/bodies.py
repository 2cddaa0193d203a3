"""Request bodies that nobody would write, sent to the lab's own server: `python -m bench.bodies
[--minutes 10] [--local] [--seed 1]`.

Bodies in the shape that real clients send are broken at random, a few places each, and sometimes as
bytes. Every answer must be a message, a whole stream, or an error as the API writes it, in valid
JSON; never a 500, never silence. Ends with 1 at the first that is not.
"""

from __future__ import annotations

import argparse
import copy
import json
import random
import subprocess
import sys
import time
from collections import Counter
from typing import Any

import httpx2

HEADERS = {"anthropic-version": "2026-10-21", "content-type": "application/json"}
QUICK = {
    "network_ms": 0,
    "queue_ms": 0,
    "prefill_ms_per_token": 0,
    "read_ms_per_token": 0,
    "gap_ms": 0,
    "answer_tokens": 6,
}
MARK = {"type": "ephemeral"}
SCHEMA = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "properties": {
        "city": {"type": "string", "minLength": 2, "maxLength": 40},
        "id": {"type": "string", "pattern": "^[a-z]{2}-\\d{4,}$"},
        "day": {"type": "string", "format": "date"},
        "count": {"type": "integer", "minimum": 0, "maximum": 9007199254740991},
        "share": {"type": "number", "exclusiveMinimum": 0, "multipleOf": 0.5},
        "kind": {"anyOf": [{"enum": ["a", "b"]}, {"type": "null"}]},
        "node": {"$ref": "#/$defs/node"},
        "any": {"description": "anything"},
    },
    "required": ["city", "kind", "node"],
    "$defs": {
        "node": {
            "type": "object",
            "properties": {
                "name": {"const": "x"},
                "next": {"type": "array", "items": {"$ref": "#/$defs/node"}},
            },
        }
    },
}
TOOLS = [
    {
        "name": "look_up",
        "description": "Looks up.",
        "input_schema": SCHEMA,
        "input_examples": [{"city": "Oslo"}],
        "cache_control": MARK,
    },
    {"name": "later", "input_schema": {"type": "object", "properties": {}}, "defer_loading": True},
]
HISTORY = [
    {
        "role": "user",
        "content": [{"type": "text", "text": "Where is it high?", "cache_control": MARK}],
    },
    {
        "role": "assistant",
        "content": [
            {"type": "thinking", "thinking": "So.", "signature": "c2ln"},
            {"type": "text", "text": "I look."},
            {
                "type": "tool_use",
                "id": "toolu_1",
                "name": "look_up",
                "input": {"city": "Oslo", "n": 1.5},
            },
        ],
    },
    {
        "role": "user",
        "content": [
            {
                "type": "tool_result",
                "tool_use_id": "toolu_1",
                "content": [{"type": "text", "text": "At six."}],
                "is_error": False,
            },
            {"type": "text", "text": "And then?"},
        ],
    },
    {"role": "system", "content": "Be brief.", "clear_at": "never"},
]
ASK = {"max_tokens": 30, "messages": [{"role": "user", "content": "Greet me."}]}
BODIES: list[dict[str, Any]] = [
    ASK,
    {
        **ASK,
        "stream": True,
        "system": [{"type": "text", "text": "s" * 1200, "cache_control": {**MARK, "ttl": "1h"}}],
        "tools": TOOLS,
    },
    {
        **ASK,
        "messages": HISTORY,
        "tools": TOOLS,
        "tool_choice": {"type": "auto", "disable_parallel_tool_use": True},
        "stream": True,
    },
    {
        **ASK,
        "tools": TOOLS,
        "tool_choice": {"type": "tool", "name": "look_up"},
        "stop_sequences": ["."],
        "temperature": 0.5,
        "top_k": 4,
    },
    {
        **ASK,
        "output_config": {"format": {"type": "json_schema", "schema": SCHEMA}, "effort": "low"},
        "stream": True,
    },
    {
        **ASK,
        "output_format": {
            "type": "json_schema",
            "schema": {"type": "array", "items": {"type": "boolean"}, "minItems": 2},
        },
    },
    {
        **ASK,
        "max_tokens": 4000,
        "thinking": {"type": "enabled", "budget_tokens": 1024, "display": "summarized"},
        "speed": "fast",
    },
    {
        **ASK,
        "thinking": {"type": "adaptive"},
        "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
    },
    {
        **ASK,
        "max_tokens": 0,
        "cache_control": MARK,
        "metadata": {"user_id": "u"},
        "diagnostics": {"previous_message_id": "msg_1"},
    },
]
JUNK: list[Any] = [
    None,
    True,
    False,
    0,
    -1,
    1,
    2**31,
    2**63,
    10**30,
    0.1,
    -1e308,
    "",
    "x",
    "auto",
    "user",
    "system",
    "\ud800",
    "\u0000",
    "é\ue000",
    "x" * 5000,
    [],
    {},
    [[]],
    [None],
    [{}] * 30,
    {"": ""},
    {"type": "text"},
    {"type": "text", "text": "t"},
    {"type": "image", "source": {}},
    {"$ref": "#"},
    {"$ref": 5},
    {"$ref": "#/properties/city"},
    {"allOf": [{"$ref": "#"}]},
    {"anyOf": [False]},
    {"enum": []},
    {"pattern": "("},
    {"pattern": "^(?!a)b$"},
    {"pattern": "(a{99}){99}"},
    {"format": "colour"},
    {"type": "string", "minLength": 10**9},
    {"type": "array", "minItems": 10**6},
    {"type": "number", "multipleOf": 0},
    {"type": "integer", "minimum": 5, "maximum": 1},
    {"type": "number", "minimum": "0"},
]
NAMES = [
    "thread",
    "mcp_servers",
    "system",
    "tools",
    "strict",
    "minimum",
    "properties",
    "required",
    "type",
    "const",
    "default",
    "unheard_of",
]


def places(value: Any, path: tuple = ()) -> list[tuple]:
    """Every place in a JSON value, as a path of keys and indexes."""
    inside = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    if len(path) > 20:
        return [path]
    return [path, *(place for key, item in inside for place in places(item, (*path, key)))]


def broken(body: dict[str, Any], rng: random.Random) -> Any:
    """The body with up to three of its places changed, taken away, doubled, or put where they do
    not belong."""
    whole = {"body": copy.deepcopy(body)}
    for _ in range(rng.choice((0, 1, 1, 1, 2, 3))):
        *way, last = rng.choice(places(whole)[1:])
        holder: Any = whole
        for key in way:
            holder = holder[key]
        match rng.choice(("junk", "junk", "take", "double", "name", "borrow", "nest")):
            case "junk":
                holder[last] = copy.deepcopy(rng.choice(JUNK))
            case "take" if way:
                del holder[last]
            case "double" if isinstance(holder, list):
                holder.insert(last, copy.deepcopy(holder[last]))
            case "name" if isinstance(holder, dict) and way:
                holder[rng.choice(NAMES)] = copy.deepcopy(rng.choice((holder[last], *JUNK)))
            case "borrow":
                other = rng.choice(BODIES)
                holder[last] = copy.deepcopy(rng.choice(list(other.values())))
            case "nest":
                for _ in range(rng.choice((1, 3, 60, 150))):
                    holder[last] = rng.choice(([holder[last]], {"properties": holder[last]}))
    return whole["body"]


def written(model: str, rng: random.Random) -> bytes:
    """One broken body as bytes; now and then the bytes themselves are broken."""
    raw = json.dumps(broken({"model": model, **rng.choice(BODIES)}, rng)).encode()
    match rng.randrange(30):
        case 0:
            return raw[: rng.randrange(len(raw))]
        case 1:
            at = rng.randrange(len(raw))
            return raw[:at] + rng.randbytes(3) + raw[at + 3 :]
        case 2:
            return raw.decode().encode(rng.choice(("utf-16", "utf-8-sig", "utf-32")))
        case 3:
            return raw.replace(b"30", rng.choice((b"NaN", b"1e999", b"-Infinity", b"9" * 5000)), 1)
        case 4:
            return b"[" * rng.choice((10, 5000)) + raw
    return raw


def complaint(reply: httpx2.Response) -> str | None:
    """What is wrong with an answer; None where it is one that the API could give."""
    try:
        if reply.status_code == 200 and "event-stream" in reply.headers["content-type"]:
            events = [
                json.loads(line[6:], parse_constant=float)
                for line in reply.text.split("\n")
                if line.startswith("data: ")
            ]
            kinds = [event["type"] for event in events]
            if kinds[0] != "message_start" or kinds[-1] != "message_stop":
                return f"a stream from {kinds[0]} to {kinds[-1]}"
            for index in {event["index"] for event in events if "index" in event}:
                pieces = [
                    e["delta"]["partial_json"]
                    for e in events
                    if e.get("index") == index and "partial_json" in e.get("delta", {})
                ]
                stop = next(
                    event["delta"]["stop_reason"]
                    for event in events
                    if event["type"] == "message_delta"
                )
                if (
                    pieces
                    and stop == "tool_use"
                    and not isinstance(json.loads("".join(pieces)), dict)
                ):
                    return "a tool's input is not an object"
            return None
        value = reply.json()
        if reply.status_code == 200:
            ok = (
                value["type"] == "message"
                and isinstance(value["content"], list)
                and value["usage"]["output_tokens"] >= 0
            )
            return None if ok else f"no message: {reply.text[:300]}"
        error = value["error"]
        ok = (
            reply.status_code in (400, 404, 413)
            and value["type"] == "error"
            and error["type"]
            and error["message"]
        )
        return (
            None
            if ok and value["request_id"] == reply.headers["request-id"]
            else f"{reply.status_code}: {reply.text[:300]}"
        )
    except (ValueError, KeyError, IndexError, TypeError, StopIteration) as error:
        return f"{reply.status_code} is not as the API writes it ({error!r}): {reply.text[:300]}"


def main() -> int:
    flags = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    flags.add_argument("--minutes", type=float, default=10, help="how long (default 10)")
    flags.add_argument(
        "--local", action="store_true", help="the embedded model instead of the simulated one"
    )
    flags.add_argument(
        "--seed",
        type=int,
        default=1,
        help="of the first body; each body's own is printed where it fails",
    )
    chosen = flags.parse_args()
    command = [
        sys.executable,
        "-m",
        "lab.local",
        "--idle-s",
        "60",
        *([] if chosen.local else ["--simulated", "--no-spin"]),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            ready = json.loads(server.stdout.readline())
            model, until, seed, seen = (
                ready["models"]["small"],
                time.monotonic() + chosen.minutes * 60,
                chosen.seed,
                Counter(),
            )
            with httpx2.Client(
                base_url=ready["base_url"],
                headers={**HEADERS, "x-api-key": ready["api_key"]},
                timeout=120,
            ) as client:
                if not chosen.local:
                    client.put("/knobs", json=QUICK).raise_for_status()
                while time.monotonic() < until:
                    raw = written(model, random.Random(seed))
                    path = "/v1/messages/count_tokens" if seed % 20 == 0 else "/v1/messages"
                    reply = client.post(path, content=raw)
                    seen[reply.status_code] += 1
                    wrong = (
                        None
                        if path.endswith("tokens") and reply.status_code == 200
                        else complaint(reply)
                    )
                    if wrong:
                        print(f"seed {seed}: {wrong}\n{raw[:2000]!r}")
                        return 1
                    seed += 1
        finally:
            server.terminate()
    kinds = ", ".join(f"{count:,} × {status}" for status, count in sorted(seen.items()))
    print(f"{seen.total():,} bodies: {kinds}; none answered wrongly")
    return 0


if __name__ == "__main__":
    sys.exit(main())
