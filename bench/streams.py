"""python -m bench.streams: random streams with any line ends, split at any bytes and in any order
of events, read the same as whole.

Prints what was read, and the seed of the first stream that was read otherwise. Exit 1 where there
is one.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time

from lab.instrumentation import parsing
from lab.instrumentation.stamps import Exchange

TEXTS = ("", "Ebb. ", "潮の", "🌊", "line\nend", "\r\n\r\n", "data: x\n\n", "\u2028", "a" * 2000)
BLOCKS = (
    "text",
    "thinking",
    "tool_use",
    "server_tool_use",
    "web_search_tool_result",
    "redacted_thinking",
    "compaction",
    "fallback",
    "novel",
)
DELTAS = {
    "text_delta": "text",
    "thinking_delta": "thinking",
    "input_json_delta": "partial_json",
    "signature_delta": "signature",
    "compaction_delta": "content",
    "novel_delta": "words",
}
ENDS = ("\n", "\r\n", "\r")


def events(dice: random.Random) -> list[dict]:
    """Of the API and of an API to come, in any order; a stop somewhere, mostly at the end."""
    made: list[dict] = [
        {
            "type": "message_start",
            "message": {"id": "msg_1", "model": "m", "usage": {"input_tokens": dice.randrange(99)}},
        }
    ]
    for _ in range(dice.randrange(12)):
        index, kind = dice.randrange(4), dice.choice(list(DELTAS))
        start = {
            "type": dice.choice(BLOCKS),
            "id": "b_1",
            "name": "tide",
            dice.choice(("text", "thinking", "content")): dice.choice(TEXTS),
        }
        made.append(
            dice.choice(
                (
                    {"type": "content_block_start", "index": index, "content_block": start},
                    {
                        "type": "content_block_delta",
                        "index": index,
                        "delta": {"type": kind, DELTAS[kind]: dice.choice(TEXTS)},
                    },
                    {"type": "content_block_stop", "index": index},
                    {
                        "type": "message_delta",
                        "delta": {},
                        "usage": {
                            "output_tokens": dice.randrange(99),
                            "input_tokens": dice.randrange(99),
                        },
                    },
                    {"type": "ping"},
                    {"type": "news", "x": [dice.choice(TEXTS)]},
                )
            )
        )
    made.append(
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn"},
            "usage": {"output_tokens": dice.randrange(99)},
        }
    )
    if dice.random() < 0.2:
        dice.shuffle(made)
    made.insert(
        len(made) if dice.random() < 0.8 else dice.randrange(len(made)), {"type": "message_stop"}
    )
    return made


def written(stream: list[dict], end: str, dice: random.Random) -> bytes:
    lines = []
    for event in stream:
        if dice.random() < 0.1:
            lines.append(f": comment{end}{end if dice.random() < 0.5 else ''}")
        if dice.random() < 0.8:
            lines.append(f"event: {event['type']}{end}")
        lines.append(
            f"data:{' ' * dice.randrange(2)}"
            f"{json.dumps(event, ensure_ascii=dice.random() < 0.5)}{end}{end}"
        )
    return "".join(lines).encode()


def split(data: bytes, dice: random.Random) -> list[tuple[int, bytes]]:
    cuts = sorted(
        dice.randrange(len(data)) for _ in range(dice.choice((0, 1, 2, 5, 40, len(data))))
    )
    return [
        (at, data[a:b])
        for at, (a, b) in enumerate(zip([0, *cuts], [*cuts, len(data)], strict=True), 1)
    ]


def reading(chunks: list[tuple[int, bytes]]) -> parsing.Reading:
    exchange = Exchange(b"{}", 0)
    exchange.status, exchange.headers, exchange.chunks = (
        200,
        {"content-type": "text/event-stream"},
        chunks,
    )
    exchange.close(10**9)
    return parsing.read(exchange)


def told(one: parsing.Reading) -> tuple:
    """All but the clocks, which a split moves."""
    kinds = [(arrival.kind, arrival.text) for arrival in one.arrivals]
    return one.content, one.usage, one.usage_notes, kinds, one.error_kind, one.stop_reason, one.text


def wrong(seed: int) -> bool:
    dice = random.Random(seed)
    stream = events(dice)
    plain = [(at, f"data: {json.dumps(event)}\n\n".encode()) for at, event in enumerate(stream, 1)]
    chunks = split(written(stream, dice.choice(ENDS), dice), dice)
    whole, parts = reading(plain), reading(chunks)
    clocks = [parts.first_sign_ns, parts.first_token_ns, parts.last_token_ns]
    known = [at for at in clocks if at is not None]
    return (
        told(whole) != told(parts)
        or known != sorted(known)
        or [value for *_, value in parsing.events(chunks)] != stream
    )


def main() -> int:
    options = argparse.ArgumentParser(
        prog="python -m bench.streams", description=__doc__.partition("\n")[0]
    )
    options.add_argument("--minutes", type=float, default=10, help="how long it tries (default 10)")
    options.add_argument("--seed", type=int, default=1, help="the first stream's seed (default 1)")
    asked = options.parse_args()
    ends, seed = time.monotonic() + 60 * asked.minutes, asked.seed
    while time.monotonic() < ends:
        if wrong(seed):
            print(f"The stream of seed {seed} reads otherwise than it was written.")
            return 1
        seed += 1
    print(f"{seed - asked.seed:,} streams, each read as it was written.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
