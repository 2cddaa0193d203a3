"""Commands that measure: each technique, all of them, arms side by side, and the rest of an interrupted run."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab import scrub, techniques
from lab.cli import DONE, FAILED, INTERRUPTED, flags, show
from lab.model import LabError, Technique

if TYPE_CHECKING:
    from lab.harness.plan import BenchmarkConfig

CODES = {"finished": DONE, "interrupted": INTERRUPTED}


def handlers(name: str):
    if name in techniques.slugs():
        technique = techniques.find(name)
        return partial(technique_flags, technique), partial(one, technique)
    return {
        "all": (all_flags, every),
        "compare-arms": (arms_flags, beside),
        "resume": (resume_flags, resume),
    }[name]


def technique_flags(technique: Technique, parser: argparse.ArgumentParser) -> None:
    parser.description = f"{technique.title}. {technique.claim} Arms: {', '.join(arm.name for arm in technique.arms)}. Published: {technique.published}."
    if technique.slug == "ab":
        parser.add_argument(
            "bodies",
            nargs="*",
            metavar="BODY.json",
            help="two to eight files, each a Messages body or changes to the task's",
        )
    _measuring(parser)
    parser.add_argument(
        "--more", metavar="RUN", help="measure --runs more blocks and join them to this run"
    )
    flags.add(parser, technique.knobs)


def all_flags(parser: argparse.ArgumentParser) -> None:
    _measuring(parser)


def arms_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "arms",
        nargs="+",
        metavar="TECHNIQUE.ARM",
        help="two or more arms, the baseline first: streaming.streamed caching.cached",
    )
    _measuring(parser)


def resume_flags(parser: argparse.ArgumentParser) -> None:
    flags.which(parser)
    parser.add_argument(
        "--max-usd",
        type=float,
        metavar="X",
        help="the most this may cost from here on (on live endpoints 0.50 by default)",
    )
    _telling(parser)


def _measuring(parser: argparse.ArgumentParser) -> None:
    size = parser.add_argument_group("how much")
    size.add_argument(
        "--runs", type=int, metavar="N", help="measured blocks, each arm once a block (default 10)"
    )
    size.add_argument(
        "--quick",
        action="store_true",
        help="6 blocks of the baseline and the headline arm, with short answers",
    )
    size.add_argument(
        "--warmup", type=int, metavar="N", help="blocks before that count for nothing (default 1)"
    )
    size.add_argument(
        "--until-precision",
        type=float,
        metavar="MS",
        help="go on until the interval is at most ± MS wide",
    )
    size.add_argument(
        "--min-runs",
        type=int,
        metavar="N",
        help="with --until-precision: the fewest blocks (default 6)",
    )
    size.add_argument(
        "--max-runs",
        type=int,
        metavar="N",
        help="with --until-precision: the most blocks (default 200)",
    )
    size.add_argument(
        "--max-usd",
        type=float,
        metavar="X",
        help="the most it may cost, in dollars (on live endpoints 0.50 by default)",
    )
    what = parser.add_argument_group("on what")
    what.add_argument(
        "--endpoint",
        metavar="NAME|URL",
        help="local, simulated, anthropic, one of the settings, or any base URL of a Messages API",
    )
    what.add_argument(
        "--model",
        action="append",
        default=[],
        metavar="M",
        help="a model's name; where two are needed: small=M and large=M",
    )
    what.add_argument(
        "--scenario",
        metavar="NAME|FILE",
        help="question-answering, reasoning, tools, rag, or a .jsonl file of your own tasks",
    )
    what.add_argument(
        "--seed",
        type=int,
        metavar="N",
        help="the order of tasks and arms; the same seed gives the same order",
    )
    what.add_argument(
        "--keep-text",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="store the answers' text (default: built-in tasks only)",
    )
    what.add_argument("--name", metavar="TEXT", help="a name for the run, by which `show` finds it")
    what.add_argument("--note", metavar="TEXT", help="a note kept with the run")
    _telling(parser)


def _telling(parser: argparse.ArgumentParser) -> None:
    flags.outputs(parser)
    flags.as_json(parser)
    flags.database(parser)


def one(technique: Technique, arguments: argparse.Namespace) -> int:
    given = flags.given(arguments)
    if paths := getattr(arguments, "bodies", None):
        given["bodies"] = _bodies(paths)
    flags.check(technique.knobs, given)
    joined = _run_id(arguments.more) if arguments.more else None
    codes, found = _measure(
        [_config(technique.slug, arguments, technique.tiers, knobs=given, join_run=joined)],
        arguments,
    )
    return max(codes) if found else FAILED


def every(arguments: argparse.Namespace) -> int:
    """One failing technique does not stop the rest; the exit code says that it failed."""
    arguments.many = True
    configs = [
        _config(one.slug, arguments, one.tiers)
        for one in techniques.all_techniques()
        if one.slug != "ab"
    ]
    codes, found = _measure(configs, arguments)
    if found and not arguments.json and "console" in arguments.output:
        from rich.console import Console

        from lab.harness.reporter import summary_table

        Console(highlight=False).print(summary_table(found))
    return INTERRUPTED if INTERRUPTED in codes else max(codes, default=FAILED)


def beside(arguments: argparse.Namespace) -> int:
    from lab.harness.plan import SIDE_BY_SIDE

    tiers = tuple(
        tier for ref in arguments.arms for tier in techniques.find(ref.partition(".")[0]).tiers
    )
    codes, found = _measure(
        [_config(SIDE_BY_SIDE, arguments, tiers, arms=arguments.arms)], arguments
    )
    return max(codes) if found else FAILED


def resume(arguments: argparse.Namespace) -> int:
    """The blocks that were planned and are not there, in the order they would have had."""
    from lab.harness.plan import config_of
    from lab.store import queries
    from lab.store.store import Store

    store = Store()
    run = queries.run(store, _run_id(arguments.run))
    trials = queries.trials(store, run["run_id"])
    trials = trials[(trials.phase == "measured") & (trials.outcome != "cancelled")]
    whole = trials.groupby(["session_id", "block"]).size() >= len(run["settings"]["arms"])
    if run["status"] == "finished" or whole.sum() >= int(run["settings"]["runs"]):
        slug = techniques.slug_of(run["technique"])
        hint = (
            f" For more: python main.py {slug} --more {run['run_id']}"
            if slug
            else " For more, press the button beside its verdict."
        )
        raise LabError(f"Run {run['run_id']} has all its {whole.sum()} blocks.{hint}")
    config = {
        "technique": run["technique"],
        "join_run": run["run_id"],
        "max_usd": arguments.max_usd,
    }
    codes, found = _measure([config_of(**config)], arguments)
    return max(codes) if found else FAILED


def _measure(
    configs: list[BenchmarkConfig], arguments: argparse.Namespace
) -> tuple[list[int], list]:
    """Run configs one after another; says first where the requests go and what they will take. Answers with exit codes and results."""
    import sys

    from rich.console import Console

    from lab import results, worker
    from lab.cli import machine
    from lab.harness.progress import Progress

    machine.typed(getattr(arguments, "endpoint", None))
    show.check_outputs(arguments.output)
    console = Console(stderr=arguments.json, highlight=False)
    codes, found = [], []
    for config in configs:
        progress = Progress(console)
        try:
            _announce(config, console)
            run_id, status, text = worker.measure(config, progress)
        except LabError as error:
            progress.close()
            if len(configs) == 1:
                raise
            console.print(
                f"{config.technique}: {scrub.text(str(error), scrub.MESSAGE)}",
                markup=False,
                soft_wrap=True,
            )
            codes.append(FAILED)
            continue
        finally:
            progress.close()
        codes.append(CODES.get(status, FAILED))
        if text and status != "finished":
            print(scrub.text(text, scrub.MESSAGE), file=sys.stderr)
        found.append(results.read(run_id))
        if not arguments.json:
            console.print()
            show.tell(found[-1:], arguments)
            console.print(
                f"\nRows: {_database()} · python main.py show {run_id} · make run shows it in the browser",
                soft_wrap=True,
            )
        if codes[-1] == INTERRUPTED:
            console.print(
                f"The rows so far are kept. Go on: python main.py resume {run_id}", soft_wrap=True
            )
            break
    if arguments.json and found:
        show.tell(found, arguments)
    return codes, found


def _announce(config: BenchmarkConfig, console: Any) -> None:
    from lab.endpoints import registry
    from lab.harness.plan import experiment

    done: frozenset[int] = frozenset()
    if config.join_run:  # endpoint, arms and size are the stored run's
        from lab import worker
        from lab.store.store import Store

        config, joined = worker.join(Store(config.db), config)
        done = joined.complete
    endpoint = registry.find(config.endpoint, config.models)
    plan = experiment(config, endpoint.kind)
    used = plan.tiers or (endpoint.generates,)
    models = ", ".join(dict.fromkeys(endpoint.model_for(tier) for tier in used))
    from lab.harness.estimate import (
        estimate,  # imports the SDK: a mistyped endpoint or arm is told without waiting for that
    )

    kind = f" ({endpoint.kind})" if endpoint.kind != endpoint.name else ""
    expected = estimate(config, done=done)
    if expected.text:
        console.print(
            f"{plan.title} on {endpoint.name}{kind} with {models}: {expected.text}",
            markup=False,
            soft_wrap=True,
        )
    if expected.refusals:
        raise LabError(" ".join(expected.refusals))


def _config(
    slug: str, arguments: argparse.Namespace, tiers: tuple[str, ...], **more: Any
) -> BenchmarkConfig:
    from lab.harness.plan import config_of

    given = {
        "runs": arguments.runs,
        "warmup": arguments.warmup,
        "min_runs": arguments.min_runs,
        "max_runs": arguments.max_runs,
        "target_half_width_ms": arguments.until_precision,
        "endpoint": arguments.endpoint,
        "scenario": arguments.scenario,
        "seed": arguments.seed,
        "max_usd": arguments.max_usd,
        "keep_text": arguments.keep_text,
        "name": arguments.name,
        "note": arguments.note,
        **more,
    }
    chosen = {name: value for name, value in given.items() if value is not None}
    return config_of(
        technique=slug,
        quick=arguments.quick and arguments.runs is None,
        models=models(arguments.model, tiers, slug),
        **chosen,
    )


def models(given: list[str], tiers: tuple[str, ...], slug: str) -> dict[str, str]:
    """`M` alone is the model of whatever one tier is needed; techniques that need two get both by name."""
    found = {}
    for text in given:
        tier, equals, name = text.partition("=")
        if equals and tier in ("small", "large"):
            found[tier] = name
        else:
            found["any"] = text
    if "any" in found and len(set(tiers)) > 1:
        raise LabError(f"{slug} needs two models: --model small=… --model large=…")
    if not all(found.values()):
        raise LabError("--model needs a name after the equals sign.")
    return found


def _bodies(paths: list[str]) -> list[dict[str, Any]]:
    """Each file's object, named after its file where it has no name of its own."""
    from lab.scenarios import definitions

    found = []
    for path in map(Path, paths):
        try:
            body = definitions.read_json(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise LabError(f"{path} cannot be read: {error.strerror}.") from None
        except ValueError as error:
            raise LabError(f"{path} cannot be read: {error}.") from None
        if not isinstance(body, dict):
            raise LabError(f"{path} holds no Messages body: a JSON object is needed.")
        taken = {one["name"] for one in found}
        name = str(body.get("name") or path.stem)
        found.append({**body, "name": name if name not in taken else f"{name} {len(found) + 1}"})
    if len(found) < 2:
        raise LabError("Two bodies are needed: python main.py ab a.json b.json")
    return found


def _run_id(reference: str) -> str:
    from lab.store import queries
    from lab.store.store import Store

    return queries.resolve(Store(), reference)


def _database() -> str:
    from lab import paths

    path = paths.database()
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
