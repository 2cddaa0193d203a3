"""Transcripts of Claude Code in their real format: what they say is counted once, and what they do
not say stays unknown."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from lab import cli, importers, recordings
from lab.importers import claude_code, json_files
from lab.model import LabError
from lab.store import queries
from lab.store.store import Store
from tests.recorded_runs import record

START = datetime(2026, 10, 20, 9, tzinfo=UTC)
SENTENCE = "the planted secret sentence"
# On claude-opus-5-5: 1,000 × $4 + 2,000 × $5 + 1,000 × $8 + 10,000 × $0.20 + 500 × $20, a million.
USAGE = {
    "input_tokens": 1_000,
    "cache_creation_input_tokens": 3_000,
    "cache_read_input_tokens": 10_000,
    "cache_creation": {"ephemeral_5m_input_tokens": 2_000, "ephemeral_1h_input_tokens": 1_000},
    "service_tier": "standard",
}
USD = 0.034


class Transcript:
    """A session's lines as Claude Code writes them; `at` is in seconds from START."""

    def __init__(self, session: str, agent: str | None = None) -> None:
        self.session, self.agent = session, agent
        self.lines: list[dict[str, Any]] = []

    def line(self, kind: str, at: float, parent: str | None = "", **fields: Any) -> str:
        last = next((line["uuid"] for line in reversed(self.lines) if "uuid" in line), None)
        uuid = f"{self.session}-{self.agent or 'main'}-{len(self.lines)}"
        self.lines.append(
            {
                "parentUuid": last if parent == "" else parent,
                "isSidechain": self.agent is not None,
                "sessionId": self.session,
                "version": "2.1.240",
                "type": kind,
                **({"agentId": self.agent} if self.agent else {}),
                **fields,
                "uuid": uuid,
                "timestamp": (START + timedelta(seconds=at)).isoformat().replace("+00:00", "Z"),
            }
        )
        return uuid

    def bare(self, kind: str, **fields: Any) -> None:
        """A record that is no message."""
        self.lines.append({"type": kind, "sessionId": self.session, **fields})

    def says(self, at: float, content: Any, parent: str | None = "", **fields: Any) -> str:
        return self.line("user", at, parent, message={"role": "user", "content": content}, **fields)

    def answers(self, id: str, *blocks: tuple[float, dict[str, Any]], **changed: Any) -> list[str]:
        """A line a block; all with the usage, of which the last alone has every output token."""
        uuids = []
        for place, (at, block) in enumerate(blocks):
            is_last = place == len(blocks) - 1
            message = {
                "id": f"msg_{id}",
                "type": "message",
                "role": "assistant",
                "model": "claude-opus-5-5",
                "content": [block],
                "stop_reason": "end_turn" if is_last else None,
                "usage": USAGE | {"output_tokens": 500 if is_last else 1},
            }
            uuids.append(
                self.line("assistant", at, message=message | changed, requestId=f"req_{id}")
            )
        return uuids

    def results(self, at: float, use: str, parent: str | None = "", text: str = "done") -> str:
        return self.says(at, [{"type": "tool_result", "tool_use_id": use, "content": text}], parent)

    def write(self, folder: Path, age: int = 0) -> Path:
        place = folder / self.session / "subagents" if self.agent else folder
        place.mkdir(parents=True, exist_ok=True)
        file = place / (f"agent-{self.agent}.jsonl" if self.agent else f"{self.session}.jsonl")
        file.write_text("".join(json.dumps(line) + "\n" for line in self.lines))
        os.utime(file, (1_790_000_000 - age, 1_790_000_000 - age))
        return file


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def use(id: str, name: str = "Read") -> dict[str, Any]:
    return {"type": "tool_use", "id": id, "name": name, "input": {"path": "a.py"}}


@pytest.fixture(scope="module")
def fresh(tmp_path_factory) -> Path:
    """An empty database, made once."""
    path = tmp_path_factory.mktemp("fresh") / "lab.duckdb"
    record(Store(path), blocks=1)
    Store(path).delete_run(queries.runs(Store(path))["run_id"][0])
    return path


