"""Commands that read what is stored: runs, show, export, report, trace; and the techniques."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab import techniques
from lab.cli import DONE, FAILED, flags, print_json
from lab.model import LOAD, LabError
from lab.paths import COMMAND
from lab.recording.facts import origin_of

if TYPE_CHECKING:
    from lab.load_results import LoadResult
    from lab.recordings import Recording
    from lab.results import RunResult

FORMATS = ("parquet", "csv", "json", "duckdb")
LISTED = (
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
"""What `runs --json` tells of a run, beside when it started."""
LOADED = (
    "run_id",
    "name",
    "endpoint",
    "endpoint_kind",
    "models",
    "status",
    "levels",
    "calls",
    "failed",
    "imported_from",
)
"""The same of a load."""
RECORDED = (
    "run_id",
    "name",
    "endpoint",
    "endpoint_kind",
    "status",
    "keep_text",
    "calls",
    "failed",
    "imported_from",
)
"""The same of a recording, beside its source."""


ENDINGS = {"markdown": "md"}
"""Of a file, where it is not the output's own name."""


def handlers(name: str):
    return {
        "list": (flags.as_json, list_techniques),
        "runs": (runs_flags, runs),
        "show": (show_flags, show),
        "export": (export_flags, export),
        "report": (report_flags, report),
        "trace": (trace_flags, trace),
    }[name]


def list_techniques(arguments: Namespace) -> int:
    known = techniques.all_techniques()
    if arguments.json:
        rows = [
            {
                "slug": technique.slug,
                "title": technique.title,
                "aliases": list(technique.aliases),
                "claim": technique.claim,
                "published": technique.published,
                "arms": [
                    {"arm": arm.name, "description": arm.description} for arm in technique.arms
                ],
                "headline": {"metric": technique.headline, "arm": technique.headline_arm},
                "knobs": technique.knobs.model_json_schema().get("properties", {}),
            }
            for technique in known
        ]
        print_json(techniques=rows)
        return DONE
    for technique in known:
        aliases = f"  (also {', '.join(technique.aliases)})" if technique.aliases else ""
        arms = ", ".join(arm.name for arm in technique.arms)
        print(f"{technique.slug}: {technique.title}{aliases}")
        print(f"    {technique.claim}")
        print(f"    arms: {arms} · headline: {technique.headline} of {technique.headline_arm}")
    return DONE


def runs_flags(parser: ArgumentParser) -> None:
    parser.add_argument("--technique", metavar="NAME", help="only runs of this technique")
    parser.add_argument(
        "--limit", type=int, default=20, metavar="N", help="how many at most (default 20)"
    )
    flags.as_json(parser)
    flags.database(parser)


def runs(arguments: Namespace) -> int:
    from lab import units
    from lab.store import queries
    from lab.store.store import Store

    if arguments.limit < 1:
        raise LabError("--limit takes a whole number from 1 on.")
    slug = techniques.find(arguments.technique).slug if arguments.technique else None
    listed = queries.runs(Store(), technique=slug, limit=arguments.limit).to_dict("records")
    recorded = [] if slug else queries.recordings(Store(), arguments.limit).to_dict("records")
    loads = [] if slug else queries.loads(Store(), arguments.limit).to_dict("records")
    if arguments.json:
        rows = [
            {name: run[name] for name in LISTED} | {"started_utc": units.iso(run["started_utc"])}
            for run in listed
        ]
        recordings = [
            {name: run[name] for name in RECORDED}
            | {"source": source_of(run), "started_utc": units.iso(run["started_utc"])}
            for run in recorded
        ]
        loaded = [
            {name: run[name] for name in LOADED} | {"started_utc": units.iso(run["started_utc"])}
            for run in loads
        ]
        print_json(runs=rows, recordings=recordings, loads=loaded)
        return DONE
    if not listed:
        print(f"No run yet. Start one: {COMMAND} {slug or techniques.slugs()[0]} --quick")
    for run in listed:
        name = "" if units.missing(run["name"]) else f"  {units.short(run['name'])}"
        origin = f"  ({units.origin(run)})" if units.origin(run) else ""
        print(
            f"{run['run_id']}  {units.when(run['started_utc'])}  "
            f"{units.short(run['technique']):<13} {units.short(run['endpoint']):<10} "
            f"{units.short(run['status']):<11} {int(run['trials'])} trials{name}{origin}"
        )
    if loads:
        print("\nLoads")
    for run in loads:
        name = "" if units.missing(run["name"]) else f"  {units.short(run['name'])}"
        levels = units.counted(run["levels"], "level")
        print(
            f"{run['run_id']}  {units.when(run['started_utc'])}  {levels:<13} "
            f"{units.short(run['endpoint']):<10} {units.short(run['status']):<11} "
            f"{units.counted(run['calls'], 'call')}{name}"
        )
    if recorded:
        print("\nRecordings of your applications")
    for run in recorded:
        name = "" if units.missing(run["name"]) else f"  {units.short(run['name'])}"
        kept = "  (keeps text)" if run["keep_text"] else ""
        print(
            f"{run['run_id']}  {units.when(run['started_utc'])}  "
            f"{units.short(source_of(run)):<13} {units.short(run['endpoint']):<10} "
            f"{units.short(run['status']):<11} {units.counted(run['calls'], 'call')}{name}{kept}"
        )
    return DONE


