"""`lab.observe(client)`: the calls of the user's own application as a recording, in code."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TypeVar

import httpx2
from anthropic import Anthropic, AsyncAnthropic

from lab import paths
from lab.instrumentation.stamps import StampedTransport
from lab.model import LabError
from lab.observing import feed
from lab.observing.transports import AsyncWatched, Watched, Watching

Client = TypeVar("Client", Anthropic, AsyncAnthropic)


def observe(
    client: Client,
    *,
    name: str | None = None,
    keep_text: bool = False,
    db: str | Path | None = None,
) -> Client:
    """A copy of the SDK's client whose calls of /v1/messages are recorded, on the same connections
    and with everything that was set on it: address, key, timeout, retries, headers, proxies.

    Clients that are observed with the same `name`, address and database belong to one recording of
    this process. A process of its own writes the rows; what it cannot write is counted, and told at
    the end by the logger `lab.observing`. Nothing of this ever blocks a call or raises into it.
    `close()` of the client, or the end of its `with`, waits until its calls are stored, at most
    five seconds. Raises LabError for what cannot be observed.
    """
    if not isinstance(client, Anthropic | AsyncAnthropic):
        raise LabError(
            f"{type(client).__name__} cannot be observed: give an Anthropic or AsyncAnthropic"
            " client. Others (Bedrock, Vertex) speak another way; record those that can be given a"
            " base URL with the recorder."
        )
    http = client._client
    transports = [http._transport, *http._mounts.values()]
    if any(isinstance(transport, Watched | AsyncWatched) for transport in transports):
        raise LabError("This client is observed already. Observe each client once.")
    if isinstance(http._transport, StampedTransport) or _is_bridged(http._transport):
        raise LabError(
            "This client belongs to a run that the lab measures already; its calls are rows there."
            " Observe the client of your application instead."
        )
    recording = feed.of(
        feed.Order(
            str(client.base_url),
            str(Path(db or paths.database()).expanduser().absolute()),
            keep_text,
            name,
        )
    )
    return client.copy(http_client=_watched(http, recording))


def _watched(http: httpx2.Client | httpx2.AsyncClient, recording: feed.Feed):
    """The same HTTP client, each of its transports inside one that looks on."""
    wrap = Watched if isinstance(http, httpx2.Client) else AsyncWatched
    kind = type(http)
    # The SDK's own closes its connections when nobody holds it; those belong to the original.
    looking = type(kind.__name__, (Watching, kind), {"__del__": lambda self: None})
    same = copy.copy(http)
    same.__class__ = looking
    same._original, same._recording = http, recording
    same._transport = wrap(http._transport, recording)
    same._mounts = {
        pattern: transport and wrap(transport, recording)
        for pattern, transport in http._mounts.items()
    }
    return same


def _is_bridged(transport: object) -> bool:
    return isinstance(getattr(transport, "stamped", None), StampedTransport)
