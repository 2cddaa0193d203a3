"""What looks on while the user's own HTTP client sends: it stamps, keeps what passes, and changes
nothing.

The phases of a connection are those that httpcore tells; a piece of an answer is stamped as the
application takes it off its socket.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import httpx2

from lab.clock import now_ns
from lab.instrumentation import parsing
from lab.observing.feed import Feed
from lab.recorder.observed_call import ASKED_HEADERS, SECRET_HEADERS, ObservedCall, worth_telling

PATH = "/v1/messages"
LARGEST = 64_000_000
"""Bytes of one call that are kept."""
STAMPS = {
    "connect_tcp.complete": "connected_ns",
    "connect_unix_socket.complete": "connected_ns",
    "start_tls.complete": "tls_ns",
    "send_request_headers.complete": "sent_ns",
    "send_request_body.complete": "sent_ns",
    "receive_response_headers.complete": "headers_ns",
}
ENDINGS = ("connect", "timeout", "cancelled", "malformed")
log = logging.getLogger("lab.observing")


def harmless(work: Callable[..., Any]) -> Callable[..., Any]:
    """An error of ours is a line in the log, and never the application's."""

    def guarded(*values: Any) -> Any:
        try:
            return work(*values)
        except Exception:
            log.debug("a call could not be observed", exc_info=True)
            return None

    return guarded


class Look:
    """One call, as long as it lasts."""

    def __init__(self, request: httpx2.Request, recording: Feed) -> None:
        started_ns = now_ns()
        self.recording = recording
        self.call = call = ObservedCall(started_ns, started_ns, reused=True)
        call.arrived_ns = None  # nothing stands between this application and its API
        headers = {name.lower(): value for name, value in request.headers.items()}
        call.asked = {name: value for name, value in headers.items() if name in ASKED_HEADERS}
        call.secrets = [headers[name] for name in SECRET_HEADERS if name in headers]
        if isinstance(request.stream, httpx2.ByteStream):  # else it is read once, by its sender
            self._keep(call.body, request.content)

    def trace(self, name: str) -> None:
        stamp = STAMPS.get(name.partition(".")[2])
        if stamp:
            setattr(self.call, stamp, now_ns())
            if stamp == "connected_ns":
                self.call.reused = False

    def answered(self, response: httpx2.Response) -> None:
        call = self.call
        call.headers_ns, call.status = call.headers_ns or now_ns(), response.status_code
        call.answered = worth_telling(
            {name.lower(): value for name, value in response.headers.items()}
        )

    def piece(self, data: bytes) -> None:
        at_ns = now_ns()
        if self._keep(self.call.pieces, data):
            self.call.at_ns.append(at_ns)

    def end(self, failure: BaseException | None = None) -> None:
        call = self.call
        if not call.is_open:
            return
        call.is_open, call.ended_ns = False, now_ns()
        if failure is not None:
            kind, text = parsing.failure_words(failure)
            if isinstance(failure, KeyboardInterrupt | SystemExit):
                kind = "cancelled"
            call.ending = kind if kind in ENDINGS else "disconnected"
            call.note = text if call.ending != "cancelled" else None
        if call.connected_ns is None and call.sent_ns is None:
            call.reused = None  # a transport of another make, which tells nothing
        self.recording.take(call)

    def _keep(self, pieces: list[bytes], data: bytes) -> bool:
        self.call.size += len(data)
        if self.call.size > LARGEST:
            self.call.note = f"more than {LARGEST // 1_000_000} MB: the rest was not kept"
            return False
        pieces.append(data)
        return True


begun = harmless(Look)
answered, piece, end, trace = map(harmless, (Look.answered, Look.piece, Look.end, Look.trace))


def is_call(request: httpx2.Request) -> bool:
    return request.method == "POST" and request.url.path.endswith(PATH)


class Watched(httpx2.BaseTransport):
    def __init__(self, inner: httpx2.BaseTransport, recording: Feed) -> None:
        self.inner, self.recording = inner, recording

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        look = begun(request, self.recording) if is_call(request) else None
        if look is None:
            return self.inner.handle_request(request)
        theirs = request.extensions.get("trace")

        def tracing(name: str, info: dict[str, Any]) -> None:
            trace(look, name)
            if theirs:
                theirs(name, info)

        request.extensions = {**request.extensions, "trace": tracing}
        try:
            response = self.inner.handle_request(request)
        except BaseException as error:
            end(look, error)
            raise
        answered(look, response)
        response.stream = WatchedBody(response.stream, look)
        return response

    def close(self) -> None:
        self.inner.close()

    def __enter__(self) -> Watched:
        self.inner.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self.inner.__exit__(*error)


class WatchedBody(httpx2.SyncByteStream):
    def __init__(self, inner: httpx2.SyncByteStream, look: Look) -> None:
        self.inner, self.look = inner, look

    def __iter__(self) -> Iterator[bytes]:
        try:
            for data in self.inner:
                piece(self.look, data)
                yield data
        except BaseException as error:
            end(self.look, error)
            raise
        end(self.look)

    def close(self) -> None:
        try:
            self.inner.close()
        finally:
            end(self.look, GeneratorExit())  # where it was not read to its end


class AsyncWatched(httpx2.AsyncBaseTransport):
    def __init__(self, inner: httpx2.AsyncBaseTransport, recording: Feed) -> None:
        self.inner, self.recording = inner, recording

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        look = begun(request, self.recording) if is_call(request) else None
        if look is None:
            return await self.inner.handle_async_request(request)
        theirs = request.extensions.get("trace")

        async def tracing(name: str, info: dict[str, Any]) -> None:
            trace(look, name)
            if theirs:
                await theirs(name, info)

        request.extensions = {**request.extensions, "trace": tracing}
        try:
            response = await self.inner.handle_async_request(request)
        except BaseException as error:
            end(look, error)
            raise
        answered(look, response)
        response.stream = AsyncWatchedBody(response.stream, look)
        return response

    async def aclose(self) -> None:
        await self.inner.aclose()

    async def __aenter__(self) -> AsyncWatched:
        await self.inner.__aenter__()
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self.inner.__aexit__(*error)


class AsyncWatchedBody(httpx2.AsyncByteStream):
    def __init__(self, inner: httpx2.AsyncByteStream, look: Look) -> None:
        self.inner, self.look = inner, look

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for data in self.inner:
                piece(self.look, data)
                yield data
        except BaseException as error:
            end(self.look, error)
            raise
        end(self.look)

    async def aclose(self) -> None:
        try:
            await self.inner.aclose()
        finally:
            end(self.look, GeneratorExit())


class Watching:
    """An HTTP client that waits, as it is closed, until what it sent is stored."""

    _recording: Feed

    def close(self) -> None:
        super().close()  # type: ignore[misc]
        self._recording.flush()

    async def aclose(self) -> None:
        await super().aclose()  # type: ignore[misc]
        await asyncio.to_thread(self._recording.flush)
