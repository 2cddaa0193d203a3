"""What leaves the lab as files, read by the programs that people read such files with."""

import csv
import json
import struct
import uuid
import zipfile
from datetime import UTC, datetime

import duckdb
import pandas as pd
import pyarrow.parquet as pq
import pytest

from lab import results
from lab.harness.reporters import figure_files, html, markdown
from lab.model import LabError
from lab.rows import ROWS
from lab.store import queries, sandbox
from lab.store.export import FORMATS, VIEWS, export, frame_bytes, packed, table_bytes
from lab.store.importing import Imported
from lab.store.store import Store
from tests.recorded_runs import record

STARTED = datetime(2026, 11, 24, 6, 0, tzinfo=UTC)
LARGE = 2**53 - 1


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """A run of two blocks whose first trial has an instant as large as a stamp may be."""
    store = Store(tmp_path_factory.mktemp("measured") / "lab.duckdb")
    run_id = record(store, blocks=2, started=STARTED)
    with duckdb.connect(str(store.path)) as connection:
        connection.execute(f"UPDATE trials SET ended_ns = {LARGE} WHERE block = 1")
        connection.execute("UPDATE trials SET cost_usd = 'nan' WHERE block = 2")
        connection.execute("""UPDATE calls SET server_ms = '{"queue": NaN, "decode": 3}'""")
        connection.execute("""UPDATE sessions SET machine = '{"note": "nan, inf", "cores": [2]}'""")
    return store, run_id


def strict(text):
    def refuse(word):
        raise AssertionError(f"{word} is no JSON")

    return json.loads(text, parse_constant=refuse)


@pytest.mark.parametrize("format", ["parquet", "csv", "json"])
def test_the_metrics_are_files_of_their_own(measured, tmp_path, format):
    store, run_id = measured
    files = export(store, tmp_path, format, run_id)
    assert [file.name for file in files] == [f"{name}.{format}" for name in (*ROWS, *VIEWS)]
    if format == "csv":
        rows = list(csv.DictReader((tmp_path / "trial_metrics.csv").open(encoding="utf-8")))
    elif format == "json":
        rows = strict((tmp_path / "trial_metrics.json").read_text())
    else:
        rows = pq.read_table(tmp_path / "trial_metrics.parquet").to_pylist()
    assert [float(row["ttft_ms"]) for row in rows] == [901, 301, 902, 302]


def test_types_survive_in_parquet(measured, tmp_path):
    store, run_id = measured
    export(store, tmp_path, "parquet", run_id)
    (run,) = pq.read_table(tmp_path / "runs.parquet").to_pylist()
    assert (run["run_id"], run["started_utc"]) == (uuid.UUID(run_id), STARTED)
    assert run["keep_text"] is True and json.loads(run["models"]) == {"small": "smollm2-135m"}
    trials = pq.read_table(tmp_path / "trials.parquet").to_pylist()
    assert max(row["ended_ns"] for row in trials) == LARGE
    calls = pq.read_table(tmp_path / "calls.parquet").to_pylist()
    assert {(row["dns_ns"], row["output_tokens"]) for row in calls} == {(None, 3)}
    frame = pd.read_parquet(tmp_path / "calls.parquet", dtype_backend="pyarrow")
    assert str(frame["physical_cache_tokens"].dtype) == "int32[pyarrow]"
    kinds = duckdb.sql(f"DESCRIBE FROM '{tmp_path}/trial_metrics.parquet'").fetchall()
    kinds = {name: kind for name, kind, *_ in kinds}
    assert kinds["trial_id"] == "UUID" and kinds["started_utc"] == "TIMESTAMP WITH TIME ZONE"
    assert kinds["client_caused"] == "BOOLEAN" and kinds["calls"] == "BIGINT"


