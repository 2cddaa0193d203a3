"""What a load came to, in words: each sentence once, for page, console, JSON and report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from lab import endpoint_kinds, metrics, units
from lab.load import schedule

if TYPE_CHECKING:
    from lab.load_levels import LevelResult
    from lab.load_results import LoadResult

MUCH_FAILED = 0.05
"""Of a level's calls: from here on its times are those of the lucky ones."""
MUCH_BIAS = 0.05
"""Of the median first token: an instrument that adds more is said before the number."""
TONES = {"kept": "good", "missed": "bad", "client": "unsure", "not_enough_data": "unsure"}


class Answer(NamedTuple):
    lead: str
    """What was asked, answered in one sentence."""
    tone: str
    """good, bad, unsure or neutral."""
    doubts: list[str]
    """What stands before the lead, without an end stop."""
    notes: list[str]
    """What the numbers are, what is missing, and what is not claimed; sentences."""

    @property
    def is_doubtful(self) -> bool:
        return bool(self.doubts)


def answer(result: LoadResult) -> Answer:
    lead, tone = _lead(result)
    return Answer(lead, tone, doubts(result), notes(result))


def _lead(result: LoadResult) -> tuple[str, str]:
    levels = [level for level in result.in_order if level.n]
    if not levels:
        return "No call of this load has ended.", "unsure"
    if result.found:
        return result.found.sentence, TONES[result.found.verdict]
    return _seen(result, levels), "neutral"


def number(result: LoadResult) -> str:
    """The largest load that keeps what was asked, to stand large; empty where nothing was."""
    if result.found is None or result.found.low is None:
        return ""
    return schedule.words(result.mode, result.found.low)


def _seen(result: LoadResult, levels: Sequence[LevelResult]) -> str:
    """Without an objective nothing is judged."""
    first, last = levels[0], levels[-1]
    words = metrics.words(result.metric)
    rates = [level.requests_per_s for level in (first, last)]
    if first is last:
        p50, p95 = _values(result.metric, last, "p50", "p95")
        return (
            f"At {last.label} the {words} is {p50} at the median and {p95} at p95;"
            f" {units.number(rates[1])} requests and {units.number(last.tokens_per_s)} tokens a"
            " second."
        )
    p95s = [level.time(result.metric, "p95") for level in (first, last)]
    low, high = units.once(units.values(result.metric, *p95s))
    text = (
        f"From {first.label} to {last.label}, p95 {words} goes from {low} to {high}, and"
        f" throughput from {units.number(rates[0])} to {units.number(rates[1])} requests a second."
    )
    knee = next((level.label for level in levels if level.is_knee), "")
    return f"{text} Beyond {knee} it grows no more." if knee else text


def _values(metric: str, level: LevelResult, *quantiles: str) -> list[str]:
    return units.values(metric, *(level.time(metric, quantile) for quantile in quantiles))


def doubts(result: LoadResult) -> list[str]:
    """What spoils the numbers that the lead tells, before it."""
    found = result.found
    told = [level for level in result.in_order if found is None or level.target == found.low]
    lines = [found.doubt] if found and found.doubt else []
    if found is None:  # else the lead itself says where the client was the limit
        lines += _client_limits(told)
    lines += _failures(told)
    if (added := _much_bias(result)) is not None:
        lines.append(
            f"The instrument itself adds {units.ms(added)} at p95, much beside what is measured"
        )
    return lines


def _client_limits(levels: Sequence[LevelResult]) -> list[str]:
    by_reason: dict[str, list[str]] = {}
    for level in levels:
        if level.client_limit:
            by_reason.setdefault(level.client_limit, []).append(level.label)
    return [
        f"At {_list(labels)} the client was the limit, not the server: {reason}"
        for reason, labels in by_reason.items()
    ]


def _failures(levels: Sequence[LevelResult]) -> list[str]:
    failing = [level for level in levels if level.failed_share > MUCH_FAILED]
    if not failing:
        return []
    worst = max(failing, key=lambda level: level.failed_share)
    return [
        f"{units.percent(worst.failed_share)} of the calls failed at {worst.label}"
        f" ({kinds(worst)}): the times are those of the others"
    ]


