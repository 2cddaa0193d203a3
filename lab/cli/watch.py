"""`watch`: a request of one's own beside a control, again and again, and when its latency
changed."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from lab import paths, scrub, units
from lab.cli import DONE, FAILED, INTERRUPTED, REFUSED, UNDECIDED, flags, print_json, shown
from lab.model import LabError
from lab.paths import COMMAND
from lab.watch.watch_settings import WatchConfig

if TYPE_CHECKING:
    from lab.watch.changes import Change
    from lab.watch.watched import Watched

CODES = {"finished": DONE, "interrupted": INTERRUPTED}
ACTIONS = ("keep", "list", "status", "check", "stop")


def handlers(name: str):
    return watch_flags, watch


def watch_flags(parser: ArgumentParser) -> None:
    parser.description = (
        "Ask a request of your own beside a short control, some pairs every so many minutes, and "
        "say when its latency changed, and whether that was the service or your request alone. It "
        "goes on until Ctrl-C or --for; the same --name goes on with the same watch. `watch list` "
        "lists them, `status` shows one, `check` tells what is new, `stop` ends one. Exit codes: 0 "
        "done, 1 a request was not answered as asked or no probe took place (--once), 3 a change "
        "was found (--once, check), 4 not enough probes yet, or nothing watches any more (check), "
        "130 interrupted."
    )
    parser.add_argument(
        "action",
        nargs="?",
        choices=ACTIONS,
        default="keep",
        metavar="ACTION",
        help=f"{', '.join(ACTIONS)} (default keep)",
    )
    flags.add_settings(parser, WatchConfig)
    parser.add_argument(
        "--body",
        metavar="FILE",
        help="your request: a JSON body, a curl command or a Python call, in place of --scenario",
    )
    parser.add_argument(
        "--on-change",
        metavar="COMMAND",
        help="run this at each change: the finding comes as JSON on its input, the sentence as its "
        "last argument and in LAB_WATCH_WORDS; it gets no key that the lab uses, and 30 seconds",
    )
    parser.add_argument(
        "--once",
        action="store_true",
        help="one probe now, for cron; --every says how often that is; exit 3 where it finds a "
        "change, 1 where a request was not answered as asked or no probe took place",
    )
    flags.as_json(parser)
    flags.database(parser)


def watch(arguments: Namespace) -> int:
    do = {"list": _list, "status": _status, "check": _check, "stop": _stop, "keep": _keep}
    return do[arguments.action](arguments)


# Keep


def _keep(arguments: Namespace) -> int:
    from lab.cli.this_machine import typed
    from lab.watch import hook, watch_order, watching

    named = flags.chosen_settings(arguments, WatchConfig)
    typed(named.get("endpoint"))
    if arguments.body:
        named["tasks"] = [_task(arguments.body)]
    if arguments.on_change is not None:
        named["on_change"] = hook.checked(arguments.on_change)
    config = flags.checked(WatchConfig, named)
    order = watch_order.resolve(config, named)
    told = sys.stderr if arguments.json else sys.stdout
    cost = order.cost()
    verb = "Watching" if order.is_new else "Going on with the watch"
    say(f"{verb} {order.config.name!r} on {order.endpoint.name}: {cost.text}.", told)
    if not arguments.once:
        say("Ctrl-C ends it; the same command goes on with it.", told)
    measured, found = watching.keep(order, lambda entry: hear(entry, told), arguments.once)
    if measured.status == "failed" or arguments.once:
        say(measured.text, sys.stderr)
    if arguments.json:
        changes = [change.told() for change in found]
        print_json(run_id=measured.run_id, status=measured.status, changes=changes)
    elif not arguments.once:
        say(f"Rows: {shown(paths.database())} · {COMMAND} watch status", told)
    if arguments.once and found:
        return REFUSED
    return CODES.get(measured.status, FAILED)


def _task(file: str) -> Any:
    from lab.cli import body_files
    from lab.watch import watch_order

    (body,) = body_files.bodies([file])
    return watch_order.task_of(body, body["name"], file)


def hear(entry: dict[str, Any], told) -> None:
    """What happens, a line each."""
    from lab.watch.changes import AS_ASKED

    match entry["kind"]:
        case "probe":
            at = entry["at_utc"][11:16]
            both = [units.ms(entry[arm]) if entry[arm] else "–" for arm in ("control", "yours")]
            failed = f", {entry['failed']} not {AS_ASKED}" if entry["failed"] else ""
            failed += f": {entry['why']}" if entry["why"] else ""
            spent = f", {units.usd(entry['spent_usd'])} today" if entry["spent_usd"] else ""
            number = entry["number"]
            say(f"{at}  probe {number}: control {both[0]}, yours {both[1]}{spent}{failed}", told)
        case "gap" | "note":
            say(entry["text"], told)
        case "change":
            say(f"Change: {entry['words']}.", told)


def say(text: str, told) -> None:
    print(scrub.text(text, scrub.MESSAGE), file=told, flush=True)


# Look


def _read(arguments: Namespace) -> Watched:
    from lab.store.store import Store
    from lab.watch import watched

    return watched.read(Store(), getattr(arguments, "name", None) or "last")


def is_watch(run_id: str) -> bool:
    """Whether a run's id, or a file of runs, is a watch's."""
    from lab.store.store import Store
    from lab.watch import watched

    return run_id in set(watched.watches(Store())["run_id"])


def _list(arguments: Namespace) -> int:
    from lab import watch as watches
    from lab.store.store import Store
    from lab.watch import watched

    rows = watched.watches(Store()).to_dict("records")
    alive = {card.run_id for card in watches.cards()}
    states = [{**row, "is_kept": row["run_id"] in alive} for row in rows]
    if arguments.json:
        print_json(watches=states)
        return DONE
    if not rows:
        print(f"No watch yet. Begin one: {COMMAND} watch --every 15")
    for row in states:
        state = "kept now" if row["is_kept"] else "not running"
        name = units.short(row["name"] or row["run_id"], 40)
        print(
            f"{name:<20} {row['endpoint']:<16} {state:<12} since {units.when(row['started_utc'])}"
        )
    return DONE


def _status(arguments: Namespace) -> int:
    from lab import watch as watches
    from lab.watch import standing

    found = _read(arguments)
    if arguments.json:
        changes = [change.told() for change in found.changes]
        gaps = standing.gaps(found, watches.current(found.run_id) is not None)
        print_json(
            run_id=found.run_id, name=found.run["name"], probes=len(found.probes), changes=changes,
            gaps=[{name: str(value) for name, value in gap._asdict().items()} for gap in gaps],
            trouble=standing.trouble(found), left_out=found.left_out,
        )  # fmt: skip
        return DONE
    for line in status_lines(found):
        print(scrub.text(line, scrub.MESSAGE))
    return DONE


def status_lines(found: Watched) -> list[str]:
    """A stored watch in words."""
    from lab import watch as watches
    from lab.watch import standing

    card = watches.current(found.run_id)
    name, probes = found.run["name"], units.counted(len(found.probes), "probe")
    lines = [
        f"{name} on {found.run['endpoint']}: {probes}, {'kept now' if card else 'not running'}"
    ]
    if card:
        due = watches.last(found.run_id, "next")
        lines += [f"Next probe: {due['at_utc'][:16]} UTC"] if due else []
    lines += [f"{change.words}." for change in found.changes] or [too_few(found) or NO_CHANGE]
    lines += [found.left_out] if found.left_out else []
    lines += [text for text in [standing.trouble(found)] if text]
    for gap in standing.gaps(found, card is not None):
        lines.append(f"Gap {units.when(gap.from_utc)} to {units.when(gap.to_utc)}: {gap.text}.")
    return lines


NO_CHANGE = "No change was found."


def too_few(found: Watched) -> str:
    """Empty where there are enough probes to tell a change."""
    from lab.stats.level_shifts import FEWEST

    count = len(found.series.at_utc)
    return f"Not enough probes to tell: {count} of {FEWEST}." if count < FEWEST else ""


def _check(arguments: Namespace) -> int:
    """Each finding is new once; a watch that is dead says so each time."""
    from lab import watch as watches
    from lab.watch import standing, watch_order

    found = _read(arguments)
    order = watch_order.named(found.run_id)
    dropped = int(found.settings.get("dropped", 0))
    told = max(0, order.checked - dropped) if order else 0
    new: list[Change] = found.changes[told:]
    if order and new:
        replace(order, checked=dropped + len(found.changes)).keep()
    unwatched = standing.unwatched(found, bool(watches.current(found.run_id)))
    doubts = [doubt for doubt in (too_few(found), unwatched) if doubt]
    if arguments.json:
        print_json(run_id=found.run_id, new=[change.told() for change in new], doubts=doubts)
    else:
        for change in new:
            print(scrub.text(f"{change.words}.", scrub.MESSAGE))
    for doubt in doubts:
        say(doubt, sys.stderr)
    if new:
        return REFUSED
    if doubts:
        return UNDECIDED
    if not arguments.json:
        print("No new change.")
    return DONE


def _stop(arguments: Namespace) -> int:
    from lab import watch as watches

    name = getattr(arguments, "name", None)
    going = [card for card in watches.cards() if name in (None, card.name, card.run_id)]
    if not going:
        raise LabError("No watch of that name is kept now." if name else "No watch is kept now.")
    if len(going) > 1:
        raise LabError(f"Which? --name {' or '.join(card.name for card in going)}")
    watches.stop(going[0].run_id)
    print(f"Stopped {going[0].name}. Go on: {COMMAND} watch --name {going[0].name!r}")
    return DONE
