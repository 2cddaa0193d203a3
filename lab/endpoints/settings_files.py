"""Small JSON files in the user's settings folder: what was agreed to (consents.json) and what was
found out (caching.json)."""

from __future__ import annotations

import json
import os
from typing import Any

from lab import paths
from lab.model import LabError


def read(name: str) -> dict[str, Any]:
    """Empty where the file is missing, broken or another user's."""
    file = paths.settings() / name
    try:
        values = (
            json.loads(file.read_text(encoding="utf-8"))
            if file.stat().st_uid == os.getuid()
            else {}
        )
    except (OSError, ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}


def write(name: str, values: dict[str, Any], what: str) -> None:
    """In one step, readable by the user alone; LabError says that `what` cannot be kept."""
    file = paths.settings() / name
    draft = file.with_name(f".{file.stem}.{os.getpid()}")
    try:
        draft.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as output:
            json.dump(values, output, indent=1, sort_keys=True)
        draft.replace(file)
    except OSError as error:
        raise LabError(
            f"{what} cannot be kept in {file}: {error.strerror}. LAB_SETTINGS names another folder."
        ) from None
