"""A recording on a terminal or in a pipe: the sentence, then its conversations, its cache, its
misses, and what each technique would be worth."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lab import endpoint_kinds, techniques, units
from lab.harness.reporters.console import PIPE_WIDTH, PLAIN
from lab.paths import COMMAND
from lab.recording import cache_use, sums
from lab.recording.facts import SOURCES, origin_of

if TYPE_CHECKING:
    from rich.console import Console

    from lab.recording.facts import Estimate, Worth
    from lab.recordings import Recording

MOST_CONVERSATIONS = 20
WORDS = ("cause", "call", "model", "ended with")
"""Columns of words."""
PARTS = {
    "first_token_ms": "first",
    "writing_ms": "writing",
    "answering_ms": "whole",
    "tool_ms": "tools",
    "idle_ms": "nothing",
}
Row = dict[str, str]
"""A table's row by the heads of its columns."""


def tell(recording: Recording, console: Console, with_calls: bool = False) -> None:
    from rich.padding import Padding
    from rich.text import Text

    def say(line: str = "", style: str = "", indent: int = 0) -> None:
        # A pipe gets whole lines, so that grep finds them.
        text = Text(line, style=style)
        if console.is_terminal:
            console.print(Padding(text, (0, 0, 0, indent)))
        else:
            console.print(Text(" " * indent).append(text), soft_wrap=True)

    say(title(recording), "bold")
    for line in about(recording):
        say(line, "dim")
    say()
    say(recording.waiting.sentence, "bold green")
    for line in counts(recording):
        say(line)
    if len(recording.calls):
        known = recording.conversations["conversation"].nunique()
        longest = f", the {MOST_CONVERSATIONS} longest of {known:,}"
        head = f"Conversations{longest if known > MOST_CONVERSATIONS else ''}"
        _print(console, head, conversations(recording))
    if causes := sums.by_cause(recording):
        _print(console, missed(recording), _causes(causes))
        for cause in causes:
            say(f"{where(recording, cause.example.call_id)}: {cause.example.evidence}", "dim", 2)
    if recording.worth:
        say("\nWhat each technique would be worth here")
        for row in recording.worth:
            say(f"{row.title}: {', '.join(gains(row))}", indent=2)
            say(row.assumption, "dim", 4)
    if untold := sums.untold(recording):
        say("\nWhat it cannot tell")
        for sentence in untold:
            say(sentence, "dim", 2)
    if with_calls and len(recording.calls):
        _print(console, "Calls", calls(recording))
    if step := next_step(recording):
        say(f"\n{step}")


def next_step(recording: Recording) -> str:
    """How to prove a fix, where there is one; else empty."""
    findings = (*sums.by_cause(recording), *recording.worth)
    if not any(finding.fix for finding in findings):
        return ""
    if not recording.keeps_text:
        again = "record again with --keep-text (in code: keep_text=True)"
        return f"To prove a fix on these calls, {again}."
    name = recording.run.get("name")
    # A name of other letters would have to be quoted; the id never has.
    word = name if re.fullmatch(r"[\w.-]+", str(name or "")) else recording.run_id
    slug = techniques.of_recordings().slug
    return f"Prove a fix on these calls: {COMMAND} {slug} --scenario recording:{word}"


def title(recording: Recording) -> str:
    name, run = recording.run.get("name"), recording.run
    words = f"Recording {units.short_id(recording.run_id)}"
    words = words if units.missing(name) else f"{units.short(name)} · {words}"
    return f"{words} · {source(run)} · {units.when(run['started_utc'])} · {run['status']}"


def source(run: Mapping[str, Any]) -> str:
    """ "recorded here", "imported from session.jsonl"."""
    if where := units.origin(run):
        return where
    word = origin_of(run).get("source")
    return SOURCES.get(word, str(word or "recorded"))


def about(recording: Recording) -> list[str]:
    run = recording.run
    kind = endpoint_kinds.kind(run["endpoint_kind"])
    lines = [kind.caveat]
    if recording.keeps_text:
        lines.append("It keeps the text of its requests and answers.")
    if not units.missing(run.get("note")):
        lines.append(units.short(run["note"], 500))
    return [line for line in lines if line]


def counts(recording: Recording) -> list[str]:
    """Calls, tokens and dollars; then what was read from the cache."""
    calls = recording.calls
    if calls.empty:
        return []
    known = recording.conversations["conversation"].nunique()
    line = f"{units.counted(len(calls), 'call')} in {units.counted(known, 'conversation')}"
    if failed := int(calls["error_kind"].notna().sum()):
        line += f", {failed:,} failed"
    if tokens := calls["prompt_tokens"].sum():
        line += f" · {units.whole(tokens)} prompt tokens"
        line += f", {units.whole(calls['output_tokens'].sum())} output tokens"
    if (usd := sums.cost(calls)) is not None:
        line += f" · {units.usd(usd)}"
    sentences = (cache_sentence(recording.cache_use), relation_sentence(recording))
    return [f"{line}.", *filter(None, sentences)]


def cache_sentence(use: Any) -> str:
    """The share of what could have been read, else of all: a source may not know what could."""
    share = cache_use.hit_share(use)
    if share is not None:
        told = use[use["could_read"] > 0]
        read, could = (units.whole(told[name].sum()) for name in ("read", "could_read"))
        about = "" if cache_use.is_counted(use) else "about "
        return (
            f"Cache: {about}{units.percent(share)} of the tokens that could have been read from it"
            f" were ({read} of {about}{could})."
        )
    share = cache_use.read_share(use)
    if share is None:
        return ""
    if not use[["read", "written"]].sum().sum():
        return "Cache: nothing was written to it."
    if use["could_read"].notna().any():
        return "Cache: nothing that was written to it could have been read again."
    return (
        f"Cache: {units.percent(share)} of all prompt tokens were read from it; what could have "
        "been is not known."
    )


