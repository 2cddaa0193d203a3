"""How fast a folder of Claude Code transcripts is imported, and in how much memory: `python -m
bench.transcripts [--mb 200] [--keep]`.

The folder is made first, in the real format: sessions with an answer on several lines, parallel
tools, sub-agents in files of their own, compactions, a resumed session for every ten. The import
runs in a process of its own, whose peak memory is the kernel's count.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from lab import clock

WORDS = ("the", "lab", "reads", "a", "file", "and", "tells", "where", "its", "time", "went")
MODEL = "claude-sonnet-5-5"


class Session:
    """Lines of a session as Claude Code appends them."""

    def __init__(self, rng: random.Random, agent: str | None = None, name: str = "") -> None:
        self.rng, self.agent = rng, agent
        self.name = name or str(uuid.UUID(int=rng.getrandbits(128)))
        self.lines: list[str] = []
        self.parent: str | None = None
        self.at = datetime(2026, 10, 1, tzinfo=UTC) + timedelta(seconds=rng.randrange(10**6))
        self.read_tokens = 0

    def text(self, characters: int) -> str:
        words = self.rng.choices(WORDS, k=characters // 5 + 1)
        return " ".join(words)[:characters]

    def line(self, kind: str, parent: str | None, **fields: Any) -> str:
        name = str(uuid.UUID(int=self.rng.getrandbits(128)))
        line = {
            "parentUuid": parent,
            "isSidechain": self.agent is not None,
            "userType": "external",
            "cwd": "/home/user/app",
            "sessionId": self.name,
            "version": "2.1.240",
            "gitBranch": "main",
            **({"agentId": self.agent} if self.agent else {}),
            "type": kind,
            **fields,
            "uuid": name,
            "timestamp": self.at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        }
        self.lines.append(json.dumps(line))
        self.parent = name
        return name

    def turn(self, tools: int = 2) -> None:
        """An answer with thinking, text and parallel tools, and the tools' results."""
        rng = self.rng
        message, request = f"msg_{rng.getrandbits(80):020x}", f"req_{rng.getrandbits(80):020x}"
        uses = [f"toolu_{rng.getrandbits(80):020x}" for _ in range(tools)]
        content: list[dict[str, Any]] = [
            {"type": "thinking", "thinking": self.text(300), "signature": "c2ln" * 40},
            {"type": "text", "text": self.text(400)},
        ]
        content += [
            {"type": "tool_use", "id": use, "name": "Read", "input": {"file_path": self.text(60)}}
            for use in uses
        ]
        written, output = rng.randrange(500, 4000), rng.randrange(100, 900)
        usage = {
            "input_tokens": 4,
            "cache_creation_input_tokens": written,
            "cache_read_input_tokens": self.read_tokens,
            "cache_creation": {
                "ephemeral_5m_input_tokens": written,
                "ephemeral_1h_input_tokens": 0,
            },
            "service_tier": "standard",
        }
        self.read_tokens += written
        self.at += timedelta(seconds=rng.uniform(1, 4))
        called: list[str] = []
        for place, block in enumerate(content):
            is_last = place == len(content) - 1
            self.at += timedelta(milliseconds=rng.randrange(200, 1500))
            part = {
                "model": MODEL,
                "id": message,
                "type": "message",
                "role": "assistant",
                "content": [block],
                "stop_reason": ("tool_use" if tools else "end_turn") if is_last else None,
                "stop_sequence": None,
                "usage": usage | {"output_tokens": output if is_last else 3},
            }
            called.append(self.line("assistant", self.parent, message=part, requestId=request))
        for use, parent in zip(uses, called[2:], strict=True):
            self.at += timedelta(milliseconds=rng.randrange(20, 800))
            self.say(
                [{"type": "tool_result", "tool_use_id": use, "content": self.text(5_000)}],
                parent,
                toolUseResult={"type": "text", "file": {"content": self.text(5_000)}},
            )

    def say(self, content: Any, parent: str | None = None, **fields: Any) -> None:
        message = {"role": "user", "content": content}
        self.line("user", parent or self.parent, message=message, **fields)

    def compact(self) -> None:
        before, self.parent = self.parent, None
        self.line(
            "system",
            None,
            subtype="compact_boundary",
            logicalParentUuid=before,
            content="Conversation compacted",
            compactMetadata={"trigger": "auto", "preTokens": 155_000},
        )
        self.say(self.text(6_000), isCompactSummary=True, isVisibleInTranscriptOnly=True)
        self.read_tokens = 0


