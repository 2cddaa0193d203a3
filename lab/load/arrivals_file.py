"""A schedule of the user's own, as a file says it: when each play is due.

.csv and .txt: a line an arrival, its instant in seconds in the first column; a first line without a
number is a heading. .json: a list of seconds, or of objects with a `timestamp` in milliseconds, as
Mooncake's traces have it (kvcache-ai/Mooncake); .jsonl: one of either a line.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from math import isfinite
from pathlib import Path
from typing import Any

from lab.load.schedule import MOST_REQUESTS
from lab.model import LabError

ENDINGS = (".csv", ".txt", ".json", ".jsonl")
MOST_BYTES = 500_000_000
"""A trace of a million lines with its prompts' hashes has some 200 MB."""


def read(path: str | Path) -> tuple[float, ...]:
    """Instants in seconds from the first of them, in their order. LabError, with the line, for what
    is none."""
    path = Path(path).expanduser()
    ending = path.suffix.lower()
    if ending not in ENDINGS:
        raise LabError(
            f"{path.name!r:.80} is no schedule: name a file that ends in {', '.join(ENDINGS)}."
        )
    text = _text(path)
    known = _document(text, path) if ending == ".json" else _lines(text, path, ending == ".jsonl")
    times = sorted(known)
    if not times:
        raise LabError(f"{path.name} has no arrival in it; write one instant in seconds a line.")
    if len(times) > MOST_REQUESTS:
        raise LabError(
            f"{path.name} has {len(times):,} arrivals; a level has at most {MOST_REQUESTS:,}."
        )
    return tuple(at - times[0] for at in times)


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > MOST_BYTES:
            raise LabError(f"{path.name} is larger than {MOST_BYTES // 1_000_000} MB; shorten it.")
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise LabError(f"The schedule {path} cannot be read ({error.strerror}).") from error
    except UnicodeDecodeError:
        raise LabError(f"{path.name} is no text in UTF-8; save it as such.") from None


def _lines(text: str, path: Path, is_json: bool) -> Iterator[float]:
    is_first = True
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        where = f"{path.name}, line {number}"
        if is_json:
            yield _seconds(_value(line, where), where)
            continue
        column = line.replace(";", ",").replace("\t", ",").partition(",")[0].strip().strip('"')
        try:
            yield _seconds(float(column), where)
        except ValueError:
            if not is_first:
                raise LabError(f"{where}: {column!r:.40} is no instant in seconds.") from None
        is_first = False


def _document(text: str, path: Path) -> Iterator[float]:
    values = _value(text, path.name)
    if not isinstance(values, list):
        raise LabError(f"{path.name} is no list of instants; write [0, 0.5, 2] in seconds.")
    for number, value in enumerate(values, 1):
        yield _seconds(value, f"{path.name}, entry {number}")


def _value(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        line = "" if ", line " in where else f", line {error.lineno}"
        raise LabError(f"{where}{line}: this is no JSON ({error.msg}).") from None
    except ValueError:  # a number of thousands of digits
        raise LabError(f"{where}: a number here is too long; write seconds.") from None
    except RecursionError:
        raise LabError(f"{where}: this is nested too deeply for a schedule.") from None


def _seconds(value: Any, where: str) -> float:
    """A number counts seconds, an object's `timestamp` milliseconds."""
    per_s = 1
    if isinstance(value, dict):
        if "timestamp" not in value:
            raise LabError(f"{where}: this object has no timestamp (in milliseconds).")
        value, per_s = value["timestamp"], 1000
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise LabError(f"{where}: {value!r:.40} is no instant; write a number of seconds.")
    if not (abs(value) < 1e300 and isfinite(value)) or value < 0:
        raise LabError(f"{where}: {value!r:.40} is no instant; write a number from 0 on.")
    return value / per_s
