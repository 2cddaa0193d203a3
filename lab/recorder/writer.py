"""`python -m lab.recorder.writer`: what a recorder saw, made into rows.

A process of its own: to read a prompt of a megabyte takes longer than a byte may wait in the
recorder. Observed calls come on stdin, and what is to be told goes to stdout as lines of JSON: a
call once it is on disk, or what was lost. It ends when stdin does; what it was not told goodbye of
was interrupted, and a command that ran through the recorder is then ended by it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import marshal
import os
import platform
import queue
import signal
import sys
import threading
from collections import deque
from datetime import timedelta
from itertools import islice
from typing import Any, BinaryIO

import httpx2

from lab import clock, endpoint_kinds, limits, machine, new_recording, processes, scrub
from lab.instrumentation import parsing
from lab.instrumentation.parsing import Reading
from lab.instrumentation.stamps import Exchange, TooLarge, Unreadable
from lab.model import LabError, Status, new_id
from lab.recorder import upstream
from lab.recorder.observed_call import LENGTH, chunks
from lab.recorder.unpacking import unpacked
from lab.recording import sender
from lab.recording.scribe import Scribe, Seen
from lab.rows import FinishedTrial, SessionRow
from lab.store.store import Store
from lab.version import VERSION

PATIENCE_S, WRITE_EVERY_S = 0.5, 1.0
TOGETHER = 64
"""Calls that wait anyway are on disk at once: to be sure of it takes longer than to write them."""
WAITING_TRIALS = 2_000
"""Kept in memory while the disk refuses them."""
END_COMMAND_S = 5.0
"""What a command has to end by itself."""
NICENESS = 10
PHASES = ("dns_ns", "connected_ns", "tls_ns", "sent_ns", "headers_ns", "ended_ns")
SIDES = ("arrived_ns", "asked_ns", "told_ns", "closed_ns")


class Writer:
    """The rows of one recording, on disk as they are made, in the database about once a second."""

    def __init__(self, order: dict[str, Any]) -> None:
        self.store = Store(order["db"], PATIENCE_S)
        self.source = order.get("source", "recorder")
        if url := order.get("base_url"):
            where = upstream.at(url)
            order |= {"endpoint": where.name, "kind": where.kind}
        self.stored, last_block = 0, 0
        """Calls that an earlier writer of this recording has left on disk."""
        if order["run_id"]:
            self.stored, last_block = _left_behind(self.store, order["run_id"], order["calls"])
        self.session = self._begun(order)
        self.origin_ns = clock.now_ns()
        kind = endpoint_kinds.kind(order["kind"])
        self.scribe = Scribe(
            self.session.run_id,
            self.session.session_id,
            self.source,
            order["endpoint"],
            new_recording.hasher(),
            keep_text=order["keep_text"],
            priced=kind.has_prices,
            first_block=last_block + 1,
        )
        self.unkept: deque[tuple[FinishedTrial, dict[str, Any]]] = deque()
        """Not on disk yet, with what is to be told of each."""
        self.fresh: list[FinishedTrial] = []
        self.lost = 0
        self.troubles: set[str] = set()
        """Told since all was well."""

    def _begun(self, order: dict[str, Any]) -> SessionRow:
        if run_id := order["run_id"]:  # an earlier writer of this recording has died
            session = SessionRow(
                session_id=new_id(),
                run_id=run_id,
                worker=f"{self.source} {os.getpid()}",
                host=platform.node(),
                started_utc=clock.utc_now(),
                lab_version=VERSION,
                commit=None,
                machine={},
                instrument={},
            )
            processes.record(run_id)
            self.store.write_session(session)
            return session
        return new_recording.begin(
            self.store,
            self.source,
            order["endpoint"],
            order["kind"],
            keep_text=order["keep_text"],
            name=order["name"],
        )[1]

    def take(self, call: tuple) -> None:
        """One observed call; whatever is in it, this ends in a row or in a call that is said to be
        lost."""
        try:
            seen, told = self._seen(*call)
            finished = self.scribe.rows(seen)
            scrub.trial(finished)
        except Exception as error:  # what an application sends is beyond all foreseeing
            self.keep()  # what is told of comes in the order of the calls
            self._lose(1, f"a call could not be read ({type(error).__name__})")
            return
        self.unkept.append((finished, {**told, "cost_usd": finished.trial.cost_usd}))

    def write(self) -> None:
        """What is new, into the database."""
        self.keep()
        if not self.fresh:
            return
        try:
            if self.store.write_trials(self.fresh):
                self.troubles.clear()
        except LabError as error:
            self._say(str(error))
        self.fresh.clear()

    def close(self, status: Status) -> None:
        self.write()
        if self.unkept:
            self._lose(len(self.unkept), "the disk refuses them")
        try:
            self.store.finish_run(self.session.run_id, status)
            self.store.close()
        except LabError as error:
            self._say(str(error))

    def keep(self) -> None:
        """What was taken, onto the disk."""
        size = TOGETHER
        while self.unkept:
            calls = list(islice(self.unkept, size))
            try:
                self.store.keep(*(finished for finished, _ in calls))
            except LabError as error:
                if len(calls) > 1:  # there may be room for one
                    size = 1
                    continue
                reason = str(error).partition(". ")[0].rstrip(".")
                self._say(
                    f"{reason}. Your application goes on; up to {WAITING_TRIALS:,} calls wait in"
                    " memory until there is room."
                )
                break
            for finished, told in calls:
                self.unkept.popleft()
                self.fresh.append(finished)
                tell("call", **told)
        while len(self.unkept) > WAITING_TRIALS:
            self.unkept.popleft()
            self._lose(1, "the disk refuses them")

    def _lose(self, calls: int, reason: str) -> None:
        self.lost += calls
        tell("lost", calls=calls, text=reason)

    def _say(self, text: str) -> None:
        """A trouble, once, until all is well again."""
        if text not in self.troubles:
            self.troubles.add(text)
            tell("note", text=scrub.text(text, scrub.MESSAGE))

    def _seen(
        self, values: dict[str, Any], body: bytes, pieces: bytes, at_ns: bytes, lengths: bytes
    ) -> tuple[Seen, dict[str, Any]]:
        for secret in values["secrets"]:
            scrub.learn(secret)
        notes = [values["note"]] if values["note"] else []
        asked = _body(body, values["asked"].get("content-encoding", ""), notes)
        exchange = _exchange(values, body, chunks(pieces, at_ns, lengths))
        first_byte_ns = exchange.chunks[0][0] if exchange.chunks else None
        reading = _reading(exchange, values["answered"].get("content-encoding", ""), notes)
        offset = lambda at: None if at is None else at - self.origin_ns
        call = self._call(values, exchange, reading, asked)
        call |= {name: offset(values[name]) for name in PHASES}
        call |= {name: offset(getattr(reading, name)) for name in parsing.CLOCKS}
        call["first_byte_ns"] = offset(first_byte_ns)
        since = timedelta(microseconds=offset(values["started_ns"]) / 1000)
        seen = Seen(
            started_utc=self.session.started_utc + since,
            started_ns=offset(values["started_ns"]),
            body=asked,
            betas=values["asked"].get("anthropic-beta", ""),
            content=reading.content or None,
            call=call,
            usage=reading.usage,
            events=reading.events(self.origin_ns),
            conversation=sender.conversation(values["asked"], asked),
            agent=sender.agent(values["asked"]),
            recorded={
                **{name: offset(values[name]) for name in SIDES},
                "added_request_ns": values["added_request_ns"],
                "added_reply_ns": values["added_reply_ns"],
                "note": "; ".join(notes)[: limits.ERROR_CHARACTERS] or None,
            },
        )
        return seen, _told(seen, reading)

    def _call(
        self, values: dict[str, Any], exchange: Exchange, reading: Reading, asked: Any
    ) -> dict[str, Any]:
        return {
            "request_id": values["answered"].get("request-id", "")[: limits.WORD_CHARACTERS]
            or None,
            "connection_reused": values["reused"],
            "http_status": exchange.status,
            **reading.columns(asked),
        }


def _left_behind(store: Store, run_id: str, told: int) -> tuple[int, int]:
    """How many calls of a recording are on disk, and the last one's number; where that cannot be
    asked now, those that were told."""
    from lab.store import queries  # of one recording in a thousand

    try:
        return queries.row_counts(store, run_id)["calls"], queries.last_block(store, run_id)
    except LabError:
        return told, told


def _end_command(pid: int, born: str | None) -> None:
    """The recorder was killed: the command would go on asking where nobody answers, which it would
    not without the recorder. Its own children end with it."""
    if not born or machine.born(pid) != born:
        return
    import psutil

    with contextlib.suppress(psutil.Error):
        command = psutil.Process(pid)
        processes = [*command.children(recursive=True), command]
        for process in processes:
            with contextlib.suppress(psutil.Error):
                process.terminate()
        for process in psutil.wait_procs(processes, END_COMMAND_S)[1]:
            with contextlib.suppress(psutil.Error):
                process.kill()
        with contextlib.suppress(OSError):
            print("The recorder was killed, and its command was ended with it.", file=sys.stderr)


def _body(raw: bytes, coding: str, notes: list[str]) -> dict[str, Any] | None:
    try:
        data = unpacked([(0, raw)], coding)[0][1]
        body = json.loads(data)
    except (TooLarge, Unreadable) as error:
        notes.append(f"the request's body: {error}")
        return None
    except (ValueError, RecursionError):
        notes.append("the request's body is no JSON")
        return None
    return body if isinstance(body, dict) else None


def _exchange(values: dict[str, Any], body: bytes, pieces: list[tuple[int, bytes]]) -> Exchange:
    exchange = Exchange(body, values["started_ns"])
    exchange.status, exchange.headers = values["status"], values["answered"]
    exchange.headers_ns, exchange.ended_ns = values["headers_ns"], values["ended_ns"]
    exchange.sent_ns, exchange.chunks = values["sent_ns"], pieces
    text = values["note"] or "the connection was closed"
    match values["ending"]:
        case "connect":
            exchange.failure = httpx2.ConnectError(text)
        case "timeout":
            exchange.failure = httpx2.ReadTimeout(text)
        case "cancelled":
            exchange.failure = asyncio.CancelledError()
        case "malformed":
            exchange.failure = Unreadable(text)
        case "disconnected":
            exchange.failure = httpx2.ReadError(text)
    return exchange


def _reading(exchange: Exchange, coding: str, notes: list[str]) -> Reading:
    try:
        exchange.chunks = unpacked(exchange.chunks, coding)
    except (TooLarge, Unreadable) as error:
        notes.append(f"the answer: {error}; its usage could not be read")
        # What the application had was an answer all the same.
        failure = exchange.failure
        is_refusal = exchange.status is not None and exchange.status >= 300
        exchange.chunks = []
        if failure is None and not is_refusal:
            return Reading()
    return parsing.read(exchange)


def _told(seen: Seen, reading: Reading) -> dict[str, Any]:
    """What a terminal or a page may show of it at once: no words of anybody's."""
    usage, call = seen.usage, seen.call
    first, ended = call.get("first_token_ns"), call.get("ended_ns")
    ms = lambda at: None if at is None else round((at - seen.started_ns) / 1e6, 1)
    return {
        "model": scrub.text(str((seen.body or {}).get("model") or "?"), 80),
        "status": call["http_status"],
        "error": reading.error_kind and scrub.text(reading.error_kind, 80),
        "ttft_ms": ms(first),
        "total_ms": ms(ended),
        "input_tokens": usage.get("input_tokens"),
        "cache_read_tokens": usage.get("cache_read_input_tokens"),
        "cache_write_tokens": usage.get("cache_creation_input_tokens"),
        "output_tokens": usage.get("output_tokens"),
    }


