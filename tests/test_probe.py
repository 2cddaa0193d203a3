"""`endpoints test` tells causes, each with the next step."""

import contextlib
import json
import shutil
import socket
import ssl
import subprocess
import time

import pytest

from bench.buffers import Buffer
from bench.raw_server import Connection, RawServer, events, message, sse
from lab.cli import main
from lab.endpoints import caching_modes, registry


@pytest.fixture(autouse=True)
def own_settings(tmp_path, monkeypatch):
    monkeypatch.setenv("LAB_SETTINGS", str(tmp_path / "settings"))


@pytest.fixture
def server():
    with contextlib.ExitStack() as stack:
        yield lambda answer, **how: stack.enter_context(RawServer(answer, **how))


@pytest.fixture
def probe(capsys):
    def ask(url: str, *flags: str) -> dict[str, tuple[bool, str]]:
        main(["endpoints", "test", url, "--json", *flags])
        probed = json.loads(capsys.readouterr().out)
        assert (probed["version"], probed["calls"]) == (1, probed["calls"])
        return {row["check"]: (row["supported"], row["seen"]) for row in probed["checks"]}

    return ask


class Model:
    """A well-behaved server of four characters a token; a method or a field replaced is what it
    does wrong."""

    pieces, gap_s, times = 12, 0.004, 1
    written = read = 0
    """Tokens reported of a prompt's second sight, and of its first."""

    def __init__(self, **wrong) -> None:
        vars(self).update(wrong)
        self.known: set[str] = set()

    def usage(self, asked: dict) -> dict:
        text = json.dumps(asked.get("system", "")) + json.dumps(asked["messages"])
        tokens = self.times * len(text) // 4
        seen, _ = text in self.known, self.known.add(text)
        read = tokens * self.read if seen else 0
        written = 0 if seen or "cache_control" not in text else tokens * self.written
        return {
            "input_tokens": tokens - read - written,
            "cache_read_input_tokens": read,
            "cache_creation_input_tokens": written,
            "output_tokens": 12,
        }

    def __call__(self, connection: Connection) -> None:
        if connection.asked.method != "POST":
            return connection.json(
                {"type": "error", "error": {"type": "not_found_error", "message": "no such page"}},
                404,
            )
        asked = json.loads(connection.asked.body)
        usage = self.usage(asked)
        return (
            self.stream(connection, usage)
            if asked.get("stream")
            else connection.json(message(usage=usage))
        )

    def stream(self, connection: Connection, usage: dict) -> None:
        start, opened, delta, _, _, *end = events(usage=usage)
        connection.head(200, "text/event-stream", transfer_encoding="chunked")
        time.sleep(0.03)
        connection.chunk(sse([start, opened]))
        for _ in range(self.pieces):
            time.sleep(self.gap_s)
            connection.chunk(sse([delta]))
        connection.chunk(sse(end))
        connection.send(b"0\r\n\r\n")
        connection.kept = True


class Replay(Model):
    """Two milliseconds a token, all of them before the first piece."""

    def stream(self, connection: Connection, usage: dict) -> None:
        time.sleep(0.002 * json.loads(connection.asked.body)["max_tokens"])
        super().stream(connection, usage)


def test_a_good_server_passes(server, probe):
    rows = probe(server(Model()).url)
    assert rows["usage"][0] and rows["token counts"] == (
        True,
        "200 short words more are 200 tokens more",
    )
    assert rows["streaming"][0] and rows["streaming"][1].startswith("12 pieces of text over ")


def test_a_replay_and_a_buffer_are_no_streams(server, probe):
    supported, seen = probe(server(Replay(pieces=48, gap_s=0)).url)["streaming"]
    assert not supported and ("replayed as a stream" in seen or "came at once" in seen)
    buffer = Buffer(server(Model(pieces=48)).url, 4096)
    supported, seen = probe(buffer.base_url)["streaming"]
    assert not supported and "48 pieces came in 2 bursts" in seen and "proxy_buffering off" in seen


