"""An environment of its own for each client: installed once, and how large it is."""

from __future__ import annotations

import json
import os
import shutil
import sys
from importlib.metadata import distributions
from pathlib import Path
from typing import NamedTuple

from bench.interop.__main__ import install
from bench.peers.catalogue import HERE, Client


class Installed(NamedTuple):
    programs: Path
    letters: Path
    packages: list[str]
    """What pip was asked for."""
    count: int
    """Packages that came, but for pip itself."""
    size_mb: float


def installed(client: Client, folder: Path) -> Installed:
    """What stands there already is left alone. Raises RuntimeError where pip could not."""
    home = folder / client.slug
    mark = home / "installed.json"
    if not mark.exists():
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir(parents=True)
        packages = _install(client, home / "venv")
        count, size_mb = _size(home / "venv")
        if client.has_letters:
            python = str(home / "venv/bin/python")
            install(python, str(HERE / "letters.py"), str(home / "letters"))
        mark.write_text(json.dumps([packages, count, size_mb]))
    return Installed(home / "venv/bin", home / "letters", *json.loads(mark.read_text()))


def _install(client: Client, venv: Path) -> list[str]:
    print(f"installing {' '.join(client.packages)}", file=sys.stderr)
    install(sys.executable, "-m", "venv", str(venv))
    pip = (str(venv / "bin/python"), "-m", "pip", "install", "-q", "--disable-pip-version-check")
    try:
        install(*pip, *client.packages)
        return list(client.packages)
    except RuntimeError:
        if not client.or_packages:
            raise
    install(*pip, *client.or_packages)
    return list(client.or_packages)


def _size(venv: Path) -> tuple[int, float]:
    site = next((venv / "lib").glob("python*")) / "site-packages"
    names = {one.metadata["Name"].lower() for one in distributions(path=[str(site)])}
    files = (Path(at) / name for at, _, names in os.walk(site) for name in names)
    size = sum(file.lstat().st_size for file in files)
    return len(names - {"pip", "setuptools"}), size / 1e6
