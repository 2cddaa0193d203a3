"""The command import: what others have recorded of an application, or another lab's runs."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from lab.cli import DONE, INTERRUPTED, flags, print_json
from lab.paths import COMMAND

if TYPE_CHECKING:
    from lab.importers import Summary


def handlers(name: str):
    return {"import": (import_flags, bring_in)}[name]


def import_flags(parser: ArgumentParser) -> None:
    parser.add_argument(
        "place",
        metavar="FILE|FOLDER",
        help="Claude Code transcripts (such as ~/.claude/projects), a HAR file, OpenTelemetry "
        "spans as OTLP JSON, a claude-tap trace; or another lab.duckdb or export",
    )
    parser.add_argument(
        "--keep-text",
        action="store_true",
        help="also keep prompts and answers; else only their structure, sizes and hashes",
    )
    parser.add_argument("--name", metavar="TEXT", help="what to call the recording")
    flags.as_json(parser)
    flags.database(parser)


def bring_in(arguments: Namespace) -> int:
    from lab import importers
    from lab.store.store import Store

    store = Store()
    with Bar(quiet=arguments.json or not sys.stderr.isatty()) as bar:
        summary = importers.bring_in(
            arguments.place,
            store,
            keep_text=arguments.keep_text,
            name=arguments.name,
            progress=bar.show,
        )
    store.close()
    if arguments.json:
        _print_json(summary)
    else:
        for sentence in (*summary.sentences(), *summary.cannot):
            print(sentence)
        for run_id in summary.runs:
            print(f"See it: {COMMAND} show {run_id}")
    return INTERRUPTED if summary.is_interrupted else DONE


def _print_json(summary: Summary) -> None:
    print_json(
        name=summary.name,
        runs=summary.runs,
        added=summary.added,
        known=summary.known,
        elsewhere=dict(summary.elsewhere),
        left_out=dict(summary.left_out),
        tokens=dict(summary.tokens),
        usd=summary.usd,
        unpriced=summary.unpriced,
        sources=summary.sources,
        cannot=summary.cannot,
        database=summary.database._asdict() if summary.database else None,
        interrupted=summary.is_interrupted,
    )


class Bar:
    """Calls, megabytes and share on a terminal; nothing elsewhere."""

    def __init__(self, quiet: bool) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self.bar = Progress(
            BarColumn(),
            TextColumn("{task.percentage:.0f} %"),
            TextColumn("{task.fields[text]}"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
            disable=quiet,
        )
        self.task = self.bar.add_task("", text="reading", total=None)

    def show(self, done) -> None:
        self.bar.update(
            self.task,
            completed=done.read_bytes,
            total=done.size,
            text=f"{done.calls:,} calls, {done.read_bytes / 1e6:.0f} of {done.size / 1e6:.0f} MB",
        )

    def __enter__(self) -> Bar:
        self.bar.start()
        return self

    def __exit__(self, *problem: object) -> None:
        self.bar.stop()
