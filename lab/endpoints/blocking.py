"""The SDK's blocking client for a plain function: it waits in a thread, its requests go out on the
loop, where the sockets are stamped."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterator
from concurrent.futures import CancelledError, Future
from contextlib import asynccontextmanager
from typing import Any

import httpx2
from anthropic import Anthropic, AsyncAnthropic

from lab.endpoints.client import OwnHeaders


class BlockingClient(OwnHeaders, Anthropic): ...


class ThreadTransport(httpx2.BaseTransport):
    """The stamped transport as seen from another thread, until `leave`; then all is an error."""

    def __init__(self, stamped: httpx2.AsyncBaseTransport, loop: asyncio.AbstractEventLoop) -> None:
        self.stamped, self.loop = stamped, loop
        self.waiting: set[Future] = set()
        self.bodies: set[httpx2.AsyncByteStream] = set()
        self.over = False

    def wait(self, work: Coroutine) -> Any:
        """The result of what the loop does in this thread's context: whose trial it is goes with
        it."""
        if self.over:
            work.close()
            raise httpx2.ReadError("the trial is over")
        future = asyncio.run_coroutine_threadsafe(work, self.loop)
        self.waiting.add(future)
        try:
            return future.result()
        except CancelledError as e:
            raise httpx2.ReadError("the trial is over") from e
        finally:
            self.waiting.discard(future)

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        request.read()
        response = self.wait(self.stamped.handle_async_request(request))
        self.bodies.add(response.stream)
        return httpx2.Response(
            response.status_code, headers=response.headers, stream=ThreadBody(response.stream, self)
        )

    async def leave(self) -> None:
        self.over = True
        for future in tuple(self.waiting):
            future.cancel()
        for body in tuple(self.bodies):
            await body.aclose()


class ThreadBody(httpx2.SyncByteStream):
    def __init__(self, body: httpx2.AsyncByteStream, transport: ThreadTransport) -> None:
        self.body, self.transport = body, transport

    def __iter__(self) -> Iterator[bytes]:
        pieces = aiter(self.body)

        async def following() -> bytes | None:
            return await anext(pieces, None)

        while (piece := self.transport.wait(following())) is not None:
            yield piece

    def close(self) -> None:
        if not self.transport.over:
            self.transport.bodies.discard(self.body)
            self.transport.wait(self.body.aclose())


@asynccontextmanager
async def beside(client: AsyncAnthropic) -> AsyncIterator[Anthropic]:
    """The blocking twin of a stamped client, on its connections, for one trial; opened on the
    loop."""
    transport = ThreadTransport(client._client._transport, asyncio.get_running_loop())
    try:
        yield BlockingClient(
            api_key=client.api_key,
            base_url=client.base_url,
            http_client=httpx2.Client(
                transport=transport, timeout=client.timeout, follow_redirects=False, trust_env=False
            ),
            max_retries=0,
            timeout=client.timeout,
            default_headers=client._custom_headers,
            open_telemetry=False,
        )
    finally:
        await transport.leave()