def relation_sentence(recording: Recording) -> str:
    if not (relation := recording.relation):
        return ""
    slope = relation.ms_per_1000_uncached
    grows = units.estimated("ttft_ms", slope.value, slope.low, slope.high).removeprefix("+")
    return f"First token: 1,000 tokens read afresh take {grows}."


def where(recording: Recording, call_id: str) -> str:
    """ "conversation 2, sub-agent 1, turn 4"."""
    row = recording.conversations.loc[call_id]
    lane = f", sub-agent {row['lane']}" if row["lane"] else ""
    return f"conversation {row['conversation']}{lane}, turn {row['turn']}"


def gains(row: Worth) -> list[str]:
    """ "at most 3.2 s [2.9, 3.5] sooner", "$0.12 saved"."""
    most = "at most " if row.is_upper_bound else ""
    parts = []
    if row.seconds:
        parts.append(f"{most}{estimate(row.seconds)} sooner")
    if row.usd:
        word = "saved" if row.usd > 0 else "more to pay"
        parts.append(f"{most}{units.usd(abs(row.usd))} {word}")
    return parts or ["seconds not known"]


def estimate(seconds: Estimate | None) -> str:
    """ "1.2 s [0.9, 1.6]"."""
    if seconds is None:
        return units.MISSING
    value, low, high = (units.number(end, 2) for end in (seconds.value, seconds.low, seconds.high))
    return f"{value} s" if low == value == high else f"{value} s [{low}, {high}]"


def missed(recording: Recording) -> str:
    """ "13 of 20 calls missed 20,000 tokens, $0.05, about 12 s [9.1, 15]"."""
    misses = sums.faults(recording.misses)
    tokens = units.counted(sum(miss.missed_tokens for miss in misses), "token")
    parts = [f"{len(misses):,} of {units.counted(len(recording.calls), 'call')} missed {tokens}"]
    if (usd := sums.dollars(misses)) is not None:
        parts.append(units.usd(usd))
    if seconds := sums.seconds(recording, misses):
        parts.append(f"about {estimate(seconds)}")
    return ", ".join(parts)


def _causes(causes: Sequence[sums.Cause]) -> list[Row]:
    return [
        {
            "cause": cause.words,
            "misses": f"{len(cause.misses):,}",
            "tokens": units.whole(cause.tokens),
            "dollars": units.usd(cause.usd),
            "seconds (estimate)": estimate(cause.seconds),
        }
        for cause in causes
    ]


def conversations(recording: Recording) -> list[Row]:
    """The longest ones, in the order of their starts."""
    rows = sums.conversations(recording).nlargest(MOST_CONVERSATIONS, "total_ms").sort_index()
    shares = {name: word for name, word in PARTS.items() if rows[name].any()}
    table = []
    for row in rows.to_dict("records"):
        written = {"": row["conversation"], "calls": row["calls"], "turns": row["turns"]}
        written |= {"sub-agents": row["sub_agents"], "failed": row["failed"]}
        written = {word: units.whole(value) for word, value in written.items()}
        written["took"] = units.stretch(row["total_ms"])
        for name, word in shares.items():
            written[word] = units.percent(row[name] / row["total_ms"] if row["total_ms"] else None)
        written["tokens in"] = units.whole(row["prompt_tokens"])
        written["dollars"] = units.usd(row["cost_usd"])
        table.append(written)
    return table


def calls(recording: Recording) -> list[Row]:
    """Each call, in the order of their starts."""
    frame = recording.calls.drop(columns="conversation")
    return [
        {
            "call": units.short_id(call.call_id),
            "in": f"{call.conversation}{f'.{call.lane}' if call.lane else ''}",
            "turn": f"{call.turn}",
            "model": units.short(call.model, 40),
            "first": units.ms(call.ttft_ms),
            "whole": units.ms(call.total_ms),
            "read": units.whole(call.read),
            "written": units.whole(call.written),
            "uncached": units.whole(call.uncached),
            "out": units.whole(call.output_tokens),
            "dollars": units.usd(call.cost_usd),
            "ended with": _end(call),
        }
        for call in frame.join(recording.conversations, on="call_id")
        .join(recording.cache_use, on="call_id")
        .itertuples()
    ]


def _end(call: Any) -> str:
    words = (call.error_kind, call.stop_reason)
    return next((units.short(word) for word in words if not units.missing(word)), units.MISSING)


def _print(console: Console, title: str, rows: Sequence[Row]) -> None:
    """Words to the left, numbers to the right; a column in which nothing is known is left out, and
    none is cut: a terminal that is too narrow breaks the line."""
    from rich.table import Table
    from rich.text import Text

    empty = {units.MISSING, "0"}
    columns = [name for name in rows[0] if any(row[name] not in empty for row in rows)]
    grid = Table(**PLAIN, show_edge=False)
    for name in columns:
        grid.add_column(name, justify="left" if name in WORDS else "right", no_wrap=True)
    for row in rows:
        grid.add_row(*(Text(row[name]) for name in columns))
    grid.width = console.measure(grid, options=console.options.update(width=PIPE_WIDTH)).maximum
    console.print("", Text(title), grid, sep="\n", crop=False, soft_wrap=True)
