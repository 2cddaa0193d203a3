"""The command `load`: an endpoint under many requests at once."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from lab import paths, scrub
from lab.cli import DONE, FAILED, INTERRUPTED, REFUSED, UNDECIDED, flags, shown, this_machine
from lab.load.load_settings import LoadConfig
from lab.model import LabError
from lab.paths import COMMAND

if TYPE_CHECKING:
    from rich.console import Console

    from lab.load_order import LoadOrder
    from lab.run_loop import Measured

CODES = {"finished": DONE, "interrupted": INTERRUPTED}
KEPT = {"missed": REFUSED, "client": REFUSED, "not_enough_data": UNDECIDED}
"""Exit codes of what came of a level; what only the client missed was not kept either."""


def handlers(name: str):
    return load_flags, run_load


def load_flags(parser: ArgumentParser) -> None:
    parser.description = (
        "Put a load on an endpoint: so many requests at once (--concurrency), or so many a second "
        "whether or not it keeps up (--rate), several of either as a sweep, or the largest load "
        "that keeps an objective (--search). Exit codes: 0 done, 3 a --slo was not kept, 4 not "
        "enough data to tell, 130 interrupted."
    )
    flags.add_settings(parser, LoadConfig)
    parser.add_argument(
        "--no-bias",
        action="store_true",
        help="do not measure the instrument itself afterwards (it takes 2 seconds)",
    )
    parser.add_argument(
        "--yes",
        action="store_true",
        help="answer the question before a load that may cost money with yes",
    )
    flags.as_json(parser)
    flags.database(parser)


def run_load(arguments: Namespace) -> int:
    from rich.console import Console

    from lab.load import preparing

    config = _config(arguments)
    if not config.is_spread:
        preparing.begin()
    console = Console(stderr=arguments.json, highlight=False)
    this_machine.typed(config.endpoint)
    from lab import load_order, load_run
    from lab.cli.load_progress import Progress

    order = load_order.resolve(config)
    _announce(order, console, arguments.yes)
    progress = Progress(console)
    try:
        done = load_run.measure(config, progress, order=order)
    finally:
        progress.close()
    return _report(done, arguments, console)


def _config(arguments: Namespace) -> LoadConfig:
    values = flags.chosen_settings(arguments, LoadConfig)
    names: dict[str, str] = {}
    for word in values.pop("models", []):
        tier, equals, name = word.partition("=")
        names["any"] = name if equals and tier in ("small", "large", "any") else word
    if not all(names.values()):
        raise LabError("--model needs a name after the equals sign.")
    values |= {"models": names, "bias": not arguments.no_bias}
    return flags.checked(LoadConfig, values)


def _announce(order: LoadOrder, console: Console, is_agreed: bool) -> None:
    """Where the load goes and what it will take; a person is asked where that may cost money."""
    from lab import load_estimate
    from lab.local import model_files

    expected = load_estimate.of_order(order)
    endpoint = order.endpoint
    kind = f" ({endpoint.kind})" if endpoint.kind != endpoint.name else ""
    words = f"Load on {endpoint.name}{kind} with {order.model}: {expected.text}"
    for text in filter(None, (words, order.about)):
        console.print(text, markup=False, soft_wrap=True)
    if expected.refusals:
        raise LabError(" ".join(expected.refusals))
    if expected.question and not is_agreed:
        _ask(expected.question)
    if order.is_queue and model_files.missing([order.model]):
        this_machine.fetch_model()


def _ask(question: str) -> None:
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise LabError(f"Nothing was sent. {question} Add --yes to agree to that.")
    print(f"{question} Go on? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise LabError("Nothing was sent.")


def _report(done: Measured, arguments: Namespace, console: Console) -> int:
    from lab.cli import show

    if done.text and done.status != "finished":
        print(scrub.text(done.text, scrub.MESSAGE), file=sys.stderr)
    if not arguments.json:
        console.print()
    how = {"json": arguments.json, "details": False, "calls": False}
    show.show(Namespace(run=done.run_id, output="console", out="results", **how))
    rows = shown(paths.database())
    console.print(
        f"\nRows: {rows} · {COMMAND} show {done.run_id} · {COMMAND} ui shows it in the browser",
        soft_wrap=True,
    )
    if done.status == "interrupted":
        console.print("The rows so far are kept.")
    code = CODES.get(done.status, FAILED)
    return code or _kept(done.run_id)


def _kept(run_id: str) -> int:
    """Whether the objectives were kept: at every level, or of a search at any."""
    from lab import load_results
    from lab.store.store import Store

    result = load_results.read(Store(), run_id)
    if result.config.get("search"):
        is_found = result.found is not None and result.found.low is not None
        verdicts = ["kept" if is_found else result.found.verdict if result.found else "missed"]
    else:
        verdicts = [level.tried.verdict for level in result.levels if level.held]
    codes = {code for verdict in verdicts if (code := KEPT.get(verdict))}
    return min(codes, default=DONE)
