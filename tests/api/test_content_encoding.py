"""Compressed request bodies."""

from __future__ import annotations

import gzip
import tracemalloc
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from backports import zstd
from django.test import Client, RequestFactory

from tests.api.client import ID, JSON, NDJSON, error, ids, post
from tests.examples import body
from trajectories.api import parsers
from trajectories.api.content_encoding import PIECE_BYTES, decoded
from trajectories.caller import Caller
from trajectories.exceptions import TooLarge

MIB = 1024**2
COMPRESS: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "zstd": zstd.compress}
each_encoding = pytest.mark.parametrize("encoding", list(COMPRESS))
RECORD = orjson.dumps(body(id=ID))


@each_encoding
@pytest.mark.parametrize("content_type", [JSON, NDJSON])
def test_a_compressed_body_is_stored_as_the_plain_one(north: Client, encoding: str, content_type: str) -> None:
    data = COMPRESS[encoding](RECORD)
    response = post(north, data, content_type=content_type, **{"Content-Encoding": encoding.upper()})
    assert response.status_code in (200, 201), response.content
    assert ids(north) == [ID]


@each_encoding
def test_a_body_of_several_members_is_read_to_its_end(north: Client, encoding: str) -> None:
    data = COMPRESS[encoding](RECORD[:9]) + COMPRESS[encoding](RECORD[9:])
    assert post(north, data, **{"Content-Encoding": encoding}).status_code == 201


@each_encoding
@pytest.mark.parametrize("chunk_bytes", [1, 7, 100_000])
def test_pieces_are_bounded_and_join_to_the_whole(encoding: str, chunk_bytes: int) -> None:
    plain = b"".join(b"%d," % n for n in range(10_000)) + bytes(5 * PIECE_BYTES)
    data = COMPRESS[encoding](plain)
    chunks = [data[at : at + chunk_bytes] for at in range(0, len(data), chunk_bytes)]
    pieces = list(decoded(chunks, encoding))
    assert max(map(len, pieces)) <= PIECE_BYTES
    assert b"".join(pieces) == plain


@each_encoding
@pytest.mark.parametrize(("content_type", "limit"), [(JSON, 1), (NDJSON, 16)])
def test_a_decompression_bomb_is_refused_at_the_limit(
    north: Client, encoding: str, content_type: str, limit: int
) -> None:
    data = COMPRESS[encoding](bytes(64 * MIB))
    post(north, RECORD)  # what a first request imports is not counted
    tracemalloc.start()
    try:
        refused = post(north, data, content_type=content_type, **{"Content-Encoding": encoding})
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    error(refused, 413, "body_too_large")
    assert peak_bytes < (limit + 4) * MIB


@each_encoding
@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: b"x" + data, lambda data: data + b"x"])
def test_a_damaged_body_is_refused(north: Client, encoding: str, damage: Callable[[bytes], bytes]) -> None:
    data = damage(COMPRESS[encoding](RECORD))
    error(post(north, data, **{"Content-Encoding": encoding}), 400, "body_malformed")
    assert ids(north) == []


def test_a_frame_with_a_huge_window_is_refused(north: Client) -> None:
    compressor = zstd.ZstdCompressor(options={zstd.CompressionParameter.window_log: 27})
    data = compressor.compress(RECORD) + compressor.flush()
    error(post(north, data, **{"Content-Encoding": "zstd"}), 400, "body_malformed")


@pytest.mark.parametrize("encoding", ["br", "deflate", "gzip, gzip", "nonsense"])
def test_an_encoding_that_is_not_decoded_is_refused_with_the_ones_that_are(north: Client, encoding: str) -> None:
    refused = error(post(north, RECORD, **{"Content-Encoding": encoding}), 415, "unsupported_content_encoding")
    assert "gzip or zstd" in refused.message


def test_rate_limits_count_decoded_bytes(north: Client, settings: Any, trajectories_settings: dict[str, Any]) -> None:
    settings.TRAJECTORIES = trajectories_settings | {"RATE_LIMITS": {"bytes_per_minute": 16 * MIB}}
    lines = RECORD + b"\n" * 9_000
    first = post(north, gzip.compress(lines), content_type=NDJSON, **{"Content-Encoding": "gzip"})
    second = post(north, RECORD)
    used = int(first["X-RateLimit-Remaining"]) - int(second["X-RateLimit-Remaining"])
    assert used == len(lines) - len(gzip.compress(lines)) + len(RECORD)


@each_encoding
def test_a_body_of_very_many_members_is_refused_before_all_are_decoded(north: Client, encoding: str) -> None:
    data = COMPRESS[encoding](b"") * 5_000
    refused = error(post(north, data, **{"Content-Encoding": encoding}), 400, "body_malformed")
    assert "4096 members" in refused.message


@each_encoding
def test_an_endless_compressed_body_that_decodes_to_nothing_is_refused_at_the_limit(encoding: str) -> None:
    piece = COMPRESS[encoding](b"")
    read = 0

    class Endless:
        def read(self, size: int) -> bytes:
            nonlocal read
            read += len(piece)
            return piece

    request = RequestFactory().post("/", headers={"Content-Encoding": encoding, "Transfer-Encoding": "chunked"})
    del request.META["CONTENT_LENGTH"]
    request.META |= {"wsgi.input": Endless(), "wsgi.input_terminated": True}
    with pytest.raises(TooLarge):
        parsers.read_body(request, 2_000, Caller(tenant="north", scopes=frozenset()))
    assert read <= 2_000 + len(piece)
