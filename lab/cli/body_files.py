"""Request bodies from the files that a command names."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from lab.model import LabError


def bodies(files: list[str]) -> list[dict[str, Any]]:
    """Each file's body, named after its file where it has no name of its own."""
    from lab import pasted

    objects: list[dict[str, Any]] = []
    for path in map(Path, files):
        try:
            read = pasted.read(path.read_text(encoding="utf-8-sig"))
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
            raise LabError(f"{path} cannot be read: {reason}.") from None
        except pasted.Misplaced as error:
            raise LabError(f"{path}, {error}") from None
        except LabError as error:
            raise LabError(f"{path} cannot be read: {error}") from None
        if read.left_out:
            print(f"{path}: left out {', '.join(read.left_out)}.", file=sys.stderr)
        value = read.body
        taken = {each["name"] for each in objects}
        name = str(value.get("name") or path.stem)
        unique = name if name not in taken else f"{name} {len(objects) + 1}"
        objects.append({**value, "name": unique})
    return objects
