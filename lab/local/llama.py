"""The embedded model: llama.cpp in this process, its slots owned by the cache ledger.

llama.cpp reuses prompts by a logic of its own, which is not what the API promises. So every request
names its slot, a prompt without a cache hit is read with cache_prompt off, a write saves the slot's
state behind the prefix to a file, and a read restores that file into whichever slot is free.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shutil
import tempfile
import threading
from collections import OrderedDict
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from pathlib import Path
from typing import Any

import httpx2

from lab import clock, endpoint_kinds, json_schema, machine
from lab.local import model_files
from lab.local.engine import (
    Abilities,
    Begun,
    Closed,
    Counted,
    Ended,
    Grew,
    Job,
    Opened,
    Piece,
    Started,
    text_block,
    timings,
    tool_block,
)
from lab.local.ledger import Ledger
from lab.local.messages_api import ApiError, Prompt
from lab.local.prompt import MARK, Stopper, begun_call, chat, tool_call

SLOTS = 4
CONTEXT = 8192  # tokens a slot, all that the model was trained for; 23 KB each in memory
SNAPSHOT_BYTES = 2**30
SNAPSHOTS = "lab-snapshots-"
KEPT_SEGMENTS = 1024
ANSWER_TEXT = 160  # the longest string in a structured reply, in characters


class Llama:
    """The small model is loaded at start; the others at their first use, or by warm()."""

    kind = endpoint_kinds.LOCAL
    tiers: dict[str, str] = {"small": model_files.SMALL, "large": model_files.LARGE}  # noqa: RUF012
    abilities = Abilities(input_tokens=CONTEXT - 1, output_tokens=CONTEXT - 1)

    def __init__(self, minimum_tokens: int = 256):
        path = model_files.model_path(model_files.SMALL)
        model_files.verify(path)
        self.folder = snapshot_folder()
        self.ledger = Ledger(
            minimum_tokens, SNAPSHOT_BYTES, lambda snapshot: snapshot.unlink(missing_ok=True)
        )
        self.loading: dict[str, asyncio.Lock] = {}
        self.loaded = {model_files.SMALL: Loaded(path, self.folder)}

    def names(self) -> list[str]:
        return model_files.names()

    async def warm(self, model: str) -> None:
        """Load the model and read a few tokens with it: the first request sets nothing up."""
        loaded = await self.load(model)
        slot = await loaded.free.get()
        try:
            tokens = await loaded.tokens("Hello", True)
            request = {"prompt": tokens, "n_predict": 2, "id_slot": slot, "cache_prompt": False}
            await loaded.final(request)
        finally:
            loaded.free.put_nowait(slot)

    async def load(self, model: str) -> Loaded:
        async with self.loading.setdefault(model, asyncio.Lock()):
            if model not in self.loaded:
                path = await asyncio.to_thread(model_files.model_path, model)
                self.loaded[model] = await asyncio.to_thread(Loaded, path, self.folder)
        return self.loaded[model]

    def check(self, prompt: Prompt) -> None:
        prompt.check_schemas(json_schema.short)

    async def count(self, prompt: Prompt) -> Counted:
        """Tokens by segments between block ends: a prefix has the same ones whatever follows."""
        loaded = await self.load(prompt.model)
        template = "messages: this model's chat template"
        try:
            rendered = await loaded.post("/apply-template", {"messages": chat(prompt)})
        except ApiError as error:
            message = f"{template} refuses the conversation ({error.message})"
            raise ApiError(400, message) from None
        segments = rendered["prompt"].split(MARK)
        if len(segments) != len(prompt.blocks()) + 1:
            raise ApiError(400, f"{template} leaves out part of the conversation")
        tokens, ends = [], []
        for index, segment in enumerate(segments):
            tokens += await loaded.tokens(segment, index == 0)
            ends.append(len(tokens))
        return Counted(ends[:-1], len(tokens), tokens)

    async def answer(self, job: Job) -> AsyncIterator[Piece]:
        loaded = await self.load(job.body.model)
        slot = await loaded.free.get()
        turn = Answer(job, loaded, slot, self.folder)
        try:
            async with aclosing(turn.pieces()) as pieces:
                async for piece in pieces:
                    yield piece
        finally:
            loaded.free.put_nowait(slot)
            for path, _ in turn.snapshots if not turn.begun_ns else []:
                path.unlink(missing_ok=True)

    def close(self) -> None:
        self.loaded.clear()
        shutil.rmtree(self.folder, ignore_errors=True)


def snapshot_folder() -> Path:
    """A private folder, named after this process; those that killed processes left behind go."""
    for left in Path(tempfile.gettempdir()).glob(f"{SNAPSHOTS}*-*-*"):
        pid = left.name.removeprefix(SNAPSHOTS).partition("-")[0]
        with contextlib.suppress(OSError):
            own = pid.isdigit() and left.stat().st_uid == os.getuid()
            if own and not left.name.startswith(_owned_by(int(pid))):
                shutil.rmtree(left, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=_owned_by(os.getpid())))


def _owned_by(pid: int) -> str:
    return f"{SNAPSHOTS}{pid}-{machine.born(pid)}-".replace(" ", "_")


class Answer:
    """One request in its slot."""

    def __init__(self, job: Job, loaded: Loaded, slot: int, folder: Path):
        self.job, self.loaded, self.slot, self.folder = job, loaded, slot, folder
        self.granted_ns, self.begun_ns = clock.now_ns(), 0
        self.snapshots: list[tuple[Path, int]] = []
        self.reuse, self.physical = False, None
        self.left = min(job.body.max_tokens, CONTEXT - job.counted.total)
        self.output = 0

    async def pieces(self) -> AsyncIterator[Piece]:
        body, tokens = self.job.body, self.job.counted.tokens
        await self.prepare()
        if body.max_tokens == 0:
            if not self.snapshots:
                self.note(await self.loaded.final(self.request(tokens, n_predict=0)))
            yield self.begin()
            yield self.end("max_tokens", None)
            return
        due = body.tools_due(self.job.every_tool)
        stop, stopper = "end_turn", Stopper(body.stop_sequences)
        calls = ""
        for tool in due:
            prompt = tokens + await self.loaded.tokens(calls + begun_call(tool.name), False)
            form = json_schema.short(tool.input_schema, bool(tool.strict))
            arguments = ""
            generated = self.generate(prompt, tool_block(tool.name), form, Stopper([]))
            async with aclosing(generated) as pieces:
                async for piece in pieces:
                    if isinstance(piece, Grew):
                        arguments += piece.delta["partial_json"]
                    yield piece
            calls += tool_call(tool.name, arguments)
            if self.finish != "end_turn":
                stop = self.finish
                break
            stop = "tool_use"
            if self.left <= 0 and tool is not due[-1]:
                stop = "max_tokens"
                break
        if not due:
            form = None
            if body.json_schema is not None:
                form = json_schema.short(body.json_schema, True, ANSWER_TEXT)
            async with aclosing(self.generate(tokens, text_block(), form, stopper)) as pieces:
                async for piece in pieces:
                    yield piece
            stop = "stop_sequence" if stopper.found else self.finish
        yield self.end(stop, stopper.found)

    async def prepare(self) -> None:
        """Restore what the ledger says can be read, then read and save each prefix that is to be
        written."""
        plan, tokens = self.job.plan, self.job.counted.tokens
        if plan.read:
            self.reuse = await self.loaded.slot_action(self.slot, "restore", plan.read.snapshot)
        for write in plan.writes:
            self.note(await self.loaded.final(self.request(tokens[: write.tokens], n_predict=0)))
            self.reuse = True
            path = self.folder / f"{secrets.token_hex(16)}.bin"
            if not await self.loaded.slot_action(self.slot, "save", path):
                raise ApiError(500, "The prefix could not be saved; is the temporary folder full?")
            self.snapshots.append((path, path.stat().st_size))

    async def generate(
        self, tokens: list[int], block: Opened, form: dict[str, Any] | None, stopper: Stopper
    ) -> AsyncIterator[Piece]:
        """Stream one content block; sets `finish` to the stop reason that its end means."""
        limit = self.left
        seed = self.job.body.seed() & 0x7FFFFFFF
        request = self.request(tokens, n_predict=limit, stream=True, seed=seed)
        if form is not None:
            request["json_schema"] = form
        opened, made, self.finish = False, 0, "end_turn"
        async with aclosing(self.loaded.stream(request)) as chunks:
            async for chunk in chunks:
                self.note(chunk)
                if not self.begun_ns:
                    yield self.begin()
                    yield Started()
                if not opened:
                    opened = True
                    yield block
                choice = chunk["choices"][0] if chunk.get("choices") else {}
                made += 1 if choice.get("finish_reason") is None else 0
                if text := stopper.feed(choice.get("text") or ""):
                    yield block.grown(text)
                if stopper.found:
                    break
                if choice.get("finish_reason") == "length":
                    room = CONTEXT - len(tokens)
                    ours = limit < room or limit == self.job.body.max_tokens
                    self.finish = "max_tokens" if ours else "model_context_window_exceeded"
                if times := chunk.get("timings"):
                    made = times["predicted_n"]
        if rest := stopper.rest():
            yield block.grown(rest)
        yield Closed()
        self.reuse = True  # the next tool call of this reply goes on from what this slot holds
        self.left -= made
        self.output += made

    def request(self, tokens: list[int], **fields: Any) -> dict[str, Any]:
        body = self.job.body
        if body.top_k is not None:
            fields["top_k"] = min(body.top_k, 2**31 - 1)
        return {
            "prompt": tokens,
            "id_slot": self.slot,
            "cache_prompt": self.reuse,
            # The values its makers advise: at the API's 1.0 a model of this size rambles.
            "temperature": 0.2 if body.temperature is None else body.temperature,
            "top_p": 0.9 if body.top_p is None else body.top_p,
            **fields,
        }

    def note(self, chunk: dict[str, Any]) -> None:
        """What the first reading found in the slot counts: all later hits are its own work."""
        if self.physical is None and (times := chunk.get("timings")):
            self.physical = times["cache_n"]

    def begin(self) -> Begun:
        self.begun_ns = clock.now_ns()
        return Begun(self.snapshots)

    def end(self, stop: str, stop_sequence: str | None) -> Ended:
        lab = timings(
            (self.granted_ns - self.job.received_ns) / 1e6,
            (self.begun_ns - self.granted_ns) / 1e6,
            (clock.now_ns() - self.begun_ns) / 1e6,
            self.physical or 0,
        )
        return Ended(stop, self.output, lab, stop_sequence)


class Loaded:
    """One model in llama.cpp; only its own HTTP port renders templates, makes tokens, and saves and
    restores slots."""

    def __init__(self, path: Path, folder: Path):
        from xllamacpp import CommonParams, Server

        key = secrets.token_urlsafe(24)
        params = CommonParams()
        params.model.path = str(path)
        params.n_parallel, params.n_ctx = SLOTS, SLOTS * CONTEXT
        params.cache_ram_mib, params.cache_idle_slots, params.n_ctx_checkpoints = 0, False, 0
        params.slot_save_path, params.api_keys = f"{folder}{os.sep}", [key]
        # Different numbers would let a batch of requests use more cores than one alone: a gain that
        # is not there.
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = machine.physical_cores()
        params.verbosity, params.ui = 0, False
        self.server = Server(params)
        self.http = httpx2.AsyncClient(
            base_url=self.server.listening_address,
            headers={"authorization": f"Bearer {key}"},
            timeout=60,
        )
        self.free: asyncio.Queue[int] = asyncio.Queue()
        for slot in range(SLOTS):
            self.free.put_nowait(slot)
        self.threads = ThreadPoolExecutor(SLOTS)
        self.segments: OrderedDict[tuple[str, bool], list[int]] = OrderedDict()

    async def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        reply = await self.http.post(path, json=body)
        value = reply.json()
        if reply.status_code >= 400:
            raise failure(value)
        return value

    async def tokens(self, text: str, first: bool) -> list[int]:
        """Token ids of a piece of the prompt; only the first gets the model's own beginning."""
        if not text:
            return []
        if (text, first) not in self.segments:
            body = {"content": text, "add_special": first, "parse_special": True}
            self.segments[text, first] = (await self.post("/tokenize", body))["tokens"]
            if len(self.segments) > KEPT_SEGMENTS:
                self.segments.popitem(last=False)
        return self.segments[text, first]

    async def slot_action(self, slot: int, action: str, snapshot: Path) -> bool:
        """Save or restore a slot's state; False where llama.cpp could not."""
        try:
            await self.post(f"/slots/{slot}?action={action}", {"filename": snapshot.name})
        except ApiError:
            return False
        return True

    async def final(self, request: dict[str, Any]) -> dict[str, Any]:
        """The last chunk of a completion that does not stream."""
        chunks = [chunk async for chunk in self.stream({**request, "stream": False})]
        return chunks[-1] if chunks else {}

    async def stream(self, request: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        """Run a completion on a thread and yield its chunks; leaving early ends it at its next
        token."""
        loop, arrived, left = asyncio.get_running_loop(), asyncio.Queue(), threading.Event()

        def on_chunk(chunk: dict[str, Any]) -> bool:
            loop.call_soon_threadsafe(arrived.put_nowait, chunk)
            return left.is_set()

        work = loop.run_in_executor(self.threads, self.server.handle_completions, request, on_chunk)
        work.add_done_callback(lambda _: arrived.put_nowait(None))
        try:
            while (chunk := await arrived.get()) is not None:
                if "error" in chunk or "code" in chunk:
                    raise failure(chunk)
                yield chunk
            work.result()
        finally:
            left.set()
            # The slot may be given away only once llama.cpp has let go of it.
            await asyncio.wait({work})


def failure(value: dict[str, Any]) -> ApiError:
    """llama.cpp's error as the API's."""
    error = value.get("error", value)
    if not isinstance(error, dict):
        error = {"message": str(error)}
    status = 400 if error.get("code") == 400 else 500
    return ApiError(status, str(error.get("message", "llama.cpp gave no reason")))
