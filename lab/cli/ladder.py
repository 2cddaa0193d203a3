"""The command `ladder`: the fastest stack of levers that keeps the quality bar."""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab import paths, scrub
from lab.cli import DONE, FAILED, INTERRUPTED, UNDECIDED, flags, print_json, shown, this_machine
from lab.ladder.ladder_settings import LadderConfig
from lab.model import LabError
from lab.paths import COMMAND

if TYPE_CHECKING:
    from rich.console import Console

    from lab.ladder_order import LadderOrder
    from lab.ladder_results import LadderResult
    from lab.run_loop import Measured

CODES = {"finished": DONE, "interrupted": INTERRUPTED}


def handlers(name: str):
    return ladder_flags, run_ladder


def ladder_flags(parser: ArgumentParser) -> None:
    parser.description = (
        "Find the fastest stack of techniques that keeps your quality bar, within a budget of "
        "minutes and dollars: a screening plan of all levers, a race of the stacks that it cannot "
        "tell apart, then the winner against today in fresh blocks, which alone is quoted. Exit "
        "codes: 0 a stack was named, 4 none could be, 130 interrupted before one was."
    )
    flags.add_settings(parser, LadderConfig)
    parser.add_argument(
        "--code", metavar="FILE", help="write the winner's requests as Python into this file"
    )
    flags.as_json(parser)
    flags.database(parser)


def run_ladder(arguments: Namespace) -> int:
    from rich.console import Console

    from lab import ladder_order, ladder_run
    from lab.cli.ladder_progress import Climb
    from lab.local import model_files

    config = _config(arguments)
    _check_code(arguments.code)
    console = Console(stderr=arguments.json, highlight=False)
    this_machine.typed(config.endpoint)
    order = ladder_order.resolve(config)
    _announce(order, console)
    if order.endpoint.traits.embedded and model_files.missing(_models(order)):
        this_machine.fetch_model()
    progress = Climb(console)
    try:
        done = ladder_run.measure(config, progress, order=order)
    finally:
        progress.close()
    return _report(done, arguments, console)


def _config(arguments: Namespace) -> LadderConfig:
    values = flags.chosen_settings(arguments, LadderConfig)
    names: dict[str, str] = {}
    for word in values.pop("models", []):
        tier, equals, name = word.partition("=")
        is_tier = bool(equals) and tier in ("small", "large", "any")
        names[tier if is_tier else "any"] = name if is_tier else word
    if not all(names.values()):
        raise LabError("--model needs a name after the equals sign.")
    today: dict[str, str] = {}
    for word in values.pop("today", []):
        lever, equals, level = word.partition("=")
        if not equals:
            raise LabError(f"--today takes LEVER=LEVEL, such as streamed=streamed, not {word!r}.")
        today[lever.strip()] = level.strip()
    values |= {"models": names, "today": today, "db": arguments.db}
    return flags.checked(LadderConfig, values)


def _check_code(file: str | None) -> None:
    """Before anything is measured or paid: LabError where the code cannot be written."""
    if file is None:
        return
    path = Path(file)
    if path.is_dir():
        raise LabError(f"--code takes a file, and {file} is a folder.")
    if not path.parent.is_dir():
        raise LabError(f"--code: there is no folder {path.parent}.")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise LabError(f"--code: {file} cannot be written.")


def _models(order: LadderOrder) -> list[str]:
    tiers = order.plan.tiers or (order.endpoint.generates,)
    return [order.endpoint.model_for(tier) for tier in tiers]


def _announce(order: LadderOrder, console: Console) -> None:
    from lab import ladder_order

    console.print(f"Ladder: {ladder_order.of_order(order).text}", markup=False, soft_wrap=True)
    for one in order.not_tried:
        level = f" ({one.level})" if one.level else ""
        console.print(
            f"  not tried: {one.lever}{level}: {one.reason}", markup=False, soft_wrap=True
        )


def _report(done: Measured, arguments: Namespace, console: Console) -> int:
    from lab import ladder_code, ladder_results, results
    from lab.store.store import Store

    store = Store(arguments.db)
    result = ladder_results.read(done.run_id, store)
    verdict = results.read(done.run_id, store).verdicts[0]
    if done.text and done.status != "finished":
        console.print(scrub.text(done.text, scrub.MESSAGE), markup=False)
    if arguments.json:
        print_json(ladder=as_object(result, verdict.doubts))
    else:
        console.print()
        if verdict.doubtful:
            console.print(verdict.doubtful, markup=False, soft_wrap=True)
        for line in ladder_results.told(result):
            console.print(line, markup=False, soft_wrap=True)
    if arguments.code and not result.refusal:
        try:
            Path(arguments.code).write_text(ladder_code.winner(result, store), encoding="utf-8")
            words = arguments.code
        except (LabError, OSError) as error:  # the ladder and its exit code stand
            words = f"not written: {getattr(error, 'strerror', None) or error}"
        console.print(f"Code of the winner: {words}", markup=False, soft_wrap=True)
    rows = shown(paths.database())
    console.print(f"\nRows: {rows} · {COMMAND} show {done.run_id}", soft_wrap=True)
    if not result.refusal:
        return DONE
    return UNDECIDED if done.status == "finished" else CODES.get(done.status, FAILED)


def as_object(result: LadderResult, doubts: Sequence[str]) -> dict[str, Any]:
    """A ladder as JSON: the record, and what is quoted of the confirmation with its doubts."""
    return {
        "run_id": result.run_id,
        "status": result.run["status"],
        "endpoint": result.run["endpoint"],
        "endpoint_kind": result.run["endpoint_kind"],
        "sentence": result.sentence,
        "refusal": result.refusal or None,
        "doubts": list(doubts),
        "quoted": result.quoted and result.quoted._asdict(),
        "quality": result.quality and result.quality._asdict(),
        "cost_change": result.cost_change,
        "interactions": result.interactions,
        **{name: value for name, value in result.record.items() if name != "config"},
    }
