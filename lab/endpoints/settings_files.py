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
        own = file.stat().st_uid == os.getuid()
        values = json.loads(file.read_text(encoding="utf-8")) if own else {}
    except (OSError, ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}


def write(name: str, values: dict[str, Any], what: str) -> None:
    """LabError says that `what` cannot be kept."""
    file = paths.settings() / name
    try:
        paths.write_private(file, values)
    except OSError as error:
        raise LabError(
            f"{what} cannot be kept in {file}: {error.strerror}. LAB_SETTINGS names another folder."
        ) from None
