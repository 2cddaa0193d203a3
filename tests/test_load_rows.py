"""A load's calls as rows: read off the hot path exactly as others are, on disk before they are
told, and in the tables once each."""

from __future__ import annotations

import asyncio
import json
import random
import shutil
import subprocess
import sys
import textwrap
import uuid
from dataclasses import replace
from datetime import UTC, datetime
from math import nan

import duckdb
import httpx2
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings

from bench import streams
from bench.raw_server import events as api_events
from bench.raw_server import sse
from lab import paths
from lab.clock import sleep_s
from lab.instrumentation import parsing, stamps
from lab.instrumentation.stamps import Exchange
from lab.load.call_frame import CallFrame
from lab.load.reading import Reader, read_whole
from lab.load_keeping import Keeping
from lab.model import LOAD, LabError, new_id
from lab.rows import LoadLevelRow, RunRow, SessionRow
from lab.store import journal, load_queries, queries, row_batches
from lab.store.export import export
from lab.store.row_batches import Batch, packed
from lab.store.store import Store
from tests.stored_trials import MS, held_by_a_foreign_program
from tests.test_hostile_answers import ODD, exchanges, places, with_at, written

ORIGIN = 1_000 * MS
BEGAN = datetime(2026, 11, 26, 12, tzinfo=UTC)


def frame(chunks: list[tuple[int, bytes]], request: int = 0, **changes) -> CallFrame:
    """A call that was due 100 ms after the origin, began 5 ms late, and had those chunks, in ms
    from its start."""
    began = ORIGIN + 105 * MS
    call = CallFrame(
        level=1, request=request, play=request, step=0, template=0, attempt=1,
        scheduled_ns=began - 5 * MS, started_ns=began, dns_ns=None, connected_ns=None,
        tls_ns=None, sent_ns=began + MS, headers_ns=began + 50 * MS, ended_ns=began + 900 * MS,
        reused=True, status=200, headers={"content-type": "text/event-stream"},
    )  # fmt: skip
    call.body = b"".join(data for _, data in chunks)
    ends = 0
    for at_ms, data in chunks:
        ends += len(data)
        call.at_ns.append(began + int(at_ms * MS))
        call.ends.append(ends)
    return replace(call, **changes)


def usual(request: int = 0, **changes) -> CallFrame:
    """Eight events, 10 ms from each to the next; the first of three pieces of text comes 30 ms
    after the start."""
    chunks = [(10 * n, sse([event])) for n, event in enumerate(api_events(), 1)]
    return frame(chunks, request, **changes)


def reader(run_id: str = "", session_id: str = "", **changes) -> Reader:
    asked = {"model": "claude-haiku-4-5", "max_tokens": 64}
    return Reader(
        run_id or new_id(), session_id or new_id(), "local", changes.pop("kind", "simulated"),
        [asked], origin_ns=ORIGIN, origin_utc=BEGAN, **changes,
    )  # fmt: skip


def rows(batch: Batch) -> dict[str, list[dict]]:
    """As Python values, without the ids, which are new each time."""
    told = {}
    for name, table in batch._asdict().items():
        keep = [column for column in table.column_names if not column.endswith("_id")]
        told[name] = table.select([*keep, *({"message_id"} & {*table.column_names})]).to_pylist()
    return told


def parsed_alone(keep_text: bool) -> Reader:
    """A reader that knows no quick way."""
    slow = reader(keep_text=keep_text)
    slow.plain.read = lambda frame: None
    return slow


def both(calls: list[CallFrame], keep_text: bool = False) -> tuple[dict, dict, int]:
    """What each way says, and how many the quick one read."""
    quick, slow, plain = reader(keep_text=keep_text), parsed_alone(keep_text), 0
    for call in calls:
        plain += quick.plain.read(call) is not None
        assert quick.read(call, "16 streams") == slow.read(call, "16 streams")
    return rows(quick.take()), rows(slow.take()), plain


# Reading


