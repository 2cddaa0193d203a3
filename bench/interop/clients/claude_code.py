"""Claude Code without a terminal (`claude -p`), in a folder of its own."""

import json
import os
import subprocess
from pathlib import Path

# The key and the address come from ANTHROPIC_API_KEY and ANTHROPIC_BASE_URL. Nothing goes to any
# other address.
os.environ["CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC"] = "1"


model, modest = os.environ["LAB_MODEL"], []
if model.startswith("smollm2"):
    # The embedded model holds 8,191 tokens, Claude Code's whole prompt has 12,000 and its bare one
    # 1,000; and it does not think.
    modest, os.environ["MAX_THINKING_TOKENS"] = ["--bare"], "0"


def claude(prompt, *flags):
    command = [
        "claude",
        *modest,
        "-p",
        prompt,
        "--model",
        model,
        "--output-format",
        "stream-json",
        "--verbose",
        *flags,
    ]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    if not lines or lines[-1].get("is_error"):
        raise RuntimeError(lines[-1].get("result") if lines else done.stderr)
    return lines


def hello():
    return claude("Greet me.")[-1]["result"]


def stream():
    return sum(
        "text_delta" in json.dumps(line)
        for line in claude("Greet me.", "--include-partial-messages")
    )


def tool():
    Path("notes.txt").write_text("The ferry leaves at nine.")
    lines = claude("What do the notes say?", "--tools", "Read")
    return [line for line in lines if "tool_result" in json.dumps(line)], lines[-1]["result"]


def cached():
    for _ in range(2):
        usage = claude("Greet me.")[-1]["usage"]
    return usage["cache_read_input_tokens"]


def structured():
    schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    # Without tools of its own: the simulated model would pick any of them rather than answer.
    return claude("Ada lives in Oslo.", "--tools", "", "--json-schema", json.dumps(schema))[-1][
        "structured_output"
    ]
