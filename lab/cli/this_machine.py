"""Commands about this machine: model files, endpoints, the local server, the instrument."""

import sys
from argparse import ArgumentParser, Namespace
from dataclasses import asdict

from lab.cli import DONE, FAILED, flags, print_json
from lab.model import LabError
from lab.paths import COMMAND


def handlers(name: str):
    return {
        "models": (models_flags, models),
        "endpoints": (endpoints_flags, endpoints),
        "serve": (serve_flags, serve),
        "calibrate": (calibrate_flags, calibrate),
    }[name]


def models_flags(parser: ArgumentParser) -> None:
    parser.add_argument(
        "action",
        nargs="?",
        choices=("list", "install"),
        default="list",
        help="list what is here, or install what is missing",
    )
    flags.as_json(parser)


def models(arguments: Namespace) -> int:
    from lab.local import model_files

    if arguments.action == "install":
        fetch_model()
    models = model_files.status()
    if arguments.json:
        print_json(models=models)
        return DONE
    for model in models:
        state = f"{model['megabytes']:,.0f} MB" if model["installed"] else "not here yet"
        print(f"{model['name']:<20} {state:<14} {model['description']}")
    if not any(model["installed"] for model in models):
        print(f"Install the embedded model: {COMMAND} models install")
    return DONE


def fetch_model() -> None:
    """Fetch the embedded model, once; a bar on stderr tells how far that is."""
    from rich.console import Console
    from rich.progress import Progress

    from lab.local import model_files

    with Progress(console=Console(stderr=True)) as progress:
        bar = progress.add_task("Embedded model: 98 MB, once", total=1.0)
        model_files.install(
            lambda text, share: progress.update(
                bar, description=f"Embedded model: {text}", completed=share
            )
        )


def endpoints_flags(parser: ArgumentParser) -> None:
    parser.add_argument(
        "action",
        nargs="?",
        choices=("list", "test", "allow", "forget"),
        default="list",
        help="list them; test one with a few tiny calls; allow requests to a URL, or forget that "
        "they were allowed",
    )
    parser.add_argument(
        "name",
        nargs="?",
        metavar="NAME|URL",
        help="the endpoint to test, or the base URL to allow or forget",
    )
    parser.add_argument(
        "--no-key", action="store_true", help="with allow: requests go there without your API key"
    )
    parser.add_argument(
        "--model",
        metavar="M",
        help="the model to test with (default: the endpoint's own small one)",
    )
    flags.as_json(parser)


def endpoints(arguments: Namespace) -> int:
    from lab.endpoints import consent, keys, registry

    if arguments.action == "test":
        from lab.cli import endpoints_test

        typed(arguments.name)
        return endpoints_test.run(arguments.name, arguments.model, arguments.json)
    if arguments.action in ("allow", "forget"):
        if not arguments.name:
            raise LabError(f"Which address? {COMMAND} endpoints {arguments.action} https://…")
        return (_allow if arguments.action == "allow" else _forget)(arguments)
    known = [registry.find(name) for name in registry.names()]
    default, allowed = registry.default_name(), consent.stored()
    if arguments.json:
        rows = [
            {
                "name": endpoint.name,
                "kind": endpoint.kind,
                "models": dict(endpoint.models),
                "default": endpoint.name == default,
            }
            for endpoint in known
        ]
        print_json(
            endpoints=rows,
            allowed=[{"url": origin, "key": key} for origin, key in allowed.items()],
        )
        return DONE
    for endpoint in known:
        models = ", ".join(endpoint.models.values())
        mark = "   (default)" if endpoint.name == default else ""
        print(f"{endpoint.name:<14} {endpoint.kind:<10} {models}{mark}")
    if allowed:
        print("Also allowed (`endpoints forget URL` takes it back):")
    for origin, key in allowed.items():
        terms = f"with your key{consent.warning(origin)}" if key else "without a key"
        print(f"  {origin}   {terms}")
    if not keys.anthropic_key():
        print("With ANTHROPIC_API_KEY set, `anthropic` appears here and becomes the default.")
    return DONE


def _allow(arguments: Namespace) -> int:
    from lab.endpoints import consent, keys

    with_key = keys.anthropic_key() is not None and not arguments.no_key
    consent.allow(arguments.name, with_key)
    origin = keys.origin(arguments.name)
    if with_key:
        print(f"Requests may go to {origin}, with your Anthropic API key.{consent.warning(origin)}")
    else:
        print(f"Requests may go to {origin}, without a key.")
    return DONE


def _forget(arguments: Namespace) -> int:
    from lab.endpoints import consent, keys

    gone, origin = consent.forget(arguments.name), keys.origin(arguments.name)
    print(
        f"{origin} is forgotten: nothing goes there until it is allowed again."
        if gone
        else f"{origin} was not allowed."
    )
    return DONE


def typed(name: str | None) -> None:
    """An endpoint from the command line: where a key could go to a new address, a person at a
    terminal is asked, once."""
    from lab.endpoints import consent

    try:
        consent.typed(name)
    except consent.ConsentNeeded as needed:
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise
        print(
            f"Send your Anthropic API key to {needed.origin}?{consent.warning(needed.url)}\n"
            "y = with the key, n = requests without a key, Enter = stop: ",
            end="",
            file=sys.stderr,
            flush=True,
        )
        with_key = {"y": True, "yes": True, "n": False, "no": False}
        answer = sys.stdin.readline().strip().lower()
        if answer not in with_key:
            raise LabError(f"Nothing was sent to {needed.origin}.") from None
        consent.allow(needed.url, with_key[answer])


def serve_flags(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--simulated",
        action="store_true",
        help="the scripted latency model instead of the embedded one",
    )
    parser.add_argument(
        "--port",
        type=int,
        default=0,
        metavar="P",
        help="the port on 127.0.0.1; 0 takes a free one (default 0)",
    )
    parser.add_argument(
        "--idle-s",
        type=float,
        default=0,
        metavar="S",
        help="end after this many seconds without a request; 0 is never (default 0)",
    )
    parser.add_argument(
        "--alias",
        action="store_true",
        help="answer to Claude's names too (claude-…haiku… by the small model, others by the "
        "large); replies name the model that answered",
    )


def serve(arguments: Namespace) -> int:
    from lab.local.__main__ import main

    chosen = [flag for flag in ("--simulated", "--alias") if getattr(arguments, flag[2:])]
    numbers = ["--port", str(arguments.port), "--idle-s", str(arguments.idle_s)]
    return FAILED if main([*numbers, "--exports", *chosen]) else DONE


def calibrate_flags(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--streams",
        default="1,4,16",
        metavar="A,B,…",
        help="how many streams at once to measure with (default 1,4,16)",
    )
    flags.as_json(parser)


def calibrate(arguments: Namespace) -> int:
    from lab import calibrate as instrument

    try:
        streams = [int(count) for count in arguments.streams.split(",")]
        if min(streams) < 1:
            raise ValueError
    except ValueError:
        raise LabError(
            "--streams takes whole numbers from 1 on, separated by commas, not "
            f"{arguments.streams!r}."
        ) from None
    calibration = instrument.calibrate(streams)
    if arguments.json:
        print_json(**asdict(calibration))
    else:
        print("\n".join(instrument.lines(calibration)))
    return DONE
