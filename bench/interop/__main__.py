"""Clients and servers that nobody here wrote, against the lab: `python -m bench.interop [--only
NAME…] [--keep DIR]`.

Each is installed at its pinned version in an environment of its own, from PyPI or npm, and sees no
variable of the user's. A client asks the simulated server, and where that can work the embedded
model, for five things: a greeting, a stream, a tool that runs, a cached prefix, an object of a
given shape. A server is an endpoint of the lab: `endpoints test`, `streaming --quick`, `caching
--quick`. Prints the tables of docs/interop.md. Ends with 1 where a client's check that its file has
does not pass.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.ground import ENDPOINT, Ended, Ground
from bench.interop.catalogue import (
    CHECKS,
    CLIENTS,
    EMBEDDED,
    HERE,
    KEY,
    MODELS,
    SERVERS,
    Client,
    Server,
)
from lab import paths, scrub, techniques

INSTALL_S, CLIENT_S, START_S, RUN_S = 600, 600, 90, 900
DOCUMENT = paths.ROOT / "docs" / "interop.md"


def main() -> int:
    flags = argparse.ArgumentParser(
        prog="python -m bench.interop", description=__doc__.split("\n")[0]
    )
    flags.add_argument("--clients", action="store_true", help="only the clients")
    flags.add_argument("--servers", action="store_true", help="only the servers")
    flags.add_argument(
        "--only",
        nargs="+",
        metavar="NAME",
        default=[],
        help="only those whose name holds one of these words",
    )
    flags.add_argument(
        "--keep",
        type=Path,
        metavar="DIR",
        help="keep what is installed there, and use it the next time",
    )
    flags.add_argument(
        "--no-embedded",
        action="store_true",
        help="not against the embedded model: it takes minutes",
    )
    flags.add_argument(
        "--write", action="store_true", help="put the rows and the recipes into docs/interop.md too"
    )
    chosen = flags.parse_args()
    clients = [client for client in CLIENTS if wanted(client.name, chosen.only)]
    servers = [server for server in SERVERS if wanted(server.name, chosen.only)]
    keep = (chosen.keep or Path(tempfile.mkdtemp(prefix="lab-interop-"))).resolve()
    keep.mkdir(parents=True, exist_ok=True)
    passed = True
    if chosen.write:
        write_recipes()
    try:
        if clients and (chosen.clients or not chosen.servers):
            passed &= try_clients(clients, keep, "--simulated", MODELS["small"], chosen.write)
            slow = [client for client in clients if client.embedded]
            if slow and not chosen.no_embedded:
                passed &= try_clients(slow, keep, "", EMBEDDED, chosen.write)
        if servers and (chosen.servers or not chosen.clients):
            try_servers(servers, keep, chosen.write)
    finally:
        if not chosen.keep:
            shutil.rmtree(keep, ignore_errors=True)
    return 0 if passed else 1


def wanted(name: str, only: list[str]) -> bool:
    return not only or any(word.lower() in name.lower() for word in only)


class Table:
    """A table that is printed row by row; `write` puts each into its place in docs/interop.md as
    well."""

    def __init__(self, write: bool, *cells: str) -> None:
        self.write, self.head = write, line(*cells)
        print(f"\n{self.head}\n{line(*['---'] * len(cells))}", flush=True)

    def row(self, *cells: str) -> None:
        print(line(*cells), flush=True)
        if self.write:
            before, head, after = DOCUMENT.read_text(encoding="utf-8").partition(self.head)
            table, end, rest = after.partition("\n\n")
            rows = [
                line(*cells) if old.startswith(f"| {cells[0]} |") else old
                for old in table.splitlines()
            ]
            DOCUMENT.write_text(before + head + "\n".join(rows) + end + rest, encoding="utf-8")


def line(*cells: str) -> str:
    return "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |"


def write_recipes() -> None:
    """Each client's file, whole, under its name."""
    text = DOCUMENT.read_text(encoding="utf-8")
    for client in CLIENTS:
        before, head, after = text.partition(f"### {client.name}\n")
        opening, _, rest = after.partition("```")
        language, (_, _, end) = rest.partition("\n")[0], rest.partition("\n```\n")
        source = client.path.read_text(encoding="utf-8")
        text = f"{before}{head}{opening}```{language}\n{source}```\n{end}"
    DOCUMENT.write_text(text, encoding="utf-8")


# What is installed where


def installed(keep: Path, packages: tuple[str, ...], npm: tuple[str, ...]) -> Path:
    """The folder with these packages, from PyPI and npm; what stands there already is left
    alone."""
    pins = " ".join(packages + npm)
    folder = keep / (re.sub(r"[^a-z0-9.]+", "-", pins.lower()).strip("-") or "nothing")
    mark = folder / "installed"
    if mark.exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    if pins:
        print(f"installing {pins}", file=sys.stderr)
    if packages:
        install(sys.executable, "-m", "venv", str(folder / "venv"))
        install(
            str(folder / "venv/bin/python"),
            "-m",
            "pip",
            "install",
            "-q",
            "--disable-pip-version-check",
            *packages,
        )
    if npm:
        install(
            "npm", "install", "--silent", "--no-fund", "--no-audit", "--prefix", str(folder), *npm
        )
    mark.touch()
    return folder


