"""Whether a stored watch is still kept and answered, which its series do not show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import datetime

from lab import units
from lab.clock import utc_now
from lab.watch.changes import AS_ASKED
from lab.watch.watched import LATE, Gap, Watched


def commonest(texts: Iterable[object]) -> str:
    """What most of them say, on one line without a full stop; empty where none says anything."""
    counted = Counter(units.short(text, 300) for text in texts if isinstance(text, str))
    return counted.most_common(1)[0][0].rstrip(".") if counted else ""


def trouble(found: Watched) -> str:
    """What went wrong in the latest probe that took place; empty where nothing did."""
    taken = found.trials[found.trials["outcome"] != "cancelled"]
    latest = taken[taken["probe"] == taken["probe"].max()]
    lost = latest[latest["outcome"] != "ok"]
    if lost.empty:
        return ""
    why = commonest(lost["error_text"])
    count = f"{len(lost)} of {units.counted(len(latest), 'request')}"
    were = "was" if len(lost) == 1 else "were"
    return f"In the latest probe {count} {were} not {AS_ASKED}{f': {why}' if why else ''}."


def unwatched(found: Watched, is_kept: bool) -> str:
    """That nothing watches any more; empty while a process keeps it, or probes come as from
    cron."""
    last = found.last_utc
    if is_kept or last is None or utc_now() - last <= LATE * found.every:
        return ""
    return f"The last probe was due at {units.when(last)} UTC; nothing watches."


def gaps(found: Watched, is_kept: bool) -> list[Gap]:
    """Its gaps up to now, or to the end of its days: also the one since nothing watches."""
    last, until = found.last_utc, found.settings.get("until_utc")
    if not unwatched(found, is_kept):
        return found.gaps
    end = min(utc_now(), datetime.fromisoformat(until)) if until else utc_now()
    since = [Gap(last + found.every, end, "the watch was not running")]
    return found.gaps + (since if end - last > LATE * found.every else [])
