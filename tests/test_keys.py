"""A planted key against servers that are silent and servers that send it back: which hosts received
it, and where it was kept."""

from __future__ import annotations

import base64
import json
import os
import pty
import select
import stat
import subprocess
import sys
import zipfile
from contextlib import ExitStack
from pathlib import Path

import duckdb
import pytest
from streamlit.testing.v1 import AppTest

from bench.raw_server import Connection, RawServer, events, message, sse
from lab import Lab, machine, paths, processes, resume, scrub, worker
from lab.cli import main
from lab.clock import now_ns, pause_s
from lab.endpoints import consent, keys, own_server, registry
from lab.endpoints.client import open_client
from lab.harness.estimate import estimate
from lab.load import known
from lab.model import LabError
from lab.settings import config_of
from lab.store.store import Store
from tests.recorded_runs import record

KEY = "sk-ant-planted-7Qm2xR9vT4wLz8KpYb3N"  # 35 characters
MODELS = "/v1/models?limit=1000"
OTHER_KEY = "gateway-5dJ1hG6fS0aPoIuZtReW"
ROOT = paths.ROOT
QUICK = ("--runs", "1", "--warmup", "0", "--answer-tokens", "16")


@pytest.fixture
def planted(tmp_path, monkeypatch) -> Path:
    """A user with a key in the environment and nothing else; ANTHROPIC_BASE_URL keeps every test
    off the network."""
    monkeypatch.delenv("LAB_IGNORE_KEYS")
    here = {
        "LAB_DB": "lab.duckdb",
        "LAB_RUNTIME": "runtime",
        "LAB_SETTINGS": "settings",
        "LAB_SECRETS": "secrets.toml",
    }
    for name, path in here.items():
        monkeypatch.setenv(name, str(tmp_path / path))
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "http://127.0.0.1:9")
    return tmp_path


@pytest.fixture
def server():
    """Well-behaved servers on demand: `server()` or `server(answer)`."""
    with ExitStack() as stack:
        yield lambda answer=Connection.good: stack.enter_context(RawServer(answer))


def received(*servers: RawServer, key: str = KEY) -> list[bool]:
    """Whether a request to each of the servers had the key in any header or in its body."""
    return [
        any(key in f"{asked.headers}{asked.body!r}" for asked in each.asked) for each in servers
    ]


def sent(server: RawServer) -> list[str]:
    """The key of each Messages request; the one question of a loopback address, whether the lab's
    own server is there, has none, and that for its models the one that was agreed to."""
    assert {asked.path for asked in server.asked} <= {"/health", "/v1/messages", MODELS}
    assert not any(asked.key for asked in server.asked if asked.path == "/health")
    for asked in server.asked:
        assert asked.path != MODELS or asked.key == consent.key_for(server.url)
    return [asked.key for asked in server.asked if asked.path == "/v1/messages"]


def echo(connection: Connection) -> None:
    """Send the key back in every field: whole, in halves, as base64, a character a delta; every
    third time in an error of 2 MB."""
    asked = connection.asked
    key, turn = asked.key, len(connection.server.asked)
    packed = base64.b64encode(key.encode()).decode()
    half = len(key) // 2
    odd = {
        "id": f"msg_{key}",
        "model": key,
        "stop_reason": f"\x1b[31m{packed}",
        "stop_sequence": key,
        "diagnostics": {"cache_miss_reason": key},
    }
    if asked.path.endswith("/health"):
        connection.json({"kind": key})
    elif turn % 3 == 0:
        error = {
            "type": f"error_{key[:half]}",
            "message": f"\x1b]0;{key}\x07 {packed} {key[:half]} {key[half:]} " + "x" * 2_000_000,
        }
        connection.json({"type": "error", "error": error}, 401, request_id=key)
    elif asked.stream:
        start, begun, *_, stopped, delta, stop = events(**odd)
        told = [*key, packed, key[half:], key[:half]]
        deltas = [
            {
                "type": "content_block_delta",
                "index": 0,
                "delta": {"type": "text_delta", "text": text},
            }
            for text in told
        ]
        connection.stream(
            [sse([each]) for each in (start, begun, *deltas, stopped, delta, stop)], request_id=key
        )
    else:
        connection.json(
            message(**odd, content=[{"type": "text", "text": f"{key} {packed} {key[:half]}"}]),
            request_id=key,
        )


