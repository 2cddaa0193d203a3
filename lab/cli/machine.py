"""Commands about this machine: model files, endpoints, the local server, the instrument."""

from __future__ import annotations

import argparse
import json
import sys

from lab.cli import DONE, FAILED, look


def handlers(name: str):
    return {
        "models": (models_flags, models),
        "endpoints": (endpoints_flags, endpoints),
        "serve": (serve_flags, serve),
        "calibrate": (calibrate_flags, calibrate),
    }[name]


def models_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "action", nargs="?", choices=("list", "install"), default="list", help="list what is here, or install what is missing"
    )
    look.as_json(parser)


def models(arguments: argparse.Namespace) -> int:
    from lab.local import models as files

    if arguments.action == "install":
        said: list[str] = []

        def on_progress(text: str, share: float | None) -> None:
            if text not in said:
                said.append(text)
                print(text, file=sys.stderr)

        files.install(on_progress)
    found = files.status()
    if arguments.json:
        print(json.dumps({"version": 1, "models": found}, default=str))
        return DONE
    for one in found:
        state = f"{one['megabytes']:,.0f} MB" if one["installed"] else "not here yet"
        print(f"{one['name']:<20} {state:<14} {one['description']}")
    if not any(one["installed"] for one in found):
        print("Install the embedded model: python main.py models install")
    return DONE


def endpoints_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", nargs="?", choices=("list", "test"), default="list", help="list them, or test one")
    parser.add_argument("name", nargs="?", metavar="NAME", help="the endpoint to test: a name or any base URL of a Messages API")
    parser.add_argument("--model", metavar="M", help="the model to test with (default: the endpoint's own small one)")
    look.as_json(parser)


def endpoints(arguments: argparse.Namespace) -> int:
    from lab.endpoints import registry

    if arguments.action == "test":
        from lab.cli import probe

        return probe.run(arguments.name, arguments.model, arguments.json)
    found = [registry.find(name) for name in registry.names()]
    default = registry.default_name()
    if arguments.json:
        rows = [{"name": one.name, "kind": one.kind, "models": dict(one.models), "default": one.name == default} for one in found]
        print(json.dumps({"version": 1, "endpoints": rows}))
        return DONE
    for one in found:
        print(f"{one.name:<14} {one.kind:<10} {', '.join(one.models.values())}{'   (default)' if one.name == default else ''}")
    if "anthropic" not in registry.names():
        print("With ANTHROPIC_API_KEY set, `anthropic` appears here and becomes the default.")
    return DONE


def serve_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--simulated", action="store_true", help="the scripted latency model instead of the embedded one")
    parser.add_argument("--port", type=int, default=0, metavar="P", help="the port on 127.0.0.1; 0 takes a free one (default 0)")
    parser.add_argument(
        "--idle-s", type=float, default=0, metavar="S", help="end after so many seconds without a request; 0 is never (default 0)"
    )


def serve(arguments: argparse.Namespace) -> int:
    from lab.local.__main__ import main

    flags = ["--port", str(arguments.port), "--idle-s", str(arguments.idle_s), *(["--simulated"] if arguments.simulated else [])]
    return FAILED if main(flags) else DONE


def calibrate_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--streams", default="1,4,16", metavar="A,B,…", help="how many streams at once to measure with (default 1,4,16)")
    look.as_json(parser)


def calibrate(arguments: argparse.Namespace) -> int:
    from dataclasses import asdict, is_dataclass

    from lab import calibrate as instrument
    from lab.model import LabError

    try:
        streams = [int(count) for count in arguments.streams.split(",")]
    except ValueError:
        raise LabError(f"--streams takes whole numbers divided by commas, not {arguments.streams!r}.") from None
    found = instrument.calibrate(streams)
    if arguments.json:
        print(json.dumps({"version": 1, **(asdict(found) if is_dataclass(found) else found._asdict())}, default=str))
    else:
        print("\n".join(instrument.lines(found)))
    return DONE
