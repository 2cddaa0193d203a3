"""Commands that look at what is stored: runs, show, export, report, trace; and the list of techniques."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from lab import techniques
from lab.cli import DONE, FAILED, flags
from lab.model import LabError
from lab.paths import COMMAND

FORMATS = ("parquet", "csv", "json", "duckdb")


def handlers(name: str):
    return {
        "list": (list_flags, list_techniques),
        "runs": (runs_flags, runs),
        "show": (show_flags, show),
        "export": (export_flags, export),
        "report": (report_flags, report),
        "trace": (trace_flags, trace),
    }[name]


def list_flags(parser: argparse.ArgumentParser) -> None:
    flags.as_json(parser)


def list_techniques(arguments: argparse.Namespace) -> int:
    found = techniques.all_techniques()
    if arguments.json:
        rows = [
            {
                "slug": one.slug,
                "title": one.title,
                "aliases": list(one.aliases),
                "claim": one.claim,
                "published": one.published,
                "arms": [{"arm": arm.name, "description": arm.description} for arm in one.arms],
                "headline": {"metric": one.headline, "arm": one.headline_arm},
                "knobs": one.knobs.model_json_schema().get("properties", {}),
            }
            for one in found
        ]
        print(json.dumps({"version": 1, "techniques": rows}, ensure_ascii=False))
        return DONE
    for one in found:
        print(
            f"{one.slug}: {one.title}"
            + (f"  (also {', '.join(one.aliases)})" if one.aliases else "")
        )
        print(f"    {one.claim}")
        print(
            f"    arms: {', '.join(arm.name for arm in one.arms)} · headline: {one.headline} of {one.headline_arm}"
        )
    return DONE


def runs_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--technique", metavar="NAME", help="only runs of this technique")
    parser.add_argument(
        "--limit", type=int, default=20, metavar="N", help="how many at most (default 20)"
    )
    flags.as_json(parser)
    flags.database(parser)


def runs(arguments: argparse.Namespace) -> int:
    from lab import units
    from lab.store import queries
    from lab.store.store import Store

    slug = techniques.find(arguments.technique).slug if arguments.technique else None
    found = queries.runs(Store(), technique=slug, limit=max(arguments.limit, 0)).to_dict("records")
    if arguments.json:
        from lab.harness.reporter import as_text

        fields = (
            "run_id",
            "name",
            "technique",
            "endpoint",
            "endpoint_kind",
            "models",
            "status",
            "trials",
            "failed",
            "imported_from",
        )
        rows = [
            {name: row[name] for name in fields} | {"started_utc": units.iso(row["started_utc"])}
            for row in found
        ]
        print(as_text({"version": 1, "runs": rows}))
        return DONE
    if not found:
        print(f"No run yet. Start one: {COMMAND} streaming --quick")
    for row in found:
        name = "" if units.missing(row["name"]) else f"  {units.short(row['name'])}"
        origin = f"  ({units.origin(row)})" if units.origin(row) else ""
        technique, endpoint, status = (
            units.short(row[word]) for word in ("technique", "endpoint", "status")
        )
        print(
            f"{row['run_id']}  {units.when(row['started_utc'])}  {technique:<13} {endpoint:<10} "
            f"{status:<11} {int(row['trials'])} trials{name}{origin}"
        )
    return DONE


def show_flags(parser: argparse.ArgumentParser) -> None:
    flags.which(parser)
    parser.add_argument(
        "--details",
        action="store_true",
        help="also every metric's difference with its interval, failures by kind, tails with failures in",
    )
    flags.outputs(parser)
    flags.as_json(parser)
    flags.database(parser)


def show(arguments: argparse.Namespace) -> int:
    from lab import results

    result = results.read(arguments.run)
    code = tell([result], arguments)
    if arguments.details:
        _details(result, arguments.json)
    return code


def _details(result, as_json: bool) -> None:
    from rich.console import Console

    from lab import results, stats
    from lab.harness.reporter import frame_table

    found = results.details(result)
    console = Console(stderr=as_json, highlight=False)
    shown = {
        "Differences to the baseline, described, not judged": stats.differences(result.pairs),
        f"Percentiles of {found.metric}, the arm's minus the baseline's, ms": results.percentiles(
            result
        ),
        "Where the difference in total time comes from, ms": found.parts,
        "Measured trials that did not end well": found.failures,
        f"Tails of {found.metric}: successes, and with failures at the deadline": found.tails.drop(
            columns="technique"
        ),
    }
    for title, frame in shown.items():
        if len(frame):
            console.print("", frame_table(frame, title), sep="\n")


def tell(found: list, arguments: argparse.Namespace) -> int:
    """Report every result in each of the ways asked for; with --json stdout has the one object and the rest goes to stderr."""
    from rich.console import Console

    from lab.harness import reporter
    from lab.harness.reporters import chart

    folder = Path(arguments.out)
    console = Console(stderr=arguments.json, highlight=False, soft_wrap=False)
    ways = {
        "console": lambda: reporter.ConsoleReporter(console),
        "json": lambda: reporter.JSONReporter(folder),
        "chart": lambda: chart.ChartReporter(folder),
        "markdown": lambda: reporter.MarkdownReporter(folder),
    }
    asked = check_outputs(arguments.output)
    for result in found:
        for way in asked:
            if way == "console" and arguments.json:
                continue
            units = ways[way]().report(result)
            if units:
                console.print(f"Wrote {units}", soft_wrap=True)
    return DONE if not arguments.json else _print(found, arguments)


def check_outputs(text: str) -> list[str]:
    asked = [way.strip() for way in text.split(",") if way.strip()]
    known = ("console", "json", "chart", "markdown")
    if unknown := [way for way in asked if way not in known]:
        raise LabError(f"There is no output {unknown[0]!r}; there are {', '.join(known)}.")
    return asked


def _print(found: list, arguments: argparse.Namespace) -> int:
    from lab.harness.reporter import as_object, as_text

    objects = [as_object(result) for result in found]
    print(
        as_text(
            {"version": objects[0]["version"], "runs": objects}
            if getattr(arguments, "many", False)
            else objects[0]
        )
    )
    return DONE


def export_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--format", choices=FORMATS, default="parquet", help="the kind of file (default parquet)"
    )
    parser.add_argument(
        "--out",
        metavar="DIR",
        default="results/export",
        help="the folder to write into (default results/export)",
    )
    parser.add_argument("--run", metavar="RUN", help="only this run: its id, name or `last`")
    flags.database(parser)


def export(arguments: argparse.Namespace) -> int:
    from lab.store import queries
    from lab.store.export import export as write
    from lab.store.store import Store

    store = Store()
    for path in write(
        store,
        arguments.out,
        arguments.format,
        queries.resolve(store, arguments.run) if arguments.run else None,
    ):
        print(path)
    return DONE


def report_flags(parser: argparse.ArgumentParser) -> None:
    flags.which(parser)
    parser.add_argument(
        "--out", metavar="FILE", help="the HTML file to write (default results/RUN.html)"
    )
    flags.database(parser)


def report(arguments: argparse.Namespace) -> int:
    from lab.harness.reporters import html as page
    from lab.store import queries
    from lab.store.store import Store

    store = Store()
    run_id = queries.resolve(store, arguments.run)
    path = Path(arguments.out or Path("results") / f"{run_id}.html")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page.report(store, run_id), encoding="utf-8")
    print(path)
    return DONE


def trace_flags(parser: argparse.ArgumentParser) -> None:
    flags.which(parser)
    parser.add_argument(
        "--to",
        default="otlp",
        metavar="LIST",
        help="where to: otlp, console, file, langfuse, several divided by commas (default otlp, by OTEL_* variables)",
    )
    parser.add_argument(
        "--out",
        metavar="FILE",
        default="results/traces.jsonl",
        help="the file for --to file (default results/traces.jsonl)",
    )
    flags.database(parser)


def trace(arguments: argparse.Namespace) -> int:
    from lab.instrumentation import traces
    from lab.store import queries
    from lab.store.store import Store

    store = Store()
    sent = traces.send_run(
        store, queries.resolve(store, arguments.run), arguments.to, Path(arguments.out)
    )
    print(sent.text, file=sys.stderr if sent.refused or "console" in arguments.to else sys.stdout)
    return FAILED if sent.refused else DONE