def leaks(data: bytes) -> list[str]:
    half = len(KEY) // 2
    written = {
        "key": KEY,
        "first half": KEY[:half],
        "second half": KEY[half:],
        "hex": KEY.encode().hex(),
    }
    for before in ("", "x", "xx"):
        written[f"base64 after {len(before)}"] = base64.b64encode((before + KEY).encode()).decode()[
            4:44
        ]
    return [name for name, form in written.items() if form.encode() in data]


def leaking(folder: Path) -> dict[str, list[str]]:
    files = {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }
    with duckdb.connect(
        str(folder / "lab.duckdb"), read_only=True
    ) as database:  # its blocks may be compressed
        for (table,) in database.execute("SELECT table_name FROM duckdb_tables()").fetchall():
            files[f"table {table}"] = repr(
                database.execute(f'SELECT to_json(t)::VARCHAR FROM "{table}" AS t').fetchall()
            ).encode()
    for path in folder.rglob("*.zip"):
        files |= {
            f"{path.name}/{name}": zipfile.ZipFile(path).read(name)
            for name in zipfile.ZipFile(path).namelist()
        }
    return {name: kinds for name, data in files.items() if (kinds := leaks(data))}


def opened(path: str, **query: str) -> AppTest:
    app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60)
    for name, value in query.items():
        app.query_params[name] = value
    return app.switch_page(path).run()


def buttons(app: AppTest) -> list[str]:
    return [button.key for button in app.button if button.key.startswith("allow-")]


# What comes back


def test_a_key_that_a_server_sends_back_is_in_no_file_and_on_no_console(
    planted, server, monkeypatch, capfd
):
    hostile = server(echo)
    assert main(["endpoints", "allow", hostile.url]) == 0
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "console")
    asks = ["streaming", "--endpoint", hostile.url]
    main([*asks, "--runs", "3", "--answer-tokens", "16", "--keep-text", "--json"])
    ran = capfd.readouterr()
    assert "Traceback" not in ran.err and len(hostile.asked) > 6 and received(hostile) == [True]
    monkeypatch.delenv("OTEL_TRACES_EXPORTER")
    for words in (
        ["show", "last"],
        ["show", "last", "--json"],
        ["runs"],
        ["report", "last", "--out", str(planted / "report.html")],
        ["export", "--format", "json", "--out", str(planted / "export")],
        [*asks, *QUICK, "--no-keep-text"],
        ["endpoints", "test", hostile.url],
    ):
        main(words)
    told = capfd.readouterr()
    told = "".join([ran.out, ran.err, told.out, told.err]).encode()
    assert leaks(told) == [] and leaking(planted) == {}
    assert b"\x1b]0;" not in told and b"[key]" in told and len(told) < 100_000
    assert (planted / "report.html").exists() and any((planted / "export").iterdir())


def test_a_page_shows_a_run_on_an_echoing_server_without_the_key(planted, server):
    hostile = server(echo)
    consent.allow(hostile.url, key=True)
    run = worker.measure(
        config_of(
            technique="streaming",
            endpoint=hostile.url,
            runs=2,
            warmup=0,
            keep_text=True,
            knobs={"answer_tokens": 16},
        )
    )
    app = opened("pages/1_Streaming.py", run=run.run_id, endpoint=hostile.url)
    assert not app.exception and received(hostile) == [True]
    for view in app.button_group(key="view").options:
        app.button_group(key="view").set_value(str(getattr(view, "content", view))).run()
        assert leaks(repr(app.main).encode()) == [] and not app.exception
    assert leaking(planted) == {}


