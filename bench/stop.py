"""How long Stop takes, at every moment that a run has: `python -m bench.stop [--quick] [--only
WORDS]`.

A worker is asked by its stop file, as a page asks; a command line by Ctrl-C. The seconds are those
until the process is gone, so that the next run may start; what was told is kept. Ends with 1 where
one took more than two seconds or lost a row.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from bench.broken import KINDS, opened
from bench.ground import Child, Ground, held, until
from bench.raw_server import MOST_SECONDS, Connection, RawServer, events, message, sse

MOST_S = 2.0
CONFIG = {
    "technique": "aa",
    "endpoint": "bench",
    "runs": 6,
    "warmup": 0,
    "seed": 1,
    "max_usd": 1e6,
    "deadline_s": 600,
}
ALL = 12


@dataclass
class Scene:
    """What a moment is set in."""

    ground: Ground
    server: RawServer
    child: Child | None = None
    run_id: str = ""
    sent: bool = False
    """An answer's last byte is written, or what is around the run is in place."""
    open: int = 0
    """How many requests are waiting for an answer."""

    @property
    def posts(self) -> int:
        return sum(asked.method == "POST" for asked in self.server.asked)

    @property
    def told(self) -> int:
        return len(self.ground.told(self.run_id))

    def exists(self, name: str) -> bool:
        return (self.ground.runtime / name).exists()


@dataclass
class Moment:
    """`answer` is how the endpoint answers, `reached` whether it is time to stop, `after_s` how
    long from then; `around` holds the rest."""

    reached: Callable[[Scene], Any]
    answer: Callable[[Scene, Connection], None] = lambda scene, connection: connection.good(0.02)
    after_s: float = 0.1
    config: dict[str, Any] = field(default_factory=dict)
    around: Callable[[Scene], contextlib.AbstractContextManager[dict[str, str]]] | None = None


def broken(name: str) -> Callable[[Scene, Connection], None]:
    """As the bench of faults answers."""
    return lambda scene, connection: KINDS[name].answer(connection, 0)


def long_answer(connection: Connection, scene: Scene, pieces: Any) -> None:
    opened(connection)
    for piece in pieces:
        connection.chunk(piece)
    connection.send(b"0\r\n\r\n")
    scene.sent = True
    connection.silence(MOST_SECONDS)


def whole_of_15_mb(scene: Scene, connection: Connection) -> None:
    connection.json(message(content=[{"type": "text", "text": "word " * 1000}] * 3000))
    scene.sent = True


def stream_of_52_mb(scene: Scene, connection: Connection) -> None:
    ping = sse([{"type": "ping", "filler": "x" * 4000}])
    long_answer(connection, scene, (*[sse(events()[:2])], *[ping * 16] * 812, sse(events()[2:])))


def event_of_15_mb(scene: Scene, connection: Connection) -> None:
    long_answer(connection, scene, (b"data: ", *[b"x" * 4096] * 3660, b"\n\n", sse(events())))


def many_events(scene: Scene, connection: Connection) -> None:
    long_answer(
        connection,
        scene,
        (sse(events()[:2]), *[sse([events()[2]] * 100)] * 1500, sse(events()[5:])),
    )


def silent_judge(scene: Scene, connection: Connection) -> None:
    if b"You judge answers" in connection.asked.body:
        scene.sent = True
        connection.silence()
    else:
        connection.good()


def good_at_first(
    times: int, then: Callable[[Scene, Connection], None]
) -> Callable[[Scene, Connection], None]:
    return lambda scene, connection: (
        connection.good(0.02) if scene.posts <= times else then(scene, connection)
    )


def slow_or_silent(scene: Scene, connection: Connection) -> None:
    """Silent once several ask at a time: one that asks alone goes on."""
    if scene.open < 3:
        scene.open += 1
        time.sleep(0.2)
        if scene.open < 3:
            connection.good()
            scene.open -= 1
            return
    connection.silence()


# What is around a run


@contextlib.contextmanager
def held_from(scene: Scene, told: int) -> Iterator[dict[str, str]]:
    """The database is in other hands from the n-th trial on; from the start, where it is 0."""
    import threading

    over = threading.Event()
    ready = threading.Event()

    def hold() -> None:
        until(lambda: over.is_set() or scene.told >= told, 60)
        with held(scene.ground.database):
            ready.set()
            scene.sent = True
            over.wait()

    if not told:
        _, child = scene.ground.worker(**{**CONFIG, "runs": 1})  # there must be one to hold
        child.wait(60)
    thread = threading.Thread(target=hold)
    thread.start()
    if not told:
        ready.wait(20)
    try:
        yield {}
    finally:
        over.set()
        thread.join()


