"""Ask an endpoint for its models, shortly and seldom: when a run is prepared or a page is drawn,
and never between two stamps. What it says is kept by model_facts.py."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import httpx2
from anthropic import AsyncAnthropic

from lab import clock
from lab.endpoints import model_facts
from lab.endpoints.client import open_client
from lab.endpoints.registry import Endpoint
from lab.model import LabError

WITHIN_S = 3.0
_asking: set[str] = set()
"""Base URLs that a thread of this process asks now."""


def ask(endpoint: Endpoint) -> None:
    """Ask somebody else's endpoint for its list and keep what it says; nothing where it was asked
    lately, or is the lab's own.

    Its key goes to its own address and no redirect is followed. Nothing that goes wrong here is an
    error: the registry's defaults hold.
    """
    if not _is_due(endpoint):
        return
    try:
        cards = asyncio.run(_listed(endpoint))
    except Exception:  # whatever an unknown server does
        cards = None
    try:
        model_facts.keep(endpoint.base_url, cards, clock.utc_now())
    except LabError:
        return  # a settings folder that cannot be written: it is asked again next time


def ask_beside(endpoint: Endpoint) -> None:
    """The same in a thread of its own, for a page, which waits for nobody: the next time it is
    drawn it shows what came."""
    url = endpoint.base_url
    if url in _asking or not _is_due(endpoint):
        return
    _asking.add(url)

    def work() -> None:
        try:
            ask(endpoint)
        finally:
            _asking.discard(url)

    threading.Thread(target=work, name="ask-models", daemon=True).start()


def _is_due(endpoint: Endpoint) -> bool:
    if endpoint.traits.own_server or not endpoint.base_url:
        return False
    return model_facts.is_due(endpoint.base_url, clock.utc_now())


async def _listed(endpoint: Endpoint) -> list[Any]:
    async with asyncio.timeout(WITHIN_S):
        client = open_client(endpoint, timeout_s=WITHIN_S)
        try:
            return await listed(client)
        finally:
            await client.close()


async def listed(client: AsyncAnthropic) -> list[Any]:
    """The cards of GET /v1/models as they came; whatever the SDK or a shape raises where there are
    none."""
    options = {"params": {"limit": model_facts.MOST}}
    reply = await client.get("/v1/models", cast_to=httpx2.Response, options=options)
    cards = reply.json()["data"]
    if not isinstance(cards, list):
        raise TypeError("data is no list")
    return cards