def _stand_back() -> None:
    """Behind the application, the recorder and a model on this machine."""
    with contextlib.suppress(OSError):
        if hasattr(os, "SCHED_BATCH"):
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
        os.nice(NICENESS)


def tell(kind: str, **values: Any) -> None:
    with contextlib.suppress(OSError, ValueError):  # nobody listens any more
        sys.stdout.write(json.dumps({"kind": kind, **values}) + "\n")
        sys.stdout.flush()


def frames(source: BinaryIO):
    while len(head := source.read(LENGTH.size)) == LENGTH.size:
        (length,) = LENGTH.unpack(head)
        if len(data := source.read(length)) < length:
            return
        yield marshal.loads(data)


def main() -> int:
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, signal.SIG_IGN)  # it ends with the recorder, once all is written
    _stand_back()
    os.umask(0o077)  # DuckDB makes a log beside the database, which may hold the user's words
    line = sys.stdin.buffer.readline()
    if not line:  # nothing to record
        return 0
    order = json.loads(line)
    try:
        writer = Writer(order)
    except (LabError, OSError) as error:
        tell("refused", text=scrub.text(str(error), scrub.MESSAGE))
        return 1
    tell("begun", run_id=writer.session.run_id, stored=writer.stored)
    waiting: queue.Queue[tuple | None] = queue.Queue(maxsize=8)

    def listen() -> None:
        command: tuple | None = None
        with contextlib.suppress(OSError, ValueError, EOFError, TypeError):
            for frame in frames(sys.stdin.buffer):
                if frame[0] == "command":
                    command = frame[1]
                elif frame[0] == "goodbye":
                    command = None
                waiting.put(frame)
        waiting.put(None)
        if command:
            _end_command(*command)

    listening = threading.Thread(target=listen, daemon=True)
    listening.start()
    status: Status = "interrupted"
    due_ns = clock.now_ns()
    while True:
        try:
            frame = waiting.get(timeout=WRITE_EVERY_S)
        except queue.Empty:
            frame = ("idle",)
        if frame is None:
            break
        kind, *rest = frame
        if kind == "call":
            writer.take(tuple(rest))
            if waiting.empty() or len(writer.unkept) >= TOGETHER:
                writer.keep()
        elif kind == "goodbye":
            status = "finished"
        elif kind == "flush":
            writer.write()
            tell("flushed")
        if clock.now_ns() >= due_ns:
            writer.write()
            due_ns = clock.now_ns() + int(WRITE_EVERY_S * 1e9)
    writer.close(status)
    tell("ended", status=status, lost=writer.lost)
    listening.join()
    return 0


if __name__ == "__main__":
    sys.exit(main())