@contextlib.contextmanager
def turn_taken(scene: Scene) -> Iterator[dict[str, str]]:
    """A process of the lab has the writer's turn and was suspended."""
    _, child = scene.ground.worker(**{**CONFIG, "runs": 1})
    child.wait(60)
    path = scene.ground.database.with_name(scene.ground.database.name + ".lock")
    with path.open("r+b") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield {}


@contextlib.contextmanager
def collector(scene: Scene, answers: bool) -> Iterator[dict[str, str]]:
    """Traces go to a receiver that takes them and says nothing, or that is not there."""

    def take(connection: Connection) -> None:
        scene.sent = True
        connection.silence()

    with RawServer(take) as receiver:
        if not answers:
            receiver.listener.close()
        yield {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url}


@contextlib.contextmanager
def full_backlog(scene: Scene) -> Iterator[dict[str, str]]:
    """An address where nobody accepts: a connection is neither made nor refused."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=0)
    waiting = []
    for _ in range(4):
        one = socket.socket()
        one.setblocking(False)
        one.connect_ex(listener.getsockname())
        waiting.append(one)
    scene.ground.point_at(f"http://127.0.0.1:{listener.getsockname()[1]}")
    yield {}
    for one in [*waiting, listener]:
        one.close()


@contextlib.contextmanager
def secure(scene: Scene) -> Iterator[dict[str, str]]:
    """An address that ought to speak TLS and says nothing."""
    scene.ground.point_at(scene.server.url.replace("http:", "https:"))
    yield {}


@contextlib.contextmanager
def suspended_server(scene: Scene) -> Iterator[dict[str, str]]:
    yield {}
    with contextlib.suppress(OSError, ValueError):
        os.kill(
            json.loads((scene.ground.runtime / "simulated.json").read_text())["pid"], signal.SIGCONT
        )


def suspend(scene: Scene) -> bool:
    if scene.told < 3:
        return False
    os.kill(
        json.loads((scene.ground.runtime / "simulated.json").read_text())["pid"], signal.SIGSTOP
    )
    return True


@contextlib.contextmanager
def left_by_a_crash(scene: Scene) -> Iterator[dict[str, str]]:
    """A killed worker's rows wait beside the database; the run itself is resumed."""
    run_id, child = scene.ground.worker(**{**CONFIG, "runs": 40})
    until(lambda: len(scene.ground.told(run_id)) >= 20, 60)
    child.send(signal.SIGKILL)
    child.wait(10)
    scene.run_id = run_id
    yield {}


def hang_up(scene: Scene) -> bool:
    """From now on the address refuses connections."""
    if scene.told < 2:
        return False
    scene.server.__exit__()
    return True


def asked(scene: Scene) -> bool:
    return scene.posts > 0


JUDGED = [
    {
        "task_id": "t",
        "prompt": "What is a harbour?",
        "check": {"kind": "judge", "criteria": "It says what a harbour is."},
    }
]
WHOLE = {
    "technique": "ab",
    "knobs": {"bodies": json.dumps([{"name": name, "stream": False} for name in "ab"])},
}
SILENT = broken("silence")