def test_a_whole_body_where_a_stream_was_asked_for_is_named(server, probe):
    whole = Model(stream=lambda connection, usage: connection.json(message(usage=usage)))
    assert "one whole body came" in probe(server(whole).url)["streaming"][1]


def test_counts_that_cannot_be_believed_are_named(server, probe):
    assert "counted about 2 times" in probe(server(Model(times=2)).url)["token counts"][1]
    fixed = Model(usage=lambda asked: {"input_tokens": 9, "output_tokens": 9})
    assert "do not follow the prompt" in probe(server(fixed).url)["token counts"][1]
    zeros = Model(usage=lambda asked: {"input_tokens": 0, "output_tokens": 0})
    assert probe(server(zeros).url)["usage"] == (False, probe(server(zeros).url)["usage"][1])
    assert probe(server(zeros).url)["usage"][1].startswith(
        "0 tokens in, 0 out: nothing can be told of costs here."
    )


@pytest.mark.parametrize(
    ("cache", "mode", "supported"),
    [
        ({"written": 1, "read": 1}, "marked", True),
        ({"read": 1}, "itself", True),
        ({}, "none", False),
        ({"written": 1}, None, False),
    ],
)
def test_how_a_server_caches_is_found_and_kept(server, probe, cache, mode, supported):
    caching = server(Model(**cache))
    row = probe(caching.url)["caching"]
    assert row[0] is supported
    assert ("caches by itself" in row[1]) == (mode == "itself")
    assert caching_modes.caching_of(caching.url) == registry.find(caching.url).caching == mode


def test_what_is_read_and_counted_as_input_too_is_named(server, probe):
    def twice(asked, model=Model(read=1)):  # noqa: B008
        usage = model.usage(asked)
        return {**usage, "input_tokens": usage["input_tokens"] + usage["cache_read_input_tokens"]}

    assert "counted as input too" in probe(server(Model(usage=twice)).url)["caching"][1]


def reply(status: int, body: bytes = b"", kind: str = "text/html", **headers):
    return lambda connection: connection.json(body, status, kind, **headers)


def error(status: int, kind: str, words: str):
    return reply(
        status,
        json.dumps({"type": "error", "error": {"type": kind, "message": words}}).encode(),
        "application/json",
    )


LOGIN = b"<!doctype html><html><head><title>Sign in</title></head></html>"


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (reply(200, LOGIN), ("HTML page", "Sign in", "Give the address of the API itself")),
        (reply(403, LOGIN), ("HTML page", "Sign in")),
        (reply(302, b"", location="https://sso.example/login?to=x"), ("Redirected", "sso.example")),
        (
            reply(413, b"<html><title>413 Request Entity Too Large</title></html>"),
            ("client_max_body_size",),
        ),
        (reply(404, b"404 page not found", "text/plain"), ("without, /v1/messages",)),
        (error(404, "not_found_error", "model: claude-haiku-5-5"), ("--model NAME",)),
        (error(401, "authentication_error", "no"), ("No key was sent", "LAB_API_KEYS")),
        (error(429, "rate_limit_error", "slow down"), ("Try again later", "slow down")),
        (
            reply(502, b"<html><title>502 Bad Gateway</title></html>"),
            ("The server failed (status 502)",),
        ),
        (
            error(400, "invalid_request_error", "max_tokens: too few"),
            ("refused the request", "max_tokens: too few"),
        ),
        (reply(200, b"{}", "application/json"), ("not the Messages API",)),
        (lambda connection: connection.reset(), ("hung up",)),
    ],
)
def test_a_failure_says_its_cause_and_the_next_step(server, probe, answer, words):
    rows = probe(server(answer).url)
    assert list(rows) == ["usage"] and not rows["usage"][0]
    for word in words:
        assert word in rows["usage"][1]


def test_a_key_that_is_refused_is_told_from_one_that_is_missing(server, probe, monkeypatch):
    refusing = server(error(401, "authentication_error", "invalid x-api-key"))
    monkeypatch.delenv("LAB_IGNORE_KEYS")
    monkeypatch.setenv("LAB_SECRETS", "/nowhere/secrets.toml")
    monkeypatch.setenv("LAB_API_KEYS", json.dumps({refusing.url: "gateway-4wLz8KpYb3N"}))
    seen = probe(refusing.url)["usage"][1]
    assert f"The key for {refusing.url} is refused" in seen and "4wLz8KpYb3N" not in seen


