"""The HTTP side: routes, keys, leases, server-sent events, and the true instants at which every
event was written."""

from __future__ import annotations

import asyncio
import hashlib
import json
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

from lab import clock, machine
from lab.local import messages_api, model_cards
from lab.local.batches import Batches
from lab.local.engine import Begun, Closed, Cut, Ended, Engine, Grew, Job, Opened, Started
from lab.local.incoming_body import decoded, read
from lab.local.messages_api import ApiError
from lab.local.simulated import Play, Simulated
from lab.model import sentence
from lab.paths import COMMAND
from lab.version import VERSION

KEPT_TRUTHS = 2000
TOOLS_HEADER = "x-lab-tools"
"""With `all`, a reply under `auto` or `any` uses every tool that it is offered, once; otherwise
one."""


class Server:
    """One engine behind the API. `key` is what clients must send; nothing answers without it but
    /health.

    With `alias` a name of Claude's is answered by the small model (haiku) or the large one. As
    where the API itself resolves an alias, the message carries the name of the model that answered.
    """

    def __init__(self, engine: Engine, key: str, alias: bool = False):
        self.engine, self.key, self.alias = engine, key, alias
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
        self.batches = Batches(self.answer, self.unleased)
        if engine.abilities.batches:
            routes += [
                Route("/v1/messages/batches", self.batch_list, methods=["GET", "POST"]),
                Route("/v1/messages/batches/{id}", self.batch, methods=["GET", "DELETE"]),
                Route("/v1/messages/batches/{id}/cancel", self.batch_cancel, methods=["POST"]),
                Route("/v1/messages/batches/{id}/results", self.batch_results, methods=["GET"]),
            ]
        else:
            routes.append(
                Route(
                    "/v1/messages/batches{rest:path}", no_batches, methods=["GET", "POST", "DELETE"]
                )
            )
        if isinstance(engine, Simulated):
            routes += [
                Route("/plays", self.plays, methods=["POST", "DELETE"]),
                Route("/knobs", self.knobs, methods=["GET", "PUT", "DELETE"]),
            ]
        self.starlette = Starlette(
            routes=routes, exception_handlers={404: no_route, 405: no_route, ApiError: refused}
        )

    async def __call__(self, scope: dict, receive: Callable, send: Callable) -> None:
        """ASGI: the message route is handled here without a framework between, the rest by
        Starlette."""
        if scope["type"] != "http":
            return
        if scope["method"] == "OPTIONS":
            return await send_empty(send, 204, {"allow": "GET, HEAD, POST, PUT, DELETE, OPTIONS"})
        if scope["path"] in ("/health", "/"):
            return await respond(
                send,
                200,
                {"status": "ok", "kind": self.engine.kind, "version": VERSION},
                messages_api.new_id("req"),
            )
        request_id = messages_api.new_id("req")
        headers = {
            name.decode("latin-1").lower(): value.decode("latin-1")
            for name, value in scope["headers"]
        }
        self.active += 1
        try:
            raw = await read(receive)
            received_ns = scope.get("received_ns") or clock.now_ns()
            self.admit(headers, scope["path"])
            raw = decoded(raw, headers.get("content-encoding", "").strip().lower())
            if scope["path"] == "/v1/messages" and scope["method"] == "POST":
                every_tool = headers.get(TOOLS_HEADER) == "all"
                await self.messages(raw, request_id, received_ns, receive, send, every_tool)
            else:
                await self.starlette(
                    {**scope, "request_id": request_id}, replay(raw), with_header(send, request_id)
                )
        except ApiError as error:
            await respond(send, error.status, error.body(request_id), request_id, error.headers)
        finally:
            self.active -= 1
            self.used_ns = clock.now_ns()

    def admit(self, headers: dict[str, str], path: str) -> None:
        """Key, version and lease, in this order."""
        given = (
            headers.get("x-api-key")
            or headers.get("authorization", "").removeprefix("Bearer ").strip()
        )
        if not given:
            raise ApiError(401, "x-api-key header is required")
        if not secrets.compare_digest(given.encode(), self.key.encode()):
            raise ApiError(401, "invalid x-api-key")
        if path.startswith("/v1/"):
            if "anthropic-version" not in headers:
                raise ApiError(400, "anthropic-version: header is required")
            # The holder's own requests are let in first: whether it lives need not be looked up.
            own = self.lease and headers.get("x-lab-lease") == self.lease["lease"]
            if not own and (lease := self.held()):
                raise ApiError(
                    529,
                    f"Overloaded: a measurement ({lease['holder']}) has this server for itself"
                    " until it ends.",
                )

    def held(self) -> dict[str, Any] | None:
        """The lease in force; it ends by its time, or with its holder's process."""
        if (lease := self.lease) and (
            lease["until_ns"] <= clock.now_ns()
            or lease["born"] is None
            or machine.born(lease["pid"]) != lease["born"]
        ):
            self.lease = None
        return self.lease

    def idle_s(self) -> float:
        """Seconds since the last request or lease; 0 while one is under way."""
        return (
            0.0
            if self.active or self.held() or self.batches.busy
            else (clock.now_ns() - self.used_ns) / 1e9
        )

    async def job(
        self, raw: bytes, received_ns: int, message_id: str, every_tool: bool = False
    ) -> tuple[Job, dict[str, Any], dict[str, Any]]:
        """A request that can be answered, the message that it begins with, and what else is told of
        it."""
        body = messages_api.parse(messages_api.Body, raw)
        asked, served = body.model, self.served(body.model)
        body = body.model_copy(update={"model": served})
        model_cards.refuse(body, self.engine.abilities)
        self.engine.check(body)
        counted = await self.engine.count(body)
        if counted.total > (most := self.engine.abilities.input_tokens):
            raise ApiError(400, f"prompt is too long: {counted.total} tokens > {most} maximum")
        plan = self.engine.ledger.plan(body, counted.ends, received_ns)
        usage = messages_api.usage_of(
            counted.total, plan.read_tokens, plan.created("5m"), plan.created("1h")
        )
        if body.speed:
            usage["speed"] = body.speed
        start = messages_api.message(
            message_id, served, usage, self.diagnose(body, counted.ends, message_id)
        )
        if body.context_management:
            start["context_management"] = {"applied_edits": []}
        told = {"asked_model": asked} if asked != served else {}
        if body.effort:
            told["effort"] = body.effort
        return Job(body, counted, plan, received_ns, raw, every_tool), start, told

    async def messages(
        self,
        raw: bytes,
        request_id: str,
        received_ns: int,
        receive: Callable,
        send: Callable,
        every_tool: bool,
    ) -> None:
        message_id = messages_api.new_id("msg")
        job, start, told = await self.job(raw, received_ns, message_id, every_tool)
        truth = {
            "request_id": request_id,
            "message_id": message_id,
            "received_ns": received_ns,
            "headers_ns": None,
            "events": [],
        }
        self.truths[request_id] = truth
        while len(self.truths) > KEPT_TRUTHS:
            self.truths.popitem(last=False)
        reply = (Streamed if job.body.stream else Whole)(send, request_id, truth, start, told)
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
            self.engine.ledger.release(job.plan)
        if isinstance(results[0], Exception):
            raise results[0]

    async def answer(self, params: dict[str, Any]) -> dict[str, Any]:
        """The message to one request of a batch."""
        sent: list[dict[str, Any]] = []

        async def send(event: dict[str, Any]) -> None:
            sent.append(event)

        job, start, told = await self.job(
            messages_api.canonical(params).encode(), clock.now_ns(), messages_api.new_id("msg")
        )
        start["usage"]["service_tier"] = "batch"
        try:
            await self.produce(job, Whole(send, "", {"events": []}, start, told))
        finally:
            self.engine.ledger.release(job.plan)
        if start["stop_reason"] is None:
            raise ApiError(500, "Internal server error")
        return start

    async def unleased(self) -> None:
        """A batch waits while a measurement has the server for itself."""
        while self.held():
            await clock.sleep_s(0.2)

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

    def served(self, model: Any) -> str:
        """The model that answers to a name."""
        if model in self.engine.names():
            return model
        if self.alias and isinstance(model, str) and model.startswith(model_cards.ALIASED):
            return self.engine.tiers["small" if "haiku" in model else "large"]
        raise ApiError(404, f"model: {model}")

    def diagnose(
        self, body: messages_api.Body, ends: list[int], message_id: str
    ) -> dict[str, Any] | None:
        """Where this prompt left the one of `diagnostics.previous_message_id`: the API's
        cache_miss_reason."""
        blocks = body.blocks()
        parts = [
            body.model,
            *(
                hashlib.sha256(
                    messages_api.canonical([b.value for b in blocks if b.section == s]).encode()
                ).hexdigest()
                for s in ("tools", "system")
            ),
        ]
        turns = [
            hashlib.sha256(messages_api.canonical([b.turn, b.role, b.value]).encode()).hexdigest()
            for b in blocks
            if b.section == "messages"
        ]
        self.fingerprints[message_id] = [*parts, *turns]
        while len(self.fingerprints) > KEPT_TRUTHS:
            self.fingerprints.popitem(last=False)
        if body.diagnostics is None or body.diagnostics.previous_message_id is None:
            return None
        before = self.fingerprints.get(body.diagnostics.previous_message_id)
        if before is None:
            return {"cache_miss_reason": {"type": "previous_message_not_found"}}
        for reason, old, new in zip(
            ("model_changed", "tools_changed", "system_changed"), before, parts, strict=False
        ):
            if old != new:
                return {
                    "cache_miss_reason": {"type": reason, "cache_missed_input_tokens": ends[-1]}
                }
        if before[3:] != turns[: len(before) - 3]:
            return {
                "cache_miss_reason": {
                    "type": "messages_changed",
                    "cache_missed_input_tokens": ends[-1],
                }
            }
        return None

    async def count_tokens(self, request: Request) -> Response:
        prompt = messages_api.parse(messages_api.Prompt, await request.body())
        prompt = prompt.model_copy(update={"model": self.served(prompt.model)})
        model_cards.refuse(prompt, self.engine.abilities)
        self.engine.check(prompt)
        total = (await self.engine.count(prompt)).total
        kept = (
            {"context_management": {"original_input_tokens": total}}
            if prompt.context_management
            else {}
        )
        return JSONResponse({"input_tokens": total, **kept})

    def card(self, name: str) -> dict[str, Any]:
        return model_cards.card(self.served(name), self.engine.abilities, name)

    async def models(self, request: Request) -> Response:
        return JSONResponse(
            model_cards.page(
                [self.card(name) for name in self.engine.names()], request.query_params
            )
        )

    async def model(self, request: Request) -> Response:
        return JSONResponse(self.card(request.path_params["name"]))

    async def batch_list(self, request: Request) -> Response:
        base = str(request.base_url).rstrip("/")
        if request.method == "POST":
            return JSONResponse(self.batches.create(await fields(request)).card(base))
        newest_first = [batch.card(base) for batch in reversed(self.batches.by_id.values())]
        return JSONResponse(model_cards.page(newest_first, request.query_params))

    async def batch(self, request: Request) -> Response:
        if request.method == "DELETE":
            return JSONResponse(self.batches.delete(request.path_params["id"]))
        return JSONResponse(
            self.batches.find(request.path_params["id"]).card(str(request.base_url).rstrip("/"))
        )

    async def batch_cancel(self, request: Request) -> Response:
        return JSONResponse(
            self.batches.cancel(request.path_params["id"]).card(str(request.base_url).rstrip("/"))
        )

    async def batch_results(self, request: Request) -> Response:
        return Response(
            self.batches.results(request.path_params["id"]), media_type="application/x-jsonl"
        )

    async def warm(self, request: Request) -> Response:
        """Load a model now, so that its loading never falls into a measured trial."""
        model = self.served((await fields(request)).get("model"))
        started_ns = clock.now_ns()
        await self.engine.warm(model)
        return JSONResponse({"model": model, "ms": (clock.now_ns() - started_ns) / 1e6})

    async def leases(self, request: Request) -> Response:
        """POST takes or renews, DELETE gives back; a lease names its holder, its process and its
        seconds.

        One that ran out on a busy machine is its holder's again, where nobody has taken another
        since.
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
            raise ApiError(
                400, "pid, seconds: a lease needs the holder's process id and a number of seconds"
            ) from None
        # A renewal is for the process that took the lease, whoever has its number by now.
        same = current if current and current["pid"] == pid else None
        lease = token or secrets.token_hex(16)
        until_ns = clock.now_ns() + round(seconds * 1e9)
        self.lease = {
            "lease": lease,
            "holder": str(terms.get("holder", "?")),
            "pid": pid,
            "born": same["born"] if same else machine.born(pid),
            "seconds": seconds,
            "until_ns": until_ns,
        }
        return JSONResponse({"lease": lease})

    async def truth(self, request: Request) -> Response:
        wanted = request.query_params.get("request_id")
        return JSONResponse(
            [truth for name, truth in self.truths.items() if wanted in (None, name)]
        )

    async def plays(self, request: Request) -> Response:
        if request.method == "DELETE":
            self.engine.plays.clear()
        else:
            self.engine.plays.extend(
                checked(list[Play], (await fields(request)).get("plays"), "plays")
            )
        return JSONResponse({"plays": len(self.engine.plays)})

    async def knobs(self, request: Request) -> Response:
        """PUT turns knobs; DELETE is a fresh start: default knobs, no plays, empty cache."""
        if request.method == "DELETE":
            self.engine.reset()
            self.batches.clear()
            self.truths.clear()
        elif request.method == "PUT":
            try:
                self.engine.turn(await fields(request))
            except ValidationError as error:
                raise ApiError(
                    400, sentence(error, lambda path: f"knobs.{path}", quoted=False)
                ) from None
        return JSONResponse(
            {"models": {name: self.engine.knobs(name).model_dump() for name in self.engine.names()}}
        )


class Whole:
    """A reply that is sent when it is complete."""

    def __init__(
        self,
        send: Callable,
        request_id: str,
        truth: dict[str, Any],
        message: dict[str, Any],
        told: dict[str, Any],
    ):
        self.send, self.request_id, self.truth, self.message, self.told = (
            send,
            request_id,
            truth,
            message,
            told,
        )
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
            self.message.update(
                stop_reason=piece.stop_reason,
                stop_sequence=piece.stop_sequence,
                lab={**piece.lab, **self.told},
            )
            self.truth["headers_ns"] = clock.now_ns()
            await respond(self.send, 200, self.message, self.request_id, served_by(self))
            self.truth["events"].append({"kind": "message", "at_ns": clock.now_ns()})

    async def fail(self, error: ApiError) -> bool:
        return False

    async def cut(self) -> None:
        """Promise more bytes than are sent: the server closes the connection under the client."""
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", b"1000"),
            (b"request-id", self.request_id.encode()),
        ]
        await self.send({"type": "http.response.start", "status": 200, "headers": headers})
        await self.send({"type": "http.response.body", "body": b'{"id":', "more_body": True})


class Streamed:
    """A reply whose every piece is written as it comes, and stamped as it is written."""

    def __init__(
        self,
        send: Callable,
        request_id: str,
        truth: dict[str, Any],
        message: dict[str, Any],
        told: dict[str, Any],
    ):
        self.send, self.request_id, self.truth, self.message, self.told = (
            send,
            request_id,
            truth,
            message,
            told,
        )
        self.index, self.pinged, self.begun = -1, False, False

    async def write(self, kind: str, **data: Any) -> None:
        payload = messages_api.event(kind, **data)
        self.truth["events"].append(
            {"kind": data.get("delta", {}).get("type") or kind, "at_ns": clock.now_ns()}
        )
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
                *((name.encode(), value.encode()) for name, value in served_by(self).items()),
            ]
            self.truth["headers_ns"] = clock.now_ns()
            await self.send({"type": "http.response.start", "status": 200, "headers": headers})
        elif isinstance(piece, Started):
            usage = {
                **self.message["usage"],
                "output_tokens": self.message["usage"]["output_tokens"] or 1,
            }
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
            counts = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
            usage = {name: self.message["usage"][name] for name in counts}
            usage.update(
                output_tokens=piece.output_tokens,
                output_tokens_details={"thinking_tokens": piece.thinking_tokens},
                **overrides(self.message),
            )
            delta = {
                "stop_reason": piece.stop_reason,
                "stop_sequence": piece.stop_sequence,
                "stop_details": None,
            }
            kept = (
                {"context_management": self.message["context_management"]}
                if "context_management" in self.message
                else {}
            )
            await self.write(
                "message_delta", delta=delta, usage=usage, **kept, lab={**piece.lab, **self.told}
            )
            if piece.message_stop:
                await self.write("message_stop")
            await self.send({"type": "http.response.body", "body": b"", "more_body": False})

    async def fail(self, error: ApiError) -> bool:
        """After the headers an error is an event; before, it is a reply of its own."""
        if self.begun:
            await self.write("error", error=error.body("")["error"], request_id=self.request_id)
            await self.send({"type": "http.response.body", "body": b"", "more_body": False})
        return self.begun

    async def cut(self) -> None:
        """Leaving the response unfinished makes the server drop the connection."""


def served_by(reply: Whole | Streamed) -> dict[str, str]:
    """The header by which a reply under another name's alias is told from that model's own."""
    return {"x-lab-model": reply.message["model"]} if "asked_model" in reply.told else {}


def overrides(message: dict[str, Any]) -> dict[str, Any]:
    """The output counts that a play has set before the reply ended."""
    return {"output_tokens": given} if (given := message["usage"]["output_tokens"]) else {}


def grow(block: dict[str, Any], delta: dict[str, str]) -> None:
    for name in ("text", "thinking", "signature"):
        if name in delta:
            block[name] += delta[name]


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


async def respond(
    send: Callable, status: int, value: Any, request_id: str, headers: dict[str, str] | None = None
) -> None:
    payload = json.dumps(value, ensure_ascii=False).encode()
    pairs = {
        "content-type": "application/json",
        "content-length": str(len(payload)),
        "request-id": request_id,
        **(headers or {}),
    }
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [(k.encode(), v.encode()) for k, v in pairs.items()],
        }
    )
    await send({"type": "http.response.body", "body": payload})


async def send_empty(send: Callable, status: int, headers: dict[str, str]) -> None:
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [(k.encode(), v.encode()) for k, v in headers.items()],
        }
    )
    await send({"type": "http.response.body", "body": b""})


async def fields(request: Request) -> dict[str, Any]:
    raw = await request.body()
    return messages_api.loaded(raw) if raw else {}


def checked(kind: Any, value: Any, name: str) -> Any:
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        raise ApiError(
            400, sentence(error, lambda path: f"{name}.{path}".rstrip("."), quoted=False)
        ) from None


async def no_batches(request: Request) -> Response:
    raise ApiError(
        404,
        f"The embedded model takes no batches; the simulated server does: {COMMAND} serve"
        " --simulated",
    )


async def no_route(request: Request, error: Exception) -> Response:
    status = getattr(error, "status_code", 404)
    return await refused(
        request,
        ApiError(
            status,
            f"{request.method} {request.url.path}:"
            f" {'Method Not Allowed' if status == 405 else 'Not Found'}",
        ),
    )


async def refused(request: Request, error: Exception) -> Response:
    return JSONResponse(error.body(request.scope["request_id"]), error.status, error.headers)