def _much_bias(result: LoadResult) -> float | None:
    added = (result.bias.get("ttft_ms") or {}).get("p95")
    medians = [level.time("ttft_ms", "p50") for level in result.levels]
    known = [value for value in medians if value is not None]
    return added if added and known and added > MUCH_BIAS * min(known) else None


def notes(result: LoadResult) -> list[str]:
    before = doubts(result)
    also = [*_client_limits(result.in_order), *_failures(result.in_order)]
    lines = [f"{line}." for line in also if line not in before]
    lines += [*missing(result), *_resent(result.levels)]
    if not result.objectives and (few := _few(result)):
        lines.append(few)
    if told := bias(result):
        lines.append(told)
    if result.is_open:
        lines.append(
            "Scheduled times count from the instant at which a request was due: waiting to be sent"
            " is in them."
        )
    kind = endpoint_kinds.kind(result.run["endpoint_kind"])
    if kind.own_server:
        lines.append("Server and client share this machine's cores.")
    return lines


def _resent(levels: Sequence[LevelResult]) -> list[str]:
    count = sum(level.resent for level in levels)
    if not count:
        return []
    return [
        f"{units.counted(count, 'call')} went out a second time, on a new connection, since the"
        " server had closed the one kept for it: attempt 2, with the clock of the first."
    ]


def _few(result: LoadResult) -> str:
    fewest = min((level.n for level in result.levels if level.n), default=0)
    if not fewest or metrics.supported(fewest, QUANTILE):
        return ""
    return f"p95 needs {metrics.needed(QUANTILE)} calls of a level; the smallest has {fewest:,}."


QUANTILE = 0.95


def bias(result: LoadResult) -> str:
    """What the instrument adds to a first token, as measured right after this very run."""
    told = result.bias
    times = told.get("ttft_ms") or {}
    if not times:
        return ""
    ends = [f"{units.number(times.get(name), 2)} ms" for name in ("p50", "p95")]
    text = (
        f"The instrument itself adds {ends[0]} to a first token at the median and {ends[1]} at p95"
    )
    return f"{text}, measured right after with {units.counted(told.get('streams', 0), 'stream')}."


def missing(result: LoadResult) -> list[str]:
    """What was planned and is not there, and why."""
    lines = []
    for level in result.levels:
        if level.not_begun:
            why = f": {level.reason.rstrip('.')}" if level.reason else ""
            lines.append(
                f"{level.label}: {level.not_begun:,} of {units.counted(level.planned, 'request')}"
                f" {'was' if level.not_begun == 1 else 'were'} never made{why}."
            )
        elif level.reason:
            lines.append(f"{level.label}: {level.reason.rstrip('.')}.")
        if level.given_up:
            lines.append(
                f"{level.label}: {units.counted(level.given_up, 'request')} under way at its end"
                f" {'was' if level.given_up == 1 else 'were'} given up, and"
                f" {'is' if level.given_up == 1 else 'are'} in no figure."
            )
    return lines


def kinds(level: LevelResult) -> str:
    """ "12 timeout, 3 overloaded_error"."""
    return ", ".join(f"{n:,} {kind}" for kind, n in level.errors.items())


def _list(labels: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(labels[:-1]), labels[-1])))


def in_short(result: LoadResult) -> str:
    """For a list of runs: the lead's first clause."""
    return _lead(result)[0].partition(";")[0].rstrip(".")


def title(result: LoadResult) -> str:
    """ "Load · simulated: no model ran · simulated-small · 2026-11-25 · run …"."""
    run = result.run
    about = ["Load", provenance(result), f"run {run['run_id']}"]
    if not units.missing(run.get("name")):
        about.insert(0, units.short(run["name"]))
    if run["status"] != "finished":
        about.append(run["status"])
    return " · ".join(about)


def provenance(result: LoadResult) -> str:
    run, kind = result.run, endpoint_kinds.kind(result.run["endpoint_kind"])
    own = "" if kind.caveat and run["endpoint"] == kind.name else run["endpoint"]
    models = ", ".join(dict.fromkeys(run["models"].values()))
    date = (units.iso(run["started_utc"]) or "")[:10]
    parts = (kind.caveat, own, models, date, units.origin(run))
    return " · ".join(map(units.short, filter(None, parts)))
