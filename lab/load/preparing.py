"""A load's requests, made in a process beside all else that a load needs before the first of them
goes out (`python -m lab.load.preparing`), by the SDK without its types.

What is asked and answered goes over pipes, a key in it; both ends are this very program.
"""

from __future__ import annotations

import asyncio
import pickle
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from lab import paths
from lab.endpoints.registry import Endpoint
from lab.load import lean_sdk
from lab.load.loading import Prepared
from lab.model import LabError

_begun: list[subprocess.Popen] = []


def begin() -> None:
    """As early as possible. Begun already, or where the SDK is imported anyway, it does nothing."""
    if not _begun and "anthropic" not in sys.modules:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        command = paths.module("lab.load.preparing")
        _begun.append(subprocess.Popen(command, cwd=paths.home(), start_new_session=True, **pipes))


async def prepare(
    endpoint: Endpoint, bodies: Sequence[Mapping[str, Any]], betas: Sequence[str], **options: Any
) -> Prepared:
    """As lab.load.prepared.prepare, by the process that has begun; here where there is none, or it
    ended without an answer."""
    answer = None
    if _begun:
        answer = await _asked(_begun.pop(), pickle.dumps((endpoint, bodies, betas, options)))
    if answer is None:
        from lab.load import prepared

        return await prepared.prepare(endpoint, bodies, betas, **options)
    if isinstance(answer, LabError):
        raise answer
    return answer


async def _asked(process: subprocess.Popen, order: bytes) -> Prepared | LabError | None:
    try:
        told, _ = await asyncio.to_thread(process.communicate, order)
    finally:
        process.kill()
    return pickle.loads(told) if process.returncode == 0 else None


def main() -> None:
    from lab import machine

    machine.start_quickly()
    lean_sdk.use()
    from lab.load import prepared

    asked = sys.stdin.buffer.read()
    if not asked:
        return  # whoever began this needs no request
    endpoint, bodies, betas, options = pickle.loads(asked)
    try:
        answer = asyncio.run(prepared.prepare(endpoint, bodies, betas, **options))
    except LabError as error:
        answer = error
    sys.stdout.buffer.write(pickle.dumps(answer))


if __name__ == "__main__":
    main()
