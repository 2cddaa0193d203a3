"""Where a recorder sends on to: the address, and a connection to it with its phases stamped."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from lab import endpoint_kinds, machine
from lab.clock import now_ns
from lab.endpoints import keys, own_server, registry
from lab.model import EndpointKind
from lab.reach import reach
from lab.tunnel import Tunnel, through


@dataclass(frozen=True)
class Upstream:
    name: str
    """As it stands in the recording: an endpoint's name or an origin."""
    kind: EndpointKind
    base_url: str
    api_key: str = field(default="", repr=False)
    """Of the lab's own server: what a client of it must send. No other is known here."""

    @property
    def host(self) -> str:
        return urlsplit(self.base_url).hostname or ""

    @property
    def port(self) -> int:
        parts = urlsplit(self.base_url)
        return parts.port or keys.DEFAULT_PORTS[parts.scheme]

    @property
    def is_tls(self) -> bool:
        return self.base_url.startswith("https:")

    @property
    def authority(self) -> bytes:
        """What a request's Host says there."""
        return keys.origin(self.base_url).partition("://")[2].encode()

    @property
    def path(self) -> bytes:
        """What comes before the client's own path."""
        return urlsplit(self.base_url).path.rstrip("/").encode()

    @property
    def is_own(self) -> bool:
        return endpoint_kinds.kind(self.kind).own_server


def find(name: str | None = None) -> Upstream:
    """By an endpoint's name or a base URL; without one where the SDK would go: ANTHROPIC_BASE_URL,
    else Anthropic. The lab's own server is started.

    No key is needed, since the application sends its own. Raises LabError; ConsentNeeded for an
    address that nobody has agreed to.
    """
    if name in (None, "", "anthropic"):
        return at(keys.anthropic_url())
    endpoint = registry.connect(registry.find(name))
    own = endpoint_kinds.kind(endpoint.kind).own_server
    key = endpoint.api_key if own and endpoint.api_key != keys.PLACEHOLDER else ""
    return Upstream(endpoint.name, endpoint.kind, endpoint.base_url, key)


def at(url: str) -> Upstream:
    """Where an application goes by itself: nobody is asked but what may be the lab's own server."""
    base_url = keys.base_url(url)
    keys.origin(base_url)
    if card := own_server.card_at(base_url):
        return Upstream(card.kind, card.kind, base_url, card.api_key)
    kind = own_server.kind_at(base_url) or endpoint_kinds.LIVE
    own = base_url != keys.base_url(keys.CLAUDE_URL)
    return Upstream(keys.origin(base_url) if own else "anthropic", kind, base_url)


@dataclass(slots=True)
class Phases:
    """Of one connection upstream."""

    dns_ns: int | None = None
    connected_ns: int | None = None
    """Through a proxy, which is then the host looked up: when the tunnel was there."""
    tls_ns: int | None = None


class Connector:
    """Opens connections to one upstream, with the system's certificates."""

    def __init__(self, upstream: Upstream) -> None:
        self.upstream = upstream
        self.tunnel = tunnel(upstream)
        self.tls: ssl.SSLContext | None = None
        if upstream.is_tls:
            self.tls = ssl.create_default_context()
            self.tls.set_alpn_protocols(["http/1.1"])

    async def open(
        self, protocol: Callable[[], asyncio.Protocol], phases: Phases
    ) -> tuple[asyncio.Transport, asyncio.Protocol]:
        """Raises OSError (ssl.SSLError among them) where there is none."""
        way = self.tunnel or self.upstream
        replies = asyncio.StreamReader()
        first = (lambda: asyncio.StreamReaderProtocol(replies)) if self.tunnel else protocol
        transport, side = await reach(first, way.host, way.port, phases)
        try:
            if self.tunnel:
                await self.tunnel.dig(transport, replies)
                side = protocol()
                transport.set_protocol(side)
            phases.connected_ns = now_ns()
            if self.tls:
                transport = await asyncio.get_running_loop().start_tls(
                    transport, side, self.tls, server_hostname=self.upstream.host
                )
                phases.tls_ns = now_ns()
        except BaseException:
            transport.close()
            raise
        return transport, side


def tunnel(upstream: Upstream) -> Tunnel | None:
    """The way that calls take there, where it leads through a proxy of the environment that can be
    used (HTTPS_PROXY, ALL_PROXY, NO_PROXY, as the SDK reads them)."""
    proxy = machine.proxy(upstream.base_url) if upstream.is_tls else None
    return through(proxy, upstream.host, upstream.port) if proxy else None