@pytest.fixture
def store(db, fresh) -> Store:
    shutil.copy(fresh, db)
    return Store(db)


@pytest.fixture
def folder(tmp_path) -> Path:
    """Five calls, on eleven lines of three files, four of them copies."""
    main = Transcript("first")
    main.line("file-history-snapshot", 0, None)
    main.says(1, "What does a.py do?", None)
    main.answers("1", (4, {"type": "thinking", "thinking": "hm"}), (5, use("t1", "Agent")))
    main.results(30, "t1")
    main.answers("2", (32, text("It")), (33, text("runs")))
    main.line("system", 60, None, subtype="compact_boundary", content="Conversation compacted")
    main.says(61, "What was said so far", isCompactSummary=True)
    main.answers("3", (64, text("Go on")))
    main.write(tmp_path / "projects", age=200)
    agent = Transcript("first", agent="a1")
    agent.says(6, "Look at a.py", None)
    agent.answers("4", (9, text("It runs")))
    agent.write(tmp_path / "projects", age=100)
    resumed = Transcript("second")
    resumed.lines = [line | {"sessionId": "second"} for line in main.lines]
    resumed.says(900, "And b.py?")
    resumed.answers("5", (903, text("It too")))
    resumed.write(tmp_path / "projects")
    return tmp_path / "projects"


def only(store: Store) -> recordings.Recording:
    (run_id,) = queries.recordings(store)["run_id"]
    return recordings.read(store, run_id)


def test_tokens_and_dollars_are_the_sum_by_hand(store, folder):
    summary = importers.bring_in(folder, store)
    assert (summary.added, summary.known, summary.left_out.total()) == (5, 0, 0)
    assert dict(summary.tokens) == {
        "input": 5_000,
        "read": 50_000,
        "written": 15_000,
        "output": 2_500,
    }
    assert summary.usd == pytest.approx(5 * USD)
    calls = only(store).calls
    assert calls["output_tokens"].tolist() == [500] * 5
    assert calls["cache_write_1h_tokens"].tolist() == [1_000] * 5
    assert calls["cost_usd"].tolist() == pytest.approx([USD] * 5)


def test_a_gateways_ids_come_again_in_other_sessions_and_a_copied_line_is_one_answer(
    store, tmp_path
):
    first, other = Transcript("first"), Transcript("other")
    for session in (first, other):
        session.says(1, "Hello", None)
        session.answers("1", (4, text("Hi")), (5, text("there")))
        for line in session.lines:
            if line.pop("requestId", None):
                line["message"]["id"] = "gen-1"
        session.write(tmp_path / "projects", age=100)
    resumed = Transcript("resumed")
    resumed.lines = [line | {"sessionId": "resumed"} for line in first.lines]
    resumed.write(tmp_path / "projects")
    summary = importers.bring_in(tmp_path / "projects", store)
    assert (summary.added, summary.tokens["output"]) == (2, 1_000)


def test_twice_adds_nothing(store, folder):
    importers.bring_in(folder, store)
    before = queries.row_counts(store)
    again = importers.bring_in(folder, store)
    assert (again.added, again.known) == (0, 5)
    assert queries.row_counts(store) == before
    assert again.sentences() == ["0 calls added, 5 already there from Claude Code transcripts."]


def test_a_folder_that_has_grown_adds_what_is_new(store, folder):
    importers.bring_in(folder, store)
    more = Transcript("third")
    more.says(2_000, "And c.py?", None)
    more.answers("6", (2_003, text("Too")))
    more.write(folder)
    summary = importers.bring_in(folder, store)
    assert (summary.added, summary.known) == (1, 5)
    assert len(only(store).calls) == 6


def test_a_file_of_an_imported_folder_makes_no_recording_of_its_own(store, folder):
    (run_id,) = importers.bring_in(folder, store).runs
    copy = shutil.copy(folder / "second.jsonl", folder.parent / "copy.jsonl")
    summary = importers.bring_in(copy, store)
    assert (summary.added, summary.runs, dict(summary.elsewhere)) == (0, [], {run_id: 4})
    assert run_id in summary.sentences()[0]
    only(store)


