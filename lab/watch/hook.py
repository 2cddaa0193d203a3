"""A command of the user's that runs at each change. It may be slow, loud or broken: the watch goes
on, and says so."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shlex
import shutil
import signal
from collections.abc import Mapping

from lab import scrub
from lab.endpoints import keys
from lab.model import LabError
from lab.watch.changes import Change

SECONDS = 30.0
KEYS = (
    *keys.VARIABLES,
    "ANTHROPIC_CUSTOM_HEADERS",
    "CLAUDE_CODE_OAUTH_TOKEN",
    "LAB_API_KEYS",
    "LANGFUSE_SECRET_KEY",
    "LANGFUSE_PUBLIC_KEY",
)
"""What a watch may hold and no command needs, whatever is in it."""
HEADERS = re.compile(r"OTEL_EXPORTER_OTLP_(\w+_)?HEADERS")
WORDS = "LAB_WATCH_WORDS"


def checked(command: str | None) -> str | None:
    """As it can be run from any folder, weeks later; LabError for what no shell could read, and for
    a program that is not there."""
    if command is None or not command.strip():
        return None
    try:
        program, *arguments = map(os.path.expanduser, shlex.split(command))
    except ValueError as error:
        raise LabError(f"--on-change cannot be read ({error}): {command}") from None
    path = shutil.which(program)
    if path is None:
        raise LabError(
            f"--on-change: there is no program {program} that can be run. No shell reads the"
            " command: name a file, or one that is on the PATH."
        )
    return shlex.join([os.path.abspath(path), *arguments])


async def run(command: str, change: Change, seconds: float = SECONDS) -> str | None:
    """The finding as JSON on its input, its sentence as the last argument and in LAB_WATCH_WORDS.
    What went wrong, in words; None where it ended well. Its output goes nowhere."""
    try:
        process = await asyncio.create_subprocess_exec(
            *shlex.split(command),
            change.words,
            env=_environment(change),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        return f"The command at a change did not start: {reason}."
    try:
        async with asyncio.timeout(seconds):
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                await process.communicate(json.dumps(change.told()).encode())
    except TimeoutError:
        return f"The command at a change was ended after {seconds:g} s."
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    code = process.returncode
    return f"The command at a change ended with code {code}." if code else None


def _environment(change: Change) -> Mapping[str, str]:
    secrets = {secret for secret in keys.known() if secret}
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in KEYS
        and not HEADERS.fullmatch(name)
        and value not in secrets
        and not any(len(each) >= scrub.SHORTEST and each in value for each in secrets)
    }
    return {**kept, WORDS: change.words}