MOMENTS: dict[str, Moment] = {
    "the process has just started": Moment(lambda s: True, after_s=0.05),
    "the process imports": Moment(lambda s: True, after_s=0.5),
    "the run is being announced": Moment(lambda s: s.ground.entries(s.run_id), after_s=0),
    "the simulated server starts": Moment(
        lambda s: s.exists("simulated.log"), config={"endpoint": "simulated"}
    ),
    "the embedded server starts": Moment(
        lambda s: s.exists("local.log"), config={"endpoint": "local"}
    ),
    "the embedded model is loaded": Moment(
        lambda s: s.exists("local.json"), config={"endpoint": "local"}
    ),
    "the embedded model answers": Moment(
        lambda s: s.ground.entries(s.run_id), after_s=0.5, config={"endpoint": "local"}
    ),
    "within a warm-up": Moment(asked, SILENT, config={"warmup": 2}),
    "the first call, nothing said": Moment(asked, SILENT),
    "the first call, within the headers": Moment(asked, broken("silence in the headers")),
    "the first call, after the headers": Moment(asked, broken("silence after the headers")),
    "within a stream": Moment(asked, broken("silence within the stream")),
    "after message_stop, still open": Moment(asked, broken("silence after message_stop")),
    "within a good stream": Moment(asked, lambda s, c: c.good(3.0), after_s=1.0),
    "within a good whole answer": Moment(
        asked, lambda s, c: c.good(3.0), after_s=1.0, config=WHOLE
    ),
    "an endless stream": Moment(asked, broken("an endless stream"), after_s=1.0),
    "an endless event": Moment(asked, broken("an endless event"), after_s=0.5),
    "an endless body": Moment(asked, broken("an endless body"), after_s=0.2, config=WHOLE),
    "endless headers": Moment(asked, broken("endless headers"), after_s=0.2),
    "endless 1xx": Moment(asked, broken("endless 1xx"), after_s=0.3),
    "endless chunks of one byte": Moment(asked, broken("endless chunks of one byte"), after_s=1.0),
    "a gzip bomb": Moment(asked, broken("gzip bomb, 200"), after_s=0.3, config=WHOLE),
    "a stream of 52 MB is read": Moment(lambda s: s.sent, stream_of_52_mb, after_s=0),
    "a stream of 52 MB has been read": Moment(lambda s: s.sent, stream_of_52_mb, after_s=0.3),
    "a whole answer of 15 MB is read": Moment(
        lambda s: s.sent, whole_of_15_mb, after_s=0, config=WHOLE
    ),
    "one event of 15 MB is read": Moment(lambda s: s.sent, event_of_15_mb, after_s=0),
    "150,000 events are read": Moment(lambda s: s.sent, many_events, after_s=0.1),
    "a stream drips": Moment(
        asked, lambda s, c: (opened(c), c.drip(b"5\r\n: ok\n\r\n" * 5000, 0.02)), after_s=0.7
    ),
    "headers drip": Moment(asked, broken("headers drip"), after_s=0.7),
    "waiting as retry-after says": Moment(
        asked, lambda s, c: c.json({}, 429, retry_after="25"), after_s=0.5
    ),
    "backing off after a 529": Moment(asked, broken("529 for ever"), after_s=0.3),
    "the address refuses": Moment(hang_up, after_s=0.3),
    "nobody accepts": Moment(
        lambda s: s.ground.entries(s.run_id), after_s=0.5, around=full_backlog
    ),
    "no answer to TLS": Moment(lambda s: s.ground.entries(s.run_id), after_s=0.3, around=secure),
    "a judge's call": Moment(lambda s: s.sent, silent_judge, config={"tasks": JUDGED}),
    "a priming call": Moment(asked, SILENT, config={"technique": "caching"}),
    "a fan-out": Moment(
        lambda s: s.open >= 3,
        slow_or_silent,
        config={"technique": "parallelism", "knobs": {"suite": "requests"}},
    ),
    "between two blocks": Moment(lambda s: s.told >= 2, after_s=0),
    "within the third block": Moment(lambda s: s.told >= 5, after_s=0.01),
    "the last trial is told": Moment(lambda s: s.told >= ALL, after_s=0),
    "the run ends": Moment(lambda s: s.told >= ALL, after_s=0.1),
    "the database is held as a block is written": Moment(
        lambda s: s.sent and s.told >= 6, after_s=0.3, around=lambda s: held_from(s, 3)
    ),
    "the database is held, and a call is silent": Moment(
        lambda s: s.sent and s.posts >= 7,
        good_at_first(6, SILENT),
        around=lambda s: held_from(s, 3),
    ),
    "the database is held at the end": Moment(
        lambda s: s.told >= ALL, after_s=0.2, around=lambda s: held_from(s, 3)
    ),
    "the database is held from the start": Moment(
        lambda s: s.sent, after_s=2.5, around=lambda s: held_from(s, 0)
    ),
    "another of the lab has the turn": Moment(lambda s: True, after_s=2.5, around=turn_taken),
    "a crash's rows are taken in": Moment(
        lambda s: True, after_s=1.2, around=left_by_a_crash, config={"runs": 40}
    ),
    "traces go to a silent receiver": Moment(
        lambda s: s.sent, after_s=0.2, around=lambda s: collector(s, True), config={"runs": 1}
    ),
    "traces go to nobody": Moment(
        lambda s: s.told >= 2, after_s=0.3, around=lambda s: collector(s, False), config={"runs": 1}
    ),
    "the simulated server is suspended": Moment(
        suspend, after_s=0.5, config={"endpoint": "simulated"}, around=suspended_server
    ),
}
BY_COMMAND_LINE = (
    "the process imports",
    "the first call, nothing said",
    "an endless stream",
    "a stream of 52 MB is read",
    "waiting as retry-after says",
    "between two blocks",
    "the database is held as a block is written",
    "traces go to a silent receiver",
)


