"""What a level has come to while it is under way: a few figures, a few times a second, however many
calls there are."""

from __future__ import annotations

from collections import Counter, deque
from typing import Any

from lab.load.profile import CANCELLED, CallFact, Level

RECENT = 1_000
"""Times are of so many calls, the last ones: to sort all of them would come to hold up what reads
the next."""


class SoFar:
    """`started_ns` is when the level was asked for, by lab.clock.now_ns(); `seconds` how long it
    goes on, where that ends it."""

    def __init__(self, level: Level, started_ns: int, seconds: float | None = None) -> None:
        self.level, self.started_ns, self.seconds = level, started_ns, seconds
        self.done = self.tokens = 0
        self.errors: Counter[str] = Counter()
        self.ttft_ms: deque[float] = deque(maxlen=RECENT)

    def add(self, fact: CallFact) -> None:
        if fact.error_kind == CANCELLED:
            return
        self.done += 1
        self.tokens += fact.output_tokens or 0
        if fact.error_kind:
            self.errors[fact.error_kind] += 1
        elif fact.first_token_ns is not None:
            # From when it was due: what waited to be sent has waited.
            self.ttft_ms.append((fact.first_token_ns - fact.scheduled_ns) / 1e6)

    @property
    def failed(self) -> int:
        return self.errors.total()

    @property
    def kinds(self) -> str:
        """ "12 timeout, 3 overloaded_error"."""
        return ", ".join(f"{count:,} {kind}" for kind, count in self.errors.most_common())

    @property
    def planned(self) -> int:
        """Requests; of a level that its seconds end, as many as there are streams until its pace is
        known."""
        return self.level.requests if self.seconds is None else round(self.level.target)

    def figures(self, now_ns: int, unread: int = 0) -> dict[str, Any]:
        """For an entry of progress; so many more calls have ended and were not read yet, and
        count as if they were like those that were."""
        elapsed_s = max((now_ns - self.started_ns) / 1e9, 1e-3)
        done = self.done + unread
        planned, left_s = self._course(elapsed_s, done)
        ordered = sorted(self.ttft_ms)
        per_s = done / elapsed_s / max(self.done, 1)
        return {
            "done": done,
            "planned": max(planned, done),
            "failed": self.failed,
            "errors": dict(self.errors),
            "elapsed_s": round(elapsed_s, 3),
            "left_s": left_s if left_s is None else round(max(0.0, left_s), 1),
            "ttft_p50_ms": _at(ordered, 0.5),
            "ttft_p95_ms": _at(ordered, 0.95),
            "requests_per_s": round((self.done - self.failed) * per_s, 3),
            "tokens_per_s": round(self.tokens * per_s, 1),
        }

    def _course(self, elapsed_s: float, done: int) -> tuple[int, float | None]:
        """Requests planned, and seconds left, as the level goes by now."""
        if self.seconds is not None:
            pace = done / min(elapsed_s, self.seconds)
            return round(pace * self.seconds), self.seconds - elapsed_s
        planned = self.level.requests
        if self.level.at_s:
            return planned, self.level.at_s[-1] - elapsed_s
        return planned, elapsed_s * (planned - done) / done if done else None


def _at(ordered: list[float], q: float) -> float | None:
    return round(ordered[min(int(q * len(ordered)), len(ordered) - 1)], 3) if ordered else None
