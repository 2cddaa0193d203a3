"""Did a stream stream? What holds it back makes its pieces come many at a time, and its first token
late.

    a model    . . . . . . . . . . . . .     each piece when it is written
    a buffer              :::::::     :::    when 4, 8 or 16 KiB (nginx) are full, or at the end
    a replay                          :::    when the whole answer is there
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

from lab.units import counted

if TYPE_CHECKING:
    import pandas as pd

FEWEST = 8
"""Pieces of text below which an answer is too short to tell."""
TOGETHER = 8
"""Pieces in a burst. Servers that guess ahead write some five tokens at a time, and do stream."""
AT_ONCE_NS = 100_000
"""From piece to piece within a burst: no model writes 10,000 tokens a second."""
PAUSE_NS = 1_000_000
"""What parts two bursts."""
APART_NS = 20_000_000
"""From burst to burst, on average: a client on a busy machine reads as late."""
PLAIN = 20
"""Pieces at once that no machine which was late for a moment explains; fewer must repeat
themselves."""
WRITTEN_NS = 3_000_000
"""What a piece takes a fast model."""
LONG_CHARACTERS = 400
"""So much text at one instant was not written then, in however few pieces."""
EVENT_BYTES = 118
"""Of a text_delta's event besides its text."""
FIRST_BYTES = 700
"""Before the first piece of text: message_start, the block's start, and often the head."""
BUFFERS_KIB = (4, 8, 16)


class Stream(NamedTuple):
    """How the text of one answer arrived."""

    pieces: int
    bursts: int
    span_ns: int
    """From the first piece to the last."""
    kib: int | None
    """4, 8 or 16 where the bursts are about as long as a buffer of that size."""
    held: bool | None
    """None where the answer is too short, or the client's own lateness would explain it."""
    late: bool = False
    """Whether the client was late enough to have missed a fast answer: this one alone proves
    nothing."""
    largest: int = 0
    """About how many bytes its largest burst had: what holds it back is no smaller."""

    @property
    def words(self) -> str:
        """ "48 pieces came in 2 bursts of about 4 KiB", "11 pieces came at once"."""
        pieces = "its one piece" if self.pieces == 1 else f"{self.pieces} pieces"
        size = f" of about {self.kib} KiB" if self.kib else ""
        return (
            f"{pieces} came at once"
            if self.bursts == 1
            else f"{pieces} came in {self.bursts} bursts{size}"
        )

    @property
    def plain(self) -> bool:
        """Whether it is held back so plainly that no other stream need say the same."""
        return bool(self.held) and not self.late and (self.bursts > 1 or self.pieces >= PLAIN)


CAUSE = (
    "something between here and the model buffers the stream, or the server replays a finished"
    " answer as one; turn buffering off (nginx: proxy_buffering off, or the header"
    " X-Accel-Buffering: no from the server) or ask the server directly"
)


class Judged(NamedTuple):
    """Of several streams of one endpoint."""

    held: int
    told: int
    """How many can tell at all."""
    typical: Stream
    """One that was held back."""
    kib: int | None
    """4, 8 or 16 where most of those that came in several bursts agree on it."""
    at_least: int
    """Bytes: of the largest burst of any."""

    @property
    def pieces(self) -> str:
        """ "in pieces of about 8 KiB"."""
        if self.kib:
            return f"in pieces of about {self.kib} KiB"
        return "in bursts" if self.typical.bursts > 1 else "until its end"

    @property
    def left_open(self) -> str:
        """Of answers that were shorter than what holds them back: what that says of its size."""
        if self.kib or self.typical.bursts > 1:
            return ""
        longer = next((size for size in BUFFERS_KIB if size * 1024 > self.at_least), None)
        would = f", and answers longer than {longer} KiB would tell how much" if longer else ""
        return f"; what holds it takes {self.at_least / 1024:.1f} KiB or more{would}"