def stopped(name: str, moment: Moment, by_command_line: bool) -> tuple[float, float, str, str]:
    """Seconds until the run said that it has ended, and until its process was gone; how it ended,
    and what was wrong."""
    scene: Scene

    def answer(connection: Connection) -> None:
        if connection.asked.method == "POST":
            moment.answer(scene, connection)
        else:
            connection.json({}, 404)

    with RawServer(answer) as server, Ground(server.url) as ground:
        scene = Scene(ground, server)
        with moment.around(scene) if moment.around else contextlib.nullcontext({}) as variables:
            config = {
                **CONFIG,
                **moment.config,
                **({"join_run": scene.run_id} if scene.run_id else {}),
            }
            server.asked.clear()
            earlier = set(ground.run_ids())
            if by_command_line:
                child = ground.start(
                    "main.py",
                    "aa",
                    "--endpoint",
                    "bench",
                    "--runs",
                    str(config["runs"]),
                    "--warmup",
                    "0",
                    **variables,
                )
                if name != "the process imports":
                    until(lambda: child.poll() or set(ground.run_ids()) - earlier, 60)
                scene.run_id = next(iter(set(ground.run_ids()) - earlier), "")
            else:
                scene.run_id, child = ground.worker(variables=variables, **config)
            scene.child = child
            reached = (
                until(lambda: child.poll() or moment.reached(scene), 120, 0.002)
                and not child.poll()
            )
            time.sleep(moment.after_s)
            if by_command_line:
                child.send(signal.SIGINT)
            else:
                (ground.runtime / "runs" / f"{scene.run_id}.stop").touch()
            began = time.monotonic()
            until(lambda: child.poll() or (scene.run_id and ground.end(scene.run_id)), 60)
            said = time.monotonic() - began
            ended = child.wait(60)
            seconds = time.monotonic() - began
        told = ground.told(scene.run_id) if scene.run_id else []
        lost = (
            len(set(told) - {row["trial_id"] for row in ground.kept(scene.run_id)}) if told else 0
        )
        wrong = [] if reached else ["it had ended before"]
        wrong += [f"{lost} of {len(told)} trials lost"] if lost else []
        wrong += ["hung"] if ended.code is None else []
        wrong += [f"traceback, {text}" for text in ground.tracebacks()]
        end = ground.end(scene.run_id) if scene.run_id else {}
        return (
            said,
            seconds,
            f"{end.get('status', 'nothing told')}, exit {ended.code}",
            "; ".join(wrong),
        )


def main() -> int:
    flags = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    flags.add_argument("--quick", action="store_true", help="every sixth moment: about a minute")
    flags.add_argument("--only", default="", help="moments whose name has this in it")
    chosen = flags.parse_args()
    todo = [(name, moment, False) for name, moment in MOMENTS.items()] + [
        (name, MOMENTS[name], True) for name in BY_COMMAND_LINE
    ]
    todo = [moment for moment in todo if chosen.only in moment[0]][:: 6 if chosen.quick else 1]
    print(
        f"Load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores.\n{'moment':46} {'by':10}"
        f" {'said':>6} {'gone':>6}  end"
    )
    within, bad = 0, []
    for name, moment, by_command_line in todo:
        said, seconds, end, wrong = stopped(name, moment, by_command_line)
        by = "Ctrl-C" if by_command_line else "stop file"
        print(
            f"{name:46} {by:10} {said:6.2f} {seconds:6.2f}  {end}{f'; {wrong}' if wrong else ''}",
            flush=True,
        )
        within += seconds <= MOST_S
        if seconds > MOST_S or wrong:
            bad.append(name)
    print(f"\n{within} of {len(todo)} within {MOST_S:g} s")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
