"""Runs from the command line, against the simulated server: what they print, how they stop, how
they go on."""

import json
import os
import signal
import subprocess
import sys

import duckdb

from lab import clock, paths


def start(simulated, *words: str) -> subprocess.Popen:
    """A command whose endpoint is the test's own server."""
    command = [
        sys.executable,
        "main.py",
        *words,
        *(["--endpoint", simulated.base_url] if words[0] != "resume" else []),
    ]
    environment = {**os.environ, "LAB_LOCAL_KEY": simulated.api_key}
    return subprocess.Popen(
        command,
        cwd=paths.ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(simulated, *words: str) -> tuple[int, str, str]:
    process = start(simulated, *words)
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def test_json_is_one_object_and_progress_goes_elsewhere(simulated, db):
    code, out, err = run(
        simulated, "streaming", "--runs", "2", "--answer-tokens", "16", "--seed", "7", "--json"
    )
    assert (code, len(out.splitlines())) == (0, 1)
    found = json.loads(out)
    assert (found["endpoint_kind"], found["status"], found["seed"]) == ("simulated", "finished", 7)
    assert [(arm["arm"], arm["n"]) for arm in found["arms"]] == [("whole", 2), ("streamed", 2)]
    assert found["arms"][0]["metrics"]["wait_ms"]["p50"] > 0
    assert found["comparisons"][0]["verdict"] == "not_enough_data"  # two blocks never reach 95 %
    assert err.startswith("Streaming on ")


def test_the_answer_says_where_it_asks_before_it_asks_and_the_verdict_before_the_table(
    simulated, db
):
    code, out, _ = run(simulated, "streaming", "--runs", "1", "--answer-tokens", "16")
    assert code == 0
    order = [
        out.index(word)
        for word in ("Streaming on http://127.0.0.1", "1/", "Not enough data", "p95", "Rows: ")
    ]
    assert order == sorted(order)


def test_ctrl_c_keeps_the_rows_and_resume_measures_the_rest(simulated, db):
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

    code, out, _ = run(simulated, "resume", stopped["run_id"], "--json")
    done = json.loads(out)
    assert (code, done["run_id"], done["status"]) == (0, stopped["run_id"], "finished")
    assert [arm["n"] for arm in done["arms"]] == [12, 12]
    assert run(simulated, "resume", stopped["run_id"])[0] == 2


def test_more_blocks_join_a_finished_run(simulated, db):
    first = json.loads(
        run(simulated, "streaming", "--runs", "2", "--answer-tokens", "16", "--json")[1]
    )
    code, out, _ = run(simulated, "streaming", "--runs", "3", "--more", first["run_id"], "--json")
    assert code == 0
    assert [arm["n"] for arm in json.loads(out)["arms"]] == [5, 5]
    code, _, err = run(simulated, "caching", "--runs", "3", "--more", first["run_id"])
    assert code == 2 and "measures streaming, not caching. For more: " in err


def test_a_run_goes_on_by_whatever_name_its_help_offers(simulated, db):
    """`--more last~1` was no run, where `show last~1` was one."""
    words = ("streaming", "--runs", "1", "--warmup", "0", "--answer-tokens", "16", "--json")
    first, second = (json.loads(run(simulated, *words)[1])["run_id"] for _ in range(2))
    code, out, err = run(simulated, *words, "--more", "last~1")
    assert code == 0, err
    assert json.loads(out)["run_id"] == first
    assert run(simulated, "resume", "last~1")[2].startswith(f"Run {first} has all its 2 blocks.")
    assert run(simulated, "resume", "last~0")[2].startswith(f"Run {second} has all its 1 block.")
    assert run(simulated, "resume", "last~2")[2].startswith("There is no run last~2: there are 2")


def test_bodies_from_files_become_arms(simulated, db, tmp_path):
    (tmp_path / "long.json").write_text(json.dumps({"max_tokens": 64}))
    (tmp_path / "short.json").write_text(json.dumps({"system": "Be brief.", "max_tokens": 16}))
    code, out, _ = run(
        simulated,
        "ab",
        str(tmp_path / "long.json"),
        str(tmp_path / "short.json"),
        "--runs",
        "1",
        "--json",
    )
    assert code == 0
    assert [arm["arm"] for arm in json.loads(out)["arms"]] == ["long", "short"]


def test_arms_of_two_techniques_share_blocks(simulated, db):
    code, out, _ = run(
        simulated, "compare-arms", "streaming.streamed", "caching.cached", "--runs", "1", "--json"
    )
    found = json.loads(out)
    assert (code, found["technique"]) == (0, "side-by-side")
    assert [(arm["technique"], arm["n"]) for arm in found["arms"]] == [
        ("streaming", 1),
        ("caching", 1),
    ]


def test_an_interrupted_run_of_shared_blocks_is_resumed_where_it_ran(simulated, db, monkeypatch):
    """Three blocks were planned and two measured; the announcement counts the one that is missing,
    and names the run's own endpoint."""
    monkeypatch.setenv("LAB_IGNORE_KEYS", "1")
    words = ["streaming.streamed", "caching.cached", "--runs", "2", "--warmup", "0", "--json"]
    run_id = json.loads(run(simulated, "compare-arms", *words)[1])["run_id"]
    with duckdb.connect(str(db)) as connection:
        planned = 'json_merge_patch(settings, \'{"runs": 3, "config": {"runs": 3}}\')'
        connection.execute(f"UPDATE runs SET status = 'interrupted', settings = {planned}")
    code, out, err = run(simulated, "resume", run_id, "--json")
    assert code == 0, err
    assert [arm["n"] for arm in json.loads(out)["arms"]] == [3, 3]
    assert (
        err.startswith(f"Side by side on {simulated.base_url} (simulated)")
        and ": 3 calls" in err.splitlines()[0]
    )
    assert "press the button" in run(simulated, "resume", run_id)[2]


def test_a_model_of_any_name_is_passed_on(simulated, db):
    code, out, _ = run(
        simulated,
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