def test_text_formats_have_iso_instants_and_no_nan(measured, tmp_path):
    store, run_id = measured
    export(store, tmp_path, "json", run_id)
    export(store, tmp_path, "csv", run_id)
    tables = {name: strict((tmp_path / f"{name}.json").read_text()) for name in (*ROWS, *VIEWS)}
    (run,), (session,) = tables["runs"], tables["sessions"]
    assert run["started_utc"] == "2026-11-24T06:00:00.000000Z"
    assert datetime.fromisoformat(run["started_utc"]) == STARTED
    assert run["models"] == {"small": "smollm2-135m"} and run["ended_utc"] > run["started_utc"]
    assert session["machine"] == {"note": "nan, inf", "cores": [2]}
    assert [row["cost_usd"] for row in tables["trials"]] == [0.001, 0.0004, None, None]
    assert tables["calls"][0]["server_ms"] == '{"queue": NaN, "decode": 3}'
    rows = list(csv.DictReader((tmp_path / "trials.csv").open(encoding="utf-8")))
    assert [row["cost_usd"] for row in rows] == ["0.001", "0.0004", "", ""]
    assert (rows[0]["ended_ns"], rows[0]["error_kind"]) == (str(LARGE), "")
    assert rows[0]["started_utc"] == "2026-11-24T06:00:10.000000Z"


def test_an_import_leaves_the_metrics_to_the_views(measured, tmp_path):
    store, run_id = measured
    export(store, tmp_path / "out", "parquet", run_id)
    (tmp_path / "out" / "trial_metrics.parquet").write_bytes(b"somebody's own arithmetic")
    mine = Store(tmp_path / "mine.duckdb")
    assert mine.import_from(tmp_path / "out") == Imported(runs=1, trials=4, calls=4, events=12)
    assert sorted(queries.trials(mine, run_id)["ttft_ms"]) == [301, 302, 901, 902]


def test_a_duckdb_file_is_written_for_older_duckdbs(measured, tmp_path):
    """Byte 12 of a DuckDB file is its storage version; 64 is what every 1.x reads, 2.0's own is
    beyond them."""
    store, run_id = measured
    (file,) = export(store, tmp_path, "duckdb", run_id)
    download = tmp_path / "result.duckdb"
    download.write_bytes(frame_bytes(pd.DataFrame({"n": [1]}), "duckdb"))
    for written in (file, download):
        assert written.read_bytes()[8:12] == b"DUCK"
        assert struct.unpack("<Q", written.read_bytes()[12:20]) == (64,)
    with duckdb.connect(str(file), read_only=True) as connection:
        rows = connection.execute("SELECT ttft_ms FROM trial_metrics ORDER BY ALL").fetchall()
    assert rows == [(301,), (302,), (901,), (902,)]


def test_a_sentence_that_leaves_the_lab_begins_with_where_its_numbers_are_from(tmp_path):
    """A simulated "cached is faster" was pasted as a fact about a model."""
    store = Store(tmp_path / "lab.duckdb")
    began = datetime(2026, 11, 25, 6, 0, tzinfo=UTC)
    begins = {}
    for kind in ("simulated", "local", "live"):
        result = results.read(record(store, kind=kind, started=began), store)
        first, second = result.verdicts[0].markdown.splitlines()[:2]
        begins[kind] = first.strip()
        assert second.startswith("**Cached is faster")
        assert f"{first}\n{second}" in markdown.markdown(result)
        assert result.told(result.comparison("total_ms")).markdown.startswith(first)
    assert begins == {
        "simulated": "simulated: no model ran · smollm2-135m · 2026-11-25 · n = 8",
        "local": "local: the mechanism, not Claude's size · smollm2-135m · 2026-11-25 · n = 8",
        "live": "live · smollm2-135m · 2026-11-25 · n = 8",
    }


def rows_of(store):
    """All that a lab has measured, JSON as values, less the note where a run came from."""
    columns = {"runs": "* EXCLUDE imported_from"}
    rows = {}
    with store.reading() as connection:
        for table in ROWS:
            asked = f"SELECT COLUMNS({columns.get(table, '*')})::VARCHAR FROM {table} ORDER BY ALL"
            rows[table] = [
                [json.loads(value) if value and value[0] in "{[" else value for value in row]
                for row in connection.execute(asked).fetchall()
            ]
    return rows


@pytest.fixture(scope="module")
def noted(tmp_path_factory):
    """A run with a text that a file could spoil: commas, quotes, lines, nothing at all."""
    store = Store(tmp_path_factory.mktemp("noted") / "lab.duckdb")
    run_id = record(store, blocks=2, started=STARTED, lost={2: "failed"})
    store.set_note(run_id, 'Monday, "late"\nsecond line; 08:00')
    with duckdb.connect(str(store.path)) as connection:
        connection.execute("UPDATE events SET text = '' WHERE seq = 1")
        connection.execute("UPDATE events SET text = NULL WHERE seq = 2")
        connection.execute("""UPDATE calls SET server_ms = '{"decode": 3.5}'""")
    return store


