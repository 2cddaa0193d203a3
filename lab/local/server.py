"""The HTTP side: routes, keys, leases, server-sent events, and the true instants at which every
event was written."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, Router

from lab import clock, machine
from lab.local import context_edits, messages_api, model_cards
from lab.local.batches import Batches
from lab.local.content import Content
from lab.local.engine import (
    Begun,
    Closed,
    Cut,
    Ended,
    Engine,
    Grew,
    Job,
    Opened,
    Piece,
    Started,
)
from lab.local.incoming_body import decoded, read
from lab.local.messages_api import ApiError
from lab.local.simulated import Play, Simulated
from lab.local.threads import Threads, Turn
from lab.local.tool_search import searched
from lab.local.whole_parameters import by_parameter
from lab.model import sentence
from lab.paths import COMMAND
from lab.version import VERSION

KEPT_TRUTHS = 2000
TOOLS_HEADER = "x-lab-tools"
"""With `all`, a reply under `auto` or `any` uses every tool that it is offered, once; otherwise
one."""


class Server:
    """One engine behind the API. Nothing but /health answers without the `key`. With `alias` a name
    of Claude's is answered by the small model (haiku) or the large one, whose name the message
    carries."""

    def __init__(self, engine: Engine, key: str, alias: bool = False):
        self.engine, self.key, self.alias = engine, key, alias
        self.truths: dict[str, dict[str, Any]] = {}
        self.fingerprints: dict[str, list[Any]] = {}
        self.lease: dict[str, Any] | None = None
        self.active, self.used_ns = 0, clock.now_ns()
        self.batches = Batches(self.answer, self.unleased)
        self.threads = Threads()
        routes = [
            route("/v1/messages/count_tokens", self.count_tokens, "POST"),
            route("/v1/models", self.models, "GET"),
            route("/v1/models/{name}", self.model, "GET"),
            route("/warm", self.warm, "POST"),
            route("/lease", self.leases, "POST", "DELETE"),
            route("/truth", self.truth, "GET"),
        ]
        batches = "/v1/messages/batches"
        if engine.abilities.batches:
            routes += [
                route(batches, self.batch_list, "GET", "POST"),
                route(batches + "/{id}", self.batch, "GET", "DELETE"),
                route(batches + "/{id}/cancel", self.batch_cancel, "POST"),
                route(batches + "/{id}/results", self.batch_results, "GET"),
            ]
        else:
            routes.append(route(batches + "{rest:path}", no_batches, "GET", "POST", "DELETE"))
        if isinstance(engine, Simulated):
            routes += [
                route("/plays", self.plays, "POST", "DELETE"),
                route("/knobs", self.knobs, "GET", "PUT", "DELETE"),
            ]
        self.router = Router(routes)

    async def __call__(self, scope: dict, receive: Callable, send: Callable) -> None:
        """ASGI: the message route is handled here without a framework between, the rest by
        Starlette's router."""
        if scope["type"] != "http":
            return
        method, path = scope["method"], scope["path"]
        request_id = messages_api.new_id("req")
        if method == "OPTIONS":
            allow = {"allow": "GET, HEAD, POST, PUT, DELETE, OPTIONS"}
            return await Response(status_code=204, headers=allow)(scope, receive, send)
        if path in ("/health", "/"):
            health = {"status": "ok", "kind": self.engine.kind, "version": VERSION}
            return await respond(send, health, request_id)
        headers = {
            name.decode("latin-1").lower(): value.decode("latin-1")
            for name, value in scope["headers"]
        }
        self.active += 1
        try:
            raw = await read(receive)
            received_ns = scope.get("received_ns") or clock.now_ns()
            self.admit(headers, path)
            raw = decoded(raw, headers.get("content-encoding", "").strip().lower())
            if path == "/v1/messages" and method == "POST":
                await self.messages(raw, headers, request_id, received_ns, receive, send)
            else:
                # With an `app` the router raises for what it has no route for.
                extra = {"app": self, "request_id": request_id, "body": raw}
                await self.router({**scope, **extra}, receive, send)
        except HTTPException as error:
            message = f"{method} {path}: {error.detail}"
            await refuse(send, ApiError(error.status_code, message), request_id)
        except ApiError as error:
            await refuse(send, error, request_id)
        finally:
            self.active -= 1
            self.used_ns = clock.now_ns()

    def admit(self, headers: dict[str, str], path: str) -> None:
        """Key, version and lease, in this order."""
        key = (
            headers.get("x-api-key")
            or headers.get("authorization", "").removeprefix("Bearer ").strip()
        )
        if not key:
            raise ApiError(401, "x-api-key header is required")
        if not secrets.compare_digest(key.encode(), self.key.encode()):
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
        """A request that can be answered, the message that it begins with, and its notes."""
        body, alias = self.prompt(messages_api.Body, raw)
        own, said = body.model, {}
        if isinstance(self.engine, Simulated):
            body, said = self.engine.instead(body)
        counted, edits = await self.engine.count(body), []
        if body.context_management:
            body, counted, edits = await context_edits.applied(body, counted, self.engine.count)
        if counted.total > (most := self.engine.abilities.input_tokens):
            raise ApiError(400, f"prompt is too long: {counted.total} tokens > {most} maximum")
        plan = self.engine.ledger.plan(body, counted.ends, received_ns)
        usage = plan.usage(counted.total)
        usage |= said
        if body.speed:
            usage["speed"] = body.speed
        start = messages_api.message(
            message_id, body.model, usage, self.diagnose(body, counted.ends, message_id)
        )
        if body.context_management:
            start["context_management"] = {"applied_edits": edits}
        # A stand-in is said; another in its place is what a silent fallback is.
        notes = {"asked_model": alias} if alias != own == body.model else {}
        if body.effort:
            notes["effort"] = body.effort
        return Job(body, counted, plan, received_ns, raw, every_tool), start, notes

    def prompt(self, kind: type[messages_api.Prompt], raw: bytes) -> tuple[Any, str]:
        """What the engine can honour, for the model that answers, and the name it was called by."""
        prompt = messages_api.parse(kind, raw)
        alias = prompt.model
        prompt = prompt.model_copy(update={"model": self.served(alias)})
        model_cards.refuse(prompt, self.engine.abilities)
        self.engine.check(prompt)
        return prompt, alias

    async def messages(
        self,
        raw: bytes,
        headers: dict[str, str],
        request_id: str,
        received_ns: int,
        receive: Callable,
        send: Callable,
    ) -> None:
        """A request by itself, or the turn of a thread that it is."""
        message_id = messages_api.new_id("msg")
        betas = headers.get("anthropic-beta", "")
        turn = self.threads.begin(raw, betas, received_ns)
        try:
            job, start, notes = await self.job(
                turn.raw if turn else raw,
                received_ns,
                message_id,
                headers.get(TOOLS_HEADER) == "all",
            )
            job.betas = frozenset(name.strip() for name in betas.split(","))
            truth = {
                "request_id": request_id,
                "message_id": message_id,
                "received_ns": received_ns,
                "headers_ns": None,
                "events": [],
                "served": {"model": job.body.model, "speed": job.body.speed or "standard"},
            }
            keep(self.truths, request_id, truth)
            reply = (Streamed if job.body.stream else Whole)(send, request_id, truth, start, notes)
            await self.work_out(job, reply, receive, turn)
        finally:
            if turn:
                self.threads.end(turn)

    async def work_out(
        self, job: Job, reply: Reply, receive: Callable, turn: Turn | None = None
    ) -> None:
        """Until it is answered, or nobody waits for it any more."""
        work = asyncio.create_task(self.produce(job, reply, turn))
        gone = asyncio.create_task(disconnected(receive))
        try:
            # A client that has gone away must free its slot at once, also in the middle of a stall.
            await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            work.cancel()
            gone.cancel()
            results = await asyncio.gather(work, gone, return_exceptions=True)
            self.engine.ledger.release(job.plan)
        if isinstance(results[0], Exception):
            raise results[0]

    async def answer(self, params: dict[str, Any]) -> dict[str, Any]:
        """The message to one request of a batch."""

        async def send(event: dict[str, Any]) -> None:
            """The message is read where it is put together."""

        job, start, notes = await self.job(
            messages_api.canonical(params).encode(), clock.now_ns(), messages_api.new_id("msg")
        )
        start["usage"]["service_tier"] = "batch"
        try:
            await self.produce(job, Whole(send, "", {"events": []}, start, notes))
        finally:
            self.engine.ledger.release(job.plan)
        if start["stop_reason"] is None:
            raise ApiError(500, "Internal server error")
        return start

    async def unleased(self) -> None:
        """A batch waits while a measurement has the server for itself."""
        while self.held():
            await clock.sleep_s(0.2)

    async def produce(self, job: Job, reply: Reply, turn: Turn | None = None) -> None:
        try:
            answer = searched(by_parameter(self.engine.answer(job), job.body), job.body)
            async with aclosing(answer) as pieces:
                async for piece in pieces:
                    if isinstance(piece, Begun):
                        self.engine.ledger.commit(job.plan, piece.snapshots)
                        reply.message["usage"].update(piece.usage)
                    if turn:
                        self.hold(turn, piece, reply.message)
                    await reply.take(piece)
        except Cut:
            await reply.cut()
        except ApiError as error:
            if not await reply.fail(error):
                raise
        except Exception as error:
            if not await reply.fail(wrapped := ApiError(500, f"Internal server error: {error}")):
                raise wrapped from error

    def hold(self, turn: Turn, piece: Piece, message: dict[str, Any]) -> None:
        """Keep a thread's turn once its reply is whole, before the client hears of its end."""
        turn.content.take(piece)
        if isinstance(piece, Ended):
            lost = isinstance(self.engine, Simulated) and self.engine.loses(message["model"])
            self.threads.keep(turn, message["id"], clock.now_ns(), lost)

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
        whole = [
            digest([block.value for block in blocks if block.section == section])
            for section in ("tools", "system")
        ]
        turns = [
            digest([block.turn, block.role, block.value])
            for block in blocks
            if block.section == "messages"
        ]
        keep(self.fingerprints, message_id, [body.model, *whole, turns])
        previous = body.diagnostics and body.diagnostics.previous_message_id
        if previous is None:
            return None
        before = self.fingerprints.get(previous)
        if before is None:
            return {"cache_miss_reason": {"type": "previous_message_not_found"}}
        now = [body.model, *whole, turns[: len(before[-1])]]
        parts = ("model", "tools", "system", "messages")
        for part, old, new in zip(parts, before, now, strict=True):
            if old != new:
                missed = {"type": f"{part}_changed", "cache_missed_input_tokens": ends[-1]}
                return {"cache_miss_reason": missed}
        return None

    async def count_tokens(self, request: Request) -> dict[str, Any]:
        prompt, _ = self.prompt(messages_api.Prompt, request.scope["body"])
        counted = await self.engine.count(prompt)
        if not prompt.context_management:
            return {"input_tokens": counted.total}
        edited = await context_edits.applied(prompt, counted, self.engine.count)
        return {
            "input_tokens": edited.counted.total,
            "context_management": {"original_input_tokens": counted.total},
        }

    def card(self, name: str) -> dict[str, Any]:
        return model_cards.card(self.served(name), self.engine.abilities, name)

    async def models(self, request: Request) -> dict[str, Any]:
        cards = [self.card(name) for name in self.engine.names()]
        return model_cards.page(cards, request.query_params)

    async def model(self, request: Request) -> dict[str, Any]:
        return self.card(request.path_params["name"])

    async def batch_list(self, request: Request) -> dict[str, Any]:
        if request.method == "POST":
            return self.batches.create(request.scope["body"]).card(base_url(request))
        newest_first = reversed(self.batches.by_id.values())
        cards = [batch.card(base_url(request)) for batch in newest_first]
        return model_cards.page(cards, request.query_params)

    async def batch(self, request: Request) -> dict[str, Any]:
        id = request.path_params["id"]
        if request.method == "DELETE":
            return self.batches.delete(id)
        return self.batches.find(id).card(base_url(request))

    async def batch_cancel(self, request: Request) -> dict[str, Any]:
        return self.batches.cancel(request.path_params["id"]).card(base_url(request))

    async def batch_results(self, request: Request) -> str:
        return self.batches.results(request.path_params["id"])

    async def warm(self, request: Request) -> dict[str, Any]:
        """Load a model now, so that its loading never falls into a measured trial."""
        model = self.served(fields(request).get("model"))
        started_ns = clock.now_ns()
        await self.engine.warm(model)
        return {"model": model, "ms": (clock.now_ns() - started_ns) / 1e6}

    async def leases(self, request: Request) -> dict[str, Any]:
        """POST takes or renews, DELETE gives back. A lease that ran out on a busy machine is its
        holder's again, where nobody has taken another since."""
        changes = fields(request)
        token = request.headers.get("x-lab-lease") or changes.get("lease")
        current = self.held()
        if current and token != current["lease"]:
            raise ApiError(409, f"A measurement ({current['holder']}) holds the lease.")
        if request.method == "DELETE":
            self.lease = None
            return {"lease": None}
        terms = {**(current or {}), **changes}
        try:
            pid, seconds = int(terms["pid"]), float(terms.get("seconds", 60))
        except (KeyError, TypeError, ValueError):
            raise ApiError(
                400, "pid, seconds: a lease needs the holder's process id and a number of seconds"
            ) from None
        lease = token or secrets.token_hex(16)
        # A renewal is for the process that took the lease, whoever has its number by now.
        renewed = current and current["pid"] == pid
        self.lease = {
            "lease": lease,
            "holder": str(terms.get("holder", "?")),
            "pid": pid,
            "born": current["born"] if renewed else machine.born(pid),
            "seconds": seconds,
            "until_ns": clock.now_ns() + round(seconds * 1e9),
        }
        return {"lease": lease}

    async def truth(self, request: Request) -> list[dict[str, Any]]:
        request_id = request.query_params.get("request_id")
        return [truth for name, truth in self.truths.items() if request_id in (None, name)]

    async def plays(self, request: Request) -> dict[str, Any]:
        if request.method == "DELETE":
            self.engine.plays.clear()
        else:
            with refusing("plays"):
                plays = TypeAdapter(list[Play]).validate_python(fields(request).get("plays"))
            self.engine.plays.extend(plays)
        return {"plays": len(self.engine.plays)}

    async def knobs(self, request: Request) -> dict[str, Any]:
        """PUT turns knobs; DELETE is a fresh start: default knobs, no plays, empty cache."""
        if request.method == "DELETE":
            self.engine.reset()
            self.batches.clear()
            self.threads.clear()
            self.truths.clear()
        elif request.method == "PUT":
            with refusing("knobs"):
                self.engine.turn(fields(request))
        names = self.engine.names()
        return {"models": {name: self.engine.knobs(name).model_dump() for name in names}}