def test_a_wrong_path_is_mended_or_named(server, probe):
    def at(path):
        good, missing = Model(), reply(404, b"not here", "text/plain")
        return lambda connection: (good if connection.asked.path == path else missing)(connection)

    root = server(at("/v1/messages"))
    for end in ("", "/", "/v1", "/v1/", "/v1/messages"):
        assert probe(root.url + end)["usage"][0]
    assert f" {root.url} answers: give that address." in probe(f"{root.url}/api/v2")["usage"][1]
    deep = server(at("/anthropic/v1/messages"))
    assert f" {deep.url}/anthropic answers: give that address." in probe(deep.url)["usage"][1]


def test_the_models_that_there_are_are_named(server, probe):
    cards = {
        "data": [
            {
                "id": "small-one",
                "type": "model",
                "display_name": "s",
                "created_at": "2026-01-01T00:00:00Z",
            }
        ],
        "has_more": False,
    }

    def answer(connection: Connection) -> None:
        if connection.asked.path.startswith("/v1/models"):
            return connection.json(cards)
        return error(404, "not_found_error", "no such model")(connection)

    assert probe(server(answer).url)["usage"][1].endswith(
        "Name one that it has: --model NAME. It has small-one."
    )


def test_a_server_that_is_not_there_and_a_proxy_that_is_not(probe, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    assert f"Nothing listens at 127.0.0.1:{port}." in probe(f"http://127.0.0.1:{port}")["usage"][1]
    monkeypatch.setenv("HTTP_PROXY", f"http://me:secret-word@127.0.0.1:{port}")
    seen = probe("http://gateway.example")["usage"][1]
    assert (
        f"The proxy 127.0.0.1:{port} of HTTP_PROXY" in seen
        and "NO_PROXY" in seen
        and "secret-word" not in seen
    )


def test_a_private_authority_is_asked_for_and_then_believed(server, probe, tmp_path, monkeypatch):
    if not shutil.which("openssl"):
        pytest.skip("openssl makes the certificates of this test, and is not installed")
    authority = tmp_path / "authority.pem"
    name = (
        "-subj",
        "/CN=localhost",
        "-addext",
        "subjectAltName=IP:127.0.0.1",
        "-addext",
        "basicConstraints=critical,CA:TRUE",
    )
    command = (
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "2",
        *name,
    )
    subprocess.run(
        [*command, "-keyout", tmp_path / "key.pem", "-out", authority],
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority, tmp_path / "key.pem")
    url = server(Model(), tls=context).url
    seen = probe(url)["usage"][1]
    assert "certificate" in seen and "SSL_CERT_FILE=" in seen
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    assert probe(url)["usage"][0] and probe(url)["streaming"][0]
    plain = server(Model(), greet=lambda connection: not connection.head(400)).url.replace(
        "http:", "https:"
    )
    assert "speaks no TLS" in probe(plain)["usage"][1]


def test_what_a_server_says_is_made_fit_to_be_shown(server, probe):
    rows = probe(server(error(400, "invalid_request_error", "\x1b[31mred\x1b[0m " + "x" * 900)).url)
    assert "\x1b" not in rows["usage"][1] and len(rows["usage"][1]) <= 400


def test_a_connection_that_was_closed_as_it_was_used_again_is_no_failure(server, probe):
    """llama.cpp promises to keep a connection and closes it after each stream: the next request may
    meet that."""
    model, streamed = Model(written=1, read=1), set()

    def answer(connection: Connection) -> None:
        if id(connection) in streamed:
            return  # closed without a word
        model(connection)
        if connection.asked.stream:
            streamed.add(id(connection))

    rows = probe(server(answer).url)
    assert rows["streaming"][0] and rows["caching"][0] and "hung up" not in str(rows)