def make(folder: Path, size: int) -> int:
    """Transcripts of about `size` bytes; the calls in them."""
    rng, written, calls, number = random.Random(str(folder)), 0, 0, 0
    while written < size:
        session = Session(rng)
        session.say(session.text(500))
        for turn in range(rng.randrange(40, 200)):
            session.turn(tools=rng.randrange(0, 4))
            calls += 1
            if turn % 60 == 59:
                session.compact()
            if turn % 10 == 9:
                session.say(session.text(200))
        written += _write(folder / f"{session.name}.jsonl", session.lines)
        number += 1
        if number % 3 == 0:
            agent = Session(rng, agent=f"a{rng.getrandbits(32):08x}", name=session.name)
            agent.say(agent.text(800))
            for _ in range(15):
                agent.turn()
                calls += 1
            place = folder / session.name / "subagents" / f"agent-{agent.agent}.jsonl"
            written += _write(place, agent.lines)
        if number % 10 == 0:  # a copy of its lines under another name, and more
            again = Session(rng)
            again.lines = [line.replace(session.name, again.name) for line in session.lines]
            again.parent, again.at = session.parent, session.at + timedelta(hours=2)
            again.turn()
            calls += 1
            written += _write(folder / f"{again.name}.jsonl", again.lines)
    return calls


def _write(file: Path, lines: list[str]) -> int:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(lines) + "\n")
    return file.stat().st_size


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mb", type=int, default=200, help="how large the folder is")
    parser.add_argument("--keep-text", action="store_true", help="import it with its text")
    arguments = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="lab-transcripts-"))
    try:
        print(f"{'folder':<14}{'MB':>6}{'calls':>8}{'s':>8}{'CPU s':>8}{'MB/s':>8}{'peak MB':>9}")
        whole = arguments.mb * 1_000_000
        return _table(home, arguments.keep_text, {"a tenth": whole // 10, "whole": whole})
    finally:
        shutil.rmtree(home)


def _table(home: Path, keep_text: bool, sizes: dict[str, int]) -> int:
    """A row for each folder and one for the last again. The kernel's peak is that of all so far:
    it stays where it was if memory does not grow with the folder."""
    for name, wanted in sizes.items():
        calls = make(home / name, wanted)
        is_last = name == list(sizes)[-1]
        for again in (False, True) if is_last else (False,):
            before, worked = clock.now_ns(), _cpu_s()
            summary = _imported(home, home / name, keep_text)
            seconds = (clock.now_ns() - before) / 1e9
            size = sum(file.stat().st_size for file in (home / name).rglob("*.jsonl")) / 1e6
            peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
            told = f"{name}, again" if again else name
            print(
                f"{told:<14}{size:>6.0f}{calls:>8,}{seconds:>8.1f}{_cpu_s() - worked:>8.1f}"
                f"{size / seconds:>8.1f}{peak:>9.0f}"
            )
            met = summary["known"] if again else summary["added"]
            if met + sum(summary["elsewhere"].values()) != calls:
                print(f"{calls:,} calls were made, and {met:,} met.")
                return 1
    print(f"{(home / 'lab.duckdb').stat().st_size / 1e6:.0f} MB in the database")
    return 0


def _imported(home: Path, folder: Path, keep_text: bool) -> dict[str, Any]:
    environment = os.environ | {
        "LAB_DB": str(home / "lab.duckdb"),
        "LAB_SETTINGS": str(home),
        "LAB_RUNTIME": str(home / "run"),
    }
    command = [sys.executable, "main.py", "import", str(folder), "--json"]
    command += ["--keep-text"] if keep_text else []
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout)


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    sys.exit(main())
