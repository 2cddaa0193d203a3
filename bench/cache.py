"""What a cached prefix saves on the embedded model: `python -m bench.cache` prints TTFT at the
client, by cache state and prefix length."""

from __future__ import annotations

import argparse
import json
import secrets
import statistics
import subprocess
import sys

import anthropic

from lab import clock

SENTENCE = "The lighthouse keeper wrote in the log that the wind had turned. "
MODEL = "smollm2-135m"


def ttft(client: anthropic.Anthropic, system: list[dict]) -> tuple[float, int, int]:
    """(milliseconds to the first text, tokens written, tokens read)"""
    started_ns = clock.now_ns()
    first_ms, usage = None, None
    body = {
        "model": MODEL,
        "max_tokens": 4,
        "system": system,
        "messages": [{"role": "user", "content": "Who wrote?"}],
    }
    with client.messages.create(**body, stream=True) as stream:
        for event in stream:
            if event.type == "message_start":
                usage = event.message.usage
            elif event.type == "content_block_delta" and first_ms is None:
                first_ms = (clock.now_ns() - started_ns) / 1e6
    return first_ms, usage.cache_creation_input_tokens, usage.cache_read_input_tokens


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--blocks", type=int, default=6)
    flags.add_argument(
        "--sentences",
        type=int,
        nargs="+",
        default=[22, 45, 90],
        help="prefix lengths; 45 are some 600 tokens",
    )
    given = flags.parse_args()
    with subprocess.Popen(
        [sys.executable, "-m", "lab.local"], stdout=subprocess.PIPE, text=True
    ) as server:
        card = json.loads(server.stdout.readline())
        client = anthropic.Anthropic(
            base_url=card["base_url"], api_key=card["api_key"], max_retries=0
        )
        ttft(client, [{"type": "text", "text": "Warm up."}])
        print(
            f"{'tokens':>7} {'uncached':>9} {'first use':>9} {'cached':>7}  median ms of"
            f" {given.blocks}; cached TTFT shorter by"
        )
        for sentences in given.sentences:
            rows = []
            for _ in range(given.blocks):
                text = f"[trial {secrets.randbelow(10**16):016}] " + SENTENCE * sentences
                marked = [{"type": "text", "text": text, "cache_control": {"type": "ephemeral"}}]
                cold, *_ = ttft(client, [{"type": "text", "text": text}])
                first, written, _ = ttft(client, marked)
                warm, _, read = ttft(client, marked)
                if written != read:
                    raise SystemExit(f"wrote {written} tokens but read {read}")
                rows.append((read, cold, first, warm))
            tokens, cold, first, warm = (
                statistics.median(column) for column in zip(*rows, strict=True)
            )
            print(f"{tokens:7.0f} {cold:9.0f} {first:9.0f} {warm:7.0f}  {1 - warm / cold:.1%}")
        server.terminate()


if __name__ == "__main__":
    main()
