"""What is left after a crash: `python -m bench.crashes [--quick] [--rounds N] [--seed N]`.

Worker, command line, readers, dashboard and servers are killed (SIGKILL, SIGHUP) at seeded moments;
the disk is full, the runtime folder is full, another program holds the database. After each: what
was told is kept, the database opens, no run says that it is running, the run is resumed to its end
without a nonce that was used before, and no process is left. Ends with 1 where any of this does not
hold.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.ground import Child, Ended, Ground, held, strict, until
from bench.raw_server import RawServer

BLOCKS = 12
TRIALS = 2 * BLOCKS
ANSWER_S = 0.02
WORDS = ("--endpoint", "bench", "--runs", str(BLOCKS), "--warmup", "0", "--seed", "1", "--json")
CONFIG = {"technique": "aa", "endpoint": "bench", "runs": BLOCKS, "warmup": 0, "seed": 1}
SIGNALS = {"kill -9": signal.SIGKILL, "SIGHUP": signal.SIGHUP}
SERVER = "lab.local"


@dataclass
class Line:
    """One row of the table: all rounds of one kind of crash."""

    rounds: int = 0
    told: int = 0
    kept: int = 0
    lost: int = 0
    more: int = 0
    """Kept and not told: the crash came between the two."""
    ends: Counter = field(default_factory=Counter)
    resumed: Counter = field(default_factory=Counter)
    reused: int = 0
    wrong: list[str] = field(default_factory=list)


class Bench:
    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.lines: dict[str, Line] = {}

    def check(
        self,
        name: str,
        ground: Ground,
        run_id: str | None,
        printed: str = "",
        told: list[str] | None = None,
    ) -> Line:
        """Hold what was told against what the database has when it is opened again, and let the
        command line name the run's state."""
        line = self.lines.setdefault(name, Line())
        line.rounds += 1
        told = ground.told(run_id) if run_id and told is None else told or []
        kept = [row["trial_id"] for row in ground.kept(run_id)] if run_id else []
        # The last "7/24 …" that was printed speaks for seven trials, whatever became of the
        # progress file.
        lines = [int(done) for done in re.findall(rf"^(\d+)/{TRIALS} ", printed, re.MULTILINE)]
        missing = len(set(told) - set(kept))
        line.told, line.kept = line.told + len(told), line.kept + len(kept)
        line.lost += max(missing, max(lines, default=0) - len(kept))
        line.more += len(set(kept) - set(told))
        status = ground.status(run_id) if run_id else "absent"
        line.ends[status[:60]] += 1
        if status == "running" or (status == "absent" and told) or status.startswith("exit"):
            line.wrong.append(f"after the crash the run is {status}")
        return line

    def resume(self, line: Line, ground: Ground, run_id: str, server: RawServer | None) -> None:
        """The rest of the run; no prompt may be one that was sent before."""
        before = set(server.nonces) if server else set()
        asked = len(server.asked) if server else 0
        ended = ground.cli("resume", run_id, "--json", seconds=120)
        again = {a.nonce for a in server.asked[asked:] if a.nonce} & before if server else set()
        line.reused += len(again)
        kept = {row["trial_id"] for row in ground.kept(run_id)}
        line.lost += len(set(ground.told(run_id)) - kept) if ended.code == 0 else 0
        complete = ended.code == 2 and "has all its" in ended.err
        word = {0: "finished"}.get(ended.code, "complete" if complete else f"exit {ended.code}")
        line.resumed[word] += 1
        if word.startswith("exit"):
            line.wrong.append(f"resume: {word}, {(ended.err or ended.out).strip()[-200:]}")
        elif word == "finished":
            try:
                arms = strict(ended.out)["arms"]
                if server and any(
                    arm["n"] < BLOCKS for arm in arms
                ):  # a server that was killed left failed trials
                    line.wrong.append(f"resumed to {[arm['n'] for arm in arms]} trials an arm")
            except (ValueError, KeyError) as error:
                line.wrong.append(f"resume --json: {error}")

    def after(self, line: Line, ground: Ground) -> None:
        """Nothing printed a traceback, and within 40 s nothing is left but servers."""
        line.wrong += [f"traceback, {text}" for text in ground.tracebacks()]

        def left() -> list[str]:
            return [command for command in ground.processes().values() if SERVER not in command]

        if not until(lambda: not left(), 40, 0.1):
            line.wrong.append(f"left after 40 s: {left()[0][:80]}")


# Moments


