"""What a watch says where nothing is answered, nothing watches, or nothing can be run; a day's
dollars in small sums."""

from __future__ import annotations

import asyncio
import json
import shlex
import sys
from datetime import timedelta

import pytest
from stored_watches import BEGAN, a_gap, stored
from test_watch import EVERY, ago, change, pairs

from lab.cli import main
from lab.model import LabError, new_id
from lab.store.store import Full, Store
from lab.watch import hook, standing, watch_order, watched
from lab.watch.looking import Looking
from lab.watch.watch_settings import watch_config_of


def test_a_watch_that_is_dead_passes_no_check(db, capsys):
    """20 probes of 60: for ten hours nothing was there."""
    stored(Store(), pairs(20), began=ago(60))
    assert main(["watch", "check"]) == 4
    assert "UTC; nothing watches." in capsys.readouterr().err
    found = watched.read(Store(), "last")
    (gap,) = standing.gaps(found, is_kept=False)
    assert gap.from_utc == found.last_utc + EVERY and gap.text == "the watch was not running"
    assert timedelta(hours=9) < gap.to_utc - gap.from_utc < timedelta(hours=11)
    assert standing.gaps(found, is_kept=True) == []


def test_a_watch_whose_days_are_over_has_no_gap_after_them(db):
    found = watched.read(Store(), stored(Store(), pairs(20), began=ago(60)))
    until = (found.last_utc + EVERY).isoformat()
    found.run["settings"]["watch"]["until_utc"] = until
    assert standing.unwatched(found, is_kept=False)
    assert standing.gaps(found, is_kept=False) == []


def test_status_says_why_nothing_was_answered(db, capsys):
    stored(Store(), [(None, None)] * 2)
    assert main(["watch", "status"]) == 0
    told = capsys.readouterr().out
    said = "In the latest probe 2 of 2 requests were not answered as asked: HTTP 500: overloaded."
    assert said in told
    assert "No change was found" not in told and "0 of 12" in told


def test_what_another_model_answers_is_told_like_what_fails(db):
    store = Store()
    run_id = stored(store, [(400.0, 1200.0)] * 2 + [(400.0, None)] * 3)
    with store._turn() as connection:
        served = "asked large, served small"
        change = "UPDATE trials SET outcome = 'mismatch', error_text = ? WHERE outcome = 'failed'"
        connection.execute(change, [served])
    found = watched.read(store, run_id)
    assert standing.trouble(found).endswith(f"1 of 2 requests was not answered as asked: {served}.")
    looking = Looking("simulated", EVERY)
    (told,) = [change for probe in found.told() for change in looking.add(*probe)]
    assert told.words.startswith("Your request stopped being answered as asked at 2 Nov 2026")


def test_only_a_disk_without_room_is_called_full(db):
    store = Store()
    store._spool.write_text("a file stands where the folder goes")
    with pytest.raises(Full) as refused:
        store.keep(a_gap(new_id(), new_id(), 1, BEGAN, "busy"))
    assert refused.value.why in ("Not a directory", "File exists")
    assert Full("Cannot write it: No space left on device.").why == "the disk is full"


def test_the_reason_is_the_one_that_most_give():
    texts = ["HTTP 500: down.", None, float("nan"), "HTTP 500:\\n down.", "HTTP 401: who?"]
    assert standing.commonest(texts) == "HTTP 500: down"
    assert standing.commonest([None]) == ""


def test_a_bound_below_a_cent_is_said_as_it_is(db, monkeypatch):
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-test-0000000000000000")
    monkeypatch.delenv("LAB_IGNORE_KEYS")
    values = {"endpoint": "anthropic", "model": "claude-opus-4-5", "answer_tokens": 1000}
    with pytest.raises(LabError, match=r"more than the \$0\.0042 a day"):
        watch_order.new(watch_config_of(**values, usd_a_day=0.0042)).cost()


# The command at a change


def test_a_command_is_kept_as_it_runs_from_any_folder(tmp_path, monkeypatch):
    script = tmp_path / "tell slack.sh"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o700)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for typed in ("./'tell slack.sh' now", "~/'tell slack.sh' now"):
        assert shlex.split(hook.checked(typed)) == [str(script), "now"]
    assert hook.checked("sh -c true").startswith("/")
    for missing in ("/nonexistent/cmd", "$HOME/x", "~/x.sh", "no-such-program"):
        with pytest.raises(LabError, match="there is no program"):
            hook.checked(missing)


def test_a_command_gets_no_secret_by_whatever_name(tmp_path, monkeypatch):
    gateway = "gw-0123456789abcdef"
    secret = {
        "LAB_API_KEYS": json.dumps({"https://gateway.example": gateway}),
        "MY_GATEWAY_KEY": gateway,
        "MY_HEADER": f"Bearer {gateway}",
        "OTEL_EXPORTER_OTLP_HEADERS": "authorization=Basic c2VjcmV0",
        "OTEL_EXPORTER_OTLP_TRACES_HEADERS": "authorization=Basic c2VjcmV0",
    }
    for name, value in {**secret, "SLACK_URL": "https://slack.example"}.items():
        monkeypatch.setenv(name, value)
    script, out = tmp_path / "told.py", tmp_path / "out.json"
    script.write_text(f"import json, os\njson.dump(dict(os.environ), open({str(out)!r}, 'w'))\n")
    assert asyncio.run(hook.run(f"{sys.executable} {script}", change())) is None
    environment = json.loads(out.read_text())
    assert not secret.keys() & environment.keys()
    assert environment["SLACK_URL"] == "https://slack.example"


def test_a_command_that_cannot_be_passed_on_ends_no_watch():
    assert "did not start" in asyncio.run(hook.run("say\0so", change()))


# The command line


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"{}", "is no request: messages must be a list"),
        (b'{"messages": "hi"}', "is no request: messages must be a list"),
        (b'{"messages": [{"role": "user", "content": "a"}], "max_tokens": -3}', "whole number"),
        (b"\xff\xfe{", "it is not UTF-8 text"),
    ],
)
def test_a_file_that_is_no_request_is_a_sentence(db, tmp_path, capsys, body, said):
    file = tmp_path / "own.json"
    file.write_bytes(body)
    assert main(["watch", "--endpoint", "simulated", "--body", str(file)]) == 2
    told = capsys.readouterr().err
    assert said in told and "pydantic" not in told and "codec" not in told


def test_resume_leads_to_a_watch_that_is_the_last(db, capsys):
    stored(Store(), pairs(5), name="orders")
    assert main(["resume", "last"]) == 2
    assert "watch --name orders" in capsys.readouterr().err
