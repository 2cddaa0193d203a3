"""`forget`: a recording, or any run, out of every file that the lab keeps."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace

from lab.cli import DONE, FAILED, flags
from lab.model import LOAD, OBSERVED, WATCH, LabError
from lab.paths import COMMAND

KINDS = {OBSERVED: "the recording", LOAD: "the load", WATCH: "the watch"}


def handlers(name: str):
    return forget_flags, forget


def forget_flags(parser: ArgumentParser) -> None:
    parser.add_argument(
        "run", metavar="RUN", help="a recording's or a run's id, its first digits or its name"
    )
    parser.add_argument(
        "--yes", action="store_true", help="do not ask first: nothing brings it back"
    )
    flags.database(parser)


def forget(arguments: Namespace) -> int:
    from lab import units
    from lab.store import queries
    from lab.store.store import Store, as_uuid

    store = Store()
    try:
        run_id = queries.resolve(store, arguments.run)
    except LabError:
        run_id = as_uuid(arguments.run) if len(arguments.run) == 36 else None
        if run_id is None:
            raise
        what = "what is left of it"  # the run that was deleted last can still be brought back
    else:
        run, count = queries.run(store, run_id), queries.row_counts(store, run_id)["calls"]
        kind = KINDS.get(run["technique"], "the run")
        what = f"{kind} {units.short(run['name'] or run_id)} of {units.when(run['started_utc'])}"
        what += f" with its {units.counted(count, 'call')}"
    if not arguments.yes:
        if not sys.stdin.isatty():
            raise LabError(
                f"Nothing was forgotten: nobody can be asked here. `{COMMAND} forget {run_id}"
                " --yes` forgets it, and nothing brings it back."
            )
        if input(f"Forget {what}? Nothing brings it back. [y/N] ").strip().lower() not in (
            "y",
            "yes",
        ):
            print("Nothing was forgotten.")
            return FAILED
    store.forget(run_id)
    print(
        f"Forgotten: {what}. It is in no file of the lab any more; exports and reports that you"
        " made of it are yours to delete."
    )
    return DONE