def at_random(
    rng: random.Random, ground: Ground, child: Child, run: Callable[[], str | None]
) -> None:
    """Anywhere between the run's announcement and its end."""
    until(lambda: child.poll() or (run() and ground.entries(run())), 30)
    time.sleep(rng.uniform(0, TRIALS * ANSWER_S * 1.5))


def as_it_starts(
    rng: random.Random, ground: Ground, child: Child, run: Callable[[], str | None]
) -> None:
    time.sleep(rng.uniform(0.05, 2.0))


def as_one_is_told(
    rng: random.Random, ground: Ground, child: Child, run: Callable[[], str | None]
) -> None:
    """As soon as the n-th trial is in the progress file."""
    wanted = rng.randint(1, TRIALS)
    until(lambda: child.poll() or (run() and len(ground.told(run())) >= wanted), 30, 0.0005)


def as_it_writes(
    rng: random.Random, ground: Ground, child: Child, run: Callable[[], str | None]
) -> None:
    """As a file of the database's folder has just changed: within a journal's line, a transaction,
    or between them."""
    for _ in range(rng.randint(1, 30)):
        seen = sizes(ground.database.parent)
        if (
            not until(
                lambda seen=seen: child.poll() or sizes(ground.database.parent) != seen, 10, 0.0002
            )
            or child.poll()
        ):
            return
    time.sleep(rng.uniform(0, 0.004))


def as_it_ends(
    rng: random.Random, ground: Ground, child: Child, run: Callable[[], str | None]
) -> None:
    until(lambda: child.poll() or (run() and len(ground.told(run())) >= TRIALS), 60, 0.001)
    time.sleep(rng.uniform(0, 0.3))


def sizes(folder: Path) -> list[tuple[str, int, int]]:
    found = []
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            status = path.stat()
            found.append((path.name, status.st_size, status.st_mtime_ns))
    return sorted(found)


MOMENTS = {
    "at random": at_random,
    "as it starts": as_it_starts,
    "as a trial is told": as_one_is_told,
    "as it writes": as_it_writes,
    "as it ends": as_it_ends,
}


@contextlib.contextmanager
def ground_of_its_own(**variables: str) -> Iterator[tuple[Ground, RawServer]]:
    with (
        RawServer(
            lambda c: c.good(ANSWER_S) if c.asked.method == "POST" else c.json({}, 404)
        ) as server,
        Ground(server.url, **variables) as ground,
    ):
        yield ground, server


def begin(ground: Ground, victim: str, **config: Any) -> tuple[Child, Callable[[], str | None]]:
    """The victim at work, and a function that says which run is its own as soon as that is
    known."""
    if victim == "worker":
        run_id, child = ground.worker(**{**CONFIG, **config})
        return child, lambda: run_id
    before = set(ground.run_ids())
    child = ground.start("main.py", "aa", *WORDS)
    return child, lambda: next(iter(set(ground.run_ids()) - before), None)


# Kinds of crashes


def killed(bench: Bench, victim: str, word: str, moment: str) -> None:
    name = f"{victim}, {word}, {moment}"
    with ground_of_its_own() as (ground, server):
        child, run = begin(ground, victim)
        MOMENTS[moment](bench.rng, ground, child, run)
        child.send(SIGNALS[word])
        ended = child.wait(20)
        run_id = run()
        line = bench.check(name, ground, run_id, ended.err)
        if ended.code is None:
            line.wrong.append("it did not end within 20 s")
        if run_id and ground.kept(run_id):
            if bench.rng.random() < 0.3:  # the resumed one is killed as well
                told = ground.told(run_id)
                _, again = ground.worker(**CONFIG, join_run=run_id)
                sent = set(server.nonces)
                asked = len(server.asked)
                as_one_is_told(bench.rng, ground, again, lambda: run_id)
                again.send(signal.SIGKILL)
                again.wait(20)
                line.reused += len({a.nonce for a in server.asked[asked:] if a.nonce} & sent)
                bench.check(
                    f"{victim}, resumed and killed again",
                    ground,
                    run_id,
                    told=list({*told, *ground.told(run_id)}),
                )
            bench.resume(line, ground, run_id, server)
        bench.after(line, ground)