def test_a_call_starts_with_what_it_answers_and_ends_with_its_last_line(store, folder):
    importers.bring_in(folder, store)
    recording = only(store)
    calls = recording.calls.set_index("message_id")
    lasted = {name: calls.loc[f"msg_{name}", "total_ms"] for name in "12345"}
    assert lasted == {"1": 4_000, "2": 3_000, "3": 3_000, "4": 3_000, "5": 3_000}
    assert calls["ttft_ms"].isna().all()
    (tool,) = recording.tools.to_dict("records")
    assert (tool["name"], tool["ended_ms"] - tool["started_ms"]) == ("Agent", 25_000)


def test_a_resumed_session_goes_on_with_its_conversation_and_an_agent_is_its_own(store, folder):
    importers.bring_in(folder, store)
    calls = only(store).calls.set_index("message_id")
    assert calls["conversation"].nunique() == 1
    assert calls["agent"].notna().to_dict() == {f"msg_{name}": name == "4" for name in "12345"}


def test_a_prompt_has_every_parallel_result_and_none_from_before_a_compaction(store, folder):
    chat = Transcript("parallel")
    chat.says(1, "Read both", None)
    _, first, second = chat.answers("7", (2, text("Yes")), (3, use("t1")), (4, use("t2")))
    chat.results(5, "t2", second)
    chat.results(6, "t1", first)  # the next line follows this one, and not the other
    chat.answers("8", (8, text("Both run")))
    importers.bring_in(chat.write(folder.parent), store)
    recording = only(store)
    asked = recording.prompts[recording.calls["call_id"].iloc[-1]].blocks
    assert [(block.turn, block.kind) for block in asked] == [
        (0, "text"),
        (1, "text"),
        (1, "tool_use"),
        (1, "tool_use"),
        (2, "tool_result"),
        (2, "tool_result"),
    ]
    importers.bring_in(folder, store)
    recording = recordings.read(store, queries.recordings(store)["run_id"].iloc[0])
    calls = recording.calls.set_index("message_id")["call_id"]
    lengths = {name: len(recording.prompts[calls[f"msg_{name}"]].blocks) for name in "12345"}
    assert lengths == {"1": 1, "2": 4, "3": 1, "4": 1, "5": 3}


