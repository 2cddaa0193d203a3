"""An Endpoint made into the official SDK's client, on the stamped transport."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any, NamedTuple

import httpx2
from anthropic import AsyncAnthropic, NotGiven
from anthropic._models import FinalRequestOptions
from anthropic._utils._json import openapi_dumps

from lab.endpoints import keys
from lab.endpoints.registry import Endpoint
from lab.instrumentation.stamps import StampedTransport, transport_for

CONNECT_S = 10.0


class OwnHeaders:
    """The SDK sends ANTHROPIC_CUSTOM_HEADERS, which may hold a key, to any host; this client and
    its copies to the key's own."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        if keys.origin(str(self.base_url)) != keys.origin(keys.anthropic_url()):
            self._custom_headers = options.get("default_headers") or {}


class Made(NamedTuple):
    """What the SDK made of a request, but for its body."""

    client: tuple[Any, ...]
    """What of the client went into it."""
    url: httpx2.URL
    headers: list[tuple[bytes, bytes]]
    extensions: Mapping[str, Any]


class Client(OwnHeaders, AsyncAnthropic):
    """The SDK's client, which makes URL and headers of like requests once and not for each: that
    took longer than all else between a call and its bytes."""

    KEPT = 64
    transport: StampedTransport

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._made: dict[Hashable, Made] = {}

    async def open_ahead(self) -> None:
        """A connection that is there before its first call; StampedTransport says what may go
        wrong."""
        await self.transport.open_ahead(self.base_url, CONNECT_S)

    def _build_request(
        self, options: FinalRequestOptions, *, retries_taken: int = 0
    ) -> httpx2.Request:
        key = self._alike(options, retries_taken)
        made = self._made.get(key)
        if made and all(
            is_same is was for is_same, was in zip(self._parts, made.client, strict=True)
        ):
            return httpx2.Request(
                "POST",
                made.url,
                headers=made.headers,
                cookies=self._client.cookies or None,
                content=openapi_dumps(options.json_data),
                extensions=made.extensions,
            )
        request = super()._build_request(options, retries_taken=retries_taken)
        if key and "cookie" not in request.headers:
            if len(self._made) == self.KEPT:
                self._made.clear()
            headers = [(n, v) for n, v in request.headers.raw if n.lower() != b"content-length"]
            self._made[key] = Made(self._parts, request.url, headers, request.extensions)
        return request

    @property
    def _parts(self) -> tuple[Any, ...]:
        return self.timeout, self.api_key, self.auth_token, self._base_url, self._custom_headers

    @staticmethod
    def _alike(options: FinalRequestOptions, retries_taken: int) -> Hashable:
        """What requests have in common whose bodies alone differ; None for another kind than JSON
        that is posted, with all the client's own options."""
        others = options.params, options.files, options.content, options.extra_json
        headers = {} if isinstance(options.headers, NotGiven) else options.headers
        if (
            options.method != "post"
            or any(others)
            or not isinstance(options.json_data, Mapping)
            or not isinstance(options.timeout, NotGiven)
            or not all(isinstance(value, str) for value in headers.values())
        ):
            return None
        return options.url, retries_taken, *headers.items()


def open_client(
    endpoint: Endpoint, timeout_s: float = 120.0, headers: Mapping[str, str] | None = None
) -> Client:
    """Close it with `await client.close()`. `timeout_s` is how long nothing may arrive; the trial's
    own deadline is the bench's."""
    timeout = httpx2.Timeout(timeout_s, connect=CONNECT_S)
    # Compressed bytes would be stamped as they arrive but read as they were packed: several events
    # would share one instant.
    sent = {"Accept-Encoding": "identity", **(headers or {})}
    # A redirect would take the key to a host that nobody agreed to; it is an error of its own.
    transport = transport_for(endpoint.base_url)
    http = httpx2.AsyncClient(transport=transport, timeout=timeout, follow_redirects=False)
    # Retries would hide a failed attempt inside the next one's latency; the bench makes its own,
    # each a row. With any key the SDK looks for no token or profile of its own.
    client = Client(
        api_key=endpoint.api_key or keys.PLACEHOLDER,
        base_url=endpoint.base_url,
        http_client=http,
        max_retries=0,
        timeout=timeout,
        default_headers=sent,
        open_telemetry=False,
    )
    client.transport = transport
    return client