def source_of(run: Mapping[str, Any]) -> str:
    """How a recording came in."""
    return origin_of(run).get("source") or "recording"


def show_flags(parser: ArgumentParser) -> None:
    flags.which(parser)
    parser.add_argument(
        "--details",
        action="store_true",
        help="also every metric's difference with its interval, failures by kind, tails with "
        "failures in",
    )
    parser.add_argument(
        "--calls", action="store_true", help="of a recording of your own app, also each call"
    )
    flags.outputs(parser)
    flags.as_json(parser)
    flags.database(parser)


def show(arguments: Namespace) -> int:
    from lab import ladder_results, load_results, recordings, results
    from lab.cli import ladder, watch

    run = flags.meant(arguments.run)
    if recording := recordings.named(run):
        _show_recording(recording, arguments)
        return DONE
    if load := load_results.named(run):
        _show_load(load, arguments)
        return DONE
    if watch.is_watch(run):
        return watch.watch(Namespace(action="status", name=run, json=arguments.json))
    if arguments.calls:
        raise LabError("--calls is for recordings of your own app; a run's are in its export.")
    climbed = ladder_results.named(run)
    if climbed and arguments.json:
        doubts = results.read(climbed.run_id).verdicts[0].doubts
        print_json(ladder=ladder.as_object(climbed, doubts))
        return DONE
    result = results.read(run)
    report_all([result], arguments)
    if climbed and "console" in arguments.output:
        for line in ladder_results.told(climbed)[1:]:
            print(line)
    if arguments.details:
        _details(result, arguments.json)
    return DONE


def _show_recording(recording: Recording, arguments: Namespace) -> None:
    from rich.console import Console

    from lab.harness.reporters import recorded, recorded_object

    if arguments.details or arguments.output != "console":
        raise LabError(
            "A recording of your own app is shown on the console or with --json; --calls adds each "
            "call, and the page Your app draws it."
        )
    if arguments.json:
        print_json(**recorded_object.as_object(recording, arguments.calls))
    else:
        recorded.tell(recording, Console(highlight=False), arguments.calls)


def _show_load(load: LoadResult, arguments: Namespace) -> None:
    from rich.console import Console

    from lab import load_table
    from lab.harness import reporters
    from lab.harness.reporters import load_html, load_object, load_told
    from lab.harness.reporters.json_object import as_text

    if arguments.details or arguments.calls:
        raise LabError("--details and --calls are not for loads; a load's calls are in its export.")
    console = Console(stderr=arguments.json, highlight=False)
    written = {
        "json": lambda: as_text(load_object.as_object(load)) + "\n",
        "markdown": lambda: load_table.markdown(load),
        "html": lambda: load_html.page(load),
    }
    asked = [name.strip() for name in arguments.output.split(",") if name.strip()]
    if unknown := [name for name in asked if name not in ("console", *written)]:
        raise LabError(
            f"A load has no output {unknown[0]!r}; it has console, {', '.join(written)}."
        )
    if "console" in asked and not arguments.json:
        load_told.tell(load, console)
    for name in asked:
        if name in written:
            file = Path(arguments.out) / f"{load.run_id}.{ENDINGS.get(name, name)}"
            console.print(f"Wrote {reporters.write(file, written[name]())}", soft_wrap=True)
    if arguments.json:
        print_json(**load_object.as_object(load))