# Where it goes


def test_a_typed_url_asks_first_where_there_is_a_key(planted, server, capsys):
    typed = server()
    assert main(["streaming", "--endpoint", typed.url, *QUICK]) == 2 and typed.asked == []
    said = capsys.readouterr().err
    assert (
        typed.url in said
        and f"endpoints allow {typed.url}" in said
        and f"endpoints allow {typed.url} --no-key" in said
    )
    assert main(["endpoints", "test", typed.url]) == 2 and typed.asked == []
    with pytest.raises(consent.ConsentNeeded):
        Lab(typed.url, progress=False).run("streaming", runs=1)
    assert typed.asked == []


def test_a_typed_url_is_simply_used_where_there_is_no_key(planted, server, monkeypatch):
    monkeypatch.delenv("ANTHROPIC_API_KEY")
    typed = server()
    assert main(["streaming", "--endpoint", typed.url, *QUICK, "--json"]) == 0
    assert sent(typed) == [keys.PLACEHOLDER] * 2 and consent.stored() == {typed.url: False}
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    assert main(["streaming", "--endpoint", typed.url, *QUICK, "--json"]) == 0
    assert received(typed) == [False]


@pytest.mark.parametrize(
    ("answer", "code", "stored"), [("y", 0, True), ("n", 0, False), ("", 2, None)]
)
def test_a_terminal_is_asked_once_in_words_that_name_the_host(
    planted, server, answer, code, stored
):
    typed, command = server(), ["endpoints", "test"]
    outer, inner = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "main.py", *command, typed.url],
        cwd=ROOT,
        stdin=inner,
        stdout=subprocess.DEVNULL,
        stderr=inner,
    ) as process:
        os.close(inner)
        shown = b""
        while b"Enter = stop" not in shown and select.select([outer], [], [], 60)[0]:
            shown += os.read(outer, 4096)
        assert (
            f"Send your Anthropic API key to {typed.url}?".encode() in shown and typed.asked == []
        )
        os.write(outer, f"{answer}\n".encode())
        assert process.wait(60) == code
    os.close(outer)
    assert main([*command, typed.url]) == code  # not asked again: here is no terminal
    assert received(typed) == [bool(stored)] and consent.stored() == (
        {} if stored is None else {typed.url: stored}
    )


def test_bodies_go_only_where_the_user_agreed(planted, server, tmp_path, capsys):
    chosen, stranger = server(), server()
    consent.allow(chosen.url, key=True)
    for name, endpoint in (("a", None), ("b", stranger.url)):
        body = {
            "messages": [{"role": "user", "content": "Hello"}],
            "max_tokens": 16,
            **({"endpoint": endpoint} if endpoint else {}),
        }
        (tmp_path / f"{name}.json").write_text(json.dumps(body))
    command = [
        "ab",
        str(tmp_path / "a.json"),
        str(tmp_path / "b.json"),
        "--endpoint",
        chosen.url,
        "--runs",
        "1",
        "--warmup",
        "0",
    ]
    assert main(command) == 2
    assert (
        f"endpoints allow {stranger.url}" in capsys.readouterr().err
        and sent(chosen) == stranger.asked == []
    )
    consent.allow(stranger.url, key=False)
    assert main(command) == 0
    assert f"on {chosen.url} and {stranger.url}" in capsys.readouterr().out
    assert (sent(chosen), sent(stranger)) == ([KEY], [keys.PLACEHOLDER])


@pytest.mark.parametrize("status", [302, 307, 308])
def test_a_redirect_is_not_followed(planted, server, status):
    elsewhere = server()
    first = server(
        lambda connection: connection.json({}, status, location=f"{elsewhere.url}/v1/messages")
    )
    consent.allow(first.url, key=True)
    worker.measure(
        config_of(
            technique="streaming", endpoint=first.url, runs=1, warmup=0, knobs={"answer_tokens": 16}
        )
    )
    assert set(sent(first)) == {KEY} and elsewhere.asked == []
    calls = Store().frame("SELECT DISTINCT error_kind, http_status FROM calls")
    assert calls.values.tolist() == [["redirect", status]]


