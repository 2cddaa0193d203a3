"""A lab of its own in a temporary folder: database, runtime folder and settings apart from the
user's; what it told, and what it kept."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.model import new_id
from lab.store.store import Store

ROOT = Path(__file__).resolve().parent.parent
ENDPOINT = "bench"
TRACEBACK = "Traceback (most recent call last):"


@dataclass
class Ended:
    """A child that has ended: exit code (negative: the signal; None: it hung and was killed), what
    it printed, its peak memory."""

    code: int | None
    out: str
    err: str
    peak_mb: float
    seconds: float


class Child:
    """A process in a session of its own, whose memory is known at its end."""

    def __init__(self, command: list[str], environment: dict[str, str], folder: Path) -> None:
        name = new_id()
        self.out, self.err = folder / f"{name}.out", folder / f"{name}.err"
        self.began = time.monotonic()
        with self.out.open("wb") as out, self.err.open("wb") as err:
            self.process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )
        self.pid = self.process.pid
        self._ended: Ended | None = None

    def poll(self) -> Ended | None:
        if self._ended is None:
            pid, status, usage = os.wait4(self.pid, os.WNOHANG)
            if pid:
                code = os.waitstatus_to_exitcode(status)
                self.process.returncode = code
                peak = usage.ru_maxrss / (1024 if sys.platform == "linux" else 2**20)
                self._ended = Ended(
                    code,
                    self.printed,
                    self.err.read_text(errors="replace"),
                    peak,
                    time.monotonic() - self.began,
                )
        return self._ended

    @property
    def printed(self) -> str:
        return self.out.read_text(errors="replace")

    def wait(self, seconds: float) -> Ended:
        deadline = time.monotonic() + seconds
        while (ended := self.poll()) is None:
            if time.monotonic() > deadline:
                self.send(signal.SIGKILL)
                while (ended := self.poll()) is None:
                    time.sleep(0.01)
                ended.code = None
                break
            time.sleep(0.01)
        return ended

    def send(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)


class Ground:
    """`python main.py` and `python -m lab.worker` in a folder of their own, against one endpoint
    named `bench`."""

    def __init__(self, url: str = "", key: str = "placeholder", **variables: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="lab-bench-"))
        self.database, self.runtime = self.folder / "data" / "lab.duckdb", self.folder / "runtime"
        for folder in (self.database.parent, self.folder / "tmp", self.folder / "said"):
            folder.mkdir()
        secrets = self.folder / "secrets.toml"
        if url:
            self.point_at(url, key)
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("ANTHROPIC_", "LANGFUSE_", "OTEL_", "LAB_"))
        }
        self.environment = {
            **kept,
            "LAB_DB": str(self.database),
            "LAB_RUNTIME": str(self.runtime),
            "LAB_SETTINGS": str(self.folder / "settings"),
            "LAB_SECRETS": str(secrets),
            "TMPDIR": str(self.folder / "tmp"),
            "COLUMNS": "200",
            **variables,
        }
        self.children: list[Child] = []

    def point_at(self, url: str, key: str = "placeholder") -> None:
        (self.folder / "secrets.toml").write_text(
            f'[endpoints.{ENDPOINT}]\nbase_url = "{url}"\napi_key = "{key}"\n'
        )

    def start(self, *words: str, **variables: str) -> Child:
        """`python …`, in the background."""
        child = Child(
            [sys.executable, *words], {**self.environment, **variables}, self.folder / "said"
        )
        self.children.append(child)
        return child

    def cli(self, *words: str, seconds: float = 90, **variables: str) -> Ended:
        return self.start("main.py", *words, **variables).wait(seconds)

    def worker(self, variables: dict[str, str] | None = None, **config: Any) -> tuple[str, Child]:
        """A worker as a dashboard starts it, and its run's id."""
        run_id = config.get("join_run") or new_id()
        runs = self.runtime / "runs"
        runs.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = runs / f"{run_id}.json"
        path.write_text(json.dumps({"run_id": run_id, "config": config}))
        return run_id, self.start("-m", "lab.worker", str(path), **(variables or {}))

    # What it told, what it kept

    def entries(self, run_id: str) -> list[dict[str, Any]]:
        """The progress file's; a torn line is none."""
        found = []
        with contextlib.suppress(FileNotFoundError):
            for line in (self.runtime / "runs" / f"{run_id}.jsonl").read_bytes().splitlines():
                with contextlib.suppress(ValueError):
                    found.append(json.loads(line))
        return found

    def told(self, run_id: str) -> list[str]:
        return [entry["trial_id"] for entry in self.entries(run_id) if entry.get("kind") == "trial"]

    def end(self, run_id: str) -> dict[str, Any]:
        return next(
            (entry for entry in reversed(self.entries(run_id)) if entry.get("kind") == "ended"), {}
        )

    def run_ids(self) -> list[str]:
        """Every run that has a progress file, oldest first."""
        return sorted(path.stem for path in (self.runtime / "runs").glob("*.jsonl"))

    def kept(self, run_id: str) -> list[dict[str, Any]]:
        """The trials that the database has once it is opened again, in their order; `words` are
        those of the trial's error, or a call's."""
        rows = Store(self.database).frame(
            """
            SELECT
                trial_id::VARCHAR AS trial_id,
                outcome,
                coalesce(trials.error_kind || ': ' || coalesce(trials.error_text, ''), (
                    SELECT first(calls.error_kind || ': ' || coalesce(calls.error_text,
                        '')) FROM calls
                    WHERE calls.trial_id = trials.trial_id AND calls.error_kind IS NOT NULL
                ), '') AS words
            FROM trials WHERE run_id = ?::UUID ORDER BY session_id, started_ns
            """,
            [run_id],
        )
        return rows.to_dict("records")

    def status(self, run_id: str) -> str:
        """As `main.py runs --json` says it; a sentence where it cannot."""
        ended = self.cli("runs", "--json")
        try:
            return next(
                (run["status"] for run in strict(ended.out)["runs"] if run["run_id"] == run_id),
                "absent",
            )
        except ValueError as error:
            return f"exit {ended.code}: {error}; {(ended.err or ended.out).strip()[-160:]}"

    def tracebacks(self) -> list[str]:
        """The last lines of every traceback in what was printed, in the logs and in the progress
        files."""
        found = []
        for path in [
            *(self.folder / "said").iterdir(),
            *self.runtime.rglob("*.log"),
            *self.runtime.rglob("*.jsonl"),
        ]:
            with contextlib.suppress(OSError):
                for part in path.read_text(errors="replace").split(TRACEBACK)[1:]:
                    lines = [
                        line
                        for line in part.splitlines()
                        if line and not line.startswith((" ", "(", "|", "+"))
                    ]
                    found.append(lines[0][:200] if lines else part[-200:])
        return found

    def files_with(self, *secrets: str) -> list[str]:
        """The files that hold any of these texts, the settings apart."""
        wanted = [secret.encode() for secret in secrets]
        paths = [
            path
            for path in self.folder.rglob("*")
            if path.is_file() and path.name != "secrets.toml"
        ]
        return [
            str(path.relative_to(self.folder))
            for path in paths
            if any(secret in path.read_bytes() for secret in wanted)
        ]

    # Its processes

    def processes(self) -> dict[int, str]:
        """Every living process that was started with this runtime folder, pid to command; where
        there is no /proc, the children alone."""
        found = {child.pid: "child" for child in self.children if child.poll() is None}
        mark = f"LAB_RUNTIME={self.runtime}".encode()
        for path in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                state = (path / "stat").read_text().rpartition(")")[2].split()[0]
                if state != "Z" and mark in (path / "environ").read_bytes().split(b"\0"):
                    found[int(path.name)] = (
                        (path / "cmdline")
                        .read_bytes()
                        .replace(b"\0", b" ")
                        .decode(errors="replace")
                        .strip()
                    )
        return found

    def close(self) -> None:
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for child in self.children:
            child.wait(5)
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Ground:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()


def strict(text: str) -> Any:
    """JSON as the standard has it; ValueError for NaN and Infinity."""

    def refuse(word: str) -> None:
        raise ValueError(f"{word} is no JSON")

    return json.loads(text, parse_constant=refuse)


def until(condition: Callable[[], Any], seconds: float, pause_s: float = 0.005) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(pause_s)
    return True


HOLD = """
import duckdb, sys, time
while True:
    try:
        connection = duckdb.connect(sys.argv[1])
        break
    except duckdb.IOException:  # the lab itself is at it just now
        time.sleep(0.002)
print("held", flush=True)
time.sleep(600)
"""


@contextlib.contextmanager
def held(database: Path) -> Iterator[None]:
    """Another program holds the database file, one that knows nothing of the lab's turns."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(database)], stdout=subprocess.PIPE, text=True
    )
    holder.stdout.readline()
    try:
        yield
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()