def reader_killed(bench: Bench, word: str) -> None:
    """After a crash the next command takes the rest in, and is killed while it does."""
    with ground_of_its_own() as (ground, server):
        child, run = begin(ground, "worker")
        as_one_is_told(bench.rng, ground, child, run)
        child.send(signal.SIGKILL)
        child.wait(20)
        run_id = run()
        told = ground.told(run_id)
        reader = ground.start("main.py", "show", run_id, "--json")
        (
            as_it_writes(bench.rng, ground, reader, run)
            if bench.rng.random() < 0.5
            else time.sleep(bench.rng.uniform(0.2, 1.5))
        )
        reader.send(SIGNALS[word])
        reader.wait(20)
        line = bench.check(f"reader after a crash, {word}", ground, run_id, told=told)
        bench.resume(line, ground, run_id, server)
        bench.after(line, ground)


def server_killed(bench: Bench, word: str) -> None:
    """The simulated server under a run: what was measured until then is kept, and the next run
    starts a server of its own."""
    name = f"simulated server, {word}"
    with Ground(LAB_IGNORE_KEYS="1") as ground:
        run_id, child = ground.worker(**{**CONFIG, "endpoint": "simulated"})
        card = ground.runtime / "simulated.json"
        until(lambda: child.poll() or len(ground.told(run_id)) >= bench.rng.randint(1, 8), 60)
        with contextlib.suppress(OSError, ValueError):
            os.kill(json.loads(card.read_text())["pid"], SIGNALS[word])
        ended = child.wait(60)
        line = bench.check(name, ground, run_id)
        if ended.code is None:
            line.wrong.append("the run did not end within 60 s")
        if ground.end(run_id).get("status") != "finished":
            bench.resume(line, ground, run_id, None)
        bench.after(line, ground)


def embedded_server_killed(bench: Bench) -> None:
    """The embedded model's snapshots of prefixes are cleared away by the next server."""
    with Ground(LAB_IGNORE_KEYS="1") as ground:
        line = bench.lines.setdefault("embedded server, kill -9", Line())
        line.rounds += 1

        def serve() -> Child:
            child = ground.start("-m", "lab.local", "--idle-s", "60")
            until(lambda: child.poll() or child.printed.strip(), 120)
            return child

        def snapshots() -> set[str]:
            return {path.name for path in (ground.folder / "tmp").iterdir() if any(path.rglob("*"))}

        child = serve()
        ready = json.loads(child.printed.splitlines()[0])
        text = {
            "type": "text",
            "text": "The harbour has many boats. " * 120,
            "cache_control": {"type": "ephemeral"},
        }
        body = {
            "model": ready["models"]["small"],
            "max_tokens": 8,
            "system": [text],
            "messages": [{"role": "user", "content": "How many?"}],
        }
        headers = {
            "x-api-key": ready["api_key"],
            "anthropic-version": "2023-06-01",
            "content-type": "application/json",
        }
        asked = urllib.request.Request(
            f"{ready['base_url']}/v1/messages", json.dumps(body).encode(), headers
        )
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
            asked, timeout=120
        ) as reply:
            usage = json.load(reply)["usage"]
        left = snapshots()
        child.send(signal.SIGKILL)
        child.wait(10)
        if not left:
            line.wrong.append(f"no snapshot was made, usage {usage}")
        again = serve()
        line.ends[f"{len(left & snapshots())} of {len(left)} folders left"] += 1
        if left & snapshots():
            line.wrong.append(f"left behind: {sorted(left & snapshots())[0]}")
        again.send(signal.SIGTERM)
        again.wait(20)
        bench.after(line, ground)


