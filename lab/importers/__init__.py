"""What others have recorded of an application, made into recordings of the lab.

An importer is a module here with NAME, TITLE, CANNOT (the questions that its source leaves open),
recognises(the file's first bytes) and read(source), which gives what is seen of each call. Nothing
else has to know of it but IMPORTERS.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from types import ModuleType

from lab import new_recording, scrub
from lab.importers import claude_code, claude_tap, har, otlp_json
from lab.importers.import_summary import Progress, Summary
from lab.importers.intake import Intake
from lab.importers.json_files import Source
from lab.model import LabError
from lab.store import importing
from lab.store.store import Store

IMPORTERS: tuple[ModuleType, ...] = (har, otlp_json, claude_tap, claude_code)
"""In the order in which a file is offered to them."""
HEAD = 65_536


def bring_in(
    place: Path | str | Sequence[Path],
    store: Store,
    *,
    keep_text: bool = False,
    name: str | None = None,
    progress: Callable[[Progress], None] = lambda done: None,
) -> Summary:
    """Import a file, a folder, or several files together; again adds only what is new. `name` is
    the recording's. A KeyboardInterrupt ends it early, with what was read so far. Raises LabError
    where nothing in it can be read."""
    places = [Path(place)] if isinstance(place, str | Path) else list(place)
    for one in places:
        if not (one.is_file() or one.is_dir()):
            raise LabError(f"There is no file or folder {one}. Give one that is there.")
    called = scrub.visible(places[0].resolve().name if len(places) == 1 else f"{len(places)} files")
    summary = Summary(called)
    if len(places) == 1 and _is_database(places[0]):
        if keep_text or name:
            raise LabError(
                f"{called} is another lab's: it comes in as it is, text and names too. Leave"
                " --keep-text and --name out."
            )
        summary.database = store.import_from(places[0])
        return summary
    by_importer, others = _sorted(places)
    if not by_importer:
        raise LabError(
            f"Nothing in {called} can be imported. Give Claude Code transcripts (.jsonl), a HAR"
            " file, OpenTelemetry spans as OTLP JSON, a claude-tap trace, or another lab.duckdb."
        )
    if others:
        summary.left_out["files of another kind"] = others
    hasher = new_recording.hasher()
    sources = {one: Source(files, hasher, keep_text) for one, files in by_importer.items()}
    size = sum(file.stat().st_size for source in sources.values() for file in source.files)
    folder = str(places[0].resolve()) if len(places) == 1 and places[0].is_dir() else None

    def tell() -> None:
        read_bytes = sum(source.read_bytes for source in sources.values())
        progress(Progress(summary.met, read_bytes, size))

    for importer, source in sources.items():
        summary.sources.append(importer.TITLE)
        summary.cannot += importer.CANNOT
        Intake(importer, source, store, summary, folder, name).take_in(tell)
        summary.left_out += source.left_out
        if summary.is_interrupted:
            break
    return summary


def _sorted(places: Sequence[Path]) -> tuple[dict[ModuleType, list[Path]], int]:
    """The files by the importer that knows them, and how many are none's."""
    by_importer: dict[ModuleType, list[Path]] = {}
    others = 0
    for file in chain.from_iterable(map(_files, places)):
        try:
            with file.open("rb") as opened:
                head = opened.read(HEAD)
        except OSError:
            head = b"?"
        importer = next((one for one in IMPORTERS if one.recognises(head)), None)
        if importer:
            by_importer.setdefault(importer, []).append(file)
        else:
            others += bool(head)
    return by_importer, others


def _files(place: Path) -> Iterator[Path]:
    """A folder's files of JSON at any depth, by links none; a pipe or a device is no file."""
    if not place.is_dir():
        yield place
        return
    for folder, _, names in os.walk(place):
        for name in names:
            file = Path(folder, name)
            is_wanted = file.suffix.lower() in SUFFIXES and not name.endswith(NO_CALLS)
            if is_wanted and stat.S_ISREG(file.lstat().st_mode):
                yield file


SUFFIXES = (".jsonl", ".ndjson", ".json", ".har")
NO_CALLS = (".meta.json", "sessions-index.json")
"""What Claude Code keeps beside its transcripts."""


def _is_database(place: Path) -> bool:
    """Whether it is another lab's: its database, or the folder or the zip of an export."""
    if place.is_dir():
        return any((place / f"runs.{form}").exists() for form in importing.FORMS)
    if not place.is_file():
        return False
    with place.open("rb") as opened:
        head = opened.read(12)
    return head.startswith(b"PK") or head[8:] == b"DUCK"