def test_an_answer_becomes_a_trial_a_call_two_spans_and_its_events():
    read = reader()
    fact = read.read(usual(request=7), "16 streams")
    batch = read.take()
    (trial,), (call,) = batch.trials.to_pylist(), batch.calls.to_pylist()
    assert [trial[name] for name in ("arm", "block", "position", "phase", "outcome")] == [
        "16 streams", 1, 7, "load", "ok",
    ]  # fmt: skip
    at = {name: call[f"{name}_ns"] / MS for name in ("scheduled", "started", "sent", "headers")}
    assert at == {"scheduled": 100, "started": 105, "sent": 106, "headers": 155}
    assert [call[f"{name}_token_ns"] / MS for name in ("first", "second", "last")] == [
        135, 145, 155,
    ]  # fmt: skip
    assert (fact.first_token_ns - ORIGIN, fact.output_tokens) == (135 * MS, 7)
    assert batch.spans.column("kind").to_pylist() == ["trial", "call"]
    assert (
        batch.spans.column("parent_id").to_pylist()[1] == batch.spans.column("span_id")[0].as_py()
    )
    events = batch.events.to_pylist()
    assert [event["seq"] for event in events] == list(range(8))
    assert [event["characters"] for event in events] == [0, 0, 12, 10, 14, 0, 0, 0]
    assert {event["text"] for event in events} == {None}
    assert read.take() is None


def test_the_quick_way_and_parsing_say_the_same_of_an_apis_streams():
    padded = sse(api_events()).replace(b"}\n\ndata", b"}   \n\ndata").replace(b'"}}', b'"}    }')
    escaped = [dict(event) for event in api_events()]
    escaped[3]["delta"] = {"type": "text_delta", "text": 'He said: "Ebb."\n潮'}
    calls = [
        usual(),
        usual(request=1),
        frame([(10, padded)], 2),
        frame([(10, sse(escaped))], 3),
        frame([(10, sse([{"type": "ping"}, *api_events()]))], 4),
        frame([(n, bytes([byte])) for n, byte in enumerate(sse(api_events()))], 5),
    ]
    for keep_text in (False, True):
        quick, slow, plain = both(calls, keep_text)
        assert quick == slow and plain == len(calls)
        assert any(event["text"] for event in quick["events"]) == keep_text


def test_a_delta_that_only_begins_as_the_ones_before_is_read_for_itself():
    more = api_events()
    more[4]["delta"]["novel"] = "Nothing moves."
    quick, slow, plain = both([usual(), frame([(10, sse(more))], 1)])
    assert quick == slow and plain == 1


def test_the_quick_way_and_parsing_say_the_same_of_random_streams():
    calls = []
    for seed in range(400):
        dice = random.Random(seed)
        written = streams.written(streams.events(dice), dice.choice(streams.ENDS), dice)
        chunks = streams.split(written, dice)
        calls.append(frame(chunks, seed))
    for keep_text in (False, True):
        quick, slow, _ = both(calls, keep_text)
        assert quick == slow


def test_the_quick_way_and_parsing_say_the_same_of_any_value_in_any_place():
    """Some of them are read the quick way; none of them otherwise."""
    calls = []
    for at, event in enumerate(api_events()):
        for path in places(event):
            for value in ODD:
                told = [*api_events()]
                told[at] = with_at(event, path, value)
                data = b"".join(b"data: " + written(one) + b"\n\n" for one in told)
                calls.append(frame([(10, data)], len(calls)))
    quick, slow, plain = both(calls)
    assert quick == slow and plain > 100


@settings(max_examples=200, suppress_health_check=list(HealthCheck), deadline=None)
@given(exchanges())
def test_the_quick_way_and_parsing_say_the_same_of_hostile_answers(exchange):
    began = exchange.started_ns
    chunks = [((at - began) / MS, data) for at, data in exchange.chunks]
    failure = exchange.failure and parsing.failure_words(exchange.failure)
    call = frame(chunks, status=exchange.status, headers=exchange.headers, failure=failure)
    quick, slow, _ = both([call])
    assert quick == slow


FAILURES = [
    httpx2.ConnectError("refused"),
    httpx2.ReadTimeout("nothing came"),
    httpx2.ReadError("reset"),
    httpx2.RemoteProtocolError("Server disconnected"),
    httpx2.RemoteProtocolError("illegal status line"),
    stamps.TooLarge("more than 64 MB"),
    stamps.Unreadable("compressed"),
    asyncio.CancelledError(),
]