@dataclass
class Reply:
    """`message` grows with the engine's pieces, `truth` says when each was written, `notes` go out
    in the message's field `lab`."""

    send: Callable
    request_id: str
    truth: dict[str, Any]
    message: dict[str, Any]
    notes: dict[str, Any]

    async def begin(self, headers: dict[str, str]) -> None:
        headers = {**headers, "request-id": self.request_id}
        pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
        await self.send({"type": "http.response.start", "status": 200, "headers": pairs})

    async def write_bytes(self, body: bytes, more: bool = True) -> None:
        await self.send({"type": "http.response.body", "body": body, "more_body": more})

    def served_by(self) -> dict[str, str]:
        """The header by which a reply under another name's alias is told from that model's own."""
        return {"x-lab-model": self.message["model"]} if "asked_model" in self.notes else {}

    def output(self, ended: Ended) -> dict[str, Any]:
        """Counts of the reply; what a play has set for its usage goes before what was written."""
        return {
            "output_tokens": self.message["usage"]["output_tokens"] or ended.output_tokens,
            "output_tokens_details": {"thinking_tokens": ended.thinking_tokens},
        }


class Whole(Reply):
    """A reply that is sent when it is complete."""

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        self.content = Content(self.message["content"])

    async def take(self, piece: Piece) -> None:
        self.content.take(piece)
        if isinstance(piece, Ended):
            self.message["usage"].update(self.output(piece))
            self.message.update(
                stop_reason=piece.stop_reason,
                stop_sequence=piece.stop_sequence,
                lab={**piece.lab, **self.notes},
            )
            self.truth["headers_ns"] = clock.now_ns()
            await respond(self.send, self.message, self.request_id, self.served_by())
            self.truth["events"].append({"kind": "message", "at_ns": clock.now_ns()})

    async def fail(self, error: ApiError) -> bool:
        return False

    async def cut(self) -> None:
        """Promise more bytes than are sent: the server closes the connection under the client."""
        await self.begin({"content-type": "application/json", "content-length": "1000"})
        await self.write_bytes(b'{"id":')


