"""A new recording: its run and session, and the key that its hashes are made with."""

from __future__ import annotations

import json
import os
import platform
import secrets
from typing import Any

from lab import clock, paths, processes
from lab.model import OBSERVED, new_id
from lab.recording.scribe import ORIGIN_UTC, known_id
from lab.recording.shape import Hasher
from lab.rows import RunRow, SessionRow
from lab.store.store import Store
from lab.version import VERSION

KEY = "recording.json"


def hasher() -> Hasher:
    """With this user's key, which stays on this machine: the same prompt has the same hash in all
    recordings here, and nobody else can try words against one."""
    file = paths.settings() / KEY
    try:
        key = bytes.fromhex(json.loads(file.read_text())["key"])
    except (OSError, ValueError, KeyError, TypeError):
        key = secrets.token_bytes(32)
        paths.write_private(file, {"key": key.hex()})
    return Hasher(key)


def begin(
    store: Store,
    source: str,
    endpoint: str,
    endpoint_kind: str,
    *,
    keep_text: bool = False,
    name: str | None = None,
    imported: tuple[str, str] | None = None,
    **settings: Any,
) -> tuple[RunRow, SessionRow]:
    """Write the run and the session of a recording, and answer with them. `imported` is the key of
    what is imported (the same key is the same run for ever) and the file's name; instants are then
    offsets from lab.recording.scribe.ORIGIN_UTC. `settings` go into settings.recording: words and
    numbers. It is under way until Store.finish_run, or the end of the process that called
    processes.record last: this one, unless the writing one calls it too."""
    now = clock.utc_now()
    run_id, session_id, origin, file = new_id(), new_id(), now, None
    if imported:
        key, file = imported
        run_id, session_id = known_id(source, key, "run"), known_id(source, key, "session")
        origin = ORIGIN_UTC
    run = RunRow(
        run_id=run_id,
        technique=OBSERVED,
        endpoint=endpoint,
        endpoint_kind=endpoint_kind,
        models={},
        settings={"recording": {"source": source, **settings}},
        seed=0,
        status="running",
        keep_text=keep_text,
        started_utc=now,
        name=name,
        imported_from=file,
    )
    session = SessionRow(
        session_id=session_id,
        run_id=run_id,
        worker=f"{source} {os.getpid()}",
        host=platform.node(),
        started_utc=origin,
        lab_version=VERSION,
        commit=None,
        machine={},
        instrument={},
    )
    processes.record(run_id)
    store.write_run(run)
    store.write_session(session)
    return run, session