@pytest.mark.parametrize("failure", FAILURES, ids=lambda one: parsing.failure_words(one)[0])
@pytest.mark.parametrize("cut", [0, 1, 5, 8])
def test_what_ended_a_call_says_the_same_as_in_a_call_of_the_sdks(failure, cut):
    """`cut`: after how many of the eight events."""
    words = parsing.failure_words(failure)
    call = usual(failure=words, status=200 if cut else None)
    ends = [0, *call.ends]
    call.at_ns, call.ends, call.body = call.at_ns[:cut], call.ends[:cut], call.body[: ends[cut]]
    exchange = Exchange(b"", call.started_ns, status=call.status, headers=call.headers)
    exchange.chunks = call.chunks
    exchange.close(call.ended_ns, failure)
    assert read_whole(call) == parsing.read(exchange)


def test_a_cost_is_that_of_its_model_and_a_cut_answer_counts_at_its_longest():
    """12 tokens in at $1 and 7 out at $5 a million; cut short, 64 may have been made."""
    read = reader(kind="live")
    cut = usual(request=1, failure=("disconnected", "reset"))
    cut.body = cut.body[: cut.ends[4]]
    cut.at_ns, cut.ends = cut.at_ns[:5], cut.ends[:5]
    message = sse(api_events(model="claude-haiku-4-5"))
    facts = [read.read(frame([(10, message)])), read.read(cut)]
    calls = read.take().calls.to_pylist()
    assert calls[0]["cost_usd"] == pytest.approx(47e-6)
    assert [fact.cost_usd for fact in facts] == pytest.approx([47e-6, (12 + 64 * 5) / 1e6])
    assert [call["error_kind"] for call in calls] == [None, "disconnected"]


def test_ids_are_unique_and_sort_by_the_calls_starts():
    read = reader()
    for request in range(500):  # in another order than they began in
        later = (request * 7 % 500) * 3_000  # 3 µs from each to the next
        read.read(usual(request=request, started_ns=ORIGIN + later))
    trials = read.take().trials.to_pylist()
    ids = [trial["trial_id"] for trial in trials]
    assert len({*ids}) == 500 and {id.version for id in ids} == {7}
    by_start = sorted(trials, key=lambda trial: trial["started_ns"])
    assert [trial["trial_id"] for trial in by_start] == sorted(ids)
    assert (by_start[-1]["started_utc"] - BEGAN).total_seconds() == pytest.approx(499 * 3e-6)


def test_a_key_that_a_server_sends_back_is_blanked(monkeypatch):
    key = "sk-ant-planted-0123456789abcdef"
    monkeypatch.setenv("ANTHROPIC_API_KEY", key)
    told = api_events(id=key)
    told[2]["delta"]["text"], told[3]["delta"]["text"] = key[:20], key[20:]
    error = json.dumps({"type": "error", "error": {"type": "x", "message": f"no {key}"}}).encode()
    read = reader(keep_text=True)
    read.read(frame([(10, sse(told))]))
    read.read(frame([(10, error)], status=401, headers={"request-id": key}))
    batch = read.take()
    assert key[:20] not in str(rows(batch)) and b"planted" not in packed(batch)
    assert "".join(event["text"] or "" for event in batch.events.to_pylist()[:4]) == "•" * len(key)


def test_what_no_column_holds_is_made_to_fit():
    columns = {"position": [2**31 - 1, 2**31], "task_id": ["a\0b", "\ud83d"], "quality": [0.5, nan]}
    told = row_batches.table("trials", columns).to_pylist()
    assert [trial["position"] for trial in told] == [2**31 - 1, None]
    assert [trial["task_id"] for trial in told] == ["a␀b", "?"]
    assert [trial["quality"] for trial in told] == [0.5, None]
    assert row_batches.table("trials", {"arm": [None, "\0"]})["arm"].to_pylist() == [None, "␀"]


# Storing


