"""What a server, a file or a library says, made fit to be kept and shown: no key of this user in
it, no control sequence, no endless text.

A server may send back the key that it was sent, whole or in part and written in another way.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from lab import endpoint_kinds, paths
from lab.rows import CallRow, EventRow, FinishedTrial

BLANK = "[key]"
SHORTEST = 12
"""A secret below this length is a placeholder, and would be met by chance."""
GRAM = 5
"""Every fifth place of a text is looked up among all pieces of this length, whatever the number of
keys: a run of nine is always met."""
ENOUGH = 16
"""So many characters of a key in a row are blanked; fewer, where half the key is shorter. Its
public beginning alone is not."""
ERROR_TEXT, WORD, MESSAGE = 500, 200, 2_000
TRIAL = {"error_kind": WORD, "error_text": ERROR_TEXT}
CALL_WORDS = """model served_model message_id request_id cache_miss_reason diagnosis stop_reason
speed service_tier inference_geo iterations rate_limits thread_id asked"""
CALL = {**dict.fromkeys(CALL_WORDS.split(), WORD), **TRIAL, "usage_note": ERROR_TEXT}
RECORDED_WORDS = "source conversation agent blocks marks reply"
SETTING = 1_000
"""Of a recorded request: a header anthropic-beta names many."""
RECORDED = {
    **dict.fromkeys(RECORDED_WORDS.split(), WORD),
    "settings": SETTING,
    "note": ERROR_TEXT,
}
WHOLE = {"body": None, "answer": None}
"""Of a recording that keeps text: a replay needs all of it, but its keys."""
PASSED: set[str] = set()
"""Keys of others that have passed by in this process: known to it alone, and kept nowhere."""
MOST_PASSED = 64
# C0 but tab and line feed, DEL, C1, marks that turn the reading direction, and halves of a
# surrogate pair.
UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


def text(value: str, limit: int | None = None) -> str:
    """`value` without keys and control characters; beyond `limit` it is cut, and says how long it
    was."""
    return _text(value, limit, _secrets())


def _text(value: str, limit: int | None, secrets: Secrets) -> str:
    length = len(value)
    if limit is None:
        limit = sys.maxsize
    if length > limit:
        value = value[: limit + secrets.longest]  # a key across the cut is still met whole
    value = visible(secrets.replaced(value, lambda run: BLANK))
    if max(length, len(value)) <= limit:
        return value
    note = f"… ({length:,} characters)"
    return value[: max(limit - len(note), 0)] + note


def learn(secret: str) -> None:
    """A key that passed by, as a header has it, is known from now on."""
    for word in (secret, secret.rpartition(" ")[2]):
        if len(PASSED) < MOST_PASSED and len(word) >= SHORTEST:
            PASSED.add(word)


def visible(value: str) -> str:
    """Each control character as one visible character, so that lengths stay and no terminal or page
    obeys it."""
    return UNSEEN.sub(_symbol, value)


def _symbol(match: re.Match[str]) -> str:
    code = ord(match[0])
    return chr(0x2400 + code) if code < 0x20 else "\u2421" if code == 0x7F else "\ufffd"


def trial(finished: FinishedTrial) -> None:
    """Every text of a finished trial, in place. A key in pieces, down to a character a delta, is
    blanked piece by piece."""
    secrets = _secrets()
    _fields(finished.trial, TRIAL, secrets)
    calls(finished.calls, secrets)
    for span in finished.spans:
        span.name = _text(span.name, WORD, secrets)
    for recorded in finished.recorded_calls:
        _fields(recorded, RECORDED | WHOLE, secrets)
    events(finished.events, secrets)


def calls(rows: Sequence[CallRow], secrets: Secrets | None = None) -> None:
    """Every text of calls, in place."""
    secrets = secrets or _secrets()
    for call in rows:
        _fields(call, CALL, secrets)


def events(rows: Sequence[EventRow], secrets: Secrets | None = None) -> None:
    """The same of events, and of the text of each call's together."""
    secrets = secrets or _secrets()
    kinds = {kind: _text(kind, WORD, secrets) for kind in {event.kind for event in rows}}
    by_call: dict[str, list[EventRow]] = {}
    for event in rows:
        event.kind = kinds[event.kind]
        if event.text:
            by_call.setdefault(event.call_id, []).append(event)
    for of_call in by_call.values():
        kinds = {event.kind for event in of_call}
        for kind in [None, *(kinds if len(kinds) > 1 else ())]:  # two kinds may be told by turns
            _pieces([event for event in of_call if kind in (None, event.kind)], secrets)


def word(value: str) -> str:
    """A name, which is short."""
    return text(value, WORD)


def _fields(row: Any, limits: Mapping[str, int | None], secrets: Secrets) -> None:
    for name, limit in limits.items():
        if value := getattr(row, name):
            try:
                setattr(row, name, _value(value, limit, secrets))
            except RecursionError:  # nested too deep to be looked through, so not kept
                setattr(row, name, None)


