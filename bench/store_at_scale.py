"""Fill a database with plausible rows and time the questions that pages ask of it.

    python bench/store_at_scale.py [--events 1000000] [--db FILE]

Ten events a call, two calls a trial, a hundred trials a run; one run in a hundred is a hundred
times as large. Prints milliseconds: the median of five, opening the file included.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from lab.store import migrations, queries, sandbox, turnstile
from lab.store.store import Store


def identity(prefix: int, number: str) -> str:
    """SQL of a UUID whose order is that of its number, like a UUIDv7's."""
    return (
        f"printf('0{prefix}%06x-0000-7000-8000-%012x', ({number})::BIGINT,"
        f" ({number})::BIGINT)::UUID"
    )


def fill(store: Store, events: int) -> None:
    """Rows as the harness would write them, made by SQL: a baseline and one arm, twice as fast."""
    trials = events // 20
    # Trial t belongs to run t // 100; the first tenth of all trials is one large run.
    run = f"CASE WHEN t < {trials // 10} THEN 0 ELSE t // 100 END"
    began = "TIMESTAMPTZ '2026-01-01 00:00:00+00' + to_seconds(t * 60)"
    arms = """CASE t % 2 WHEN 0 THEN 'uncached' ELSE 'cached' END"""
    headline = {"metric": "ttft_ms", "technique": "caching", "arm": "cached"}
    settings = json.dumps(
        {"baseline": {"technique": "caching", "arm": "uncached"}, "headline": headline}
    )
    with store._writing() as (connection, turn):
        migrations.apply(connection)
        connection.execute("SELECT setseed(0.5)")
        connection.execute(f"""
            CREATE TEMP TABLE made AS
            SELECT t, {run} AS r, {arms} AS arm, t * 4000000000::BIGINT AS began_ns,
                ((CASE t % 2 WHEN 0 THEN 900 ELSE 300 END) * exp(0.3 *
                    (random() + random() + random() - 1.5)) * 1e6)::BIGINT AS first_ns
            FROM range({trials}) numbers(t);
            INSERT INTO runs
            SELECT {identity(1, "r")}, 'caching', 'local', 'local', '{{"small": "smollm2-135m"}}',
                '{settings}', 7, 'finished', TRUE,
                {began.replace("t *", "min(t) *")}, {began.replace("t *", "max(t) *")}, NULL,
                    NULL, NULL
            FROM made GROUP BY r;
            INSERT INTO sessions
            SELECT DISTINCT {identity(2, "r")}, {identity(1, "r")}, 'worker', 'machine',
                TIMESTAMPTZ '2026-01-01 00:00:00+00', '0.1.0', NULL,
                '{{"cores": 2}}', '{{}}' FROM made;
            INSERT INTO trials
            SELECT {identity(3, "t")}, {identity(1, "r")}, {identity(2, "r")}, 'caching', arm,
                t // 2, t % 2, 1,
                CASE WHEN t % 100 < 2 THEN 'warmup' ELSE 'measured' END,
                'task-' || (t // 2) % 12, {began}, began_ns,
                began_ns + first_ns + 1200000000, NULL,
                CASE WHEN t % 50 = 7 THEN 'failed' ELSE 'ok' END,
                    CASE WHEN t % 50 = 7 THEN 'overloaded' END, NULL, 1.0, 0.0004
            FROM made;
            INSERT INTO calls BY NAME
            SELECT {identity(4, "t * 2 + k")} AS call_id, {identity(3, "t")} AS trial_id,
                {identity(1, "r")} AS run_id,
                {identity(2, "r")} AS session_id,
                {identity(5, "t * 2 + k")} AS span_id,
                    CASE k WHEN 0 THEN 'prime' ELSE 'answer' END AS role, 1 AS attempt,
                'local' AS endpoint,
                'smollm2-135m' AS model,
                    CASE WHEN arm = 'cached' THEN 'read' ELSE 'none' END AS intended_cache,
                began_ns - (1 - k) * 900000000 AS started_ns, began_ns + 1000000 AS sent_ns,
                    began_ns + 40000000 AS headers_ns,
                began_ns + first_ns - 2000000 AS message_start_ns,
                    began_ns + first_ns AS first_text_ns,
                began_ns + first_ns + 90000000 AS first_sentence_ns,
                began_ns + first_ns + 1190000000 AS last_token_ns,
                    began_ns + first_ns + 1200000000 AS ended_ns,
                CASE WHEN arm = 'cached' AND k = 1 THEN 40 ELSE 640 END AS input_tokens,
                CASE WHEN arm = 'cached' AND k = 1 THEN 600 ELSE 0 END AS cache_read_tokens,
                120 AS output_tokens, TRUE AS connection_reused, 200 AS http_status,
                    'end_turn' AS stop_reason,
                CASE WHEN t % 50 = 7 AND k = 1 THEN 'overloaded' END AS error_kind,
                    200000 AS loop_lag_ns,
                '{{"queue": 1.0, "prefill": 300.0, "decode": 1200.0}}' AS server_ms,
                    0.0002 AS cost_usd
            FROM made, range(2) calls(k);
            INSERT INTO spans
            SELECT {identity(6, "t")}, {identity(3, "t")}, {identity(1, "r")}, {identity(2, "r")},
                NULL, 'trial', arm, began_ns,
                began_ns + first_ns + 1200000000
            FROM made;
            INSERT INTO spans
            SELECT span_id, trial_id, run_id, session_id, {identity(6, "0")}, 'call', role,
                started_ns, ended_ns FROM calls;
            INSERT INTO events
            SELECT call_id, run_id, e, first_text_ns + e * 110000000, 'text', 6, 'block '
                FROM calls, range(10) arrivals(e);
            """)
        turn.changed()


