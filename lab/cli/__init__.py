"""The command line. Each command is built only when it is asked for, so that --help needs no
database, no HTTP client and no model."""

import difflib
import os
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from lab import machine, scrub, techniques
from lab.model import LabError
from lab.paths import COMMAND
from lab.version import VERSION

DONE, FAILED, USAGE, REFUSED, UNDECIDED, INTERRUPTED = 0, 1, 2, 3, 4, 130


@dataclass(frozen=True)
class Command:
    name: str
    summary: str
    module: str
    """Of lab.cli: its `handlers(name)` answers with a function that adds the flags to a parser and
    one that runs with the parsed arguments."""

    def handlers(
        self,
    ) -> tuple[Callable[[ArgumentParser], None], Callable[[Namespace], int]]:
        return import_module(f"lab.cli.{self.module}").handlers(self.name)

    def parser(self) -> ArgumentParser:
        parser = Parser(prog=f"{COMMAND} {self.name}", description=self.summary, allow_abbrev=False)
        self.handlers()[0](parser)
        return parser

    def run(self, arguments: Namespace) -> int:
        return self.handlers()[1](arguments)


class Parser(ArgumentParser):
    def error(self, message: str):
        print(
            f"{message[:1].upper()}{message[1:]}. `{self.prog} --help` lists what it takes.",
            file=sys.stderr,
        )
        raise SystemExit(USAGE)


LOAD = Command(
    "load", "Put a load on an endpoint: many requests at once, or so many a second", "load"
)
"""Listed under the techniques, after them."""
GROUPS = {
    "Several at once": (
        Command("all", "Run every technique, one after another, with one summary table", "run"),
        Command("compare-arms", "Run arms of any techniques side by side in shared blocks", "run"),
        Command(
            "ladder",
            "Find the fastest stack of techniques that keeps your quality bar, within a budget",
            "ladder",
        ),
        Command("resume", "Measure the blocks that an interrupted run still lacks", "run"),
    ),
    "Your app": (
        Command(
            "record",
            "Record your own application: `record -- COMMAND`, or a port to point it at",
            "record",
        ),
    ),
    "Results": (
        Command(
            "watch",
            "Watch a request for days: when its latency changed, and whether all did or yours only",
            "watch",
        ),
        Command("runs", "List the stored runs, the latest first", "show"),
        Command("show", "Show a stored run: its verdict, its percentiles, what it cost", "show"),
        Command("forget", "Take a recording or a run out of every file, for good", "forget"),
        Command("export", "Write every table as Parquet, CSV, JSON or DuckDB", "show"),
        Command(
            "import",
            "Import your app's calls from transcripts, HAR, OpenTelemetry spans; or another lab's",
            "imports",
        ),
        Command("report", "Write a run as one HTML file that opens anywhere", "show"),
        Command("trace", "Send a stored run to OpenTelemetry or Langfuse", "show"),
        Command(
            "check",
            "Judge a run by requirements: exit 0 met, 3 not met, 4 not enough data",
            "check",
        ),
        Command(
            "compare",
            "Compare a run with an earlier one: exit 0 fine, 3 worse, 4 not enough data",
            "check",
        ),
    ),
    "Set-up": (
        Command("list", "List the techniques, their arms and what each claims", "show"),
        Command("new", "Write a technique to start from: its module, page and test", "new"),
        Command(
            "models",
            "List the model files here; `models install` fetches what is missing",
            "this_machine",
        ),
        Command(
            "endpoints",
            "List, test, allow or forget the endpoints that requests may go to",
            "this_machine",
        ),
        Command(
            "serve",
            "Serve the embedded model (or the simulated one) as a Messages API on 127.0.0.1",
            "this_machine",
        ),
        Command("ui", "Serve the dashboard on 127.0.0.1 and open it in a browser", "ui"),
        Command(
            "calibrate",
            "Measure the instrument itself: its own error, timer and loop lag on this machine",
            "this_machine",
        ),
    ),
}


def commands() -> dict[str, Command]:
    """Every command by name: the techniques first, in the order of `list`."""
    measuring = {
        technique.slug: Command(technique.slug, f"{technique.title}: {technique.claim}", "run")
        for technique in techniques.all_techniques()
    }
    measuring[LOAD.name] = LOAD
    return measuring | {command.name: command for group in GROUPS.values() for command in group}


def overview() -> str:
    lines = [
        "Which latency technique helps, by how much, at what price, and can it be believed?",
        "",
        f"usage: {COMMAND} COMMAND [options]      {COMMAND} COMMAND --help",
        "",
        "Techniques",
    ]
    lines += [f"  {slug:<14}{techniques.find(slug).title}" for slug in techniques.slugs()]
    lines.append(f"  {LOAD.name:<14}{LOAD.summary}")
    for group, members in GROUPS.items():
        lines += ["", group] + [f"  {command.name:<14}{command.summary}" for command in members]
    lines += ["", f"Start here: {COMMAND} {techniques.slugs()[0]} --quick        "]
    return "\n".join(lines) + "(no API key needed: a small model is embedded)"


def print_json(**fields: Any) -> None:
    """One object of version 1 on stdout."""
    from lab.harness.reporters.json_object import VERSION, as_text

    print(as_text({"version": VERSION, **fields}))


def shown(path: Path) -> str:
    """A path as one would type it here."""
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)


def resolve(word: str) -> Command:
    """A command by any of its names; LabError with the nearest one where there is none."""
    known = commands()
    name = word if word in known else techniques.slug_of(word)
    if name is not None:
        return known[name]
    near = difflib.get_close_matches(word.replace("_", "-"), known, n=1, cutoff=0.5)
    hint = f"Did you mean {near[0]!r}?" if near else f"`{COMMAND} --help` lists them."
    raise LabError(f"There is no command or technique {word!r}. {hint}")


def main(argv: list[str] | None = None) -> int:
    """Run one command, of the process's own arguments unless told; answers with the exit code: 0
    done, 1 failed, 2 usage, 3 requirement not met, 4 not enough data, 130 interrupted."""
    machine.start_quickly()
    argv = sys.argv[1:] if argv is None else argv
    for problem in techniques.problems() if argv[:1] != ["new"] else ():
        print(problem, file=sys.stderr)
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(overview())
        return DONE if argv else USAGE
    if argv[0] in ("-V", "--version"):
        print(VERSION)
        return DONE
    try:
        command = resolve(argv[0])
        arguments = command.parser().parse_args(argv[1:])
        if getattr(arguments, "db", None):
            os.environ["LAB_DB"] = arguments.db
        return command.run(arguments)
    except LabError as error:
        print(scrub.text(str(error), scrub.MESSAGE), file=sys.stderr)
        return USAGE
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except OSError as error:
        if not error.filename:
            raise
        print(scrub.text(f"{error.filename}: {error.strerror}.", scrub.MESSAGE), file=sys.stderr)
        return FAILED
