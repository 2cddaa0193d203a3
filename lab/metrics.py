"""What a metric is, in one place: its words, its unit, which way is better, whether it is judged.

A metric of a trial is a column of the view compared_trials and an entry here; a test holds the two
together. Titles, number formats, verdicts, requirements, reports, pages and notebooks read this.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, log
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lab.rows import FinishedTrial


@dataclass(frozen=True)
class Metric:
    """One number of a trial, in `unit`."""

    name: str
    words: str
    """In a sentence, without its unit: "perceived wait"."""
    unit: str
    """As an axis says it: ms, $, tokens/s, tokens, share."""
    verb: str
    less: str
    more: str
    """ "streamed {verb} 2.3× {less} than whole"."""
    higher_is_better: bool = False
    judged: bool = False
    """Judged faster or slower by a verdict. What is not only explains one, and is never judged."""
    short: str = ""
    """What a verdict's line calls it, where the field has a shorter word."""
    call_clock: str | None = None
    """The column of call_metrics where the same instant stands for the answering call."""

    @property
    def is_time(self) -> bool:
        return self.unit == "ms"

    @property
    def is_instant(self) -> bool:
        """Whether it is a moment of the trial, such as its first text: a race can end at it."""
        return self.less == "sooner"


def _time(name: str, words: str, verb: str, call_clock: str | None, short: str = "") -> Metric:
    return Metric(
        name, words, "ms", verb, "sooner", "later", judged=True, short=short, call_clock=call_clock
    )


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        _time("wait_ms", "perceived wait", "shows text", "first_text_at_ms"),
        _time("ttft_ms", "time to first token", "starts", None, short="TTFT"),
        _time("total_ms", "total time", "ends", "ended_at_ms"),
        _time("headers_ms", "time to headers", "answers", "headers_at_ms"),
        _time("message_start_ms", "time to message_start", "begins", "message_start_at_ms"),
        _time("first_sign_ms", "time to first sign of life", "stirs", "first_sign_at_ms"),
        _time("first_text_ms", "time to first visible text", "shows text", "first_text_at_ms"),
        _time(
            "first_sentence_ms",
            "time to first full sentence",
            "shows a whole sentence",
            "first_sentence_at_ms",
        ),
        _time("tool_input_ms", "time to first whole tool input", "can call", "whole_tool_at_ms"),
        # Of the last call's own start, so no moment of the trial.
        Metric(
            "last_ttft_ms",
            "time to first token of the last answer",
            "ms",
            "starts its last answer",
            "faster",
            "slower",
            judged=True,
            short="last TTFT",
        ),
        _time("last_token_ms", "time to last token", "ends", "last_token_at_ms"),
        Metric(
            "tokens_per_s",
            "tokens per second",
            "tokens/s",
            "writes",
            "slower",
            "faster",
            higher_is_better=True,
            judged=True,
        ),
        Metric("gap_ms", "time per output token", "ms", "writes", "faster", "slower", judged=True),
        Metric("output_tokens", "output tokens", "tokens", "writes", "less", "more"),
        Metric("prompt_tokens", "prompt tokens", "tokens", "sends", "less", "more"),
        Metric(
            "cached_share",
            "cached share of the prompt",
            "share",
            "reads",
            "less from the cache",
            "more from the cache",
            higher_is_better=True,
        ),
        Metric("cost_usd", "cost per trial", "$", "costs", "less", "more"),
        Metric(
            "quality", "quality", "share right", "scores", "lower", "higher", higher_is_better=True
        ),
    )
}
"""By name, in the order in which they are offered."""

OF_LOAD: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        METRICS["ttft_ms"],
        _time("scheduled_ttft_ms", "first token after it was due", "starts", None),
        _time("ttft_sent_ms", "first token after it was sent", "starts", None),
        Metric(
            "second_token_ms", "first to second token", "ms", "goes on", "sooner", "later",
            judged=True,
        ),
        METRICS["total_ms"],
        _time("scheduled_latency_ms", "scheduled latency", "ends", None),
        _time("dispatch_delay_ms", "dispatch delay", "is sent", None),
        METRICS["tokens_per_s"],
    )
}  # fmt: skip
"""Of one call under load, columns of the view load_calls: what is called scheduled counts from the
instant at which the call was due, so that waiting to be sent counts too."""