def dashboard_killed(bench: Bench, words: list[str]) -> None:
    """Run is pressed in a real browser, then the dashboard dies: the worker goes on to its end."""
    from shutil import which

    from playwright.sync_api import sync_playwright

    browser = which("chromium") or which("chromium-browser") or which("google-chrome")
    with sync_playwright() as play:
        opened = play.chromium.launch(
            executable_path=browser, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        for word in words:
            with Ground(LAB_IGNORE_KEYS="1") as ground:
                with socket.socket() as free:
                    free.bind(("127.0.0.1", 0))
                    port = free.getsockname()[1]
                dashboard = ground.start(
                    "-m",
                    "streamlit",
                    "run",
                    "app.py",
                    "--server.port",
                    str(port),
                    "--server.headless",
                    "true",
                )
                until(lambda port=port: reachable(port), 60, 0.05)
                page = opened.new_page()
                page.goto(
                    f"http://127.0.0.1:{port}/Same_thing_twice"
                    f"?endpoint=simulated&blocks={BLOCKS}&set-up-open=true",
                    timeout=120_000,
                )
                page.locator(".st-key-run-button button").click(timeout=120_000)
                until(
                    lambda ground=ground: ground.run_ids() and ground.told(ground.run_ids()[0]), 60
                )
                time.sleep(bench.rng.uniform(0, 0.5))
                dashboard.send(SIGNALS[word])
                dashboard.wait(20)
                run_id = ground.run_ids()[0]
                until(lambda ground=ground, run_id=run_id: ground.end(run_id), 60, 0.05)
                line = bench.check(f"dashboard, {word}", ground, run_id)
                if (status := ground.end(run_id).get("status")) != "finished":
                    line.wrong.append(f"the worker's run ended as {status}")
                page.close()
                bench.after(line, ground)
        opened.close()


def reachable(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


# Full disks and a database in other hands


@contextlib.contextmanager
def small_disk(folder: Path, megabytes: float) -> Iterator[bool]:
    """A file system of so many megabytes at this folder; False where one may not be mounted."""
    folder.mkdir(parents=True, exist_ok=True)
    told = subprocess.run(
        [
            "mount",
            "-t",
            "tmpfs",
            "-o",
            f"size={int(megabytes * 1024)}k,mode=0700",
            "tmpfs",
            str(folder),
        ],
        capture_output=True,
    )
    try:
        yield told.returncode == 0
    finally:
        if told.returncode == 0:
            subprocess.run(["umount", "-l", str(folder)], capture_output=True)


def fill(folder: Path) -> Path:
    """Take the last byte of a disk."""
    path = folder / "filler"
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            with contextlib.suppress(OSError):
                while file.write(b"\0" * size) == size:
                    pass
    return path


def disk_full(bench: Bench, victim: str, what: str) -> None:
    """The database's folder, or the runtime folder, is full from the n-th trial on; later there is
    room again."""
    with ground_of_its_own() as (ground, server):
        folder = ground.database.parent if what == "disk" else ground.runtime
        with small_disk(folder, bench.rng.choice((24, 32, 48))) as mounted:
            if not mounted:
                return
            child, run = begin(ground, victim)
            wanted = bench.rng.randint(0, TRIALS - 2)
            until(lambda: child.poll() or (run() and len(ground.told(run())) >= wanted), 30, 0.0005)
            filler = fill(folder)
            ended = child.wait(90)
            run_id = run()
            full = ground.cli("runs", "--json")
            filler.unlink(missing_ok=True)
            finish_full(bench, f"{what} full, {victim}", ground, server, run_id, ended, full)


def quota(bench: Bench, victim: str) -> None:
    """No file may grow beyond a size (RLIMIT_FSIZE): a quota, as far as a program can tell."""
    import resource

    if not hasattr(resource, "prlimit"):
        return
    with ground_of_its_own() as (ground, server):
        child, run = begin(ground, victim)
        wanted = bench.rng.randint(0, TRIALS - 2)
        until(lambda: child.poll() or (run() and len(ground.told(run())) >= wanted), 30, 0.0005)
        limit = bench.rng.choice((0, 4096, 65536, 1 << 20))
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(child.pid, resource.RLIMIT_FSIZE, (limit, limit))
        ended = child.wait(90)
        finish_full(bench, f"quota, {victim}", ground, server, run(), ended, None)


def finish_full(
    bench: Bench,
    name: str,
    ground: Ground,
    server: RawServer,
    run_id: str | None,
    ended: Ended,
    full: Ended | None,
) -> None:
    line = bench.check(name, ground, run_id, ended.err)
    if ended.code is None:
        line.wrong.append("it did not end within 90 s")
    if full and full.code not in (0, 2):
        line.wrong.append(
            f"while it was full, `runs` ended with {full.code}: {full.err.strip()[-160:]}"
        )
    if run_id and ground.kept(run_id):
        bench.resume(line, ground, run_id, server)
    bench.after(line, ground)


def held_at_the_end(bench: Bench, victim: str) -> None:
    """Another program holds the database from the n-th trial until the run has ended; its rows are
    taken in later."""
    name = f"database held at the end, {victim}"
    with ground_of_its_own() as (ground, _):
        child, run = begin(ground, victim)
        wanted = bench.rng.randint(1, TRIALS)
        until(lambda: child.poll() or (run() and len(ground.told(run())) >= wanted), 30, 0.0005)
        with held(ground.database):
            ended = child.wait(120)
            run_id = run()
            shown = ground.cli("show", run_id, "--json")
        line = bench.check(name, ground, run_id, ended.err)
        if ended.code != 0 or ground.end(run_id).get("status") != "finished":
            line.wrong.append(
                f"the run ended with {ended.code}, {ground.end(run_id)}, {ended.err.strip()[-160:]}"
            )
        for what, text in (
            ("its own", ended.out if victim == "command line" else None),
            ("a reader's", shown.out),
        ):
            try:
                if text is not None and [arm["n"] for arm in strict(text)["arms"]] != [
                    BLOCKS,
                    BLOCKS,
                ]:
                    line.wrong.append(f"{what} --json has not all trials")
            except (ValueError, KeyError) as error:
                line.wrong.append(f"{what} --json: {error!r}, {shown.err.strip()[-160:]}")
        bench.after(line, ground)


def plan(bench: Bench, rounds: int, quick: bool, only: str) -> list[Callable[[], None]]:
    """Every round, in a seeded order: an endless row of one kind would find one kind."""
    victims, half = ("worker", "command line"), max(1, rounds // 2)
    kills = [
        (
            f"{victim}, {word}, {moment}",
            rounds,
            lambda v=victim, w=word, m=moment: killed(bench, v, w, m),
        )
        for victim in victims
        for word in SIGNALS
        for moment in MOMENTS
    ]
    others = [
        *(
            (f"reader after a crash, {word}", rounds, lambda w=word: reader_killed(bench, w))
            for word in SIGNALS
        ),
        *(
            (f"simulated server, {word}", half, lambda w=word: server_killed(bench, w))
            for word in SIGNALS
        ),
        *(
            (f"{what} full, {victim}", rounds, lambda v=victim, w=what: disk_full(bench, v, w))
            for what in ("disk", "runtime folder")
            for victim in victims
        ),
        *((f"quota, {victim}", rounds, lambda v=victim: quota(bench, v)) for victim in victims),
        *(
            (
                f"database held at the end, {victim}",
                half,
                lambda v=victim: held_at_the_end(bench, v),
            )
            for victim in victims
        ),
    ]
    if quick:
        kills, others = bench.rng.sample(kills, 6), others[:: len(victims)]
    else:
        others.append(("embedded server, kill -9", half, lambda: embedded_server_killed(bench)))
        others.append(("dashboard", 1, lambda: dashboard_killed(bench, [*SIGNALS] * half)))
    todo = [crash for name, times, crash in kills + others if only in name for _ in range(times)]
    bench.rng.shuffle(todo)
    return todo


def main() -> int:
    flags = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    flags.add_argument(
        "--quick",
        action="store_true",
        help="some fifteen rounds, without browser and embedded model: about a minute",
    )
    flags.add_argument(
        "--rounds", type=int, default=5, help="so many of each kind; 5 are some 150 crashes"
    )
    flags.add_argument("--seed", type=int, default=1, help="of the moments")
    flags.add_argument("--only", default="", help="kinds of the table whose name has this in it")
    chosen = flags.parse_args()
    bench, began = Bench(chosen.seed), time.monotonic()
    todo = plan(bench, 1 if chosen.quick else chosen.rounds, chosen.quick, chosen.only)
    for done, crash in enumerate(todo, 1):
        crash()
        print(f"\r{done} of {len(todo)}", end="", file=sys.stderr)
    print(file=sys.stderr)
    print(
        f"{'crash':38} {'rounds':>6} {'told':>5} {'kept':>5} {'lost':>4} {'more':>4} {'reused':>6} "
        " then; resumed"
    )
    for name, line in sorted(bench.lines.items()):
        then = ", ".join(f"{word} {n}" for word, n in line.ends.items())
        resumed = ", ".join(f"{word} {n}" for word, n in line.resumed.items())
        print(
            f"{name:38} {line.rounds:6} {line.told:5} {line.kept:5} {line.lost:4} {line.more:4}"
            f" {line.reused:6}  {then}; {resumed}"
        )
    lines = bench.lines.values()
    total = {
        what: sum(getattr(line, what) for line in lines)
        for what in ("rounds", "told", "kept", "lost", "more", "reused")
    }
    wrong = [f"{name}: {text}" for name, line in bench.lines.items() for text in line.wrong]
    print(
        "\n"
        + ", ".join(f"{what} {n}" for what, n in total.items())
        + f"; {time.monotonic() - began:.0f} s"
    )
    for text, n in Counter(wrong).items():
        print(f"wrong: {text}" + (f" ({n} times)" if n > 1 else ""))
    return 1 if total["lost"] or total["reused"] or wrong else 0


if __name__ == "__main__":
    sys.exit(main())