def _details(result: RunResult, as_json: bool) -> None:
    from rich.console import Console

    from lab import results
    from lab.harness.reporters.console import frame_table

    console = Console(stderr=as_json, highlight=False)
    for title, frame in results.behind(result).items():
        # The tails fill a terminal's width without it.
        frame = frame.drop(columns="technique") if "censored" in frame else frame
        console.print("", frame_table(frame, title), sep="\n")


def report_all(runs: list[RunResult], arguments: Namespace, several: bool = False) -> None:
    """Report each run in each of the ways asked for; with --json stdout has the one object, a run's
    own unless there are several, and the rest goes to stderr."""
    from rich.console import Console

    from lab.harness import reporter
    from lab.harness.reporters.json_object import as_object

    console = Console(stderr=arguments.json, highlight=False)
    chosen = reporter.named(arguments.output)
    if arguments.json:
        chosen.pop("console", None)
    for run in runs:
        for way in chosen.values():
            path = reporter.build(way, Path(arguments.out), console).report(run)
            if path:
                console.print(f"Wrote {path}", soft_wrap=True)
    if arguments.json:
        objects = [as_object(run) for run in runs]
        print_json(**({"runs": objects} if several else objects[0]))


def export_flags(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--format", choices=FORMATS, default="parquet", help="the kind of file (default parquet)"
    )
    parser.add_argument(
        "--out",
        metavar="DIR",
        default="results/export",
        help="the folder to write into (default results/export)",
    )
    parser.add_argument(
        "--run", metavar="RUN", help="only this run: its id, name, `last` or `last~1`"
    )
    flags.database(parser)


def export(arguments: Namespace) -> int:
    from lab.store import queries
    from lab.store.export import export as write
    from lab.store.store import Store

    store = Store()
    run_id = queries.resolve(store, arguments.run) if arguments.run else None
    for path in write(store, arguments.out, arguments.format, run_id):
        print(path)
    return DONE


def report_flags(parser: ArgumentParser) -> None:
    flags.which(parser)
    parser.add_argument(
        "--out", metavar="FILE", help="the HTML file to write (default results/RUN.html)"
    )
    flags.database(parser)


def report(arguments: Namespace) -> int:
    from lab import load_results, results
    from lab.harness import reporters
    from lab.harness.reporters import html, load_html

    if load := load_results.named(flags.meant(arguments.run)):
        run_id, page = load.run_id, load_html.page(load)
    else:
        result = results.read(arguments.run)
        run_id, page = result.run_id, html.page(result)
    print(reporters.write(Path(arguments.out or f"results/{run_id}.html"), page))
    return DONE


def trace_flags(parser: ArgumentParser) -> None:
    flags.which(parser)
    parser.add_argument(
        "--to",
        default="otlp",
        metavar="LIST",
        help="where to: otlp, console, file, langfuse, separated by commas (default otlp, as the "
        "OTEL_* variables say)",
    )
    parser.add_argument(
        "--out",
        metavar="FILE",
        default="results/traces.jsonl",
        help="the file for --to file (default results/traces.jsonl)",
    )
    flags.database(parser)


def trace(arguments: Namespace) -> int:
    from lab.instrumentation import traces
    from lab.store import queries
    from lab.store.store import Store

    store = Store()
    run_id = queries.resolve(store, arguments.run)
    if queries.run(store, run_id)["technique"] == LOAD:
        raise LabError("The calls of a load are not sent as traces; `export --run` writes them.")
    sent = traces.send_run(store, run_id, arguments.to, Path(arguments.out))
    print(sent.text, file=sys.stderr if sent.refused or "console" in arguments.to else sys.stdout)
    return FAILED if sent.refused else DONE
