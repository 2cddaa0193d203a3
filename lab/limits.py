"""How much may come in, each number with its reason. What exceeds one ends its call as a failed
row, `too_large`, that names the limit.

Without limits an endless stream took 4.8 GB in 15 seconds, and a compressed body of 300 KB unpacked
to 1.65 GB.
"""

from __future__ import annotations

import os
from functools import cache
from typing import Any

MB = 1_000_000
HEAD_BYTES = 256_000
"""Status line, headers and interim (1xx) answers: a server of the API sends about 2 KB."""
ERROR_BYTES = 1 * MB
"""The body of an error or a redirect: the SDK parses it whole, and the API's are below 1 KB."""
CHUNKS = EVENTS = 200_000
"""Of one answer: a model's longest has 128,000 tokens, mostly with one event each."""
JSON_PARTS = 500_000
"""Values in one document, and in all that is kept of an answer: 64 MB of empty lists would be 1.4
GB of Python objects."""
EVENT_LINES = 10_000
"""The API's have two."""
CHUNK_COST = 200
"""Bytes that a chunk costs beside its own: one byte a chunk would fill the memory else."""
WAITING_BYTES = 4 * MB
"""What may wait at one socket before the server is held back: twenty of the longest answers."""
EAGER_BYTES, EAGER_CHUNKS = 64_000, 256
"""What is read at one go before the event loop's other tasks have their turn, Stop among them."""
READ_AT_ONCE = 250_000
"""A longer answer, of some 1,500 tokens streamed, is read in a thread: the 20 ms that it takes
would hold up other streams."""
CUT_BYTES, CUT_CHUNKS = 4 * MB, 20_000
"""What is kept of an answer that was stopped or is too large: enough to see how it began."""
SENTENCE_CHARACTERS = 100_000
"""Where a first sentence is looked for."""
ERROR_CHARACTERS, WORD_CHARACTERS = 500, 200
COUNT_LIMIT = 2**31
"""What a count stays below: its column holds no more."""


def is_count(value: Any) -> bool:
    """Whether it is a number of things, as JSON has it, that fits its column."""
    return type(value) is int and 0 <= value < COUNT_LIMIT


@cache
def body_bytes() -> int:
    """The body of one answer, as it comes and as it unpacks. Raises LabError where LAB_MAX_BODY_MB
    is no number of megabytes."""
    value = os.environ.get("LAB_MAX_BODY_MB") or "64"
    if not (value.isascii() and value.isdigit() and 1 <= int(value) <= 10_000):
        from lab.model import LabError  # pydantic, which the loader must do without

        raise LabError(
            f"LAB_MAX_BODY_MB is {value!r:.40}. Set it to a whole number of megabytes from 1 to"
            " 10000, or unset it for 64."
        )
    return int(value) * MB


def most_of_body(status: int) -> int:
    return body_bytes() if status < 300 else ERROR_BYTES


def most_with_framing(status: int) -> int:
    """Chunked, each byte of a body may come in six."""
    return 6 * CHUNKS + 2 * most_of_body(status)


def event_bytes() -> int:
    """One event, one answer that comes whole, and the text of one answer: parsed, a character may
    take four bytes, several times over."""
    return body_bytes() // 4


class Allowance:
    """What all answers of one trial may bring together: each is held until the trial's clock has
    stopped."""

    __slots__ = ("left",)

    def __init__(self) -> None:
        self.left = 2 * body_bytes()
