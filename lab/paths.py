"""Where things are: the project's root, the database, the runtime folder. Variables are read at each call, so tests can move everything."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def database() -> Path:
    """The DuckDB file: LAB_DB, else data/lab.duckdb."""
    return Path(os.environ.get("LAB_DB") or ROOT / "data" / "lab.duckdb").expanduser()


def runtime() -> Path:
    """The user's runtime folder (mode 0700): progress files, locks, the local server's card. LAB_RUNTIME overrides it."""
    folder = runtime_folder()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise PermissionError(
            f"{folder} belongs to another user; set LAB_RUNTIME to a folder of your own."
        )
    folder.chmod(0o700)
    return folder


def runtime_folder() -> Path:
    """Where runtime() is or would be; makes nothing."""
    if chosen := os.environ.get("LAB_RUNTIME"):
        return Path(chosen)
    if os.environ.get("XDG_RUNTIME_DIR") and sys.platform != "darwin":
        return Path(os.environ["XDG_RUNTIME_DIR"]) / "llm-latency-lab"
    return Path(tempfile.gettempdir()) / f"llm-latency-lab-{os.getuid()}"


def settings() -> Path:
    """The user's settings folder, which outlives a restart (consents.json); LAB_SETTINGS overrides it. Makes nothing."""
    if chosen := os.environ.get("LAB_SETTINGS"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "llm-latency-lab"


def models() -> Path:
    """Where model files that the lab makes are kept (the dequantised large tier): LAB_MODELS, else data/models."""
    return Path(os.environ.get("LAB_MODELS") or ROOT / "data" / "models").expanduser()
