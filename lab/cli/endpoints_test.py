"""`endpoints test NAME`: a few tiny calls that tell what an endpoint supports, why not, and what
they cost."""

import asyncio
import contextlib
import json
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, NamedTuple

import anthropic
import httpx2

from lab import clock, endpoint_kinds, pricing, scrub, units
from lab.cli import DONE, FAILED, print_json
from lab.clock import now_ns
from lab.endpoints import ask_models, caching_modes, failure_causes, model_facts, registry
from lab.endpoints.client import open_client
from lab.endpoints.registry import Endpoint
from lab.harness.session import LoopLag
from lab.instrumentation import parsing
from lab.instrumentation.stamps import OBSERVER, Exchange
from lab.model import LabError
from lab.paths import COMMAND
from lab.stats import bursts

ASK = "Reply with the word ready."
LONG_ASK = "Count from 1 to 60 in words, one number after the other."
LONG_TOKENS = 160
"""Enough pieces for a buffer to show."""
LATER_NS = 100_000_000
"""A first piece that comes this much later for a longer answer has waited for the answer's end."""
MORE_WORDS = 200
"""Each a token of its own, whatever the tokenizer."""
CHECK_S = 60
"""A check ends then, however slowly its answer still arrives."""
SEEN_CHARACTERS = 400
PREFIX_WORDS = (500, 5_000)
"""The second is longer than every published minimum of a cacheable prefix; servers without one
need not read that much."""
NOISE_TOKENS = 64
"""This much of a prompt may be read or not without meaning anything: a template, a block that was
not full."""
SCHEMA = {
    "type": "object",
    "properties": {"ready": {"type": "boolean"}},
    "required": ["ready"],
    "additionalProperties": False,
}
TOOL = {
    "name": "clock",
    "description": "Tells the time in a city.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}},
}


class No(Exception):
    """Its text is why not, with the next step."""


class Used(NamedTuple):
    fresh: int
    written: int
    read: int

    @property
    def prompt(self) -> int:
        return sum(self)


def run(name: str | None, model: str | None, as_json: bool) -> int:
    if not name:
        raise LabError(
            f"Which endpoint? {COMMAND} endpoints test NAME, with one of"
            f" {', '.join(registry.names())} or a base URL."
        )
    endpoint = registry.connect(registry.find(name, {"any": model} if model else None))
    probe = Probe(endpoint, endpoint.model_for("small"))
    checks = asyncio.run(probe.checks())
    costs = [cost for cost in map(probe.cost, probe.usages) if cost is not None]
    cost_usd, calls = sum(costs) if costs else None, len(probe.usages)
    if as_json:
        print_json(
            endpoint=endpoint.name,
            endpoint_kind=endpoint.kind,
            model=probe.model,
            checks=checks,
            calls=calls,
            cost_usd=cost_usd,
        )
    else:
        print(f"{endpoint.name} ({endpoint.kind}) with {probe.model}")
        for row in checks:
            print(f"  {'yes' if row['supported'] else 'no ':<4} {row['check']:<18} {row['seen']}")
        money = "no price known" if cost_usd is None else units.usd(cost_usd)
        print(f"  cost: {money} for {calls} calls")
    return DONE if any(row["supported"] for row in checks) else FAILED