def a_load(store: Store, **changes) -> tuple[str, str]:
    """A run and its session, without a call; their ids."""
    run_id, session_id = new_id(), new_id()
    settings = {"config": {"concurrency": [16], "slo": ["p95 ttft_ms < 800"], "scenario": "x"}}
    run = RunRow(
        run_id, LOAD, "local", "simulated", {"any": "m"}, settings, 7, "running", False, BEGAN
    )
    store.write_run(replace(run, **changes))
    store.write_session(SessionRow(session_id, run_id, "w", "h", BEGAN, "0.1.0", None, {}, {}))
    level = LoadLevelRow(run_id, session_id, 1, "16 streams", "closed", 16.0, 0, None, 40)
    store.write_level(level)
    store.write_level(replace(level, ended_ns=900 * MS, not_begun=0, client={"cpu_share": 0.25}))
    return run_id, session_id


def batch_of(run_id: str, session_id: str, count: int = 4) -> Batch:
    read = reader(run_id, session_id)
    for request in range(count):
        read.read(usual(request=request), "16 streams")
    return read.take()


def counts(store: Store, run_id: str) -> tuple[int, ...]:
    """Trials, calls, spans, events."""
    told = queries.row_counts(store, run_id)
    return tuple(told[name] for name in Batch._fields)


def test_a_batch_is_in_the_tables_once_however_often_it_is_written(db):
    store = Store(db)
    run_id, session_id = a_load(store)
    batch, later = batch_of(run_id, session_id), batch_of(run_id, session_id, 2)
    assert store.write_batch(batch) and store.write_batch(batch)
    mixed = Batch(*(pa.concat_tables(both) for both in zip(batch, later, strict=True)))
    assert store.write_batch(mixed)
    assert counts(store, run_id) == (6, 6, 12, 48)
    assert store.kept_bytes == 0


def test_kept_batches_wait_beside_the_database_until_the_next_write(db):
    store = Store(db)
    run_id, session_id = a_load(store)
    for _ in range(3):
        store.keep_batch(batch_of(run_id, session_id))
    assert counts(Store(db), run_id) == (0, 0, 0, 0) and store.kept_bytes > 0
    assert store.write_batch()
    assert counts(Store(db), run_id) == (12, 12, 24, 96) and store.kept_bytes == 0


async def test_calls_that_were_read_are_kept_though_whoever_kept_them_is_cancelled(db):
    store, calls = Store(), reader()
    keeping = Keeping(store, calls, print, ("", ""), ORIGIN)
    for request, kept in enumerate((keeping.calls, keeping.write_calls)):
        calls.read(usual(request), "16 streams")
        async with keeping.turn:  # something else is being written
            keep = asyncio.create_task(kept())
            await sleep_s(0.01)
            keep.cancel()
            await sleep_s(0.01)
        with pytest.raises(asyncio.CancelledError):
            await keep
    store.close()
    asked = "SELECT position FROM trials ORDER BY 1"
    assert Store().frame(asked)["position"].tolist() == [0, 1]


def test_batches_of_a_store_that_was_closed_are_taken_in(db):
    store = Store(db)
    run_id, session_id = a_load(store)
    store.keep_batch(batch_of(run_id, session_id))
    store.close()
    assert counts(Store(db), run_id) == (4, 4, 8, 32)
    assert not list(store._spool.iterdir())


KEEP = """
    import sys
    sys.path[:0] = ["."]
    from lab.store import row_batches
    from lab.store.store import Store
    from tests.test_load_rows import batch_of
    store, run_id, session_id = Store(sys.argv[1]), *sys.argv[2:4]
    def told(*_):
        print("told", flush=True)
        sys.stdin.readline()
    if sys.argv[4] == "before":
        row_batches.insert = told
    for _ in range(1000):
        store.keep_batch(batch_of(run_id, session_id))
        if sys.argv[4] == "before":
            store.write_batch()
        print("told", flush=True)
"""


