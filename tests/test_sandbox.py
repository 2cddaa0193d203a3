"""What a user's SQL cannot do. Each attempt must be refused in one line, and leave the database and
the machine as they were."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.model import LabError
from lab.store.export import FORMATS, frame_bytes
from lab.store.sandbox import run_sql
from lab.store.store import Store

ATTEMPTS = [
    # writing
    "CREATE TABLE t (i INTEGER)",
    "INSERT INTO runs SELECT * FROM runs",
    "UPDATE runs SET note = 'x'",
    "DELETE FROM runs",
    "DROP VIEW trial_metrics",
    "COPY runs TO '{folder}/out.csv'",
    "EXPORT DATABASE '{folder}/out'",
    "EXPLAIN ANALYZE COPY runs TO '{folder}/out.csv'",
    "WITH gone AS (DELETE FROM runs RETURNING *) SELECT * FROM gone",
    # reading and listing files
    "SELECT * FROM read_csv('{folder}/secret.csv')",
    "SELECT * FROM read_text('{folder}/secret.csv')",
    "SELECT * FROM read_blob('{folder}/secret.csv')",
    "SELECT * FROM read_json('{folder}/secret.csv')",
    "SELECT * FROM parquet_scan('{folder}/secret.parquet')",
    "SELECT * FROM sniff_csv('{folder}/secret.csv')",
    "SELECT * FROM glob('{folder}/*')",
    "FROM '{folder}/secret.csv'",
    "FROM 'x.parquet'",
    "SELECT * FROM query('SELECT * FROM read_text(''{folder}/secret.csv'')')",
    # extensions, network, other databases
    "INSTALL httpfs",
    "LOAD httpfs",
    "SELECT * FROM sqlite_scan('{folder}/a.db', 't')",
    "SELECT * FROM 'http://127.0.0.1:1/x.csv'",
    "ATTACH '{folder}/other.duckdb' AS other",
    "USE memory",
    # settings and secrets
    "SET memory_limit = '8GB'",
    "RESET enable_external_access",
    "PRAGMA threads = 8",
    "CALL pragma_version()",
    "SELECT getenv('HOME')",
    "SELECT * FROM duckdb_secrets()",
    "CREATE SECRET s (TYPE s3)",
    # more than one statement, and comments that hide one
    "SELECT 1; SELECT 2",
    "SELECT 1; DROP VIEW trial_metrics",
    "SELECT 1 /* ; */ ; -- harmless\nDELETE FROM runs",
    "/* SELECT */ DELETE FROM runs",
    # nothing, and nonsense
    "",
    "-- only a comment",
    "SELEKT 1",
    "SELECT * FROM nowhere",
]

ENDLESS = [
    "SELECT count(*) FROM range(10000000000) a, range(1000000) b WHERE a.range % 7 = b.range % 11",
    (
        "WITH RECURSIVE r(i) AS (SELECT 1 UNION ALL SELECT 1 - i FROM r) SELECT count(*) FROM r"
        " WHERE i > 5"
    ),
]

GREEDY = [
    "SELECT list(x) FROM range(1000000000) t(x)",
    "SELECT repeat(repeat('x', 100000), 100000)",
    "SELECT x.range, y.range FROM range(100000) x, range(10000) y ORDER BY hash(x.range + y.range)",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sandbox")
    (folder / "secret.csv").write_text("key\nsk-ant-do-not-show\n")
    return folder


@pytest.fixture(scope="module")
def store(folder) -> Store:
    """One for all: whatever is tried, it stays as it is."""
    store = Store(folder / "lab.duckdb")
    store._bring_up_to_date()
    return store


@pytest.mark.parametrize("sql", ATTEMPTS)
def test_refused_in_one_line(store, folder, sql):
    before = sorted(file.name for file in folder.iterdir()), store.version()
    with pytest.raises(LabError) as refused:
        run_sql(store, sql.replace("{folder}", str(folder)), timeout_s=60)
    assert (
        "\n" not in str(refused.value)
        and "stopped" not in str(refused.value)
        and "Traceback" not in str(refused.value)
        and "sk-ant" not in str(refused.value)
    )
    assert (sorted(file.name for file in folder.iterdir()), store.version()) == before


@pytest.mark.parametrize("sql", [*ENDLESS, *GREEDY])
def test_stopped_at_a_limit_and_the_database_is_free_again(store, sql):
    with pytest.raises(LabError):
        run_sql(store, sql, timeout_s=1)
    store._bring_up_to_date()
    assert run_sql(store, "SELECT 42 AS n", timeout_s=60)["n"].tolist() == [42]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1",
        "FROM runs",
        "WITH a AS (SELECT 1) SELECT * FROM a",
        "DESCRIBE runs",
        "SHOW TABLES",
        "SUMMARIZE trials",
        "SELECT ';' -- ;",
    ],
)
def test_questions_are_answered(store, sql):
    assert len(run_sql(store, sql, timeout_s=60).columns) > 0


def test_a_long_answer_is_cut_and_says_so(store):
    rows = run_sql(store, "SELECT * FROM range(1000)", timeout_s=60, max_rows=10)
    assert (len(rows), rows.attrs["truncated"]) == (10, True)
    assert (
        run_sql(store, "SELECT * FROM range(10)", timeout_s=60, max_rows=10).attrs["truncated"]
        is False
    )


def test_a_key_in_the_environment_is_not_passed_on(store, monkeypatch):
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-do-not-show")
    shown = run_sql(store, "SELECT * FROM duckdb_settings()", timeout_s=60).to_csv()
    assert "sk-ant" not in shown


def test_an_absent_database_has_no_rows(tmp_path):
    absent = Store(tmp_path / "none.duckdb")
    assert run_sql(absent, "SELECT * FROM trial_metrics", timeout_s=60).empty
    assert not (tmp_path / "none.duckdb").exists()


ODD = {
    "DATE '20000-01-01'": "20000-01-01",
    "DATE 'infinity'": "infinity",
    "TIMESTAMPTZ '-infinity'": "-infinity",
    "TIMESTAMP '20000-01-01'": "20000-01-01 00:00:00",
    "TIMESTAMP '0044-03-15 (BC)'": "0044-03-15 (BC) 00:00:00",
    "TIME '24:00:00'": "24:00:00",
    "union_value(k := 1)": "1",
    "MAP {'a': DATE 'infinity'}": "{a=infinity}",
    "INTERVAL 1 MONTH": "1 month",
    "170141183460469231731687303715884105727::HUGEINT": "170141183460469231731687303715884105727",
    "340282366920938463463374607431768211455::UHUGEINT": "340282366920938463463374607431768211455",
    "'10101'::BIT": "10101",
    "'\\x00a'::BLOB": "\\x00a",
    "[{'a': TIMESTAMP '20000-01-01', 'b': [1, 2]}]": "[{'a': '20000-01-01 00:00:00', 'b': [1, 2]}]",
    "'x'::ENUM ('x', 'y')": "x",
    "sum(2::BIGINT)": 2,
}


def test_a_value_that_python_has_not_is_text_and_the_rest_goes_on(store):
    rows = run_sql(store, f"SELECT {', '.join(ODD)}, count(*) AS even, 1 AS even", timeout_s=60)
    assert rows.iloc[0].tolist() == [*ODD.values(), 1, 1]
    assert {len(frame_bytes(rows, format)) > 0 for format in FORMATS} == {True}


def test_what_duckdb_itself_cannot_hold_is_one_sentence(store):
    with pytest.raises(LabError) as refused:
        run_sql(store, "SELECT INTERVAL '290000000 years' * 290000000 AS odd")
    assert "\n" not in str(refused.value) and "Traceback" not in str(refused.value)
