"""Commands that measure: a technique, all of them, arms side by side, the rest of a run."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from functools import partial
from typing import TYPE_CHECKING, Any

from lab import paths, scrub, settings, techniques
from lab.cli import (
    DONE,
    FAILED,
    INTERRUPTED,
    UNDECIDED,
    body_files,
    flags,
    print_json,
    show,
    shown,
    this_machine,
)
from lab.model import LabError, Technique
from lab.paths import COMMAND
from lab.scenarios.definitions import RECORDING
from lab.settings import BenchmarkConfig

if TYPE_CHECKING:
    from rich.console import Console

    from lab.endpoints.registry import Endpoint

CODES = {"finished": DONE, "interrupted": INTERRUPTED}


def handlers(name: str):
    if name in techniques.slugs():
        technique = techniques.find(name)
        return partial(technique_flags, technique), partial(run_technique, technique)
    return {
        "all": (_run_flags, run_all),
        "compare-arms": (arms_flags, run_side_by_side),
        "resume": (resume_flags, run_rest),
    }[name]


def technique_flags(technique: Technique, parser: ArgumentParser) -> None:
    parser.description = (
        f"{technique.title}. {technique.claim} "
        f"Arms: {', '.join(arm.name for arm in technique.arms)}. "
        f"Published: {technique.published or 'nothing'}."
    )
    if technique.files:
        option = settings.of(technique.knobs)[technique.files].option
        parser.add_argument(
            "files",
            nargs="*",
            metavar="FILE",
            help="two files or more with an arm in each, in place of "
            f"{option}: a JSON body, a curl command or a Python call",
        )
    if technique.of_recordings:
        parser.add_argument(
            "--calls",
            metavar="A,B,…",
            help="which calls of the recording, by their numbers or ids; CALL@BEFORE names the one "
            "that is sent before it (default: those that the fix is for)",
        )
    _run_flags(parser)
    parser.add_argument(
        "--more",
        metavar="RUN",
        help="measure --runs more blocks and join them to this run: its id, name, `last`, `last~1`",
    )
    if technique.proposes:
        parser.add_argument(
            "--plan",
            metavar="RUN",
            help="measure nothing: print what the waits of a run, recording or load propose for "
            "the knobs",
        )
    flags.add_knobs(parser, technique.knobs)


def arms_flags(parser: ArgumentParser) -> None:
    from lab.harness.plan import example_arms

    parser.add_argument(
        "arms",
        nargs="+",
        metavar="TECHNIQUE.ARM",
        help=f"two or more arms, the baseline first: {' '.join(example_arms())}",
    )
    metric = settings.of(BenchmarkConfig)["metric"]
    flags.add(parser, metric, dest=metric.name, help=metric.help.removeprefix("side by side: "))
    _run_flags(parser)


def resume_flags(parser: ArgumentParser) -> None:
    flags.which(parser)
    budget = settings.of(BenchmarkConfig)["max_usd"]
    words = "the most it may cost from here on, in dollars; by default all sessions together keep "
    words += "to the run's own budget"
    flags.add(parser, budget, dest=budget.name, help=words)
    _result_flags(parser)


def _run_flags(parser: ArgumentParser) -> None:
    flags.add_settings(parser)
    _result_flags(parser)


def _result_flags(parser: ArgumentParser) -> None:
    flags.outputs(parser)
    flags.as_json(parser)
    flags.database(parser)


def propose(technique: Technique, reference: str, as_json: bool) -> int:
    """What a stored run's waits propose for the technique's knobs."""
    from rich.console import Console

    from lab.harness.reporters.console import told_parts
    from lab.harness.reporters.json_object import parts_as_object
    from lab.results import any_data

    parts = techniques.draw(any_data(technique, reference), technique.proposes)
    proposed = parts_as_object(parts)
    if as_json:
        print_json(plan=proposed)
    else:
        for told in told_parts(parts):
            Console(highlight=False, markup=False).print(told)
    return DONE if proposed["tables"] else UNDECIDED


def run_technique(technique: Technique, arguments: Namespace) -> int:
    if getattr(arguments, "plan", None):
        return propose(technique, arguments.plan, arguments.json)
    values = flags.chosen_knobs(arguments)
    if files := getattr(arguments, "files", None):
        values[technique.files] = _objects(files, technique)
    if calls := getattr(arguments, "calls", None):
        arguments.scenario = f"{getattr(arguments, 'scenario', RECORDING)}:{calls}"
    knobs = flags.checked(technique.knobs, values)
    named = flags.chosen_settings(arguments).keys() & {"runs", "quick", "target_half_width_ms"}
    usual = None if named else settings.usual_blocks(technique.headline_quantile)
    config = _config(
        technique.slug,
        arguments,
        technique.tiers_for(knobs),
        knobs=values,
        join_run=arguments.more,
        **({"runs": usual} if usual and not arguments.more else {}),
    )
    if config.join_run:
        from lab import resume

        config = resume.resolved(config)
    return _measure([config], arguments)


def run_all(arguments: Namespace) -> int:
    """One failing technique does not stop the rest; the exit code says that it failed. What the
    endpoint cannot do is left out, with the reason, and no failure."""
    configs = []
    for technique in techniques.all_techniques():
        if not technique.in_all:
            continue
        config = _config(technique.slug, arguments, technique.tiers_for(technique.knobs()))
        if words := _lacking(config, technique):
            print(f"{technique.slug} is left out: {words}", file=sys.stderr)
        else:
            configs.append(config)
    return _measure(configs, arguments)


def _lacking(config: BenchmarkConfig, technique: Technique) -> str:
    """What the endpoint cannot do of what a technique needs, in a sentence; empty where it can."""
    from lab.harness.plan import lacking

    endpoint = _asked(config)
    return lacking(technique.title, frozenset(technique.needs), endpoint)


def run_side_by_side(arguments: Namespace) -> int:
    from lab.harness.plan import SIDE_BY_SIDE

    members = [techniques.find(arm.partition(".")[0]) for arm in arguments.arms]
    tiers = tuple(tier for each in members for tier in each.tiers_for(each.knobs()))
    chosen = {"arms": arguments.arms, "metric": getattr(arguments, "metric", None)}
    return _measure([_config(SIDE_BY_SIDE, arguments, tiers, **chosen)], arguments)


def run_rest(arguments: Namespace) -> int:
    """The blocks that were planned and are not there, in the order they would have had."""
    from lab import resume
    from lab.store.store import Store

    config = resume.rest(Store(), arguments.run, getattr(arguments, "max_usd", None))
    return _measure([config], arguments)


def _measure(configs: list[BenchmarkConfig], arguments: Namespace) -> int:
    """Run configs one after another, each after a line on where its requests go and what it will
    take; the highest of their exit codes."""
    from rich.console import Console

    from lab import results, worker
    from lab.harness import reporter
    from lab.harness.progress import Progress
    from lab.harness.reporters.console import runs_table

    this_machine.typed(getattr(arguments, "endpoint", None))
    outputs = reporter.named(arguments.output)
    console = Console(stderr=arguments.json, highlight=False)
    codes, runs, several = [], [], len(configs) > 1
    for config in configs:
        progress = Progress(console)
        try:
            _announce(config, console)
            run_id, status, text = worker.measure(config, progress)
        except LabError as error:
            progress.close()
            if not several:
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
        runs.append(results.read(run_id))
        if not arguments.json:
            console.print()
            show.report_all(runs[-1:], arguments)
            console.print(
                f"\nRows: {shown(paths.database())} · {COMMAND} show {run_id} · "
                f"{COMMAND} ui shows it in the browser",
                soft_wrap=True,
            )
        if codes[-1] == INTERRUPTED:
            console.print(
                f"The rows so far are kept. Go on: {COMMAND} resume {run_id}", soft_wrap=True
            )
            break
    if arguments.json and runs:
        show.report_all(runs, arguments, several)
    elif several and runs and "console" in outputs:
        console.print(runs_table(runs))
    return max(codes)


def _announce(config: BenchmarkConfig, console: Console) -> None:
    from lab import endpoint_kinds, recorded_tasks
    from lab.harness.plan import abilities, experiment
    from lab.local import model_files

    complete: frozenset[int] = frozenset()
    if config.join_run:  # endpoint, arms and size are the stored run's
        from lab import resume
        from lab.store.store import Store

        config, joined = resume.join(Store(config.db), config)
        complete = joined.complete
    config = recorded_tasks.resolved(config)
    endpoint = _asked(config)
    plan = experiment(config, endpoint.kind, able=abilities(endpoint))
    models = list(dict.fromkeys(map(endpoint.model_for, plan.tiers or (endpoint.generates,))))
    # Imports the SDK: a mistyped endpoint or arm is told without waiting for that.
    from lab.harness.estimate import estimate

    kind = f" ({endpoint.kind})" if endpoint.kind != endpoint.name else ""
    expected = estimate(config, done=complete)
    if expected.text:
        console.print(
            f"{plan.title} on {endpoint.name}{kind} with {', '.join(models)}: {expected.text}",
            markup=False,
            soft_wrap=True,
        )
    if expected.refusals:
        raise LabError(" ".join(expected.refusals))
    if endpoint_kinds.kind(endpoint.kind).embedded and model_files.missing(models):
        this_machine.fetch_model()


def _asked(config: BenchmarkConfig) -> Endpoint:
    """A config's endpoint with what it says of its models, asked where nobody has lately."""
    from lab.endpoints import registry

    endpoint = registry.find(config.endpoint, config.models)
    if endpoint.traits.own_server:
        return endpoint
    from lab.endpoints.ask_models import ask  # imports the SDK

    ask(endpoint)
    return registry.find(config.endpoint, config.models)


def _config(
    slug: str, arguments: Namespace, tiers: tuple[str, ...], **more: Any
) -> BenchmarkConfig:
    values = flags.chosen_settings(arguments)
    if "runs" in values:  # a number that is named wins over --quick
        values.pop("quick", None)
    values |= {"technique": slug, "models": models(values.get("models", []), tiers, slug), **more}
    return flags.checked(BenchmarkConfig, values)


def models(words: list[str], tiers: tuple[str, ...], slug: str) -> dict[str, str]:
    """Tier to model name: `M` alone is the model of whatever one tier is needed; techniques that
    need two get both by name."""
    names = {}
    for word in words:
        tier, equals, name = word.partition("=")
        if equals and tier in ("small", "large"):
            names[tier] = name
        else:
            names["any"] = word
    if "any" in names and len(set(tiers)) > 1:
        raise LabError(f"{slug} needs two models: --model small=… --model large=…")
    if not all(names.values()):
        raise LabError("--model needs a name after the equals sign.")
    return names


def _objects(files: list[str], technique: Technique) -> list[dict[str, Any]]:
    if len(objects := body_files.bodies(files)) < 2:
        raise LabError(f"Two files are needed: {COMMAND} {technique.slug} a.json b.json")
    return objects
