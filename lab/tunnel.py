"""The way through a proxy to an https server (CONNECT, RFC 9110, 9.3.6)."""

from __future__ import annotations

import asyncio
import base64
from dataclasses import dataclass, field
from http import HTTPStatus
from urllib.parse import unquote, urlsplit

DIG_S = 30.0
"""What a proxy has to reach the server."""


@dataclass(frozen=True)
class Tunnel:
    host: str
    port: int
    """The proxy's."""
    target: str
    asked: str = field(repr=False)
    """What is said to the proxy, its password too."""

    @property
    def name(self) -> str:
        """Without the password that its URL may hold."""
        return f"{self.host}:{self.port}"

    async def dig(self, transport: asyncio.Transport, answers: asyncio.StreamReader) -> None:
        """Raises OSError where the proxy refuses."""
        transport.write(self.asked.encode("latin-1"))
        try:
            async with asyncio.timeout(DIG_S):
                head = await answers.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            head = b""
        except TimeoutError:
            raise OSError(f"the proxy {self.name} did not answer within {DIG_S:.0f} s") from None
        status = head[9:12].decode("latin-1") if head.startswith(b"HTTP/1.") else ""
        if status.startswith("2"):
            return
        why = "it hung up" if not head else f"status {status}" if status.isdigit() else "no HTTP"
        if status == str(HTTPStatus.PROXY_AUTHENTICATION_REQUIRED.value):
            why += ": put its name and password into HTTPS_PROXY"
        raise OSError(f"the proxy {self.name} lets nothing through to {self.target} ({why})")


def through(proxy: str, host: str, port: int) -> Tunnel | None:
    """By the proxy's URL, as lab.machine.proxy finds it; None where that cannot be used."""
    try:
        parts = urlsplit(proxy)
        if not (parts.scheme == "http" and parts.hostname and parts.port != 0):
            return None
    except ValueError:  # its words may be a part of the password
        return None
    target = f"{f'[{host}]' if ':' in host else host}:{port}"
    lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}"]
    if parts.username is not None:
        login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        lines.append(f"Proxy-Authorization: Basic {base64.b64encode(login.encode()).decode()}")
    asked = "".join(f"{line}\r\n" for line in [*lines, ""])
    return Tunnel(parts.hostname, parts.port or 80, target, asked)
