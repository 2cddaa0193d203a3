"""`check` and `compare`: requirements on a run, or on two, and exit codes that say what came of
them."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from dataclasses import asdict
from typing import TYPE_CHECKING

from lab import techniques
from lab.cli import DONE, REFUSED, UNDECIDED, flags, print_json

if TYPE_CHECKING:
    from lab.requirements import Outcome

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
        'by 50%%", "b not slower than a by 20 ms"',
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
        required=True,
        metavar="TEXT",
        help='repeatable: "p95 ttft_ms worse by 10%%" (every arm they share), "ARM p50 total_ms '
        'worse by 50 ms" (that arm)',
    )
    flags.as_json(parser)
    flags.database(parser)


def check(arguments: Namespace) -> int:
    from lab import requirements, results

    run = results.read(arguments.run)
    return _tell([requirements.judge(run, text) for text in arguments.require], arguments.json)


def compare(arguments: Namespace) -> int:
    from lab import requirements, results

    base, new = results.read(arguments.base), results.read(arguments.new)
    outcomes = [
        outcome
        for text in arguments.fail_if
        for outcome in requirements.regressions(base, new, text)
    ]
    return _tell(outcomes, arguments.json, SAYS_OF_WORSE)


def _tell(outcomes: list[Outcome], as_json: bool, says: dict[str, str] = SAYS) -> int:
    verdicts = {outcome.verdict for outcome in outcomes}
    verdict = next((word for word in ("fail", "not_enough_data") if word in verdicts), "pass")
    if as_json:
        print_json(verdict=verdict, requirements=[asdict(outcome) for outcome in outcomes])
        return CODES[verdict]
    for outcome in outcomes:
        blocks = "block" if outcome.needed == 1 else "blocks"
        more = f"; about {outcome.needed:,} more {blocks}" if outcome.needed else ""
        print(f"{says[outcome.verdict]}: {outcome.requirement} — {outcome.seen}{more}")
    return CODES[verdict]
