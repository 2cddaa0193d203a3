"""The HTTP side: routes, keys, leases, server-sent events, and the true instants at which every event was written."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import secrets
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Any

from pydantic import TypeAdapter, ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

import lab
from lab import clock
from lab.local import wire
from lab.local.engine import Begun, Closed, Cut, Ended, Engine, Grew, Job, Opened, Started
from lab.local.simulated import Play, Simulated
from lab.local.wire import ApiError

LARGEST_BODY = 32 * 2**20
KEPT_TRUTHS = 2000


class Server:
    """One engine behind the API. `key` is what clients must send; nothing answers without it but /health."""

    def __init__(self, engine: Engine, key: str):
        self.engine, self.key = engine, key
        self.truths: OrderedDict[str, dict[str, Any]] = OrderedDict()
        self.fingerprints: OrderedDict[str, list[str]] = OrderedDict()
        self.lease: dict[str, Any] | None = None
        self.active, self.used_ns = 0, clock.now_ns()
        routes = [
            Route("/v1/messages/count_tokens", self.count_tokens, methods=["POST"]),
            Route("/v1/models", self.models, methods=["GET"]),
            Route("/v1/models/{name}", self.model, methods=["GET"]),
            Route("/warm", self.warm, methods=["POST"]),
            Route("/lease", self.leases, methods=["POST", "DELETE"]),
            Route("/truth", self.truth, methods=["GET"]),
        ]
        if isinstance(engine, Simulated):
            routes += [
                Route("/plays", self.plays, methods=["POST", "DELETE"]),
                Route("/knobs", self.knobs, methods=["GET", "PUT", "DELETE"]),
            ]
        self.starlette = Starlette(routes=routes, exception_handlers={404: no_route, 405: no_route, ApiError: refused})

    async def __call__(self, scope: dict, receive: Callable, send: Callable) -> None:
        """ASGI: the message route is handled here without a framework between, the rest by Starlette."""
        if scope["type"] != "http":
            return
        if scope["path"] == "/health":
            return await respond(send, 200, {"status": "ok", "kind": self.engine.kind, "version": lab.__version__}, wire.new_id("req"))
        request_id = wire.new_id("req")
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        self.active += 1
        try:
            raw = await read(receive)
            received_ns = scope.get("received_ns") or clock.now_ns()
            self.admit(headers, scope["path"])
            if scope["path"] == "/v1/messages" and scope["method"] == "POST":
                await self.messages(raw, request_id, received_ns, receive, send)
            else:
                await self.starlette({**scope, "request_id": request_id}, replay(raw), with_header(send, request_id))
        except ApiError as error:
            await respond(send, error.status, error.body(request_id), request_id, error.headers)
        finally:
            self.active -= 1
            self.used_ns = clock.now_ns()

    def admit(self, headers: dict[str, str], path: str) -> None:
        """Key, version and lease, in this order."""
        given = headers.get("x-api-key") or headers.get("authorization", "").removeprefix("Bearer ").strip()
        if not given:
            raise ApiError(401, "x-api-key header is required")
        if not secrets.compare_digest(given.encode(), self.key.encode()):
            raise ApiError(401, "invalid x-api-key")
        if path.startswith("/v1/"):
            if "anthropic-version" not in headers:
                raise ApiError(400, "anthropic-version: header is required")
            lease = self.held()
            if lease and headers.get("x-lab-lease") != lease["lease"]:
                raise ApiError(529, f"Overloaded: a measurement ({lease['holder']}) has this server for itself until it ends.")

    def held(self) -> dict[str, Any] | None:
        """The lease in force; it ends by its time, or with its holder's process."""
        if self.lease and (self.lease["until_ns"] <= clock.now_ns() or not alive(self.lease["pid"])):
            self.lease = None
        return self.lease

    def idle_s(self) -> float:
        """Seconds since the last request or lease; 0 while one is under way."""
        return 0.0 if self.active or self.held() else (clock.now_ns() - self.used_ns) / 1e9

    async def messages(self, raw: bytes, request_id: str, received_ns: int, receive: Callable, send: Callable) -> None:
        body = wire.parse(wire.Body, raw)
        self.known(body.model)
        self.engine.check(body)
        counted = await self.engine.count(body)
        plan = self.engine.ledger.plan(body, counted.ends, received_ns)
        job = Job(body, counted, plan, received_ns, raw)
        message_id = wire.new_id("msg")
        diagnostics = self.diagnose(body, counted.ends, message_id)
        usage = wire.usage_of(counted.total, plan.read_tokens, plan.created("5m"), plan.created("1h"))
        start = wire.message(message_id, body.model, usage, diagnostics)
        truth = {"request_id": request_id, "message_id": message_id, "received_ns": received_ns, "headers_ns": None, "events": []}
        self.truths[request_id] = truth
        while len(self.truths) > KEPT_TRUTHS:
            self.truths.popitem(last=False)
        reply = Streamed(send, request_id, truth, start) if body.stream else Whole(send, request_id, truth, start)
        work = asyncio.create_task(self.produce(job, reply))
        gone = asyncio.create_task(disconnected(receive))
        try:
            # A client that has gone away must free its slot at once, also in the middle of a stall.
            await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (work, gone):
                if not task.done():
                    task.cancel()
            results = await asyncio.gather(work, gone, return_exceptions=True)
            self.engine.ledger.release(plan)
        if isinstance(results[0], Exception):
            raise results[0]

    async def produce(self, job: Job, reply: Streamed | Whole) -> None:
        try:
            async with aclosing(self.engine.answer(job)) as pieces:
                async for piece in pieces:
                    if isinstance(piece, Begun):
                        self.engine.ledger.commit(job.plan, piece.snapshots)
                        reply.message["usage"].update(piece.usage)
                    await reply.take(piece)
        except Cut:
            await reply.cut()
        except ApiError as error:
            if not await reply.fail(error):
                raise
        except Exception as error:
            if not await reply.fail(wrapped := ApiError(500, f"Internal server error: {error}")):
                raise wrapped from error

    def known(self, model: str) -> None:
        if model not in self.engine.names():
            raise ApiError(404, f"model: {model}")

    def diagnose(self, body: wire.Body, ends: list[int], message_id: str) -> dict[str, Any] | None:
        """Where this prompt left the one of `diagnostics.previous_message_id`: the API's cache_miss_reason."""
        blocks = body.blocks()
        parts = [
            body.model,
            *(
                hashlib.sha256(wire.canonical([b.value for b in blocks if b.section == s]).encode()).hexdigest()
                for s in ("tools", "system")
            ),
        ]
        turns = [hashlib.sha256(wire.canonical([b.turn, b.role, b.value]).encode()).hexdigest() for b in blocks if b.section == "messages"]
        self.fingerprints[message_id] = [*parts, *turns]
        while len(self.fingerprints) > KEPT_TRUTHS:
            self.fingerprints.popitem(last=False)
        if body.diagnostics is None or body.diagnostics.previous_message_id is None:
            return None
        before = self.fingerprints.get(body.diagnostics.previous_message_id)
        if before is None:
            return {"cache_miss_reason": {"type": "previous_message_not_found"}}
        for reason, old, new in zip(("model_changed", "tools_changed", "system_changed"), before, parts, strict=False):
            if old != new:
                return {"cache_miss_reason": {"type": reason, "cache_missed_input_tokens": ends[-1]}}
        if before[3:] != turns[: len(before) - 3]:
            return {"cache_miss_reason": {"type": "messages_changed", "cache_missed_input_tokens": ends[-1]}}
        return None

    async def count_tokens(self, request: Request) -> Response:
        prompt = wire.parse(wire.Prompt, await request.body())
        self.known(prompt.model)
        self.engine.check(prompt)
        return JSONResponse({"input_tokens": (await self.engine.count(prompt)).total})

    def card(self, name: str) -> dict[str, Any]:
        return {
            "type": "model",
            "id": name,
            "display_name": name,
            "created_at": "1970-01-01T00:00:00Z",
            "lifecycle": "active",
            "capabilities": None,
            "deprecated_at": None,
            "retires_at": None,
            "line": None,
            "max_input_tokens": None,
            "max_tokens": None,
        }

    async def models(self, request: Request) -> Response:
        names = self.engine.names()
        return JSONResponse({"data": [self.card(name) for name in names], "has_more": False, "first_id": names[0], "last_id": names[-1]})

    async def model(self, request: Request) -> Response:
        self.known(request.path_params["name"])
        return JSONResponse(self.card(request.path_params["name"]))

    async def warm(self, request: Request) -> Response:
        """Load a model now, so that its loading never falls into a measured trial."""
        model = (await fields(request)).get("model")
        self.known(model)
        started_ns = clock.now_ns()
        await self.engine.warm(model)
        return JSONResponse({"model": model, "ms": (clock.now_ns() - started_ns) / 1e6})

    async def leases(self, request: Request) -> Response:
        """POST takes or renews, DELETE gives back; a lease names its holder, its process and its seconds.

        One that ran out on a busy machine is its holder's again, where nobody has taken another since.
        """
        asked = await fields(request)
        token = request.headers.get("x-lab-lease") or asked.get("lease")
        current = self.held()
        if current and token != current["lease"]:
            raise ApiError(409, f"A measurement ({current['holder']}) holds the lease.")
        if request.method == "DELETE":
            self.lease = None
            return JSONResponse({"lease": None})
        terms = {**(current or {}), **asked}
        try:
            pid, seconds = int(terms["pid"]), float(terms.get("seconds", 60))
        except (KeyError, TypeError, ValueError):
            raise ApiError(400, "pid, seconds: a lease needs the holder's process id and a number of seconds") from None
        lease = token or secrets.token_hex(16)
        until_ns = clock.now_ns() + round(seconds * 1e9)
        self.lease = {"lease": lease, "holder": str(terms.get("holder", "?")), "pid": pid, "seconds": seconds, "until_ns": until_ns}
        return JSONResponse({"lease": lease})

    async def truth(self, request: Request) -> Response:
        wanted = request.query_params.get("request_id")
        return JSONResponse([truth for name, truth in self.truths.items() if wanted in (None, name)])

    async def plays(self, request: Request) -> Response:
        if request.method == "DELETE":
            self.engine.plays.clear()
        else:
            self.engine.plays.extend(checked(list[Play], (await fields(request)).get("plays"), "plays"))
        return JSONResponse({"plays": len(self.engine.plays)})

    async def knobs(self, request: Request) -> Response:
        """PUT turns knobs; DELETE is a fresh start: default knobs, no plays, empty cache."""
        if request.method == "DELETE":
            self.engine.reset()
            self.truths.clear()
        elif request.method == "PUT":
            try:
                self.engine.turn(await fields(request))
            except ValidationError as error:
                first = error.errors(include_url=False)[0]
                raise ApiError(400, f"knobs.{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
        return JSONResponse({"models": {name: self.engine.knobs(name).model_dump() for name in self.engine.names()}})


class Whole:
    """A reply that is sent when it is complete."""

    def __init__(self, send: Callable, request_id: str, truth: dict[str, Any], message: dict[str, Any]):
        self.send, self.request_id, self.truth, self.message = send, request_id, truth, message
        self.json = ""

    async def take(self, piece: Any) -> None:
        content = self.message["content"]
        if isinstance(piece, Opened):
            content.append(dict(piece.block))
            self.json = ""
        elif isinstance(piece, Grew):
            grow(content[-1], piece.delta)
            self.json += piece.delta.get("partial_json", "")
        elif isinstance(piece, Closed) and content[-1]["type"] == "tool_use":
            try:
                content[-1]["input"] = json.loads(self.json)
            except ValueError:
                content[-1]["input"] = {}  # max_tokens fell inside the input
        elif isinstance(piece, Ended):
            usage = {
                "output_tokens": piece.output_tokens,
                "output_tokens_details": {"thinking_tokens": piece.thinking_tokens},
                **overrides(self.message),
            }
            self.message["usage"].update(usage)
            self.message.update(stop_reason=piece.stop_reason, stop_sequence=piece.stop_sequence, lab=piece.lab)
            self.truth["headers_ns"] = clock.now_ns()
            await respond(self.send, 200, self.message, self.request_id)
            self.truth["events"].append({"kind": "message", "at_ns": clock.now_ns()})

    async def fail(self, error: ApiError) -> bool:
        return False

    async def cut(self) -> None:
        """Promise more bytes than are sent: the server closes the connection under the client."""
        headers = [(b"content-type", b"application/json"), (b"content-length", b"1000"), (b"request-id", self.request_id.encode())]
        await self.send({"type": "http.response.start", "status": 200, "headers": headers})
        await self.send({"type": "http.response.body", "body": b'{"id":', "more_body": True})


class Streamed:
    """A reply whose every piece is written as it comes, and stamped as it is written."""

    def __init__(self, send: Callable, request_id: str, truth: dict[str, Any], message: dict[str, Any]):
        self.send, self.request_id, self.truth, self.message = send, request_id, truth, message
        self.index, self.pinged, self.begun = -1, False, False

    async def write(self, kind: str, **data: Any) -> None:
        payload = wire.event(kind, **data)
        self.truth["events"].append({"kind": data.get("delta", {}).get("type") or kind, "at_ns": clock.now_ns()})
        await self.send({"type": "http.response.body", "body": payload, "more_body": True})

    async def take(self, piece: Any) -> None:
        if isinstance(piece, Grew):
            await self.write("content_block_delta", index=self.index, delta=piece.delta)
        elif isinstance(piece, Begun):
            self.begun = True
            headers = [
                (b"content-type", b"text/event-stream; charset=utf-8"),
                (b"cache-control", b"no-cache"),
                (b"request-id", self.request_id.encode()),
            ]
            self.truth["headers_ns"] = clock.now_ns()
            await self.send({"type": "http.response.start", "status": 200, "headers": headers})
        elif isinstance(piece, Started):
            usage = {**self.message["usage"], "output_tokens": self.message["usage"]["output_tokens"] or 1}
            await self.write("message_start", message={**self.message, "usage": usage})
        elif isinstance(piece, Opened):
            self.index += 1
            await self.write("content_block_start", index=self.index, content_block=piece.block)
            if not self.pinged:
                self.pinged = True
                await self.write("ping")
        elif isinstance(piece, Closed):
            await self.write("content_block_stop", index=self.index)
        elif isinstance(piece, Ended):
            kept = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
            usage = {name: self.message["usage"][name] for name in kept}
            usage.update(
                output_tokens=piece.output_tokens,
                output_tokens_details={"thinking_tokens": piece.thinking_tokens},
                **overrides(self.message),
            )
            delta = {"stop_reason": piece.stop_reason, "stop_sequence": piece.stop_sequence, "stop_details": None}
            await self.write("message_delta", delta=delta, usage=usage, lab=piece.lab)
            if piece.message_stop:
                await self.write("message_stop")
            await self.send({"type": "http.response.body", "body": b"", "more_body": False})

    async def fail(self, error: ApiError) -> bool:
        """After the headers an error is an event; before, it is a reply of its own."""
        if self.begun:
            await self.write("error", error={"type": error.kind, "message": error.message}, request_id=self.request_id)
            await self.send({"type": "http.response.body", "body": b"", "more_body": False})
        return self.begun

    async def cut(self) -> None:
        """Leaving the response unfinished makes the server drop the connection."""


def overrides(message: dict[str, Any]) -> dict[str, Any]:
    """The output counts that a play has set before the reply ended."""
    return {"output_tokens": given} if (given := message["usage"]["output_tokens"]) else {}


def grow(block: dict[str, Any], delta: dict[str, str]) -> None:
    for name in ("text", "thinking", "signature"):
        if name in delta:
            block[name] += delta[name]


async def read(receive: Callable) -> bytes:
    parts, size = [], 0
    while True:
        event = await receive()
        if event["type"] == "http.disconnect":
            raise asyncio.CancelledError
        parts.append(event.get("body", b""))
        size += len(parts[-1])
        if size > LARGEST_BODY:
            raise ApiError(413, "Request exceeds the maximum size of 32 MB.")
        if not event.get("more_body"):
            return b"".join(parts)


async def disconnected(receive: Callable) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def replay(raw: bytes) -> Callable[[], Awaitable[dict]]:
    events = deque([{"type": "http.request", "body": raw, "more_body": False}])

    async def receive() -> dict:
        return events.popleft() if events else {"type": "http.disconnect"}

    return receive


def with_header(send: Callable, request_id: str) -> Callable[[dict], Awaitable[None]]:
    async def stamped(event: dict) -> None:
        if event["type"] == "http.response.start":
            event = {**event, "headers": [*event["headers"], (b"request-id", request_id.encode())]}
        await send(event)

    return stamped


async def respond(send: Callable, status: int, value: Any, request_id: str, headers: dict[str, str] | None = None) -> None:
    payload = json.dumps(value, ensure_ascii=False).encode()
    pairs = {"content-type": "application/json", "content-length": str(len(payload)), "request-id": request_id, **(headers or {})}
    await send({"type": "http.response.start", "status": status, "headers": [(k.encode(), v.encode()) for k, v in pairs.items()]})
    await send({"type": "http.response.body", "body": payload})


async def fields(request: Request) -> dict[str, Any]:
    raw = await request.body()
    try:
        value = json.loads(raw) if raw else {}
    except ValueError as error:
        raise ApiError(400, f"The request body is not valid JSON: {error}") from None
    if not isinstance(value, dict):
        raise ApiError(400, "The request body should be a JSON object.")
    return value


def checked(kind: Any, value: Any, name: str) -> Any:
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise ApiError(400, f"{'.'.join([name, *map(str, first['loc'])])}: {first['msg']}") from None


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


async def no_route(request: Request, error: Exception) -> Response:
    status = getattr(error, "status_code", 404)
    return await refused(
        request, ApiError(status, f"{request.method} {request.url.path}: {'Method Not Allowed' if status == 405 else 'Not Found'}")
    )


async def refused(request: Request, error: Exception) -> Response:
    return JSONResponse(error.body(request.scope["request_id"]), error.status, error.headers)