@pytest.mark.parametrize("format", FORMATS)
def test_everything_goes_out_as_one_file_and_in_again(noted, tmp_path, format):
    """What the dashboard made could not be imported: that wanted six Parquet files in a zip."""
    shares = []
    file = packed(noted, tmp_path, format, lambda text, share: shares.append(share))
    assert shares[0] == 0 and shares == sorted(shares) and len(set(shares)) >= len(ROWS)
    mine = Store(tmp_path / "mine" / "lab.duckdb")
    mine.path.parent.mkdir()
    assert mine.import_from(file) == Imported(runs=1, trials=4, calls=4, events=12)
    assert rows_of(mine) == rows_of(noted)
    assert mine.import_from(file) == Imported(runs=0, trials=0, calls=0, events=0)


@pytest.mark.parametrize("name", ["runs", "calls", "trial_metrics"])
def test_a_table_that_is_taken_away_keeps_its_types(noted, tmp_path, name):
    """UUID and JSON became VARCHAR, and whole numbers that may be missing DOUBLE."""
    with noted.reading() as connection:
        own = dict(row[:2] for row in connection.execute(f"DESCRIBE {name}").fetchall())
    (tmp_path / "table.duckdb").write_bytes(table_bytes(noted, name, "duckdb"))
    (tmp_path / "query.duckdb").write_bytes(
        frame_bytes(sandbox.run_sql(noted, f"FROM {name}", timeout_s=60), "duckdb", name)
    )
    for file in ("table.duckdb", "query.duckdb"):
        with duckdb.connect(str(tmp_path / file), read_only=True) as connection:
            rows = connection.execute(f"DESCRIBE {name}").fetchall()
        assert dict(row[:2] for row in rows) == own
    assert {"UUID"} < set(own.values())


def test_a_zip_that_lacks_a_table_says_which(noted, tmp_path):
    whole, part = packed(noted, tmp_path, "csv"), tmp_path / "part.zip"
    with zipfile.ZipFile(whole) as source, zipfile.ZipFile(part, "w") as lacking:
        for name in source.namelist():
            if name != "spans.csv":
                lacking.writestr(name, source.read(name))
    with pytest.raises(LabError, match=r"there is no spans.csv in it"):
        Store(tmp_path / "mine.duckdb").import_from(part)


def test_a_report_says_its_settings_in_words_before_it_shows_them_raw(tmp_path):
    """The raw JSON stood before machine and rows, at full length."""
    store = Store(tmp_path / "lab.duckdb")
    page = html.page(results.read(record(store, started=STARTED), store))
    body = page[page.index("<h2>Settings</h2>") :]
    words, raw = body.split("<details>")
    assert "<td>uncached, cached</td>" in words and "<td>8, after 0 to warm up</td>" in words
    assert "<h2>Machine</h2>" in words and "{" not in words
    assert raw.index("All settings") < raw.index("&#34;headline&#34;")


@pytest.mark.parametrize("kind", ["local", "simulated"])
def test_a_share_card_says_what_the_verdict_says_and_where_it_is_from(tmp_path, kind):
    store = Store(tmp_path / "lab.duckdb")
    cards = {}
    for blocks in (2, 8):
        result = results.read(record(store, kind=kind, blocks=blocks, started=STARTED), store)
        figure = figure_files.share(result)
        words = " ".join(words.text for words in figure.layout.annotations)
        cards[blocks] = (words.replace("<b>", "").replace("</b>", ""), figure.data)
        assert result.provenance in words.replace("&#x27;", "'")
    told, bars = cards[8]
    assert (
        "Cached starts 66 % sooner than uncached" in told and "−600 ms" in told and "n = 8" in told
    )
    assert result.verdicts[0].quality in told, "speed never stands alone"
    assert round(bars[0].x[0] / bars[1].x[0]) == 3  # 904 against 304 ms
    assert [bar.opacity for bar in bars] == [1, 1]
    assert {bar.marker.pattern.shape for bar in bars} == {"/" if kind == "simulated" else None}
    refused, bars = cards[2]
    assert "Not enough data" in refused and "sooner" not in refused
    assert [bar.opacity for bar in bars] == [0.3, 0.3]
