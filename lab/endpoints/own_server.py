"""Which address is the lab's own server: by the card that it left in the user's runtime folder,
else by one bounded question."""

from __future__ import annotations

import json
import re
import socket
from contextlib import suppress
from typing import NamedTuple
from urllib.parse import SplitResult, urlsplit

from lab import endpoint_kinds, machine, paths
from lab.clock import now_ns
from lab.endpoints import keys

LONGEST_REPLY = 64 * 1024


class Card(NamedTuple):
    kind: str
    api_key: str


def card_at(url: str) -> Card | None:
    """The server of this user's that runs at an address, told by its card alone: the address is not
    asked."""
    base_url = keys.base_url(url)
    for kind in endpoint_kinds.own_servers():
        with suppress(OSError, ValueError, RecursionError):
            match json.loads((paths.runtime_folder() / f"{kind}.json").read_text()):
                case {"base_url": address, "api_key": str(key), "pid": int(pid), "born": born}:
                    if address == base_url and born and machine.born(pid) == born:
                        return Card(kind, key)
    return None


def kind_at(base_url: str, within_s: float = 0.5) -> str | None:
    """The kind of the lab's own server at a loopback address; None for any other server, whatever
    it answers and however slowly."""
    try:
        parts = urlsplit(base_url)
        if parts.scheme != "http" or parts.hostname not in keys.LOOPBACK:
            return None
        head, _, body = _ask(parts, within_s).partition(b"\r\n\r\n")
        if head.split(b" ", 2)[1:2] == [b"200"]:
            match json.loads(body):
                case {"kind": str(kind)} if kind in endpoint_kinds.own_servers():
                    return kind
    except (OSError, ValueError, RecursionError):
        pass
    return None


def _ask(parts: SplitResult, within_s: float) -> bytes:
    """The answer to GET /health, as much of it as comes within the time and the limit: one deadline
    for all, so that no drip prolongs it."""
    until_ns, reply = now_ns() + int(within_s * 1e9), b""
    request = (
        f"GET {parts.path}/health HTTP/1.0\r\nHost: {parts.netloc}\r\nConnection: close\r\n\r\n"
    )

    def left_s() -> float:
        return max((until_ns - now_ns()) / 1e9, 0.001)

    with socket.create_connection((parts.hostname, parts.port or 80), left_s()) as connection:
        connection.settimeout(left_s())
        connection.sendall(request.encode("latin-1", "replace"))
        while len(reply) <= LONGEST_REPLY and now_ns() < until_ns:
            connection.settimeout(left_s())
            with suppress(TimeoutError):
                if not (more := connection.recv(LONGEST_REPLY)):
                    break
                reply += more
                if _is_whole(reply):
                    break  # a server that keeps the connection all the same is not waited for
    return reply


def _is_whole(reply: bytes) -> bool:
    """Whether it has as many bytes as it says."""
    head, _, body = reply.partition(b"\r\n\r\n")
    length = re.search(rb"(?im)^content-length:[ \t]*(\d{1,9})[ \t]*\r?$", head)
    return b"\r\n\r\n" in reply and length is not None and len(body) >= int(length[1])