CALL_CLOCKS: dict[str, str] = {
    "headers_at_ms": "headers",
    "message_start_at_ms": "message_start",
    "first_sign_at_ms": "first sign of life",
    "first_thinking_at_ms": "first thinking",
    "first_text_at_ms": "first visible text",
    "first_tool_at_ms": "first tool input",
    "whole_tool_at_ms": "first whole tool input",
    "first_sentence_at_ms": "first full sentence",
    "last_token_at_ms": "last token",
    "ended_at_ms": "end",
}
"""The clocks of one call, columns of call_metrics, in their usual order, in words."""

CLOCKS = ("wait_ms", "ttft_ms", "total_ms")
"""The three clocks of a trial that every table shows."""
OF_A_STREAM = ("wait_ms", "ttft_ms")
"""Clocks that a stream held back on its way stops too late."""
TABLE = (*CLOCKS, "tokens_per_s", "output_tokens")
"""What a table of arms shows, cost and quality beside it."""

QUANTILES = {"p50": 0.50, "p95": 0.95, "p99": 0.99}
QUANTILES_OF_LOAD = {"p50": 0.50, "p90": 0.90, "p95": 0.95, "p99": 0.99}


def needed(q: float, level: float = 0.95) -> int:
    """The fewest values whose order statistics bound quantile q on both sides at `level`.

    6 for the median, 36, 72 and 368 for p90, p95 and p99. With fewer, even the range from the least
    to the largest value misses the quantile too often (David & Nagaraja 2003, §7.1).
    """
    return ceil(log((1 - level) / 2) / log(max(q, 1 - q)) - 1e-9)


FEWEST_BLOCKS = needed(0.5)
"""Blocks below which no two-sided 95 % interval of a difference exists."""


def supported(n: int, q: float, level: float = 0.95) -> bool:
    """Whether n values can carry a two-sided bound of quantile q; below, it is shown greyed."""
    return n >= needed(q, level)


def find(name: str) -> Metric:
    """A metric by name; any other column is called by its own name, less its unit, which is empty
    where its name has none."""
    if known := METRICS.get(name) or OF_LOAD.get(name):
        return known
    words = name.removesuffix("_ms").replace("_", " ")
    endings = {"_ms": "ms", "_usd": "$", "_share": "share", "_tokens": "tokens", "_per_s": "/s"}
    unit = next((unit for ending, unit in endings.items() if name.endswith(ending)), "")
    return Metric(name, words, unit, f"has a {words}", "lower", "higher")


def words(name: str) -> str:
    return find(name).words


def unit(name: str) -> str:
    return find(name).unit


def axis(name: str) -> str:
    """ "perceived wait, ms"."""
    return f"{words(name)}, {unit(name)}"


def clocks(finished: FinishedTrial) -> dict[str, float | None]:
    """CLOCKS of a trial in ms, for what has to know them before it is stored: live dots, and when a
    precision run stops. The definitions are the view trial_metrics; a test holds these to it.

    None where the trial neither ended well nor as a mismatch.
    """
    trial = finished.trial
    answers = [call for call in finished.calls if call.role == "answer" and call.error_kind is None]
    first = min(answers, key=lambda call: call.started_ns, default=None)
    ends: dict[str, int | None] = dict.fromkeys(CLOCKS)
    if trial.outcome in ("ok", "mismatch"):
        ends["total_ms"] = trial.ended_ns
        if first is not None:
            pieces = (first.first_thinking_ns, first.first_text_ns, first.first_tool_ns)
            ends["wait_ms"] = _first_known(first.first_text_ns, first.ended_ns)
            ends["ttft_ms"] = _first_known(
                first.first_token_ns, min((at for at in pieces if at is not None), default=None)
            )
    return {
        name: None if end is None else (end - trial.started_ns) / 1e6 for name, end in ends.items()
    }


def _first_known(*instants: int | None) -> int | None:
    return next((at for at in instants if at is not None), None)