def name_of(message: dict[str, Any]) -> str:
    """As Claude Code names a message: SHA-256 of its JSON, keys sorted."""
    written = json.dumps(message, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(written.encode()).hexdigest()


@pytest.fixture
def written(tmp_path) -> Path:
    """A transcript with its requests, as 2.1.332 writes them: two calls, whose system prompts tell
    two times."""
    asked = {"role": "user", "content": [text(f"Hello, {SENTENCE}")]}
    reminder = {"role": "system", "content": [text("You are in a shell.")]}
    answer = {"role": "assistant", "content": [text("Hi"), use("t1")]}
    result = {"type": "tool_result", "tool_use_id": "t1", "content": "done"}
    chat = Transcript("written")

    def asks(second: int, **messages: Any) -> None:
        words = f"Be kind. It is 09:00:0{second} now. " + "Read with care. " * 400
        tools = [{"name": "Read", "input_schema": {"type": "object"}}]
        shape = {"system": [text(words)], "tools": tools}
        chat.bare("api-request-shape", shapeHash=f"shape {second}", shape=shape)
        last = messages["keep"] + len(messages["tail"]) - 1
        chat.bare(
            "api-request",
            id=f"request {second}",
            timestamp=f"2026-10-20T09:00:0{second}Z",
            shapeHash=f"shape {second}",
            params={
                "model": "claude-opus-5-5",
                "max_tokens": 32_000,
                "betas": ["a", "b"],
                "output_config": {"effort": "high"},
            },
            thread={"type": "none"},
            cacheControl=[
                {"path": ["system", 0], "value": {"type": "ephemeral", "ttl": "1h"}},
                {"path": ["messages", last, "content", 0], "value": {"type": "ephemeral"}},
            ],
            **messages,
        )

    chat.says(1, f"Hello, {SENTENCE}", None)
    chat.bare("api-request-blob", hash=name_of(reminder), message=reminder)
    asks(2, keep=0, tail=[name_of(asked), name_of(reminder)])
    chat.answers("1", (4, text("Hi")), (5, use("t1")))
    chat.results(6, "t1")
    later = [name_of(answer), name_of({"role": "user", "content": [result]})]
    asks(7, base="request 2", keep=2, tail=later)
    chat.answers("2", (9, text("Done")))
    return chat.write(tmp_path)


def test_a_request_that_stands_in_the_transcript_is_the_whole_request(store, written):
    importers.bring_in(written, store)
    recording = only(store)
    assert recording.calls["total_ms"].tolist() == [3_000, 2_000]  # from 2 to 5 and from 7 to 9
    first, second = recording.prompts.values()
    assert [(block.section, block.turn, block.kind) for block in second.blocks] == [
        ("tools", 0, "tool"),
        ("system", 0, "text"),
        ("messages", 0, "text"),
        ("messages", 1, "text"),
        ("messages", 2, "text"),
        ("messages", 2, "tool_use"),
        ("messages", 3, "tool_result"),
    ]
    assert first.marks == ((1, "1h"), (3, "5m")) and second.marks == ((1, "1h"), (6, "5m"))
    assert second.settings["whole"] is True and second.settings["effort"] == "high"
    assert "stream" not in second.settings
    system = [prompt.blocks[1].hash for prompt in (first, second)]
    looks = [[piece.look for piece in recording.pieces(hash)][:12] for hash in system]
    assert "t" in looks[0] and looks[0] == looks[1]


def test_a_whole_request_that_keeps_its_text_can_be_sent_again(store, written):
    (run_id,) = importers.bring_in(written, store, keep_text=True).runs
    calls = recordings.read(store, run_id).calls["call_id"].tolist()
    body = queries.recorded_bodies(store, run_id, calls)[calls[1]]
    assert list(body) == ["model", "max_tokens", "output_config", "tools", "system", "messages"]
    assert [message["role"] for message in body["messages"]] == [
        "user",
        "system",
        "assistant",
        "user",
    ]
    assert body["messages"][3]["content"][0]["cache_control"] == {"type": "ephemeral"}
    assert body["system"][0]["cache_control"]["ttl"] == "1h"


def test_a_request_with_a_message_that_nobody_has_is_none(store, written):
    text = written.read_text().replace('"api-request-blob"', '"something-else"')
    written.write_text(text)
    importers.bring_in(written, store)
    whole = [prompt.settings["whole"] for prompt in only(store).prompts.values()]
    assert whole == [False, False]


def test_neither_requests_nor_messages_leave_text_behind(store, written, db):
    importers.bring_in(written, store)
    store.close()
    assert SENTENCE.encode() not in db.read_bytes()
    assert b"Read with care" not in db.read_bytes()


def test_a_refused_attempt_is_a_failed_call_and_the_answer_starts_after_its_pause(store, tmp_path):
    chat = Transcript("retried")
    asked = chat.says(10, "Hello", None)
    error = {"status": 529, "error": {"type": "error", "error": {"type": "overloaded_error"}}}
    for at in (12, 15):
        chat.line("system", at, subtype="api_error", retryInMs=1_000, error=error)
    chat.answers("9", (18, text("Hi")))
    chat.lines[-1]["parentUuid"] = asked
    importers.bring_in(chat.write(tmp_path), store)
    calls = only(store).calls
    assert calls["error_kind"].tolist()[:2] == ["overloaded_error"] * 2
    assert calls["http_status"].tolist()[:2] == [529] * 2
    assert calls["total_ms"].tolist() == [2_000, 2_000, 2_000]  # 10–12, 13–15, 16–18


def test_a_fallback_is_counted_from_its_own_line(store, tmp_path):
    chat = Transcript("fallback")
    chat.says(1, "Hello", None)
    chat.answers("1", (2, text("a")))
    chat.lines[-1]["message"] |= {"usage": {"input_tokens": 9_999, "output_tokens": 1}}
    chat.answers("1", (3, text("b")), model="claude-haiku-4-5")
    importers.bring_in(chat.write(tmp_path), store)
    calls = only(store).calls
    assert calls[["served_model", "input_tokens"]].values.tolist() == [["claude-haiku-4-5", 1_000]]


def test_an_answer_that_is_still_being_written_waits_for_the_next_import(store, tmp_path):
    chat = Transcript("live")
    chat.says(1, "Hello", None)
    chat.answers("1", (2, text("Hi")))
    chat.says(3, "And?")
    chat.answers("2", (4, text("Well")), stop_reason=None)
    summary = importers.bring_in(chat.write(tmp_path), store)
    assert (summary.added, dict(summary.left_out)) == (
        1,
        {"answers that were still being written": 1},
    )
    chat.lines[-1]["message"]["stop_reason"] = "end_turn"
    assert importers.bring_in(chat.write(tmp_path), store).added == 1


def test_the_sums_hold_what_an_advisor_cost(store, tmp_path):
    chat = Transcript("advised")
    chat.says(1, "Hello", None)
    chat.answers("1", (2, text("Hi")))
    own = {"input_tokens": 1_000, "output_tokens": 0, "type": "message"}
    advice = {"type": "advisor_message", "model": "claude-opus-5-5", "output_tokens": 1_000}
    chat.lines[-1]["message"]["usage"] = {**own, "iterations": [own, advice]}
    summary = importers.bring_in(chat.write(tmp_path), store)
    assert summary.usd == pytest.approx(0.004 + 0.020)


def test_without_text_nothing_that_was_said_is_anywhere(store, tmp_path, db):
    chat = Transcript("secret")
    chat.says(1, SENTENCE, None)
    chat.answers("1", (2, text(f"{SENTENCE} again")), (3, use("t1", "Read")))
    chat.results(4, "t1", text=SENTENCE)
    chat.answers("2", (5, text("ok")))
    file = chat.write(tmp_path)
    importers.bring_in(file, store)
    store.close()
    assert SENTENCE.encode() not in db.read_bytes()
    with pytest.raises(LabError, match="without its text"):
        importers.bring_in(file, store, keep_text=True)


def test_text_is_kept_where_that_is_wanted(store, tmp_path):
    chat = Transcript("kept")
    chat.says(1, SENTENCE, None)
    chat.answers("1", (2, text("ok")))
    (run_id,) = importers.bring_in(chat.write(tmp_path), store, keep_text=True).runs
    recording = recordings.read(store, run_id)
    assert recording.keeps_text
    bodies = queries.recorded_bodies(store, run_id, recording.calls["call_id"])
    assert [body["messages"][0]["content"] for body in bodies.values()] == [SENTENCE]


HOSTILE = [
    (b"no JSON", "lines that are no JSON"),
    (b'"text"', "lines of another shape"),
    (b'{"type":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "lines that are no JSON"),
    (b'{"type":[' + b"1," * 600_000 + b"1]}", "lines with more than 500,000 values"),
    (b'{"type":"user","uuid":"x24","timestamp":7,"message":[]}', "lines of another shape"),
    (b'{"type":"user","uuid":"x28","timestamp":"0001-01-01"}', "lines of another shape"),
    (b'{"type":"assistant","uuid":"x25","message":"no"}', "lines of another shape"),
    (b'{"type":"user","uuid":"x31","message":{"content":"\xff"}}', "lines that are no JSON"),
    (b"x" * 2_000_001, "lines longer than 2 MB"),
]


def test_bad_lines_are_counted_and_keep_none_out(store, tmp_path, monkeypatch):
    monkeypatch.setenv("LAB_MAX_BODY_MB", "2")
    json_files.limits.body_bytes.cache_clear()
    chat = Transcript("hostile")
    chat.says(1, "Hello", None)
    chat.answers("1", (2, text("Hi")))
    file = chat.write(tmp_path)
    good = file.read_bytes()
    more = good.replace(b"msg_1", b"msg_2").replace(b"main", b"other")
    file.write_bytes(good + b"\n".join(line for line, _ in HOSTILE) + b"\n" + more)
    summary = importers.bring_in(file, store)
    json_files.limits.body_bytes.cache_clear()
    assert summary.added == 2
    assert summary.left_out == Counter(what for _, what in HOSTILE)


def test_the_summary_says_one_line_in_the_singular(store, tmp_path):
    chat = Transcript("singular")
    chat.says(1, "Hello", None)
    chat.answers("1", (2, text("Hi")))
    file = chat.write(tmp_path)
    file.write_text(file.read_text() + "nonsense\n")
    assert importers.bring_in(file, store).sentences() == [
        "1 call added from Claude Code transcripts.",
        "Tokens: 1,000 uncached input, 10,000 read from the cache, 3,000 written to it, 500 output."
        " Together $0.034.",
        "Left out: 1 line that is no JSON.",
    ]


def test_an_interrupted_import_keeps_what_it_read_and_says_so(store, tmp_path, monkeypatch):
    monkeypatch.setattr(importers.intake, "AT_ONCE", 2)
    chat = Transcript("long")
    chat.says(1, "Hello", None)
    for number in range(6):
        chat.answers(str(number), (2 + number, text(str(number))))

    def interrupt(done: importers.Progress) -> None:
        assert 0 < done.read_bytes <= done.size
        raise KeyboardInterrupt

    file = chat.write(tmp_path)
    summary = importers.bring_in(file, store, progress=interrupt)
    assert (summary.added, summary.is_interrupted) == (2, True)
    assert summary.sentences()[0].startswith("Interrupted.")
    run = queries.run(store, summary.runs[0])
    assert run["status"] == "interrupted"
    summary = importers.bring_in(file, store)
    assert (summary.added, summary.known) == (4, 2)
    assert queries.run(store, summary.runs[0])["status"] == "finished"


def test_what_a_source_cannot_answer_is_kept_with_its_run(store, folder):
    (run_id,) = importers.bring_in(folder, store, name="my agent").runs
    run = queries.run(store, run_id)
    assert run["settings"]["recording"]["cannot"] == list(claude_code.CANNOT)
    assert (run["name"], run["imported_from"], run["endpoint_kind"]) == (
        "my agent",
        "projects",
        "live",
    )
    for importer in importers.IMPORTERS:
        assert all(len(sentence) <= 200 and sentence[-1] == "." for sentence in importer.CANNOT)


def test_the_command_imports_and_tells_what_came_of_it(folder, db, capsys):
    assert cli.main(["import", str(folder)]) == cli.DONE
    out, err = capsys.readouterr()
    assert out.startswith("5 calls added from Claude Code transcripts.") and err == ""
    assert claude_code.CANNOT[0] in out
    assert cli.main(["import", str(folder), "--json"]) == cli.DONE
    told = json.loads(capsys.readouterr().out)
    assert (told["version"], told["added"], told["known"]) == (1, 0, 5)


@pytest.mark.parametrize("name", ["nowhere.jsonl", "notes.txt", "empty"])
def test_what_cannot_be_imported_is_a_sentence(name, tmp_path, db, capsys):
    (tmp_path / "notes.txt").write_text("my notes")
    (tmp_path / "empty").mkdir()
    assert cli.main(["import", str(tmp_path / name)]) == cli.USAGE
    assert capsys.readouterr().err.count("\n") == 1


def test_another_lab_comes_in_as_it_always_did(store, tmp_path):
    theirs = Store(tmp_path / "theirs" / "lab.duckdb")
    record(theirs, blocks=2)
    theirs.close()
    summary = importers.bring_in(theirs.path, store)
    assert summary.sentences() == ["Imported 1 run, 4 trials and 4 calls from lab.duckdb."]
