"""A request's body as it comes off the wire: how much, and how it was compressed."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable
from contextlib import suppress

from lab.local.messages_api import ApiError

LARGEST_BODY = 32 * 2**20


async def read(receive: Callable) -> bytes:
    parts, size = [], 0
    while True:
        event = await receive()
        if event["type"] == "http.disconnect":
            raise asyncio.CancelledError
        parts.append(event.get("body", b""))
        size += len(parts[-1])
        if size > LARGEST_BODY:
            raise ApiError(413, "Request exceeds the maximum size of 32 MB.")
        if not event.get("more_body"):
            return b"".join(parts)


def decoded(raw: bytes, encoding: str) -> bytes:
    """The body without its Content-Encoding, which may be gzip or deflate; other ones are refused
    by the API's own code."""
    if encoding in ("", "identity"):
        return raw
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise ApiError(
            400,
            f"The Content-Encoding {encoding!r:.40} is not supported; send gzip, or none.",
            error_code="request_body_encoding_unsupported",
        )
    unpacking = zlib.decompressobj(zlib.MAX_WBITS | 32)
    body = b""
    with suppress(zlib.error):
        # No more than a byte too much: a small body must not fill the memory.
        body = unpacking.decompress(raw, LARGEST_BODY + 1)
    if len(body) > LARGEST_BODY:
        raise ApiError(
            413,
            "Request exceeds the maximum size of 32 MB once decoded.",
            error_code="request_body_too_large_after_decoding",
        )
    if not unpacking.eof:
        raise ApiError(
            400,
            f"The request body is not valid for its Content-Encoding {encoding}.",
            error_code="request_body_encoding_invalid",
        )
    return body