def test_an_imported_run_repeats_only_where_the_user_agreed(
    planted, server, tmp_path, monkeypatch, capsys
):
    mine, hostile = server(), server()
    monkeypatch.setenv("ANTHROPIC_BASE_URL", mine.url)
    (tmp_path / "theirs").mkdir()
    path = tmp_path / "theirs" / "lab.duckdb"
    asks = {
        "knobs": {"bodies": json.dumps([{"name": "a"}, {"name": "b", "endpoint": hostile.url}])}
    }
    shown = foreign(
        path, "streaming", ("whole", "streamed"), hostile.url, {"endpoint": hostile.url}
    )
    hidden = foreign(
        path,
        "streaming",
        ("whole", "streamed"),
        "anthropic",
        {"endpoint": hostile.url, "db": str(tmp_path / "x.duckdb")},
    )
    bodies = foreign(path, "ab", ("a", "b"), "anthropic", asks)
    assert Store().import_from(path).runs == 3
    for command in (["streaming", "--more", shown], ["ab", "--more", bodies]):
        assert main([*command, "--runs", "1"]) == 2
        assert f"endpoints allow {hostile.url}" in capsys.readouterr().err
    assert main(["streaming", "--more", hidden, "--runs", "1"]) == 0 and set(sent(mine)) == {KEY}
    settings = {"config": {"technique": "streaming", "endpoint": hostile.url, "db": "x.duckdb"}}
    more = resume.more(
        {"run_id": hidden, "endpoint": "anthropic", "seed": 7, "settings": settings}, 1
    )
    assert (more.endpoint, more.db) == ("anthropic", None)
    app = opened("pages/1_Streaming.py", run=shown)
    app.button(key="more-blocks").click().run()
    assert not app.exception and processes.running() is None
    assert buttons(app) == [f"allow-key-{hostile.url}", f"allow-{hostile.url}"]
    assert hostile.asked == [] and not (tmp_path / "x.duckdb").exists()
    begun = []
    monkeypatch.setattr(processes, "start_run", lambda config: begun.append(config) or shown)
    monkeypatch.setattr("pages.parts.run_panel._await", lambda run_id: None)
    app.button(key=f"allow-{hostile.url}").click().run()
    assert [config.endpoint for config in begun] == [hostile.url] and not app.warning
    app.run()
    assert len(begun) == 1


def foreign(path: Path, technique: str, arms: tuple[str, str], endpoint: str, config: dict) -> str:
    """A run in somebody else's database that names endpoints of its own."""
    run_id = record(Store(path), kind="live", technique=technique)
    refs = [{"technique": technique, "arm": arm} for arm in arms]
    settings = {
        "config": {"technique": technique, "runs": 8, "max_usd": 1000, **config},
        "arms": refs,
        "baseline": refs[0],
        "headline": {"metric": "wait_ms", **refs[1]},
        "knobs": config.get("knobs", {}),
        "scenario": "rag",
        "runs": 8,
        "warmup": 0,
        "quick": False,
        "lab_version": "0.1.0",
    }
    with duckdb.connect(str(path)) as database:
        database.execute(
            "UPDATE runs SET settings = ?, endpoint = ? WHERE run_id = ?",
            [json.dumps(settings), endpoint, run_id],
        )
        database.execute(
            "UPDATE trials SET arm = if(arm = 'cached', ?, ?) WHERE run_id = ?",
            [arms[1], arms[0], run_id],
        )
    return run_id


