"""A load's requests, made in a process of their own by the SDK without its types."""

import asyncio
import os
import signal
import subprocess
import sys

import httpx2
import pytest

from lab import paths
from lab.endpoints.client import open_client
from lab.endpoints.registry import Endpoint
from lab.load import prepared, preparing
from lab.model import LabError

BODIES = [
    {"model": "M", "max_tokens": 64, "stream": True, "messages": [{"role": "user"}]},
    {"model": "M", "max_tokens": 8, "messages": [], "system": "short", "tools": [{"name": "a"}]},
]
BETAS = ("first-beta,second", "")
HOW = {"salt": "a run", "timeout_s": 7.5, "headers": {"x-lease": "mine"}, "has_nonces": False}


def endpoint(url: str = "https://lab.example/v9/") -> Endpoint:
    return Endpoint("mine", "live", url, "a-key", {"large": "M"})


@pytest.fixture
def begun(monkeypatch):
    """The process that makes requests, though the tests have imported the SDK."""
    with monkeypatch.context() as modules:
        modules.delitem(sys.modules, "anthropic")
        preparing.begin()
    yield preparing._begun[0]
    for process in preparing._begun:
        process.kill()
    preparing._begun.clear()


async def test_the_process_and_the_whole_sdk_make_the_same_bytes(begun):
    apart = await preparing.prepare(endpoint(), BODIES, BETAS, **HOW)
    assert begun.returncode == 0
    assert apart == await prepared.prepare(endpoint(), BODIES, BETAS, **HOW)
    first, second = apart.templates
    assert first.head.startswith(b"POST /v9/v1/messages HTTP/1.1\r\nHost: lab.example\r\n")
    assert b"first-beta,second" in first.head and b"first-beta" not in second.head


def test_that_process_imports_none_of_the_sdks_types():
    code = (
        "import sys; from lab.load import lean_sdk; assert lean_sdk.use();"
        "from lab.load import prepared;"
        "print(sum(hasattr(m, '__file__') for n, m in sys.modules.items()"
        " if n.startswith('anthropic.types')))"
    )
    told = subprocess.run([sys.executable, "-c", code], cwd=paths.ROOT, capture_output=True)
    assert told.stdout == b"0\n"


def test_where_the_sdk_needs_more_of_itself_it_is_imported_whole():
    code = (
        "import sys; from lab.load import lean_sdk; lean_sdk.USED['Gone'] = '_client';"
        "assert not lean_sdk.use(); import anthropic; print(anthropic.types.Message.__module__)"
    )
    told = subprocess.run([sys.executable, "-c", code], cwd=paths.ROOT, capture_output=True)
    assert told.stdout == b"anthropic.types.message\n"


async def test_requests_are_made_here_where_that_process_has_died(begun):
    os.kill(begun.pid, signal.SIGKILL)
    made = await preparing.prepare(endpoint(), BODIES, BETAS, **HOW)
    assert made == await prepared.prepare(endpoint(), BODIES, BETAS, **HOW)


@pytest.fixture
def proxy(monkeypatch):
    with monkeypatch.context() as environment:
        environment.setenv("HTTP_PROXY", "http://proxy.example:1")
        yield


async def test_what_cannot_be_asked_is_the_same_sentence_from_there(proxy, begun):
    with pytest.raises(LabError, match="cannot go through the proxy"):
        await preparing.prepare(endpoint("http://lab.example"), BODIES, BETAS, **HOW)
    assert begun.returncode == 0


async def test_what_is_written_is_what_the_sdk_itself_sends():
    """Both over real sockets: a client's own call, and the bytes that a load would write."""
    asked = asyncio.Queue()

    async def listen(reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        size = next(line for line in head.lower().split(b"\r\n") if b"content-length" in line)
        asked.put_nowait(head + await reader.readexactly(int(size.partition(b":")[2])))
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")

    async with await asyncio.start_server(listen, "127.0.0.1", 0) as server:
        place = endpoint("http://{}:{}".format(*server.sockets[0].getsockname()))
        made = await prepared.prepare(place, BODIES[:1], **HOW)
        _, writer = await asyncio.open_connection(made.address.host, made.address.port)
        writer.write(made.templates[0].head + made.templates[0].body)
        loads = await asked.get()
        async with open_client(place, HOW["timeout_s"], HOW["headers"]) as client:
            await client.post("/v1/messages", cast_to=httpx2.Response, body=BODIES[0])
        sdks = await asked.get()
        writer.close()
    assert loads == sdks
