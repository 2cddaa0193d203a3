"""`record`: a command runs through the recorder as it would without, and is told where to look."""

import contextlib
import os
import signal
import socket
import subprocess
import sys

import psutil
import pytest

from bench.raw_server import RawServer
from bench.recorder_ground import until
from lab import cli, paths
from lab.store import queries
from lab.store.store import Store

ASK = """
import json, os, sys, urllib.request
url = os.environ["ANTHROPIC_BASE_URL"]
body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}]}).encode()
headers = {"content-type": "application/json"}
request = urllib.request.Request(url + "/v1/messages", body, headers)
print(json.load(urllib.request.urlopen(request))["id"], sys.stdin.read(), sys.argv[1:])
sys.exit(7)
"""


STARTED: list[subprocess.Popen] = []


@pytest.fixture(autouse=True)
def none_is_left():
    yield
    while STARTED:
        STARTED.pop().terminate()


def record(*words: str, **options) -> subprocess.Popen:
    process = subprocess.Popen(
        [sys.executable, "main.py", "record", *words],
        cwd=paths.ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )
    STARTED.append(process)
    return process


def test_a_command_has_its_own_input_output_and_exit_code(db):
    with RawServer(lambda c: c.good()) as server:
        command = ["--upstream", server.url, "--", sys.executable, "-c", ASK, "--port", "x"]
        process = record(*command, env={**os.environ, "HTTP_PROXY": "http://127.0.0.1:9"})
        out, err = process.communicate("what it is given", timeout=60)
    assert (process.returncode, out) == (7, "msg_1 what it is given ['--port', 'x']\n")
    (run,) = queries.recordings(Store(db)).to_dict("records")
    assert (run["calls"], run["status"], run["keep_text"]) == (1, "finished", False)
    assert "Recorded 1 call." in err
    assert f"show {run['run_id']}" in err


def test_without_a_command_it_shows_what_to_paste_and_each_call(db):
    with RawServer(lambda c: c.good()) as server:
        process = record("--upstream", server.url, "--name", "mine")
        said = [process.stdout.readline() for _ in range(4)]
        name, url = said[2].split("export ")[1].strip().split("=")
        assert f"Recording what goes through {url} to {server.url}" in said[0]
        subprocess.run([sys.executable, "-c", ASK], input=b"", env={**os.environ, name: url})
        told = process.stdout.readline()
        (writer,) = psutil.Process(process.pid).children()
        writer.suspend()
        for _ in range(2):  # Ctrl-C, and again
            process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(2)
        process.wait(60)
        rest = process.stdout.read()
    assert "12 tokens in" in told
    assert "7 out" in told
    assert "Recorded 1 call." in rest
    assert process.returncode == 0
    writer.resume()  # what hung is not waited for, and goes on by itself
    recording = lambda: queries.recordings(Store(db)).to_dict("records")[0]
    assert until(lambda: recording()["status"] == "finished", 20)
    assert (recording()["name"], recording()["calls"]) == ("mine", 1)


def test_a_recorder_that_is_killed_takes_its_command_along(db):
    """Also where the writer, which sees to it, is not the first one."""
    asks = ASK.replace("sys.exit(7)", "").replace("sys.stdin.read()", "1")
    command = (
        f"{asks}\nprint(os.getpid(), flush=True)\ninput()\n{asks}\nimport time; time.sleep(60)"
    )
    with RawServer(lambda c: c.good()) as server:
        words = ["--upstream", server.url, "--", "sh", "-c", '"$0" -c "$1"; true', sys.executable]
        process = record(*words, command)
        assert process.stdout.readline().startswith("msg_1")
        pid = int(process.stdout.readline())
        (writer,) = (
            child
            for child in psutil.Process(process.pid).children()
            if "lab.recorder.writer" in child.cmdline()
        )
        writer.kill()
        process.stdin.write("\n")
        process.stdin.flush()
        calls = lambda: queries.recordings(Store(db))["calls"].tolist()
        assert until(lambda: calls() == [2], 20)
        process.kill()
        assert until(lambda: not psutil.pid_exists(pid), 20)
        assert "its command was ended with it" in process.stderr.read()
    assert until(lambda: "running" not in set(queries.recordings(Store(db))["status"]), 20)
    (run,) = queries.recordings(Store(db)).to_dict("records")
    assert (run["calls"], run["status"]) == (2, "interrupted")


def test_mistakes_are_one_sentence(db, capsys, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert cli.main(["record", "--upstream", "http://127.0.0.1:9", "--port", str(port)]) == 2
    assert f"Port {port} of 127.0.0.1 cannot be used" in capsys.readouterr().err
    assert cli.main(["record", "--port", "70000"]) == 2
    assert cli.main(["record", "--upstream", "nowhere"]) == 2
    assert "No endpoint 'nowhere'" in capsys.readouterr().err
    monkeypatch.setenv("LAB_IGNORE_KEYS", "0")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-a-key-of-a-user")
    assert cli.main(["record", "--upstream", "https://elsewhere.example"]) == 2
    assert "Nothing was sent to https://elsewhere.example" in capsys.readouterr().err


@pytest.mark.parametrize(("word", "code"), [("no-such-command", 127), ("/", 126)])
def test_a_command_that_cannot_start_ends_as_in_a_shell(db, capsys, word, code):
    assert cli.main(["record", "--upstream", "http://127.0.0.1:9", "--", word]) == code
    assert capsys.readouterr().err.startswith(f"{word}: not ")
    assert not db.exists()