class Streamed(Reply):
    """A reply whose every piece is written as it comes, and stamped as it is written."""

    index, pinged, begun = -1, False, False

    async def write(self, kind: str, **data: Any) -> None:
        payload = messages_api.event(kind, **data)
        self.truth["events"].append(
            {"kind": data.get("delta", {}).get("type") or kind, "at_ns": clock.now_ns()}
        )
        await self.write_bytes(payload)

    async def take(self, piece: Piece) -> None:
        match piece:
            case Grew(delta):
                await self.write("content_block_delta", index=self.index, delta=delta)
            case Begun():
                self.begun = True
                headers = {
                    "content-type": "text/event-stream; charset=utf-8",
                    "cache-control": "no-cache",
                }
                self.truth["headers_ns"] = clock.now_ns()
                await self.begin({**headers, **self.served_by()})
            case Started():
                usage = self.message["usage"]
                usage = {**usage, "output_tokens": usage["output_tokens"] or 1}
                await self.write("message_start", message={**self.message, "usage": usage})
            case Opened(block):
                self.index += 1
                await self.write("content_block_start", index=self.index, content_block=block)
                if not self.pinged:
                    self.pinged = True
                    await self.write("ping")
            case Closed():
                await self.write("content_block_stop", index=self.index)
            case Ended():
                await self.end(piece)

    async def end(self, ended: Ended) -> None:
        counts = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
        event = {
            "delta": {
                "stop_reason": ended.stop_reason,
                "stop_sequence": ended.stop_sequence,
                "stop_details": None,
            },
            "usage": {name: self.message["usage"][name] for name in counts} | self.output(ended),
        }
        if "context_management" in self.message:
            event["context_management"] = self.message["context_management"]
        await self.write("message_delta", **event, lab={**ended.lab, **self.notes})
        if ended.message_stop:
            await self.write("message_stop")
        await self.write_bytes(b"", more=False)

    async def fail(self, error: ApiError) -> bool:
        """After the headers an error is an event; before, it is a reply of its own."""
        if self.begun:
            await self.write("error", error=error.body("")["error"], request_id=self.request_id)
            await self.write_bytes(b"", more=False)
        return self.begun

    async def cut(self) -> None:
        """Leaving the response unfinished makes the server drop the connection."""


