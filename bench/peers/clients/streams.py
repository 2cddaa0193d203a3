"""The closed loop of the reference clients, and what they write: an id, the start and each token's
instant of every answer. Each client names how it asks; this file is imported from beside it."""

import asyncio
import json
import sys
import time

BODY = {
    "model": "known",
    "max_tokens": 64,
    "stream": True,
    "messages": [{"role": "user", "content": "Tell me about the harbour in a few plain words."}],
}


async def play(ask, streams: int, requests: int, over_s: float) -> list[dict]:
    """`await ask()` gives a name, the start and the tokens' instants (ns)."""
    left, told = iter(range(requests)), []

    async def stream(place: int) -> None:
        await asyncio.sleep(over_s * place / streams)
        for _ in left:
            name, started_ns, tokens_ns = await ask()
            told.append({"name": name, "started_ns": started_ns, "tokens_ns": tokens_ns})

    await asyncio.gather(*(stream(place) for place in range(streams)))
    return told


def tokens(arrivals: list[tuple[int, bytes]]) -> tuple[str, list[int]]:
    """The answer's id and the instant of each token, read once the answer has ended."""
    name, at_ns, rest = "", [], b""
    for instant, piece in arrivals:
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            if line.startswith(b"data: "):
                event = json.loads(line[6:])
                name = event.get("message", {}).get("id") or name
                if event["type"] == "content_block_delta":
                    at_ns.append(instant)
    return name, at_ns


def run(main) -> None:
    """`main(url, play)` of the four words on the command line: url, streams, requests, seconds."""
    url, streams, requests, over_s = sys.argv[1:5]

    async def played(ask):
        return await play(ask, int(streams), int(requests), float(over_s))

    told = asyncio.run(main(url, played))
    with open("stamps.jsonl", "w", encoding="utf-8") as output:
        output.writelines(json.dumps(one) + "\n" for one in told)


now_ns = time.perf_counter_ns
