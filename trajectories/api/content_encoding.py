"""Decode request bodies with ``Content-Encoding: gzip`` or ``zstd``, piece by piece.

A piece has at most ``PIECE_BYTES``, however well the body is compressed. So a caller that stops at
its limit has never held more than the limit and one piece.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from trajectories.exceptions import InvalidInput, UnsupportedMediaType
from trajectories.zstandard import zstd

PIECE_BYTES = 64 * 1024
_ZSTD_WINDOW_LOG = 24
"""At most 16 MiB for a decoder's window; a frame may ask for 2 GiB."""
_MAX_MEMBERS = 4_096
"""A member of gzip or a frame of zstd costs a new decoder, even if it decodes to nothing: 1 MiB of
empty frames took 1.5 s."""


def decoded(chunks: Iterable[bytes], encoding: str) -> Iterator[bytes]:
    """Yield the decoded body of ``chunks``.

    Args:
        encoding: the value of Content-Encoding, or an empty text.

    Raises:
        UnsupportedMediaType: 415; this server does not decode ``encoding``.
        InvalidInput: 400; the body is not in this encoding, or ends too early.
    """
    name = encoding.strip().lower()
    if name in ("", "identity"):
        yield from chunks
        return
    if name not in DECODERS:
        raise UnsupportedMediaType(
            f"Content-Encoding must be {' or '.join(DECODERS)}, or absent.", code="unsupported_content_encoding"
        )
    decode, failure = DECODERS[name]
    try:
        yield from decode(chunks)
    except failure as error:
        raise _malformed(name) from error


def _gunzip(chunks: Iterable[bytes]) -> Iterator[bytes]:
    decoder, is_begun, members = _new_gzip(), False, 1
    for chunk in chunks:
        data = chunk
        while data:
            if decoder.eof:  # a gzip file may have several members
                decoder, members = _new_gzip(), _counted(members)
            is_begun = True
            yield decoder.decompress(data, PIECE_BYTES)
            data = decoder.unused_data if decoder.eof else decoder.unconsumed_tail
    yield decoder.flush()  # at most one match, 258 bytes
    if is_begun and not decoder.eof:
        raise _malformed("gzip")


def _new_gzip() -> Any:
    return zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)


def _unzstd(chunks: Iterable[bytes]) -> Iterator[bytes]:
    decoder, is_begun, members = _new_zstd(), False, 1
    for chunk in chunks:
        data = chunk
        while data or not (decoder.needs_input or decoder.eof):
            if decoder.eof:  # a body may have several frames
                decoder, members = _new_zstd(), _counted(members)
            is_begun = True
            yield decoder.decompress(data, PIECE_BYTES)
            data = decoder.unused_data if decoder.eof else b""  # it keeps what it has not read
    if is_begun and not decoder.eof:
        raise _malformed("zstd")


def _new_zstd() -> Any:
    return zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: _ZSTD_WINDOW_LOG})


def _counted(members: int) -> int:
    if members == _MAX_MEMBERS:
        raise InvalidInput(
            f"A compressed body may have {_MAX_MEMBERS} members or frames. Compress it as one.", code="body_malformed"
        )
    return members + 1


def _malformed(name: str) -> InvalidInput:
    return InvalidInput(
        f"The body is not complete {name} data, as its Content-Encoding says; nothing was stored.",
        code="body_malformed",
    )


_Decode = Callable[[Iterable[bytes]], Iterator[bytes]]
DECODERS: Mapping[str, tuple[_Decode, type[Exception]]] = {
    "gzip": (_gunzip, zlib.error),
    "zstd": (_unzstd, zstd.ZstdError),
}