def install(*command: str) -> None:
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=INSTALL_S, stdin=subprocess.DEVNULL
    )
    if done.returncode:
        raise RuntimeError(
            f"{' '.join(command)}: {(done.stderr or done.stdout).strip().splitlines()[-1]}"
        )


def alone(folder: Path, work: Path, **variables: str) -> dict[str, str]:
    """Variables for a process that is to see nothing of the user's: no key, no settings, a home of
    its own."""
    path = f"{folder}/venv/bin:{folder}/node_modules/.bin:{os.environ['PATH']}"
    return {"PATH": path, "HOME": str(work), "LANG": "C.UTF-8", **variables}


# The clients


def try_clients(clients: list[Client], keep: Path, mode: str, model: str, write: bool) -> bool:
    table = Table(write, f"client, `serve{mode and ' ' + mode}`", "version", *CHECKS)
    passed = True
    with served(*([mode] if mode else [])) as url:
        for client in clients:
            told = try_client(client, keep, url, model)
            passed &= all(word in ("ok", "–") for word in told.values())
            table.row(client.name, ", ".join(client.packages + client.npm), *told.values())
    return passed


def try_client(client: Client, keep: Path, url: str, model: str) -> dict[str, str]:
    """A word for each check: ok, – where the client does not offer it, or what went wrong."""
    node = client.file.endswith(".mjs")
    try:
        folder = installed(
            keep, () if node else client.packages, client.packages if node else client.npm
        )
    except (RuntimeError, subprocess.TimeoutExpired) as error:
        return dict.fromkeys(CHECKS, f"not installed: {scrub.text(str(error), 160)}")
    work = Path(tempfile.mkdtemp(prefix="work-", dir=folder))
    try:
        # Node looks for packages where the file lies.
        path = shutil.copy(client.path, folder) if node else client.path
        runner = shutil.copy(HERE / "try_node.mjs", folder) if node else HERE / "try_python.py"
        python = folder / "venv/bin/python" if client.packages else sys.executable
        printed = work / "printed"
        with printed.open("wb") as writer:
            process = subprocess.Popen(
                ["node" if node else str(python), str(runner), str(path), *CHECKS],
                cwd=work,
                env=alone(
                    folder, work, LAB_MODEL=model, ANTHROPIC_BASE_URL=url, ANTHROPIC_API_KEY=KEY
                ),
                stdout=writer,
                stderr=writer,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        try:
            ended = f"ended with {process.wait(CLIENT_S)}"
        except subprocess.TimeoutExpired:
            ended = f"no end after {CLIENT_S} s"
        finally:
            end(process, signal.SIGKILL)
        return words(client, printed.read_text(errors="replace"), ended)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def words(client: Client, printed: str, ended: str) -> dict[str, str]:
    """From the last line that the runner wrote; a check that its file has and that gave nothing met
    the end."""
    gave = {}
    for line in printed.splitlines():
        with contextlib.suppress(ValueError):
            gave = json.loads(line) if line.startswith("{") else gave
    if not gave and printed.strip():
        ended = f"{ended}: {scrub.text(printed.strip()[-160:], 160)}"
    has = re.findall(
        r"^(?:def|export async function) (\w+)",
        client.path.read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    return {
        check: judged(check, gave[check]) if check in gave else ended if check in has else "–"
        for check in CHECKS
    }


def judged(check: str, gave: Any) -> str:
    """`ok` for a text, two pieces or more, a tool that ran and an answer after it, a token read
    from the cache, an object with a city."""
    if isinstance(gave, dict) and "error" in gave:
        return scrub.text(" ".join(str(gave["error"]).split()), 200)
    good = {
        "hello": lambda: bool(gave),
        "stream": lambda: gave >= 2,
        "tool": lambda: len(gave) == 2 and all(gave),
        "cached": lambda: gave >= 1,
        "structured": lambda: isinstance(gave["city"], str),
    }[check]
    with contextlib.suppress(TypeError, KeyError):
        if good():
            return "ok"
    return f"got {scrub.text(json.dumps(gave), 80)}"


# The servers


def try_servers(servers: list[Server], keep: Path, write: bool) -> None:
    """Through whatever stands between, the simulated server is what answers; llama.cpp and a mock
    answer by themselves."""
    table = Table(
        write, "server", "version", "`endpoints test`", "`streaming --quick`", "`caching --quick`"
    )
    with served("--simulated") as behind:
        for server in servers:
            table.row(
                server.name,
                ", ".join(server.packages + server.npm) or version(server),
                *try_server(server, keep, behind),
            )


def version(server: Server) -> str:
    if server.program:
        told = (
            subprocess.run([server.program, "-v"], capture_output=True, text=True)
            if shutil.which(server.program)
            else None
        )
        return (told.stderr or told.stdout).strip().rpartition(" ")[2] if told else "–"
    from importlib.metadata import version as of

    return f"xllamacpp=={of('xllamacpp')}"


def try_server(server: Server, keep: Path, behind: str) -> tuple[str, ...]:
    if server.program and not shutil.which(server.program):
        return (
            f"skipped: {server.program} is not installed (apt-get install {server.program})",
            "–",
            "–",
        )
    try:
        folder = installed(keep, server.packages, server.npm)
    except (RuntimeError, subprocess.TimeoutExpired) as error:
        return (f"not installed: {scrub.text(str(error), 160)}", "–", "–")
    work, port = Path(tempfile.mkdtemp(prefix="work-", dir=folder)), free_port()
    log = work / "log"
    with log.open("wb") as writer:
        process = subprocess.Popen(
            server.command(work, port, behind),
            env=alone(folder, work, PYTHONPATH=str(HERE.parent.parent)),
            stdout=writer,
            stderr=writer,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    try:
        if not answers(port, process):
            return (
                f"did not start: {scrub.text(log.read_text(errors='replace').strip()[-160:], 160)}",
                "–",
                "–",
            )
        return asked(server, work, port)
    finally:
        end(process, signal.SIGTERM)
        shutil.rmtree(work, ignore_errors=True)


def asked(server: Server, work: Path, port: int) -> tuple[str, ...]:
    """Probe and both runs, from a lab whose settings name the server as `bench`."""
    trusted = {"SSL_CERT_FILE": str(work / server.certificate)} if server.certificate else {}
    settings = {"base_url": f"{server.scheme}://127.0.0.1:{port}", "api_key": KEY, **server.models}
    with Ground(**trusted) as ground:
        lines = "\n".join(f"{name} = {json.dumps(value)}" for name, value in settings.items())
        (ground.folder / "secrets.toml").write_text(f"[endpoints.{ENDPOINT}]\n{lines}\n")
        probe = ground.cli("endpoints", "test", ENDPOINT, "--json", seconds=RUN_S)
        run = ("--quick", "--endpoint", ENDPOINT, "--json")
        runs = (("streaming", *run), ("caching", *run, *server.caching))
        return (probed(probe), *(verdict(ground.cli(*words, seconds=RUN_S)) for words in runs))


def probed(ended: Ended) -> str:
    """What `endpoints test` says no to, and how the server caches, in its own words."""
    try:
        checks = json.loads(ended.out)["checks"]
    except ValueError:
        return last(ended)
    told = [
        f"; {check['check']}: {short(check['seen'])}"
        for check in checks
        if not check["supported"] or check["check"] == "caching"
    ]
    return f"{sum(check['supported'] for check in checks)} of {len(checks)} yes{''.join(told)}"


def verdict(ended: Ended) -> str:
    """A run's headline and what its notes say of the server, or why it ended."""
    kinds = {note for technique in techniques.all_techniques() for note in technique.notes.values()}
    try:
        told = json.loads(ended.out)
        words = "; ".join(
            [
                told["verdict"]["headline"].rstrip("."),
                *(short(note) for note in told["notes"] if note not in kinds),
            ]
        )
    except (ValueError, LookupError, TypeError):
        return last(ended)
    return words if ended.code == 0 else f"exit {ended.code}: {last(ended)}"


def short(text: str) -> str:
    return textwrap.shorten(text, 130, placeholder=" …")


def last(ended: Ended) -> str:
    lines = [line for line in ended.err.splitlines() if line.strip()] or [f"exit {ended.code}"]
    return scrub.text(lines[-1], 300)


# Processes


def end(process: subprocess.Popen, number: signal.Signals) -> None:
    """With all that it has started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)
    process.wait()


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def answers(port: int, process: subprocess.Popen) -> bool:
    """Whether the process listens within START_S."""
    until = time.monotonic() + START_S
    while time.monotonic() < until and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return True
        time.sleep(0.1)
    return False


@contextlib.contextmanager
def served(*flags: str) -> Iterator[str]:
    """`python main.py serve` as a user starts it, in folders of its own; gives its address."""
    with Ground(LAB_LOCAL_KEY=KEY) as ground:
        port = free_port()
        server = ground.start("main.py", "serve", "--port", str(port), *flags)
        until = time.monotonic() + START_S
        while f":{port}" not in server.printed:
            if server.poll() or time.monotonic() > until:
                raise RuntimeError(f"serve did not start: {server.err.read_text()[-300:]}")
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"


if __name__ == "__main__":
    sys.exit(main())