@pytest.mark.parametrize("killed", ["before", "whenever"])
def test_every_batch_that_was_told_survives_kill_9(db, killed):
    """`before` the rows were inserted and after they were on disk; or whenever it happens."""
    store = Store(db)
    run_id, session_id = a_load(store)
    command = [sys.executable, "-c", textwrap.dedent(KEEP), str(db), run_id, session_id, killed]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=paths.ROOT
    )
    told = sum(bool(process.stdout.readline()) for _ in range(1 if killed == "before" else 5))
    process.kill()
    told += sum(line == "told\n" for line in process.stdout)
    process.communicate()
    trials, calls, spans, events = counts(Store(db), run_id)
    assert 4 * told <= trials <= 4 * told + 4
    assert (calls, spans, events) == (trials, 2 * trials, 8 * trials)
    assert not journal.files(store._spool, journal.BATCHES)


def test_a_torn_batch_is_set_aside_and_keeps_no_other_out(db):
    store = Store(db)
    run_id, session_id = a_load(store)
    whole = packed(batch_of(run_id, session_id))
    store._spool.mkdir(exist_ok=True)
    (store._spool / "1.arrow").write_bytes(whole + whole[:-100])
    (store._spool / "2.arrow").write_bytes(b"\0" * 5_000)
    cut = row_batches.HEAD.pack(row_batches.MARK, 3_000) + whole[16:3_016]
    (store._spool / "2b.arrow").write_bytes(cut + whole)
    (store._spool / "3.arrow").write_bytes(whole[:16] + bytes(len(whole) - 16))
    assert counts(store, run_id) == (4, 4, 8, 32)
    left = sorted(file.stat().st_size for file in store._spool.iterdir())
    assert left == sorted([len(whole) - 100, 5_000, 3_000, len(whole) - 16])
    assert {file.suffixes[-1] for file in store._spool.iterdir()} == {".refused"}


def test_a_batch_waits_while_another_program_holds_the_database(db):
    store = Store(db)
    run_id, session_id = a_load(store)
    program = held_by_a_foreign_program(db)
    try:
        writer = Store(db, patience_s=0.2)
        assert not writer.write_batch(batch_of(run_id, session_id))
        writer.close()
        assert counts(Store(db), run_id) == (4, 4, 8, 32)  # with what waits beside it
    finally:
        program.communicate("\n")
    assert counts(Store(db), run_id) == (4, 4, 8, 32)
    assert not journal.files(store._spool, journal.BATCHES)


def test_a_batch_that_the_disk_refuses_is_not_told(db):
    store = Store(db)
    run_id, session_id = a_load(store)
    store._spool.write_text("a file where the folder would be")
    with pytest.raises(LabError, match="Cannot write"):
        store.keep_batch(batch_of(run_id, session_id))
    store._spool.unlink()
    store.keep_batch(batch_of(run_id, session_id))
    shutil.rmtree(store._spool)  # and what somebody removes is written again
    store.keep_batch(batch_of(run_id, session_id))
    (file,) = journal.files(store._spool, journal.BATCHES)
    assert sum(whole for _, whole in row_batches.records(file)) == 2
    assert store.write_batch() and counts(store, run_id) == (8, 8, 16, 64)


def test_a_load_that_is_forgotten_leaves_no_byte(db):
    store = Store(db)
    run_id, session_id = a_load(store, status="finished")
    store.write_batch(batch_of(run_id, session_id))
    whole = packed(batch_of(run_id, session_id))
    (store._spool / "1.arrow").write_bytes(whole[:-100])
    store.keep_batch(batch_of(run_id, session_id))
    store.forget(run_id)
    assert counts(store, run_id) == (0, 0, 0, 0)
    assert store.frame("SELECT * FROM load_levels").empty
    left = [file for file in db.parent.rglob("*") if file.is_file()]
    assert [file for file in left if uuid.UUID(run_id).bytes in file.read_bytes()] == []


def test_a_deleted_load_comes_back_whole(db):
    store = Store(db)
    run_id, session_id = a_load(store)
    store.write_batch(batch_of(run_id, session_id))
    store.delete_run(run_id)
    assert counts(store, run_id) == (0, 0, 0, 0) and store.undelete() == run_id
    assert counts(store, run_id) == (4, 4, 8, 32)
    assert len(store.frame("SELECT * FROM load_levels")) == 1


