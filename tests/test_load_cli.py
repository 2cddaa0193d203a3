"""`main.py load` from its flags to its exit code, on the simulated server."""

import io
import json
import os
import signal
import subprocess
import sys

import duckdb
import pytest

from lab import paths
from lab.cli import load, main
from lab.model import LabError


@pytest.fixture
def run(simulated, db, monkeypatch, capfd):
    """A load: (exit code, what it printed, what it said beside that)."""
    monkeypatch.setenv("LAB_LOCAL_KEY", simulated.api_key)

    def ran(*words: str) -> tuple[int, str, str]:
        capfd.readouterr()
        code = main(["load", "--endpoint", simulated.base_url, "--no-bias", *words])
        return code, *capfd.readouterr()

    return ran


def test_json_is_one_object_and_each_request_a_row_of_calls(simulated, run, tmp_path):
    simulated.knobs(gap_ms=1, jitter=0, tail=0)
    file = tmp_path / "mine.duckdb"
    words = ("--concurrency", "4", "--requests", "28", "--max-tokens", "8", "--db", str(file))
    code, out, err = run(*words, "--json")
    assert (code, len(out.splitlines())) == (0, 1)
    told = json.loads(out)
    assert (told["technique"], told["endpoint_kind"]) == ("load", "simulated")
    assert err.startswith("Load on http://127.0.0.1")
    names = ("message_id", "started_ns", "sent_ns", "first_text_ns", "last_token_ns")
    known = " AND ".join(f"calls.{name} IS NOT NULL" for name in (*names, "scheduled_ns"))
    of_calls = "FROM calls JOIN trials USING (trial_id) WHERE phase = 'load'"
    with duckdb.connect(str(file), read_only=True) as connection:
        counts = "SELECT count(*), count(DISTINCT message_id)"
        assert connection.execute(f"{counts} {of_calls} AND {known}").fetchall() == [(28, 28)]
        events = "SELECT min(n) FROM (SELECT count(*) AS n FROM events GROUP BY call_id)"
        assert connection.execute(events).fetchall()[0][0] >= 8


@pytest.mark.parametrize(
    ("rule", "exit_code"),
    [
        ("p50 total_ms < 60 s", 0),
        ("p50 total_ms < 1", 3),
        ("p99 total_ms < 60 s", 4),  # 12 requests carry no p99
    ],
)
def test_the_exit_code_says_whether_the_objective_was_kept(run, rule, exit_code):
    assert run("--concurrency", "2", "--requests", "12", "--slo", rule)[0] == exit_code


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--concurrency", "1", "--rate", "2"), "--concurrency and --rate exclude each other"),
        (("--concurrency", "0"), "--concurrency: 0 is not above 0"),
        (("--search", "rate"), "--search needs what must hold"),
        (("--slo", "fast please"), "Cannot read the objective 'fast please'"),
        (("--ramp", "1:8"), "--ramp rises over --seconds"),
        (("--ramp", "8", "--seconds", "1"), "--ramp is A:B"),
        (("--arrivals", "gone.csv"), "gone.csv cannot be read"),
        (("--arrivals", "recorded"), "needs a recording"),
        (("--scenario", "nowhere.jsonl"), "No scenario 'nowhere.jsonl'"),
        (("--concurrency", "20", "--most", "10"), "20 streams at once are more than the 10 that -"),
    ],
)
def test_what_cannot_be_run_is_one_sentence(run, db, words, sentence):
    code, out, err = run(*words)
    assert (code, out, len(err.splitlines())) == (2, "", 1) and sentence in err
    assert not db.exists()


def test_ctrl_c_says_what_is_kept(simulated, db):
    words = ("--concurrency", "2", "--requests", "5000", "--json")
    process = subprocess.Popen(
        [sys.executable, "main.py", "load", "--endpoint", simulated.base_url, *words],
        cwd=paths.ROOT,
        env={**os.environ, "LAB_LOCAL_KEY": simulated.api_key},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    next(line for line in process.stderr if "/5,000" in line)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert json.loads(out)["status"] == "interrupted"
    assert "Stopped by request." in err and "The rows so far are kept." in err


def test_a_load_that_may_cost_money_is_not_begun_unasked(monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("y"))  # no terminal
    question = "This sends 96 requests to https://api.example."
    with pytest.raises(LabError, match=r"^Nothing was sent\. This sends 96 .* Add --yes"):
        load._ask(question)
