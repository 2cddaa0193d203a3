"""Large files of JSON, a piece at a time and within limits, whatever is in them: lines, or the
elements of one long list inside a document. A piece that cannot be read is counted."""

from __future__ import annotations

import io
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from lab import limits
from lab.instrumentation.parsing import parts_of
from lab.recording.shape import Hasher

STRUCTURE = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[{}\[\]"]', re.DOTALL)
"""A whole string, a bracket, or the quote of a string whose end is not there yet."""
FIRST_READ = 1 << 20
ENDS = (b"", b"\n", b"\r")


@dataclass
class Source:
    """The files of one import, and what became of them."""

    files: Sequence[Path]
    hasher: Hasher
    keep_text: bool = False
    read_bytes: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    """How many of each, by a noun in the plural: "lines that are no JSON"."""

    def leave_out(self, what: str, count: int = 1) -> None:
        self.left_out[what] += count

    def open(self, file: Path) -> BinaryIO:
        """An empty one where it cannot be read."""
        try:
            return file.open("rb")
        except OSError:
            self.leave_out("files that cannot be read")
            return io.BytesIO()


def lines(file: Path, source: Source) -> Iterator[dict[str, Any]]:
    """The objects of a JSONL file, one a line."""
    longest = limits.body_bytes()
    with source.open(file) as opened:
        while line := opened.readline(longest):
            source.read_bytes += len(line)
            if len(line) == longest and line[-1:] != b"\n":
                while line[-1:] not in ENDS:
                    line = opened.readline(FIRST_READ)
                    source.read_bytes += len(line)
                source.leave_out(f"lines longer than {longest // limits.MB} MB")
            elif line.strip() and (value := _object(line, "lines", source)) is not None:
                yield value


def elements(file: Path, name: str, source: Source) -> Iterator[dict[str, Any]]:
    """The objects in each list called `name`, whether the file is one document or one a line."""
    longest = limits.body_bytes()
    begins = re.compile(rb'"' + name.encode() + rb'"\s*:\s*\[')
    with source.open(file) as opened:
        text, inside, there, scan, start, depth = b"", False, False, 0, 0, 0
        while True:
            more = opened.read(max(FIRST_READ, len(text)))  # doubled: each byte is searched twice
            source.read_bytes += len(more)
            text += more
            while True:
                if not inside:
                    if not (match := begins.search(text, scan)):
                        scan = max(scan, len(text) - 1000)
                        break
                    inside, there, scan = True, True, match.end()
                for match in STRUCTURE.finditer(text, scan):
                    token = match[0]
                    if token == b'"':
                        break
                    scan = match.end()
                    if token in (b"{", b"["):
                        start = start if depth else match.start()
                        depth += 1
                    elif token in (b"}", b"]"):
                        depth -= 1
                        if depth < 0:
                            inside, depth = False, 0
                            break
                        value = _object(text[start:scan], "entries", source) if not depth else None
                        if value is not None:
                            yield value
                if inside:
                    break
            if not more:
                break
            if depth and len(text) - start > longest:
                source.leave_out(f"entries longer than {longest // limits.MB} MB, and what follows")
                return
            behind = start if depth else scan
            text, scan, start = text[behind:], scan - behind, 0
        if inside:
            source.leave_out("entries that the end of the file cuts off")
        elif not there and source.read_bytes:
            source.leave_out(f"files without {name}")


def _object(text: bytes, what: str, source: Source) -> dict[str, Any] | None:
    if len(text) > limits.JSON_PARTS and parts_of(text) > limits.JSON_PARTS:
        source.leave_out(f"{what} with more than {limits.JSON_PARTS:,} values")
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        source.leave_out(f"{what} that are no JSON")
        return None
    if not isinstance(value, dict):
        source.leave_out(f"{what} of another shape")
        return None
    return value
