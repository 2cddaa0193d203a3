"""One client against one server: what it told, joined with what the server wrote, and what the
client's processes cost."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import statistics
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any, NamedTuple

import duckdb

from bench.interop.__main__ import alone
from bench.peers import bias
from bench.peers.catalogue import Client, Load
from bench.peers.environments import Installed
from bench.peers.process_tree import ProcessTree, busy_s
from lab.clock import now_ns
from lab.load import known

OVER_S, LOOK_S, CLIENT_S = 0.84, 0.5, 180
"""Streams begin spread over one answer's length; a client that takes longer is ended."""


class Ended(NamedTuple):
    tree: ProcessTree
    begun_ns: int
    seconds: float
    code: int
    cpu_s: float
    foreign_share: float
    """Of its core's time, what went to processes that are not its own."""


def cores() -> tuple[int | None, int | None]:
    """The client's and the server's; None where there are no two to give."""
    if not (hasattr(os, "sched_getaffinity") and len(os.sched_getaffinity(0)) > 1):
        return None, None
    ordered = sorted(os.sched_getaffinity(0))
    return ordered[0], ordered[-1]


def played(
    client: Client,
    environment: Installed,
    streams: int,
    requests: int,
    pinned: tuple[int | None, int | None],
) -> dict[str, Any]:
    """One run as a row of runs.jsonl; times in ms unless named otherwise."""
    server = known.start(core=pinned[1])
    work = Path(tempfile.mkdtemp(prefix="lab-peer-"))
    try:
        url = known.base_url(server)
        load = Load(url, streams, requests, OVER_S, environment.programs, environment.letters, work)
        ended = run(client, load, pinned[0])
        with urllib.request.urlopen(f"{url}/known", timeout=60) as answer:
            told_by_server = json.load(answer)
        about = {"client": client.name, "streams": streams, "requests": requests}
        about |= {"packages": environment.packages, "package_count": environment.count}
        about |= {"install_mb": environment.size_mb, "exit": ended.code}
        about |= {"foreign_share": ended.foreign_share}
        return about | errors(client, work, told_by_server) | costs(ended, told_by_server)
    finally:
        server.stdin.close()
        server.wait()
        shutil.rmtree(work, ignore_errors=True)


def run(client: Client, load: Load, core: int | None) -> Ended:
    """To its end, or for CLIENT_S."""
    pin = [] if core is None else ["taskset", "-c", str(core)]
    command = [*pin, *client.command(load)]
    variables = {name: value.format(work=load.work) for name, value in client.variables}
    environment = alone(load.programs.parent.parent, load.work, **variables)
    begun_ns, before_s = now_ns(), busy_s(core)
    with (load.work / "printed").open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=load.work,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    tree = ProcessTree(process.pid)
    try:
        cpu_s = watched(process, tree)
    finally:
        kill(tree)
    seconds = (now_ns() - begun_ns) / 1e9
    foreign_s = busy_s(core) - before_s - cpu_s
    return Ended(tree, begun_ns, seconds, process.returncode, cpu_s, foreign_s / seconds)


def watched(process: subprocess.Popen, tree: ProcessTree) -> float:
    """Until it has ended; the CPU seconds of all its processes."""
    begun_ns = look_ns = now_ns()
    pid = 0
    while not pid:
        if now_ns() >= look_ns:
            tree.look()
            look_ns = now_ns() + int(LOOK_S * 1e9)
        if now_ns() - begun_ns > CLIENT_S * 1e9:
            kill(tree)
        time.sleep(0.05)
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
    process.returncode = os.waitstatus_to_exitcode(status)
    return max(tree.samples[-1].cpu_s, usage.ru_utime + usage.ru_stime)


def kill(tree: ProcessTree) -> None:
    """Whatever of it lives on, in whichever session."""
    for pid in tree.alive():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def errors(client: Client, work: Path, told_by_server: dict[str, Any]) -> dict[str, Any]:
    """Of the answers that the client told of; None of a figure that its export does not have."""
    try:
        told = client.read(work)
    except (OSError, KeyError, ValueError, duckdb.Error) as error:
        printed = (work / "printed").read_text(errors="replace").strip()[-400:]
        return {"answered": 0, "failure": f"{type(error).__name__}: {printed}"}
    pairs = bias.joined(told, bias.known_answers(told_by_server))
    gaps, itl = bias.gap_errors_ms(pairs), bias.itl_errors_ms(pairs)
    return {
        "answered": len(pairs),
        "bias": bias.spread(bias.ttft_bias_ms(pairs)) if pairs else None,
        "gap_error": errors_of(gaps),
        "itl_error": errors_of(itl),
    }


def errors_of(values: list[float]) -> dict[str, float] | None:
    return {"mean": statistics.fmean(values), **bias.spread(values)} if values else None


def costs(ended: Ended, told_by_server: dict[str, Any]) -> dict[str, Any]:
    """CPU seconds before the first request was read, until the last token was written, and
    after."""
    tree, answers = ended.tree, [one for one in told_by_server.values() if one["written_ns"]]
    tokens = sum(len(one["written_ns"]) for one in answers)
    if not tokens:
        return {"tokens": 0, "seconds": ended.seconds}
    late_ms = [(one["written_ns"][0] - one["due_ns"]) / 1e6 for one in answers]
    first_ns = min(one["read_ns"] for one in answers)
    last_ns = max(one["written_ns"][-1] for one in answers)
    start, end = tree.cpu_until(first_ns), tree.cpu_until(last_ns)
    return {
        "tokens": tokens,
        "server_late_ms": bias.quantile(late_ms, 95),
        "seconds": ended.seconds,
        "first_request_s": (first_ns - ended.begun_ns) / 1e9,
        "cpu_start_s": start,
        "cpu_load_s": end - start,
        "cpu_end_s": max(0.0, ended.cpu_s - end),
        "peak_rss_mb": tree.peak_rss_mb,
        "processes": tree.most_processes,
    }
