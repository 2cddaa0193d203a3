"""Requests as the SDK makes them, kept as the bytes that it would send: URL, headers, key and body
come from its own client, once for each of a load's requests and before the first goes out."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

import anthropic
import httpx2

from lab import machine
from lab.endpoints import keys
from lab.endpoints.client import CONNECT_S, open_client
from lab.endpoints.registry import Endpoint
from lab.harness.bodies import with_nonce
from lab.load.loading import Prepared
from lab.load.wire import Address, Template
from lab.model import LabError
from lab.tunnel import through

DIGITS = 16


class Kept(httpx2.AsyncBaseTransport):
    """Sends nothing: keeps the request."""

    request: httpx2.Request

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        await request.aread()
        self.request = request
        return httpx2.Response(204)


async def prepare(
    endpoint: Endpoint,
    bodies: Sequence[Mapping[str, Any]],
    betas: Sequence[str] = (),
    *,
    salt: str,
    timeout_s: float = 120.0,
    headers: Mapping[str, str] | None = None,
    has_nonces: bool = True,
) -> Prepared:
    """The bodies as they are sent (model and `stream` in them) but for their nonces, each with its
    header anthropic-beta; `headers` go with all, such as a lease.

    Raises LabError where a proxy stands in the way that a load cannot go through.
    """
    client, kept = open_client(endpoint, timeout_s, headers), Kept()
    templates = []
    async with client, httpx2.AsyncClient(transport=kept) as nowhere:
        asking = client.copy(http_client=nowhere)
        for place, body in enumerate(bodies):
            beta = betas[place] if place < len(betas) else ""
            templates.append(await _template(asking, kept, body, beta, has_nonces))
    return Prepared(_address(endpoint, kept.request.url, timeout_s), tuple(templates), salt)


def _address(endpoint: Endpoint, url: httpx2.URL, timeout_s: float) -> Address:
    host, port = url.raw_host.decode(), url.port or keys.DEFAULT_PORTS[url.scheme]
    is_tls, tunnel = url.scheme == "https", None
    if proxy := machine.proxy(endpoint.base_url):
        tunnel = through(proxy, host, port) if is_tls else None
        if tunnel is None:
            raise LabError(
                f"A load cannot go through the proxy that the environment puts before"
                f" {keys.origin(endpoint.base_url)}: it uses proxies like http://HOST:PORT, for"
                " https:// addresses. Add the host to NO_PROXY, or run the load elsewhere."
            )
    return Address(host, port, is_tls, timeout_s, CONNECT_S, tunnel)


async def _template(
    client: anthropic.AsyncAnthropic,
    kept: Kept,
    body: Mapping[str, Any],
    beta: str,
    has_nonce: bool,
) -> Template:
    digits = f"{secrets.randbelow(10**DIGITS):0{DIGITS}d}"
    await client.post(
        "/v1/messages",
        cast_to=httpx2.Response,
        body=with_nonce(body, f"[trial {digits}] ") if has_nonce else dict(body),
        options={"headers": {"anthropic-beta": beta} if beta else {}},
        stream=True,
        stream_cls=anthropic.AsyncStream,
    )
    request = kept.request
    lines = [b"%s %s HTTP/1.1" % (request.method.encode(), request.url.raw_path)]
    lines += [name + b": " + value for name, value in request.headers.raw]
    places = re.finditer(digits.encode(), request.content) if has_nonce else ()
    nonce_at = tuple(place.start() for place in places)
    return Template(b"\r\n".join([*lines, b"", b""]), request.content, nonce_at)
