"""`check` and `compare`: requirements on a run, or on two, and exit codes that say what came of
them."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from dataclasses import asdict
from itertools import chain
from typing import TYPE_CHECKING, Any

from lab import techniques, units
from lab.cli import DONE, REFUSED, UNDECIDED, flags, print_json
from lab.model import LabError

if TYPE_CHECKING:
    from lab.bounds import Outcome
    from lab.recordings import Recording

CODES = {"pass": DONE, "fail": REFUSED, "not_enough_data": UNDECIDED}
SAYS = {"pass": "met", "fail": "NOT MET", "not_enough_data": "not enough data"}
SAYS_OF_WORSE = {"pass": "no", "fail": "YES", "not_enough_data": "not enough data"}


def handlers(name: str):
    return {"check": (check_flags, check), "compare": (compare_flags, compare)}[name]


def check_flags(parser: ArgumentParser) -> None:
    example = techniques.all_techniques()[0]
    arm, baseline = example.headline_arm, example.arms[0].name
    flags.which(parser)
    parser.add_argument(
        "--require",
        action="append",
        required=True,
        metavar="TEXT",
        help=f'repeatable: "{example.slug}.{arm} p95 ttft_ms < 400", "{arm} faster than {baseline} '
        'by 50%%", "b not slower than a by 20 ms"; of a recording "hit share > 60 %%", '
        '"p95 ttft_ms < 2 s", "misses < 5", "failed share < 1 %%", "wait share of tools < 40 %%"; '
        'of a load, at every level or at the one named, "p95 ttft_ms < 800 at 16 streams"',
    )
    flags.as_json(parser)
    flags.database(parser)


def compare_flags(parser: ArgumentParser) -> None:
    parser.add_argument(
        "base",
        metavar="BASE",
        help="the earlier run: its id, name, `last~1`, or FILE.duckdb (its last run)",
    )
    parser.add_argument("new", metavar="NEW", help="the run in question, named the same ways")
    parser.add_argument(
        "--fail-if",
        action="append",
        default=[],
        metavar="TEXT",
        help='repeatable: "p95 ttft_ms worse by 10%%" (every arm they share), "ARM p50 total_ms '
        'worse by 50 ms" (that arm); of recordings "hit share worse by 5 points" too, and without '
        "it all that changed is told",
    )
    flags.as_json(parser)
    flags.database(parser)


def check(arguments: Namespace) -> int:
    from lab import (
        load_requirements,
        load_results,
        recorded_requirements,
        recordings,
        requirements,
        results,
    )

    reference = flags.meant(arguments.run)
    if recording := recordings.named(reference):
        told = [recorded_requirements.judge(recording, text) for text in arguments.require]
        return _tell(told, arguments.json)
    if load := load_results.named(reference):
        levels = [load_requirements.judge(load, text) for text in arguments.require]
        return _tell(list(chain.from_iterable(levels)), arguments.json)
    run = results.read(reference)
    return _tell([requirements.judge(run, text) for text in arguments.require], arguments.json)


def compare(arguments: Namespace) -> int:
    from lab import load_results, recordings, requirements, results

    references = [flags.meant(reference) for reference in (arguments.base, arguments.new)]
    recorded = [recordings.named(reference) for reference in references]
    if all(recorded):
        return _compare_recordings(*recorded, arguments)
    if any(recorded):
        raise LabError(
            "One of the two is a recording of your application and the other a measured run: the "
            "one was only watched, the other paired, and their times do not compare."
        )
    if not arguments.fail_if:
        raise LabError('Say what may not get worse, as in --fail-if "p95 ttft_ms worse by 10%".')
    if any(map(load_results.named, references)):
        raise LabError(
            "Loads are not compared: they were put on at different times, and nothing in them is "
            "paired. Check each of them with `check`, or sweep both loads in one run."
        )
    base, new = map(results.read, references)
    outcomes = [
        outcome
        for text in arguments.fail_if
        for outcome in requirements.regressions(base, new, text)
    ]
    return _tell(outcomes, arguments.json, SAYS_OF_WORSE)


def _compare_recordings(base: Recording, new: Recording, arguments: Namespace) -> int:
    """All that changed, then what was asked; where the control moved, what its times prove."""
    from lab import recorded_changes

    changes = recorded_changes.compare(base, new)
    told = [recorded_changes.judge(base, new, changes, text) for text in arguments.fail_if]
    if arguments.json:
        rows = [
            {**row._asdict(), "change": row.change._asdict(), "moved": row.moved}
            for row in changes.rows
        ]
        plain = [{name: units.plain(value) for name, value in row.items()} for row in rows]
        return _tell(told, True, SAYS_OF_WORSE, changes=plain, doubt=changes.doubt)
    for row in changes.rows:
        print(f"{'control: ' if row.is_control else ''}{row.told}")
    if changes.doubt:
        print(f"{recorded_changes.UNPROVEN}{changes.doubt}")
    return _tell(told, False, SAYS_OF_WORSE, doubt=changes.doubt)


def _tell(
    outcomes: list[Outcome],
    as_json: bool,
    says: dict[str, str] = SAYS,
    **more: Any,
) -> int:
    verdicts = {outcome.verdict for outcome in outcomes}
    if not outcomes and more.get("doubt"):
        verdicts = {"not_enough_data"}
    verdict = next((word for word in ("fail", "not_enough_data") if word in verdicts), "pass")
    if as_json:
        print_json(verdict=verdict, requirements=[asdict(outcome) for outcome in outcomes], **more)
        return CODES[verdict]
    for outcome in outcomes:
        needed = units.counted(outcome.needed, f"more {outcome.unit}")
        rest = f"; about {needed}" if outcome.needed else ""
        print(f"{says[outcome.verdict]}: {outcome.requirement} — {outcome.seen}{rest}")
    return CODES[verdict]
