"""Runs from the command line, against the simulated server: what they print, how they stop, how
they go on."""

import json
import os
import signal
import subprocess
import sys

import duckdb
import pytest

from lab import clock, paths
from lab.cli import main


def start(simulated, *words: str) -> subprocess.Popen:
    """A command in a process of its own, whose endpoint is the test's own server."""
    return subprocess.Popen(
        [sys.executable, "main.py", *words, *asked_of(simulated, *words)],
        cwd=paths.ROOT,
        env={**os.environ, "LAB_LOCAL_KEY": simulated.api_key},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def asked_of(simulated, *words: str) -> list[str]:
    return [] if words[0] == "resume" else ["--endpoint", simulated.base_url]


@pytest.fixture
def run(simulated, db, monkeypatch, capfd):
    """A command, without the second and a half that a process of its own takes to import the SDK:
    (exit code, what it printed, what it said beside that)."""
    monkeypatch.setenv("LAB_LOCAL_KEY", simulated.api_key)

    def ran(*words: str) -> tuple[int, str, str]:
        capfd.readouterr()
        code = main([*words, *asked_of(simulated, *words)])
        return code, *capfd.readouterr()

    return ran


def test_json_is_one_object_and_progress_goes_elsewhere(simulated, db):
    words = ("streaming", "--runs", "2", "--answer-tokens", "16", "--seed", "7", "--json")
    process = start(simulated, *words)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, len(out.splitlines())) == (0, 1)
    found = json.loads(out)
    assert (found["endpoint_kind"], found["status"], found["seed"]) == ("simulated", "finished", 7)
    assert [(arm["arm"], arm["n"]) for arm in found["arms"]] == [("whole", 2), ("streamed", 2)]
    assert found["arms"][0]["metrics"]["wait_ms"]["p50"] > 0
    assert found["comparisons"][0]["verdict"] == "not_enough_data"  # two blocks never reach 95 %
    assert err.startswith("Streaming on ")


def test_a_server_of_the_labs_that_wants_a_key_says_where_to_put_it(simulated, run, monkeypatch):
    monkeypatch.delenv("LAB_LOCAL_KEY")
    code, _, err = run("streaming", "--runs", "1", "--answer-tokens", "16")
    assert code == 2 and f'LAB_API_KEYS=\'{{"{simulated.base_url}": "KEY"}}\'' in err


def test_the_answer_says_where_it_asks_before_it_asks_and_the_verdict_before_the_table(run):
    code, out, _ = run("streaming", "--runs", "1", "--answer-tokens", "16")
    assert code == 0
    order = [
        out.index(word)
        for word in ("Streaming on http://127.0.0.1", "1/", "Not enough data", "p95", "Rows: ")
    ]
    assert order == sorted(order)


def test_ctrl_c_keeps_the_rows_and_resume_measures_the_rest(simulated, run):
    process = start(simulated, "streaming", "--runs", "12", "--answer-tokens", "64", "--json")
    while "/26 " not in process.stderr.readline():
        pass
    asked = clock.now_ns()
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert clock.now_ns() - asked < 20e9
    stopped = json.loads(out)
    assert stopped["status"] == "interrupted"
    assert stopped["arms"][0]["n"] < 12

    code, out, _ = run("resume", stopped["run_id"], "--json")
    done = json.loads(out)
    assert (code, done["run_id"], done["status"]) == (0, stopped["run_id"], "finished")
    assert [arm["n"] for arm in done["arms"]] == [12, 12]
    assert run("resume", stopped["run_id"])[0] == 2


def test_more_blocks_join_a_finished_run(run):
    first = json.loads(run("streaming", "--runs", "2", "--answer-tokens", "16", "--json")[1])
    code, out, _ = run("streaming", "--runs", "3", "--more", first["run_id"], "--json")
    assert code == 0
    assert [arm["n"] for arm in json.loads(out)["arms"]] == [5, 5]
    code, _, err = run("caching", "--runs", "3", "--more", first["run_id"])
    assert code == 2 and "measures streaming, not caching. For more: " in err


def test_a_run_goes_on_by_whatever_name_its_help_offers(run):
    """`--more last~1` was no run, where `show last~1` was one."""
    words = ("streaming", "--runs", "1", "--warmup", "0", "--answer-tokens", "16", "--json")
    first, second = (json.loads(run(*words)[1])["run_id"] for _ in range(2))
    code, out, err = run(*words, "--more", "last~1")
    assert code == 0, err
    assert json.loads(out)["run_id"] == first
    assert run("resume", "last~1")[2].startswith(f"Run {first} has all its 2 blocks.")
    assert run("resume", "last~0")[2].startswith(f"Run {second} has all its 1 block.")
    assert run("resume", "last~2")[2].startswith("There is no run last~2: there are 2")


def test_bodies_from_files_become_arms(run, tmp_path):
    (tmp_path / "long.json").write_text(json.dumps({"max_tokens": 64}))
    (tmp_path / "short.json").write_text(json.dumps({"system": "Be brief.", "max_tokens": 16}))
    code, out, _ = run(
        "ab",
        str(tmp_path / "long.json"),
        str(tmp_path / "short.json"),
        "--runs",
        "1",
        "--json",
    )
    assert code == 0
    assert [arm["arm"] for arm in json.loads(out)["arms"]] == ["long", "short"]


def test_arms_of_two_techniques_share_blocks(run):
    code, out, _ = run(
        "compare-arms", "streaming.streamed", "caching.cached", "--runs", "1", "--json"
    )
    found = json.loads(out)
    assert (code, found["technique"]) == (0, "side-by-side")
    assert [(arm["technique"], arm["n"]) for arm in found["arms"]] == [
        ("streaming", 1),
        ("caching", 1),
    ]


def test_an_interrupted_run_of_shared_blocks_is_resumed_where_it_ran(simulated, db, run):
    """Three blocks were planned and two measured; the announcement counts the one that is missing,
    and names the run's own endpoint."""
    words = ["streaming.streamed", "caching.cached", "--runs", "2", "--warmup", "0", "--json"]
    run_id = json.loads(run("compare-arms", *words)[1])["run_id"]
    with duckdb.connect(str(db)) as connection:
        planned = 'json_merge_patch(settings, \'{"runs": 3, "config": {"runs": 3}}\')'
        connection.execute(f"UPDATE runs SET status = 'interrupted', settings = {planned}")
    code, out, err = run("resume", run_id, "--json")
    assert code == 0, err
    assert [arm["n"] for arm in json.loads(out)["arms"]] == [3, 3]
    assert (
        err.startswith(f"Side by side on {simulated.base_url} (simulated)")
        and ": 3 calls" in err.splitlines()[0]
    )
    assert "press the button" in run("resume", run_id)[2]


def test_a_model_of_any_name_is_passed_on(run):
    code, out, _ = run(
        "streaming",
        "--model",
        "simulated-large",
        "--runs",
        "1",
        "--answer-tokens",
        "16",
        "--json",
    )
    assert code == 0
    assert "simulated-large" in json.loads(out)["models"].values()