def test_a_link_asks_and_then_goes_to_exactly_that_address(planted, server):
    linked = server()
    app = opened("pages/1_Streaming.py", endpoint=linked.url)
    assert (
        linked.url.removeprefix("http://") in app.warning[0].value.replace("\\", "")
        and linked.asked == []
    )
    assert buttons(app) == [
        f"allow-key-{linked.url}",
        f"allow-{linked.url}",
    ] and "run-button" not in [button.key for button in app.button]
    app.button(key=f"allow-{linked.url}").click().run()
    assert not app.warning and app.session_state["endpoint"] == linked.url
    app.number_input(key="blocks").set_value(1)
    app.button(key="run-button").click().run()
    while processes.running():
        pause_s(0.05)
    assert set(sent(linked)) == {keys.PLACEHOLDER}
    assert Store().frame("SELECT endpoint, status FROM runs").values.tolist() == [
        [linked.url, "finished"]
    ]


def test_a_pasted_body_asks_on_the_page(planted, server):
    stranger = server()
    app = opened("pages/6_Your_requests.py")
    body = {
        "name": "b",
        "max_tokens": 16,
        "messages": [{"role": "user", "content": "Hello"}],
        "endpoint": stranger.url,
    }
    app.text_area(key="body-1").set_value(json.dumps(body)).run()
    assert app.button(key="run-button").disabled and buttons(app) == [
        f"allow-key-{stranger.url}",
        f"allow-{stranger.url}",
    ]
    assert stranger.asked == []
    app.button(key=f"allow-key-{stranger.url}").click().run()
    assert not app.button(key="run-button").disabled and consent.stored() == {stranger.url: True}
    assert any("on anthropic and" in caption.value for caption in app.caption)


def test_nothing_else_of_the_environment_is_sent(planted, server, monkeypatch):
    monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", "token-that-belongs-elsewhere")
    monkeypatch.setenv(
        "ANTHROPIC_CUSTOM_HEADERS",
        "X-Gateway: header-that-belongs-elsewhere\nAuthorization: Bearer"
        " header-that-belongs-elsewhere",
    )
    for with_key, key in ((True, KEY), (False, keys.PLACEHOLDER)):
        chosen = server()
        consent.allow(chosen.url, key=with_key)
        assert main(["streaming", "--endpoint", chosen.url, *QUICK, "--json"]) == 0
        assert "belongs-elsewhere" not in repr(chosen.asked) and received(chosen) == [with_key]
        assert sent(chosen) == [key] * 2
    own_server = server()
    monkeypatch.setenv("ANTHROPIC_BASE_URL", own_server.url)
    monkeypatch.setenv("ANTHROPIC_CUSTOM_HEADERS", "X-Gateway: header-of-the-gateway")
    assert main(["streaming", "--endpoint", "anthropic", *QUICK, "--json"]) == 0
    assert (
        "header-of-the-gateway" in repr(own_server.asked)
        and scrub.text("it said header-of-the-gateway") == "it said [key]"
    )


def test_a_key_belongs_to_the_origin_that_the_settings_give_it(planted, server, monkeypatch):
    gateway, configured, table = server(), server(), server()
    monkeypatch.setenv("LAB_API_KEYS", json.dumps({f"{gateway.url}/team/": OTHER_KEY}))
    (planted / "secrets.toml").write_text(
        f'[endpoints.mine]\nbase_url = "{configured.url}"\napi_key ='
        f' "key-of-mine-000000"\n[keys]\n"{table.url}" = "key-of-table-00000"\n'
    )
    urls = (gateway.url, configured.url, "mine", table.url, f"{gateway.url}/other/v1")
    chosen = (
        OTHER_KEY,
        "key-of-mine-000000",
        "key-of-mine-000000",
        "key-of-table-00000",
        OTHER_KEY,
    )
    assert tuple(registry.find(url).api_key for url in urls) == chosen
    assert (
        registry.find("anthropic").api_key == registry.find("http://127.0.0.1:9/v1").api_key == KEY
    )
    with pytest.raises(consent.ConsentNeeded):
        registry.find("http://localhost:9")
    monkeypatch.setenv("LAB_API_KEYS", "no JSON")
    with pytest.raises(LabError, match="LAB_API_KEYS"):
        registry.find(gateway.url)


# The gate itself