def judge(streams: Iterable[Stream]) -> Judged | None:
    """None where the endpoint streams, or nothing can be told."""
    judged = [stream for stream in streams if stream.held is not None]
    delayed = sorted((stream for stream in judged if stream.held), key=lambda stream: stream.pieces)
    plain = [stream for stream in delayed if stream.plain]
    share = len(delayed) / len(judged) if judged else 0
    if (plain and share >= 0.5) or (len(delayed) >= 3 and share >= 0.9):
        examples = plain or delayed
        typical = examples[len(examples) // 2]
        several = [stream.kib for stream in delayed if stream.bursts > 1]
        kib = next((size for size in set(several) if several.count(size) > len(several) / 2), None)
        at_least = max(stream.largest for stream in delayed)
        return Judged(len(delayed), len(judged), typical, kib, at_least)
    return None


def told(streams: Sequence[Stream]) -> str:
    """What one way to a server does with its streams, as a predicate: "passes the stream on as it
    is written (20 answers)"."""
    if judged := judge(streams):
        share = f"{judged.held} of {judged.told} answers{judged.left_open}"
        return f"holds back the stream {judged.pieces} ({share})"
    judged_n = sum(stream.held is not None for stream in streams)
    held_n = sum(bool(stream.held) for stream in streams)
    if held_n:
        return (
            f"passes the stream on in {judged_n - held_n} of {judged_n} answers; the others came in"
            " bursts, too few of them to say that it is held back"
        )
    if judged_n:
        return f"passes the stream on as it is written ({counted(judged_n, 'answer')})"
    longest = max((stream.pieces for stream in streams), default=0)
    return (
        f"gave answers too short to tell whether it holds back the stream: the longest had"
        f" {longest} pieces of text, and {FEWEST} are needed"
    )


def of_calls(arrivals: pd.DataFrame) -> list[Stream]:
    """The stream of each call; of queries.text_arrivals."""
    return [
        stream(
            zip(call["at_ns"], call["characters"], strict=True),
            call["sent_ns"].iloc[0],
            call["lag_ns"].iloc[0],
        )
        for _, call in arrivals.groupby("call_id", sort=False)
    ]


def stream(pieces: Iterable[tuple[int, int]], sent_ns: int | None, lag_ns: int = 0) -> Stream:
    """From (at_ns, characters) of each piece of text in order, when the request was sent, and the
    client's own worst loop lag. Of a tool's input some servers hold back a value by design."""
    texts = [(at_ns, characters) for at_ns, characters in pieces if characters]
    if not texts:
        return Stream(0, 0, 0, None, None)
    bursts = _bursts(texts)
    span_ns = texts[-1][0] - texts[0][0]
    quick_ns = sum(burst[-1][0] - burst[0][0] for burst in bursts)
    at_once = quick_ns <= AT_ONCE_NS * (len(texts) - len(bursts))
    pauses = [after[0][0] - before[-1][0] for before, after in pairwise(bursts)]
    full = bursts[:-1] or bursts
    if pauses and pauses[-1] < APART_NS and len(bursts[-1]) < TOGETHER:
        pauses.pop()  # the last burst is what was left at the end, however soon that came
    if pauses:
        waited_ns = sum(pauses) / len(pauses)
        late = lag_ns > waited_ns
    else:
        waited_ns = 0 if sent_ns is None else texts[0][0] - sent_ns
        late = lag_ns > WRITTEN_NS * len(texts)
    together = len(texts) >= FEWEST and median(map(len, full)) >= TOGETHER
    together |= span_ns == 0 and sum(characters for _, characters in texts) >= LONG_CHARACTERS
    is_held: bool | None = together and at_once and waited_ns >= APART_NS
    if (is_held and late and pauses) or (not together and len(texts) < FEWEST):
        is_held = None
    kib = _buffer(full) if pauses else None
    largest = max(map(_bytes, bursts))
    return Stream(len(texts), len(pauses) + 1, span_ns, kib, is_held, late, largest)


def _bursts(texts: Sequence[tuple[int, int]]) -> list[list[tuple[int, int]]]:
    """Parted by pauses; a few packets in a row, as a replay is, are one."""
    bursts = [[texts[0]]]
    quick = texts[-1][0] - texts[0][0] <= AT_ONCE_NS * (len(texts) - 1)
    for piece in texts[1:]:
        if not quick and piece[0] - bursts[-1][-1][0] >= PAUSE_NS:
            bursts.append([])
        bursts[-1].append(piece)
    return bursts


def _bytes(burst: Sequence[tuple[int, int]]) -> int:
    return sum(EVENT_BYTES + characters for _, characters in burst)


def _buffer(bursts: Sequence[Sequence[tuple[int, int]]]) -> int | None:
    """The size of buffer that bursts look like; servers write events differently, so that their
    bytes are known to about a third."""
    first, *others = map(_bytes, bursts)
    kib = median([first + FIRST_BYTES, *others]) / 1024
    return next((size for size in BUFFERS_KIB if 0.7 <= kib / size < 1.4), None)
