"""Where things are: what comes with the lab, what it writes, and what it keeps for a user.
Variables are read at each call, so that tests can move everything."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

NAME = "llm-latency-lab"
ROOT = Path(__file__).resolve().parent.parent
"""The folder that `lab` lies in: the checkout, or site-packages."""
_PACKED = Path(__file__).resolve().parent / "shipped"
INSTALLED = _PACKED.is_dir()
"""Whether the lab runs from a wheel, which carries data, pages and app.py inside the package."""
COMMAND = "latency-lab" if INSTALLED else "python main.py"
"""What a user types before the name of a command."""


def shipped(name: str = "") -> Path:
    """A file or folder that comes with the lab, by its path in the checkout: data/prices.toml."""
    return (_PACKED if INSTALLED else ROOT) / name


def home() -> Path:
    """Where databases and settings of a project are: the checkout; of an installed lab the folder
    that one stands in."""
    return Path.cwd() if INSTALLED else ROOT


def module(name: str, *arguments: str) -> list[str]:
    """The command that runs a module of the lab in a process of its own, to be started in home().

    An installed lab never looks for modules in the folder that one stands in (-P).
    """
    return [sys.executable, *(["-P"] if INSTALLED else []), "-m", name, *arguments]


def database() -> Path:
    """The DuckDB file: LAB_DB, else data/lab.duckdb of a checkout, else lab.duckdb where one
    stands."""
    default = home() / ("lab.duckdb" if INSTALLED else "data/lab.duckdb")
    return Path(os.environ.get("LAB_DB") or default).expanduser()


def runtime() -> Path:
    """The user's runtime folder (mode 0700): progress files, locks, the local server's card.
    LAB_RUNTIME overrides it."""
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
    if sys.platform == "darwin":
        return _platform().user_runtime_path
    # Not platformdirs': the one measurement of a machine needs one folder for all its shells, and
    # where the session has none, platformdirs' fallback differs by release.
    if session := os.environ.get("XDG_RUNTIME_DIR"):
        return Path(session) / NAME
    return Path(tempfile.gettempdir()) / f"{NAME}-{os.getuid()}"


def settings() -> Path:
    """The user's settings folder, which outlives a restart (consents.json); LAB_SETTINGS overrides
    it. Makes nothing."""
    if chosen := os.environ.get("LAB_SETTINGS"):
        return Path(chosen)
    return _platform().user_config_path


def models() -> Path:
    """Where model files that the lab makes are kept (the dequantised large tier): LAB_MODELS, else
    data/models of a checkout, else the user's cache folder."""
    if chosen := os.environ.get("LAB_MODELS"):
        return Path(chosen).expanduser()
    return _platform().user_cache_path / "models" if INSTALLED else ROOT / "data" / "models"


def write_private(file: Path, values: dict[str, Any]) -> None:
    """As JSON, in one step, readable by the user alone; OSError where the folder refuses it."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as output:
        json.dump(values, output, indent=1, sort_keys=True)
    draft.replace(file)


def commit() -> str | None:
    """The checkout's commit, if the lab runs from one."""
    if INSTALLED:  # the repository around it would be another project's
        return None
    import subprocess  # which few commands need

    try:
        reply = subprocess.run(
            ["git", "rev-parse", "--short=12", "HEAD"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=5,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return reply.stdout.strip() or None


def _platform():
    from platformdirs import PlatformDirs  # 30 ms that most commands need not spend

    return PlatformDirs(NAME, appauthor=False)