@pytest.mark.parametrize("format", ["parquet", "csv", "json", "duckdb"])
def test_a_load_goes_out_and_comes_in_whole(db, tmp_path, format):
    store, other = Store(db), Store(tmp_path / "other.duckdb")
    run_id, session_id = a_load(store)
    store.write_batch(batch_of(run_id, session_id))
    export(store, tmp_path / "out", format, run_id)
    out = tmp_path / "out"
    for _ in range(2):
        other.import_from(out / "lab.duckdb" if format == "duckdb" else out)
    assert counts(other, run_id) == (4, 4, 8, 32)
    for table in ("load_levels", "calls"):
        told = f"SELECT * FROM {table} ORDER BY ALL"
        assert other.frame(told).equals(store.frame(told))
    run = queries.run(other, run_id)
    assert run["settings"]["config"] == queries.run(store, run_id)["settings"]["config"]


# Asking


def test_a_call_is_told_from_when_it_was_due_from_its_start_and_from_when_it_was_sent(db):
    store = Store(db)
    run_id, session_id = a_load(store)
    store.write_batch(batch_of(run_id, session_id, 1))
    (call,) = load_queries.calls(store, run_id).to_dict("records")
    told = {
        "due_s": 0.1, "dispatch_delay_ms": 5, "ttft_ms": 30, "ttft_sent_ms": 29,
        "scheduled_ttft_ms": 35, "second_token_ms": 10, "total_ms": 900,
        "scheduled_latency_ms": 905, "tokens_per_s": 6 / 0.020, "output_tokens": 7,
    }  # fmt: skip
    assert {name: call[name] for name in told} == pytest.approx(told)
    assert (call["level"], call["label"], call["request"], call["ok"]) == (1, "16 streams", 0, True)


def test_a_gap_is_from_one_token_to_the_next_of_the_same_stream(db):
    """Two of 10 ms in each of four streams; in a fifth all came in one read, and then one 40 ms
    later."""
    store = Store(db)
    run_id, session_id = a_load(store)
    read = reader(run_id, session_id)
    for request in range(4):
        read.read(usual(request=request), "16 streams")
    data = [sse([event]) for event in api_events()]
    read.read(frame([(30, b"".join(data[:4])), (70, b"".join(data[4:]))], 4), "16 streams")
    store.write_batch(read.take())
    (gaps,) = load_queries.gaps(store, run_id).to_dict("records")
    assert (gaps["level"], gaps["n"], gaps["p50"], gaps["most"]) == (1, 10, 10, 40)
    assert gaps["mean"] == pytest.approx((8 * 10 + 0 + 40) / 10)


def test_gaps_are_the_same_in_whatever_order_their_rows_lie(db):
    store = Store(db)
    run_id, session_id = a_load(store)
    batch = batch_of(run_id, session_id)
    told = []
    for order in ("seq", "seq DESC", "hash(at_ns)"):
        with duckdb.connect(str(db)) as connection:
            connection.execute("DELETE FROM events; DELETE FROM trials; DELETE FROM calls")
            connection.register("made", batch.events)
            mixed = connection.sql(f"SELECT * FROM made ORDER BY {order}").to_arrow_table()
        assert store.write_batch(batch._replace(events=mixed))
        told.append(load_queries.gaps(store, run_id).to_dict("records"))
    assert told[0] == told[1] == told[2] and told[0][0]["n"] == 8


def test_a_level_is_renewed_once_it_has_ended(db):
    store = Store(db)
    run_id, _ = a_load(store)
    (level,) = load_queries.levels(store, run_id).to_dict("records")
    assert (level["label"], level["planned"], level["not_begun"]) == ("16 streams", 40, 0)
    assert (level["ended_ns"], level["client"]) == (900 * MS, {"cpu_share": 0.25})


def test_requests_of_a_load_are_compared_with_nothing(db):
    store = Store(db)
    run_id, session_id = a_load(store)
    store.write_batch(batch_of(run_id, session_id))
    trials = queries.trials(store, run_id)
    assert trials["phase"].tolist() == [LOAD] * 4
    assert not trials[["counts", "lost", "superseded"]].to_numpy().any()
    assert queries.arm_summary(store, run_id).empty and queries.pairs(store, run_id).empty
    assert queries.finds(store).empty and queries.measured_run_ids(store) == []
