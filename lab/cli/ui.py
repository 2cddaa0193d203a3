"""`ui`: the dashboard."""

import os
from argparse import ArgumentParser, Namespace

from lab import paths
from lab.model import LabError

PORT = 8501


def handlers(name: str):
    return flags, serve


def flags(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--port",
        type=int,
        default=PORT,
        metavar="P",
        help=f"the port on 127.0.0.1 (default {PORT})",
    )
    parser.add_argument(
        "--headless", action="store_true", help="serve it without opening a browser window"
    )


def serve(arguments: Namespace) -> int:
    """Become Streamlit's own process, so that Ctrl-C and signals reach it as they would there."""
    if not 0 < arguments.port < 65536:
        raise LabError(f"--port takes a number from 1 to 65535, not {arguments.port}.")
    settings = {
        "server.address": "127.0.0.1",
        "server.port": arguments.port,
        "server.showEmailPrompt": "false",
        "browser.gatherUsageStats": "false",
    }
    if arguments.headless:
        settings["server.headless"] = "true"
    flags = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
    print(
        f"Starting the dashboard on http://127.0.0.1:{arguments.port} (Ctrl-C ends it)", flush=True
    )
    command = paths.module("streamlit", "run", str(paths.shipped("app.py")), *flags)
    os.chdir(paths.home())
    os.execv(command[0], command)