async def disconnected(receive: Callable) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def route(path: str, work: Callable[[Request], Awaitable[Any]], *methods: str) -> Route:
    """`work` gives what goes out as JSON, or the text of JSON lines."""

    async def endpoint(request: Request) -> Response:
        value = await work(request)
        headers = {"request-id": request.scope["request_id"]}
        if isinstance(value, str):
            return Response(value, headers=headers, media_type="application/x-jsonl")
        return JSONResponse(value, headers=headers)

    return Route(path, endpoint, methods=methods)


async def respond(
    send: Callable,
    value: Any,
    request_id: str,
    headers: dict[str, str] | None = None,
    status: int = 200,
) -> None:
    reply = JSONResponse(value, status, {"request-id": request_id, **(headers or {})})
    await reply({"type": "http"}, None, send)


async def refuse(send: Callable, error: ApiError, request_id: str) -> None:
    await respond(send, error.body(request_id), request_id, error.headers, error.status)


def fields(request: Request) -> dict[str, Any]:
    raw = request.scope["body"]
    return messages_api.loaded(raw) if raw else {}


def base_url(request: Request) -> str:
    return str(request.base_url).rstrip("/")


def keep(latest: dict[str, Any], name: str, value: Any) -> None:
    latest[name] = value
    while len(latest) > KEPT_TRUTHS:
        del latest[next(iter(latest))]


def digest(value: Any) -> str:
    return hashlib.sha256(messages_api.canonical(value).encode()).hexdigest()


@contextmanager
def refusing(name: str) -> Iterator[None]:
    """A wrong value below `name` is the API's 400."""
    try:
        yield
    except ValidationError as error:
        message = sentence(error, lambda path: f"{name}.{path}".rstrip("."), quoted=False)
        raise ApiError(400, message) from None


async def no_batches(request: Request) -> None:
    raise ApiError(
        404,
        f"The embedded model takes no batches; the simulated server does: {COMMAND} serve"
        " --simulated",
    )