class Probe:
    """Asks as the bench does, so that what it sees is what a run would see."""

    def __init__(self, endpoint: Endpoint, model: str) -> None:
        self.endpoint, self.model = endpoint, model
        self.usages: list[dict[str, Any]] = []
        """One for each call that was answered."""
        self.lag = LoopLag()
        self.is_priced = endpoint_kinds.kind(endpoint.kind).priced

    def cost(self, usage: dict[str, Any]) -> float | None:
        try:
            return pricing.cost_usd(self.model, usage, clock.today())
        except (ArithmeticError, LookupError, TypeError, ValueError):  # counts that are no numbers
            return None

    async def checks(self) -> list[dict[str, Any]]:
        self.client, rows = open_client(self.endpoint, timeout_s=CHECK_S), []
        self.lag.start()
        attempts: dict[str, Callable[[], Awaitable[str]]] = {
            "usage": self.usage,
            "token counts": self.token_counts,
            "streaming": self.streaming,
            "caching": self.caching,
            "structured output": self.structured,
            "tools": self.tools,
            "models": self.cards,
        }
        try:
            for name, attempt in attempts.items():
                supported = False
                try:
                    async with asyncio.timeout(CHECK_S):
                        seen, supported = await attempt(), True
                except No as why:
                    seen = str(why)
                except TimeoutError:
                    seen = f"It took longer than {CHECK_S} s. Try a faster model: --model NAME."
                # Whatever an unknown server answers is what was asked for, not a fault of the lab.
                except Exception as error:
                    seen = f"{type(error).__name__}: {error!s:.2000}"
                seen = scrub.text(" ".join(seen.split()), SEEN_CHARACTERS)
                rows.append({"check": name, "supported": supported, "seen": seen})
                # Not even a plain answer: a wrong key or address fails everything else alike.
                if not self.usages:
                    break
        finally:
            self.lag.stop()
            await self.client.close()
        return rows

    async def ask(self, text: str = ASK, **more: Any) -> tuple[parsing.Reading, Exchange]:
        """Raises No where there is no answer."""
        body = {
            "model": self.model,
            "max_tokens": 16,
            "messages": [{"role": "user", "content": text}],
            **more,
        }
        if quiet := self.endpoint.thinking_off(self.model):
            body["thinking"] = quiet
        exchange, reading, failure = await self._post(self.client, body)
        # Closed just as it was used again: as in a run, a new one will do.
        if exchange and exchange.status is None and exchange.reused:
            exchange, reading, failure = await self._post(self.client, body)
        if exchange is None or reading.error_kind:
            words = failure_causes.cause(self.endpoint, exchange, reading, failure)
            raise No(words + await self._elsewhere(exchange, reading, body))
        self.usages.append(reading.usage)
        return reading, exchange

    @staticmethod
    async def _post(
        client: Any, body: dict[str, Any]
    ) -> tuple[Exchange | None, parsing.Reading, BaseException | None]:
        exchanges: list[Exchange] = []
        token, failure = OBSERVER.set(exchanges.append), None
        try:
            response = await client.post(
                "/v1/messages",
                cast_to=httpx2.Response,
                body=body,
                stream=True,
                stream_cls=anthropic.AsyncStream,
            )
            try:
                async for _ in response.aiter_raw():
                    pass
            finally:
                await response.aclose()
        except (anthropic.APIError, httpx2.TransportError, httpx2.StreamError) as error:
            failure = error
        finally:
            OBSERVER.reset(token)
            if exchanges:
                exchanges[0].close(now_ns(), failure)
        if not exchanges:
            return None, parsing.unanswered(failure), failure
        return exchanges[0], parsing.read(exchanges[0]), failure

    async def _elsewhere(
        self, exchange: Exchange | None, reading: parsing.Reading, body: dict[str, Any]
    ) -> str:
        """At the first failure, by status: which models there are, or which other path of the same
        origin answers."""
        if exchange is None or self.usages:
            return ""
        if exchange.status in (400, 404) and failure_causes.names_a_model(reading):
            with contextlib.suppress(Exception):
                page = await self.client.models.list(limit=5)
                return f" It has {', '.join(model.id for model in page.data[:5])}."
        elif exchange.status in (200, 404, 405):
            for url in _other_paths(self.endpoint.base_url):
                other, words, _ = await self._post(self.client.copy(base_url=url), body)
                if other and other.status == 200 and not words.error_kind:
                    return f" {url} answers: give that address."
        return ""

    async def usage(self) -> str:
        reading, _ = await self.ask()
        used, out = _used(reading), reading.usage.get("output_tokens") or 0
        seen = f"{used.prompt} tokens in, {out} out"
        if not (used.prompt and out):
            raise No(
                f"{seen}: nothing can be told of costs here. Have the gateway before the server, "
                "if there is one, pass usage on."
            )
        return seen

    async def token_counts(self) -> str:
        """A prompt with this many words more must have as many tokens more."""
        nonce = secrets.token_hex(4)
        short, _ = await self.ask(f"{nonce} {ASK}")
        long, _ = await self.ask(f"{nonce}{' the' * MORE_WORDS} {ASK}")
        more = _used(long).prompt - _used(short).prompt
        seen = f"{MORE_WORDS} short words more are {more} tokens more"
        if more >= 1.7 * MORE_WORDS:
            raise No(
                f"{seen}: prompts, and costs, are counted about {more / MORE_WORDS:.0f} times. "
                "Compare them with the server's bill."
            )
        if more <= 0.5 * MORE_WORDS:
            raise No(
                f"{seen}: the counts do not follow the prompt. Take costs from the server's bill."
            )
        return seen

    async def streaming(self) -> str:
        stream, waited_ns, reading = await self._stream()
        if stream.held:
            stream, waited_ns, reading = await self._stream()  # once may be this machine's fault
        if any(arrival.kind == "message" for arrival in reading.arrivals):
            raise No(
                "A stream was asked for, and one whole body came. Have what stands before the "
                "server pass `stream` on."
            )
        if stream.held:
            raise No(f"{stream.words}: {bursts.CAUSE}.")
        if not stream.pieces:
            raise No("A stream without any text came. Name another model: --model NAME.")
        seen = f"{stream.pieces} pieces of text over {stream.span_ns / 1e6:,.0f} ms"
        if stream.pieces >= bursts.FEWEST and waited_ns > 4 * stream.span_ns:
            _, short_ns, _ = await self._stream(max_tokens=16)
            if waited_ns > 2 * short_ns and waited_ns - short_ns > LATER_NS:
                raise No(
                    f"{seen}, but only {waited_ns / 1e6:,.0f} ms after the request, and of a "
                    f"shorter answer after {short_ns / 1e6:,.0f} ms: the whole answer is written "
                    "first and then replayed as a stream. Turn streaming on there, or ask the "
                    "server directly."
                )
        if stream.held is None:
            return f"{seen}, too little to tell whether something buffers them"
        return seen

    async def _stream(
        self, max_tokens: int = LONG_TOKENS
    ) -> tuple[bursts.Stream, int, parsing.Reading]:
        """How it came, and how long after its request."""
        reading, exchange = await self.ask(LONG_ASK, max_tokens=max_tokens, stream=True)
        pieces = [
            (arrival.at_ns, arrival.characters)
            for arrival in reading.arrivals
            if arrival.kind == "text_delta"
        ]
        late_ns = self.lag.worst(exchange.started_ns, exchange.ended_ns)
        return (
            bursts.stream(pieces, exchange.sent_ns, late_ns),
            (reading.first_text_ns or exchange.ended_ns) - exchange.sent_ns,
            reading,
        )

    async def caching(self) -> str:
        for words in PREFIX_WORDS[: None if self.is_priced else 1]:
            text = f"{secrets.token_hex(8)} " + "harbour " * words
            prefix = [{"type": "text", "text": text, "cache_control": {"type": "ephemeral"}}]
            first, second = [_used((await self.ask(system=prefix))[0]) for _ in range(2)]
            if first.written or second.read > NOISE_TOKENS:
                break
        seen = f"{first.written} tokens written, then {second.read} read"
        if second.read <= NOISE_TOKENS:
            if first.written:
                raise No(
                    f"{seen}: several servers behind this address may share no cache. "
                    "Test it again."
                )
            self._remember("none")
            raise No(
                f"{seen}: no cache use is reported, so nothing can be told about caching here. "
                "Look for it in the server's settings."
            )
        self._remember("marked" if first.written else "itself")
        if second.prompt > 1.5 * first.prompt:
            raise No(
                f"{seen}, but the same prompt had {first.prompt} tokens and then {second.prompt}: "
                "what is read is counted as input too, and so are costs. Compare them with the "
                "server's bill."
            )
        if first.written:
            return seen
        return f"{seen}: it caches by itself, without a mark, and does not report what it writes"

    def _remember(self, mode: caching_modes.Caching) -> None:
        if self.is_priced:
            caching_modes.remember(self.endpoint.base_url, mode)

    async def structured(self) -> str:
        reading, _ = await self.ask(
            max_tokens=64, output_config={"format": {"type": "json_schema", "schema": SCHEMA}}
        )
        try:
            reply = json.loads(reading.text)
        except ValueError:
            reply = None
        if not isinstance(reply, dict) or not isinstance(reply.get("ready"), bool):
            raise No(
                "output_config.format was passed over without an error, and the answer was "
                f"“{reading.text[:60]}”. Ask for JSON in the prompt, or of another model: "
                "--model NAME."
            )
        return reading.text[:60]

    async def cards(self) -> str:
        """What its card says of the model, which a run of the lab's then goes by."""
        try:
            cards = await ask_models.listed(self.client)
        except (anthropic.APIError, httpx2.HTTPError, ValueError, LookupError, TypeError):
            raise No(
                "no list of models comes from /v1/models: what they can do is taken from their "
                "names. Say what else this endpoint can in its settings, as `can`."
            ) from None
        if not self.endpoint.traits.own_server:
            model_facts.keep(self.endpoint.base_url, cards, clock.utc_now())
        said = {fact.id: fact for card in cards if (fact := model_facts.of_card(card))}
        card = replace(self.endpoint, models_said=said).said_of(self.model)
        if card is None:
            raise No(
                f"{len(said)} models are listed, {self.model} is none of them: {', '.join(said)}"
            )
        soon = model_facts.remarks([card], clock.today())
        return f"{soon}. {card.words}" if soon else card.words

    async def tools(self) -> str:
        reading, _ = await self.ask(
            "Use the tool: what is the time in Oslo?", max_tokens=128, tools=[TOOL]
        )
        names = [
            str(block.get("name")) for block in reading.content if block.get("type") == "tool_use"
        ]
        if not names:
            raise No(
                f"no tool asked for (stop_reason {reading.stop_reason}). Name a model whose "
                "template knows tools: --model NAME."
            )
        return f"asked for {', '.join(names)}"


def _used(reading: parsing.Reading) -> Used:
    names = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
    return Used(*(reading.usage.get(name) or 0 for name in names))


def _other_paths(base_url: str) -> list[str]:
    """Where else on the same origin gateways keep the Messages API."""
    origin = "/".join(base_url.split("/")[:3])
    paths = [f"{base_url}/anthropic", f"{base_url}/api"]
    return paths if origin == base_url else [origin, *paths]