def test_a_consent_is_one_private_file_and_can_be_taken_back(planted, capsys):
    assert main(["endpoints", "allow", "https://A.example:443/v1/"]) == 0
    assert main(["endpoints", "allow", "http://b.example:8080", "--no-key"]) == 0
    assert consent.stored() == {"https://a.example": True, "http://b.example:8080": False}
    assert stat.S_IMODE((planted / "settings" / "consents.json").stat().st_mode) == 0o600
    assert (
        registry.find("https://a.example/team").api_key,
        registry.find("http://b.example:8080").api_key,
    ) == (KEY, keys.PLACEHOLDER)
    capsys.readouterr()
    assert main(["endpoints", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["allowed"] == [
        {"url": "http://b.example:8080", "key": False},
        {"url": "https://a.example", "key": True},
    ]
    assert (
        main(["endpoints"]) == 0 and "https://a.example   with your key" in capsys.readouterr().out
    )
    assert main(["endpoints", "forget", "https://a.example"]) == 0 and list(consent.stored()) == [
        "http://b.example:8080"
    ]
    assert (
        main(["endpoints", "allow", "http://far.example"]) == 0
        and "cross the network readable" in capsys.readouterr().out
    )
    assert main(["endpoints", "allow"]) == 2


@pytest.mark.parametrize(
    "broken",
    [
        "",
        "[]",
        "null",
        "[[",
        '{"https://a.example": true}',
        '{"https://a.example": {"key": "yes"}}',
        "[" * 100_000,
    ],
)
def test_a_broken_file_of_consents_sends_no_key(planted, broken):
    (planted / "settings").mkdir()
    (planted / "settings" / "consents.json").write_text(broken)
    try:
        assert registry.find("https://a.example").api_key == keys.PLACEHOLDER
    except consent.ConsentNeeded as needed:
        assert needed.origin == "https://a.example"


@pytest.mark.parametrize(
    "wrong",
    [
        f"https://a.example/?key={KEY}",
        f"https://a.example/v1#{KEY}",
        f"https://user:{KEY}@a.example",
        f"https://{KEY}@a.example",
        "https://",
        "https://a.example:port",
        "https://a b.example",
        "https://a.example\\@b.example",
        "https://a.example\nb",
        "ftp://a.example",
        "https://[::1",
        "https://a.example%2f@b",
        "https://a..example",
        "https://" + "a" * 5000,
    ],
)
def test_an_address_that_could_hide_a_key_or_a_host_is_one_sentence(planted, capsys, wrong):
    for command in (
        ["endpoints", "test", wrong],
        ["endpoints", "allow", wrong],
        ["streaming", "--endpoint", wrong],
    ):
        assert main(command) == 2
        said = capsys.readouterr().err
        assert leaks(said.encode()) == [] and len(said.splitlines()) == 1 and len(said) < 600
    assert not (planted / "settings").exists()


def test_one_address_written_in_several_ways_is_one_origin():
    written = (
        "https://a.example",
        "HTTPS://A.Example:443/",
        "https://a.example/v1/",
        " https://a.example ",
    )
    assert {keys.origin(url) for url in written} == {"https://a.example"}
    assert (
        keys.origin("http://[::1]:8080/x") == "http://[::1]:8080"
        and keys.origin("https://a.example:80") == "https://a.example:80"
    )
    assert (
        keys.origin("https://аpi.example") == "https://xn--pi-6kc.example"
    )  # the first letter is Cyrillic


def test_the_estimate_names_every_address_and_refuses_what_nobody_agreed_to(planted, server):
    one, two = server(), server()
    consent.allow(one.url, key=True)
    bodies = json.dumps(
        [
            {"name": "a"},
            {"name": "b", "endpoint": two.url},
            {"name": "c", "endpoint": "http://127.0.0.1:9"},
        ]
    )
    config = config_of(technique="ab", endpoint=one.url, runs=1, knobs={"bodies": bodies})
    assert estimate(config).asks == (two.url,) and two.url in estimate(config).refusals[0]
    consent.allow(two.url, key=False)
    expected = estimate(config)
    assert (
        expected.refusals == ()
        and f"on {one.url} and {two.url} and http://127.0.0.1:9" in expected.text
    )
    wrong = json.dumps([{"name": "a"}, {"name": "b", "endpoint": "local"}])
    assert (
        "keeps to one kind"
        in estimate(config.model_copy(update={"knobs": {"bodies": wrong}})).refusals[0]
    )
    assert {asked.path for each in (one, two) for asked in each.asked} == {"/health"}


# The lab's own server


HEALTHS = {
    "a list": b"[1, 2]",
    "null": b"null",
    "a number": b"7",
    "deep": b"[" * 20_000,
    "NaN": b'{"kind": NaN}',
    "unhashable": b'{"kind": [{}]}',
    "another": b'{"kind": "live"}',
    "no JSON": b"<html>",
    "not UTF-8": b'{"kind": "\xff"}',
    "nothing": b"",
    "huge": b'{"kind": "local", "x": "' + b"x" * 10_000_000,
}


@pytest.mark.parametrize("health", HEALTHS)
def test_whatever_a_foreign_server_answers_it_is_not_the_labs(server, health):
    foreign = server(lambda connection: connection.json(HEALTHS[health]))
    assert own_server.kind_at(foreign.url) is None and [asked.path for asked in foreign.asked] == [
        "/health"
    ]


@pytest.mark.parametrize(
    "slow",
    [
        Connection.silence,
        lambda connection: connection.drip(b"HTTP/1.1 200 OK\r\n\r\n" + b" " * 1000, 0.05),
        lambda connection: connection.endless(b"x" * 65536),
        lambda connection: connection.reset(),
    ],
)
def test_a_foreign_server_holds_nobody_up(server, slow):
    began = now_ns()
    assert own_server.kind_at(server(slow).url, 0.3) is None
    assert now_ns() - began < 30e9
    assert (
        own_server.kind_at("http://127.0.0.1:9") is None
        and own_server.kind_at("http://a.example") is None
    )


def test_a_server_that_keeps_its_connection_is_not_waited_for():
    """It has said how long its answer is."""
    foreign = known.start()
    try:
        began, url = now_ns(), known.base_url(foreign)
        assert own_server.kind_at(url, 60) is None and now_ns() - began < 30e9
    finally:
        foreign.kill()
        foreign.communicate()


def test_the_labs_own_server_is_known_by_its_card_alone_and_by_its_answer(simulated, planted):
    assert (
        own_server.kind_at(simulated.base_url) == "simulated"
        and own_server.card_at(simulated.base_url) is None
    )
    with pytest.raises(consent.ConsentNeeded):
        registry.find(simulated.base_url)
    card = {
        "base_url": "http://127.0.0.1:9",
        "api_key": "key-of-the-card-0000",
        "pid": os.getpid(),
        "born": machine.born(os.getpid()),
    }
    (planted / "runtime").mkdir()
    (planted / "runtime" / "local.json").write_text(json.dumps(card))
    found = registry.find("http://127.0.0.1:9/v1")  # where nobody would answer
    assert (found.kind, found.api_key) == ("local", "key-of-the-card-0000")
    (planted / "runtime" / "local.json").write_text(json.dumps({**card, "pid": 2**22 + 1}))
    assert own_server.card_at("http://127.0.0.1:9") is None
    (planted / "runtime" / "local.json").write_text("[" * 100_000)
    assert own_server.card_at("http://127.0.0.1:9") is None


async def test_a_client_holds_no_credential_but_its_own(planted, monkeypatch):
    monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", "token-that-belongs-elsewhere")
    client = open_client(registry.Endpoint("x", "live", "https://a.example"))
    assert (client.api_key, client.auth_token, client.credentials) == (keys.PLACEHOLDER, None, None)
    assert client._client.follow_redirects is False
    await client.close()
