"""An Endpoint made into the official SDK's client, on the stamped transport."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx2
from anthropic import AsyncAnthropic

from lab.endpoints import keys
from lab.endpoints.registry import Endpoint
from lab.instrumentation.stamps import transport_for

CONNECT_S = 10.0


class OwnHeaders:
    """The SDK sends ANTHROPIC_CUSTOM_HEADERS, which may hold a key, to any host; this client and
    its copies to the key's own."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        if keys.origin(str(self.base_url)) != keys.origin(keys.anthropic_url()):
            self._custom_headers = options.get("default_headers") or {}


class Client(OwnHeaders, AsyncAnthropic): ...


def open_client(
    endpoint: Endpoint, timeout_s: float = 120.0, headers: Mapping[str, str] | None = None
) -> AsyncAnthropic:
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
    return Client(
        api_key=endpoint.api_key or keys.PLACEHOLDER,
        base_url=endpoint.base_url,
        http_client=http,
        max_retries=0,
        timeout=timeout,
        default_headers=sent,
        open_telemetry=False,
    )
