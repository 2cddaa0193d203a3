"""An Endpoint made into the official SDK's client, on the stamped transport."""

from __future__ import annotations

import os
from collections.abc import Mapping

import httpx2
from anthropic import AsyncAnthropic, Omit

from lab.endpoints.keys import PLACEHOLDER
from lab.endpoints.registry import Endpoint
from lab.instrumentation.wire import transport_for

CONNECT_S = 10.0


def open_client(endpoint: Endpoint, timeout_s: float = 120.0, headers: Mapping[str, str] | None = None) -> AsyncAnthropic:
    """Close it with `await client.close()`. `timeout_s` is how long nothing may arrive; the trial's own deadline is the bench's."""
    timeout = httpx2.Timeout(timeout_s, connect=CONNECT_S)
    # Compressed bytes would be stamped as they arrive but read as they were packed: several events would share one instant.
    sent = {**_without_the_environments(), "Accept-Encoding": "identity", **(headers or {})}
    # A redirect would take the key to a host that nobody agreed to; it is named as an error instead.
    http = httpx2.AsyncClient(transport=transport_for(endpoint.base_url), timeout=timeout, follow_redirects=False)
    # Retries would hide a failed attempt inside the next one's latency; the bench makes its own, each a row.
    return AsyncAnthropic(
        api_key=endpoint.api_key or PLACEHOLDER,  # given, the SDK looks for no token or profile of its own
        base_url=endpoint.base_url,
        http_client=http,
        max_retries=0,
        timeout=timeout,
        default_headers=sent,
        open_telemetry=False,
    )


def _without_the_environments() -> dict[str, Omit]:
    """The SDK sends ANTHROPIC_CUSTOM_HEADERS, which may hold a key, to any host: each of them is left out."""
    lines = os.environ.get("ANTHROPIC_CUSTOM_HEADERS", "").split("\n")
    return {line.partition(":")[0].strip(): Omit() for line in lines if ":" in line}
