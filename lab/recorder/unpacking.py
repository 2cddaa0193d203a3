"""Bodies that an application or its API sends compressed, read all the same: copies of them, after
they were handed on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module

from lab import limits
from lab.instrumentation.stamps import TooLarge, Unpacking, Unreadable

AT_ONCE = 256
"""Bytes fed to a decoder that has no limit of its own."""


def unpacked(chunks: list[tuple[int, bytes]], coding: str) -> list[tuple[int, bytes]]:
    """(instant, bytes) as they were before the content codings. Raises Unreadable where no decoder
    is here or the bytes are broken, TooLarge beyond lab.limits."""
    for name in reversed([name.strip().lower() for name in coding.split(",")]):
        if name and name != "identity":
            chunks = _unpacked(chunks, _decoder(name), name)
    return chunks


def _unpacked(
    chunks: list[tuple[int, bytes]], decode: Callable[[bytes], Iterator[bytes]], name: str
) -> list[tuple[int, bytes]]:
    made, size = [], 0
    for at_ns, packed in chunks:
        pieces = []
        try:
            for piece in decode(packed):
                size += len(piece)
                if size > limits.body_bytes():
                    raise TooLarge(f"it unpacks to more than {limits.body_bytes() // limits.MB} MB")
                pieces.append(piece)
        except (TooLarge, Unreadable):
            raise
        except Exception as error:  # each library has a kind of its own
            raise Unreadable(f"it says {name}, and is broken: {error}") from error
        made.append((at_ns, b"".join(pieces)))
    return made


def _decoder(name: str) -> Callable[[bytes], Iterator[bytes]]:
    if name in ("gzip", "x-gzip", "deflate"):
        return Unpacking(name)
    if name == "br" and (brotli := _library("brotli") or _library("brotlicffi")):
        return _small_steps(brotli.Decompressor().process)
    if name == "zstd" and (zstd := _library("compression.zstd")):
        return _small_steps(zstd.ZstdDecompressor().decompress)
    if name == "zstd" and (zstandard := _library("zstandard")):
        return _small_steps(zstandard.ZstdDecompressor().decompressobj().decompress)
    raise Unreadable(f"it is compressed with {name:.40}, which cannot be read here")


def _library(name: str):
    try:
        return import_module(name)
    except ImportError:
        return None


def _small_steps(decode: Callable[[bytes], bytes]) -> Callable[[bytes], Iterator[bytes]]:
    def steps(packed: bytes) -> Iterator[bytes]:
        for start in range(0, len(packed), AT_ONCE):
            yield decode(packed[start : start + AT_ONCE])

    return steps