def _value(value: Any, limit: int | None, secrets: Secrets) -> Any:
    if isinstance(value, dict):
        pairs = [(_text(str(name), limit, secrets), part) for name, part in value.items()]
        return {name: _value(part, limit, secrets) for name, part in pairs}
    if isinstance(value, list | tuple):
        return [_value(part, limit, secrets) for part in value]
    return _text(value, limit, secrets) if isinstance(value, str) else value


def _pieces(events: Sequence[EventRow], secrets: Secrets) -> None:
    """Blank what is a key in these texts or across them; each stays as long as it was."""
    joined = "".join(event.text for event in events)
    rest = io.StringIO(visible(secrets.replaced(joined, lambda run: "•" * len(run))))
    for event in events:
        event.text = rest.read(len(event.text))


@dataclass(frozen=True)
class Secrets:
    """The ways in which each secret may be written, and where each short piece of them stands."""

    forms: tuple[tuple[str, int], ...]
    """A way of writing, and how many characters of it in a row are enough."""
    places: dict[str, list[tuple[int, int]]]
    longest: int

    def replaced(self, value: str, blank: Callable[[str], str]) -> str:
        parts, at = [], 0
        for begin, end in self.runs(value):
            parts += [value[at:begin], blank(value[begin:end])]
            at = end
        return "".join([*parts, value[at:]]) if parts else value

    def runs(self, value: str) -> list[tuple[int, int]]:
        """Begin and end of each stretch of `value` that is (a good part of) a secret, in order and
        apart."""
        runs: list[tuple[int, int]] = []
        places = self.places
        at, last = 0, len(value) - GRAM
        while at <= last:
            end = at + GRAM
            if (hits := places.get(value[at:end])) and (run := self._run(value, at, hits)):
                while runs and run[0] <= runs[-1][1]:
                    run = (min(runs[-1][0], run[0]), max(runs.pop()[1], run[1]))
                runs.append(run)
                end = max(run[1], end)
            at = end
        return runs

    def _run(self, value: str, at: int, hits: list[tuple[int, int]]) -> tuple[int, int] | None:
        best = None
        for index, place in hits:
            form, enough = self.forms[index]
            begin, start = at, place
            while begin and start and value[begin - 1] == form[start - 1]:
                begin, start = begin - 1, start - 1
            end, stop = at + GRAM, place + GRAM
            while end < len(value) and stop < len(form) and value[end] == form[stop]:
                end, stop = end + 1, stop + 1
            if end - begin >= enough and (best is None or end - begin > best[1] - best[0]):
                best = (begin, end)
        return best


def _secrets() -> Secrets:
    from lab.endpoints import keys

    cards = tuple(paths.runtime_folder() / f"{name}.json" for name in endpoint_kinds.own_servers())
    variables = (*keys.VARIABLES, "ANTHROPIC_CUSTOM_HEADERS", "LAB_API_KEYS")
    values = (*map(os.environ.get, variables), *sorted(PASSED))
    return _made(cards, (*values, *map(_version, (keys.secrets_file(), *cards))))


def _version(path: Path) -> tuple[Path, int, int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return path, stat.st_mtime_ns, stat.st_size


@lru_cache(4)
def _made(cards: tuple[Path, ...], versions: tuple[Any, ...]) -> Secrets:
    """The same for the same versions of all that it is made from."""
    from lab.endpoints import keys

    secrets = keys.known() | PASSED
    for path in cards:
        with contextlib.suppress(OSError, ValueError, AttributeError):
            secrets.add(str(json.loads(path.read_text()).get("api_key") or ""))
    forms: dict[str, int] = {}
    for secret in sorted(secrets):
        if len(secret) >= SHORTEST:
            forms |= dict(_forms(secret))
    places: dict[str, list[tuple[int, int]]] = {}
    for index, form in enumerate(forms):
        for place in range(len(form) - GRAM + 1):
            places.setdefault(form[place : place + GRAM], []).append((index, place))
    return Secrets(tuple(forms.items()), places, max(map(len, forms), default=0))


def _forms(secret: str) -> Iterator[tuple[str, int]]:
    """Plain, hex, percent and \\u writing, and base64 at each of the three places where it may
    begin inside a longer text."""
    data = secret.encode("utf-8", "replace")
    half = len(secret) // 2
    for plain in {secret, secret.lower(), secret.upper(), quote(secret, safe="")}:
        yield plain, min(ENOUGH, half)
    for written in ("{:02x}", "{:02X}", "%{:02x}", "%{:02X}", "\\u{:04x}", "\\u{:04X}"):
        yield "".join(map(written.format, data)), min(ENOUGH, half * len(written.format(0)))
    for before in range(3):
        packed = base64.b64encode(bytes(before) + data).decode()
        inner = packed[(before * 8 + 5) // 6 : (before + len(data)) * 8 // 6]
        for form in {inner, inner.replace("+", "-").replace("/", "_")}:
            yield form, min(ENOUGH, half * 8 // 6 - 3)