def timed(ask, times: int = 5) -> float:
    """Milliseconds, median."""
    took = []
    for _ in range(times):
        began = time.perf_counter()
        ask()
        took.append((time.perf_counter() - began) * 1e3)
    return statistics.median(took)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--events", type=int, default=1_000_000, help="event rows; calls are a tenth of it"
    )
    parser.add_argument("--db", help="where to make the database; without it a temporary one")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store = Store(chosen.db or Path(folder) / "scale.duckdb")
        if not store.path.exists():
            began = time.perf_counter()
            fill(store, chosen.events)
            print(
                f"made {queries.row_counts(store)} in {time.perf_counter() - began:.1f} s,"
                f" {store.path.stat().st_size / 1e6:.0f} MB"
            )
        everything = queries.runs(store, limit=100_000)
        small = everything["run_id"].iloc[0]
        large = everything["run_id"].iloc[-1]
        trial_id = queries.trials(store, small)["trial_id"].iloc[-1]
        for name, run_id in (
            ("run of 100 trials", small),
            (f"run of {len(queries.trials(store, large)):,} trials", large),
        ):
            for ask in (queries.trials, queries.calls, queries.arm_summary, queries.arm_counts):
                print(
                    f"{name:24} {ask.__name__:16}"
                    f" {timed(lambda a=ask, r=run_id: a(store, r)):8.0f} ms"
                )
            print(
                f"{name:24} {'pairs (one metric)':16}"
                f" {timed(lambda r=run_id: queries.pairs(store, r, 'ttft_ms')):6.0f} ms"
            )
            print(
                f"{name:24} {'pairs (all)':16}"
                f" {timed(lambda r=run_id: queries.pairs(store, r)):8.0f} ms"
            )
            print(
                f"{name:24} {'median_trials':16}"
                f" {timed(lambda r=run_id: queries.median_trials(store, r, 'ttft_ms')):8.0f} ms"
            )
            print(
                f"{name:24} {'median_pair':16}"
                f" {timed(lambda r=run_id: queries.median_pair(store, r)):8.0f} ms"
            )
            print(
                f"{name:24} {'drift':16}"
                f" {timed(lambda r=run_id: queries.drift(store, r, 'ttft_ms')):8.0f} ms"
            )
        print(
            f"{'one trial':24} {'spans':16} {timed(lambda: queries.spans(store, trial_id)):8.0f} ms"
        )
        print(
            f"{'one trial':24} {'trial_events':16}"
            f" {timed(lambda: queries.trial_events(store, trial_id)):8.0f} ms"
        )
        for name, ask in (
            ("opening", lambda: store.frame("SELECT 1")),
            ("runs", lambda: queries.runs(store)),
            ("finds", lambda: queries.finds(store)),
            ("history", lambda: queries.history(store, "ttft_ms")),
            ("arm_summary", lambda: store.frame("SELECT * FROM arm_summary")),
            ("row_counts", lambda: queries.row_counts(store)),
            (
                "sandbox: count events",
                lambda: sandbox.run_sql(store, "SELECT kind, count(*) FROM events GROUP BY kind"),
            ),
        ):
            print(f"{'all runs':24} {name:16} {timed(ask):8.0f} ms")
        print(f"changes counted: {turnstile.changes(store.path)}")


if __name__ == "__main__":
    main()
