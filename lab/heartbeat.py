"""Keeps a lease on the local server alive, from a process of its own: a renewal must not fall
between two stamps of the one that measures.

Its orders come on stdin as one line of JSON; it ends when stdin does, and so with the process that
started it, however that ends.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import select
import subprocess
import sys
from typing import Any
from urllib.parse import urlsplit

RENEWALS = 4
"""In the time of one lease."""
LONGEST_S = 10
"""Waited for one answer: the process must end soon after its starter."""


def start(terms: dict[str, Any]) -> subprocess.Popen:
    """`terms` are a lease's (lease, holder, pid, seconds), with the server's base_url and
    api_key."""
    # Without site-packages and environment, since it needs neither: it starts in a few hundredths
    # of a second.
    command = [sys.executable, "-I", "-S", __file__]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    process.stdin.write(json.dumps(terms).encode() + b"\n")
    process.stdin.flush()
    return process


def stop(process: subprocess.Popen | None) -> None:
    if process is not None:
        process.kill()
        process.wait()
        process.stdin.close()


def renew(terms: dict[str, Any]) -> None:
    server = http.client.HTTPConnection(
        urlsplit(terms["base_url"]).netloc, timeout=min(max(terms["seconds"], 1), LONGEST_S)
    )
    body = {name: terms[name] for name in ("lease", "holder", "pid", "seconds")}
    with contextlib.closing(server), contextlib.suppress(OSError, http.client.HTTPException):
        server.request(
            "POST",
            "/lease",
            json.dumps(body),
            {"x-api-key": terms["api_key"], "content-type": "application/json"},
        )
        server.getresponse().read()


def main() -> None:
    terms = json.loads(sys.stdin.readline())
    while not select.select([sys.stdin], [], [], terms["seconds"] / RENEWALS)[0]:
        renew(terms)


if __name__ == "__main__":
    main()
