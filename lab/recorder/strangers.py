"""Who may not ask through a recorder: a web page in the user's browser, under its own name or under
one that was made to point at this machine, and a client that takes the recorder for a proxy.

The recorder writes the upstream's Host over the client's, and so would take from an upstream that
needs no key the means by which it knows such a page. Programs of this machine are never refused:
they name it as it is, and have no origin on the web.
"""

from __future__ import annotations

import ipaddress
import json
from urllib.parse import urlsplit

from lab import machine
from lab.recorder.framing import Lines

LOCAL = ("localhost", "internal")
"""Ends of names that nobody on the internet can own; `host.docker.internal` is one."""


def refusal(head: Lines, upstream_host: str) -> bytes | None:
    """The answer to a request that is not to be handed on; None for all others."""
    method, _, rest = head.first.partition(" ")
    host = _host(f"//{head.headers.get('host', '')}")
    if method == "CONNECT" or not rest.startswith(("/", "*")):
        return _answer(
            "The recorder is no proxy: nothing was passed on. Set ANTHROPIC_BASE_URL to its"
            " address, and take it out of HTTP_PROXY."
        )
    if host and host != upstream_host and not _is_local_name(host):
        return _answer(
            f"The recorder serves programs of this machine, and {host[:100]!r} is no name of it:"
            " nothing was passed on. Use 127.0.0.1."
        )
    if _is_of_a_site(head.headers.get("origin", "")):
        return _answer(
            "The recorder serves programs of this machine and pages of localhost, no other web"
            " page: nothing was passed on."
        )
    return None


def _is_local_name(host: str) -> bool:
    if "." not in host or host.rpartition(".")[2] in LOCAL:
        return True
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _is_of_a_site(origin: str) -> bool:
    """Whether it is a web page's, and none of this machine's. Programs that show pages of their own
    (editors, extensions) have schemes of their own."""
    if origin == "null":
        return True
    if not origin.startswith(("http://", "https://")):
        return False
    return not machine.is_loopback(_host(origin))


def _host(url: str) -> str:
    try:
        return (urlsplit(url).hostname or "").rstrip(".")
    except ValueError:
        return "?.?"


def _answer(message: str) -> bytes:
    said = {"type": "error", "error": {"type": "permission_error", "message": message}}
    body = json.dumps(said).encode()
    return (
        b"HTTP/1.1 403 Forbidden\r\ncontent-type: application/json\r\nconnection: close\r\n"
        b"content-length: %d\r\n\r\n" % len(body)
    ) + body
