"""A command of the user's that runs at each change. It may be slow, loud or broken: the watch goes
on, and says so."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shlex
import signal
from collections.abc import Mapping

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
"""What a watch may hold and no command needs."""
WORDS = "LAB_WATCH_WORDS"


def checked(command: str | None) -> str | None:
    """LabError for what no shell could read either."""
    if command is None or not command.strip():
        return None
    try:
        shlex.split(command)
    except ValueError as error:
        raise LabError(f"--on-change cannot be read ({error}): {command}") from None
    return command


async def run(command: str, change: Change, seconds: float = SECONDS) -> str | None:
    """The finding as JSON on its input, its sentence as the last argument and in LAB_WATCH_WORDS.
    What went wrong, in words; None where it ended well. Its output goes nowhere."""
    argv = [*shlex.split(command), change.words]
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            env=_environment(change),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError as error:
        return f"The command at a change did not start: {error.strerror}."
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
    kept = {name: value for name, value in os.environ.items() if name not in KEYS}
    return {**kept, WORDS: change.words}
