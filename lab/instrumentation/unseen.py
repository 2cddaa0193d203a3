"""Calls of the user's own code that go past the stamped client: nobody can measure them, so they
are counted and named."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

from lab.instrumentation.stamps import StampedTransport

MODEL_PATHS = (
    "/messages",
    "/invoke",
    "/invoke-with-response-stream",
    ":rawPredict",
    ":streamRawPredict",
)
"""How a request to Claude ends: the Messages API, Bedrock's two, Vertex's two."""
LIBRARIES = ("httpx2", "httpx")
"""What the SDKs and most frameworks send with."""


@contextlib.contextmanager
def counting(*seen: type) -> Iterator[list[str]]:
    """The hosts that requests to a model go to meanwhile, from any thread, except over a transport
    that is stamped or one of `seen`."""
    past: list[str] = []

    def watched(send: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(send)
        def sending(client: Any, request: Any, *values: Any, **named: Any) -> Any:
            if (
                request.method == "POST"
                and request.url.path.endswith(MODEL_PATHS)
                and not isinstance(getattr(client, "_transport", None), (StampedTransport, *seen))
            ):
                past.append(request.url.host)
            return send(client, request, *values, **named)

        return sending

    with contextlib.ExitStack() as stack:
        for kind in watched_clients():
            stack.callback(setattr, kind, "send", kind.send)
            kind.send = watched(kind.send)
        yield past


@functools.cache
def watched_clients() -> list[type]:
    """Imported before a trial's clock; what an agent imports by itself later would come too late to
    be watched."""
    kinds = []
    for name in LIBRARIES:
        with contextlib.suppress(ImportError):
            library = import_module(name)
            kinds += [library.AsyncClient, library.Client]
    return kinds
