"""Bodies as the tiers may store them: plain, or compressed with a dictionary of this package.

A body is a JSON object, so a stored value that begins with ``{`` is plain. The frame of a
compressed one names its dictionary. Each dictionary that was ever released stays in
``dictionaries``, so a stored record stays readable. ``benchmarks/train_dictionary.py`` makes them.
"""

from __future__ import annotations

import binascii
import threading
from functools import cache
from importlib.resources import files

from trajectories.zstandard import zstd

CURRENT = 893021575
"""The dictionary of new frames."""
_LEVEL = 3
_PLAIN = b"{"
_BRACKETS = ("", "{", "[")


def to_columns(body: bytes, *, is_compressed: bool) -> tuple[str, bytes | None]:
    """Return the values of the archive's columns ``body`` and ``compressed_body``."""
    return ("", compress(body)) if is_compressed else (body.decode(), None)


def from_columns(body: str, compressed_body: bytes | memoryview | None) -> bytes:
    """Return the body of the archive's two columns.

    Raises:
        UnreadableBody: as ``decompress``.
    """
    return body.encode() if body or compressed_body is None else decompress(bytes(compressed_body))


class UnreadableBody(RuntimeError):
    """A stored body cannot be read by this release. The record is intact where it is stored."""


class _Compressor(threading.local):
    """A compressor for each thread: making one takes ten times as long as compressing a record."""

    def __init__(self) -> None:
        self.zstd = zstd.ZstdCompressor(level=_LEVEL, zstd_dict=_dictionary(CURRENT))


_compressor: _Compressor | None = None


def compress(body: bytes) -> bytes:
    """Return ``body`` as one frame of zstd; unchanged if it is empty, as that of a tombstone."""
    global _compressor
    if not body:
        return body
    if _compressor is None:
        _compressor = _Compressor()
    compressor = _compressor.zstd
    return compressor.compress(body, compressor.FLUSH_FRAME)


def decompress(stored: bytes) -> bytes:
    """Return the body of a stored value, compressed or plain.

    Raises:
        UnreadableBody: the value is damaged, or a release with another dictionary wrote it.
    """
    if not stored or stored[:1] == _PLAIN:
        return stored
    try:
        return zstd.decompress(stored, zstd_dict=_dictionary(zstd.get_frame_info(stored).dictionary_id))
    except zstd.ZstdError as error:
        raise UnreadableBody(f"A stored body cannot be decompressed: {error}.") from error


def plain_size(stored: bytes) -> int:
    """Return the length of the body of a stored value. A frame of ``compress`` names it.

    Raises:
        UnreadableBody: as ``decompress``.
    """
    if not stored or stored[:1] == _PLAIN:
        return len(stored)
    try:
        size = zstd.get_frame_info(stored).decompressed_size
    except zstd.ZstdError as error:
        raise UnreadableBody(f"A stored body cannot be decompressed: {error}.") from error
    return len(decompress(stored)) if size is None else size


def text_of(body: bytes) -> str:
    """Return ``body`` as text for a message: compressed, in base64."""
    return binascii.b2a_base64(compress(body), newline=False).decode()


def body_of(text: str) -> bytes:
    """Return the body of a text in a message, of ``text_of`` or plain.

    Base64 has no bracket, with which each plain body begins.

    Raises:
        UnreadableBody: as ``decompress``.
    """
    return text.encode() if text[:1] in _BRACKETS else decompress(binascii.a2b_base64(text))


@cache
def _dictionary(number: int) -> zstd.ZstdDict:
    path = files("trajectories.domain").joinpath("dictionaries", f"{number}.zdict")
    try:
        return zstd.ZstdDict(path.read_bytes())
    except FileNotFoundError:
        raise UnreadableBody(
            f"A stored body is compressed with dictionary {number}, which this release does not have. A newer release"
            " wrote it: install that release, or a later one."
        ) from None
