"""Compressed bodies: they come back as they were, from every released dictionary."""

from __future__ import annotations

import base64

import orjson
import pytest
from hypothesis import given, settings

from tests.examples import REFERENCE
from tests.strategies import examples, trajectories
from trajectories.domain.compression import UnreadableBody, compress, decompress, plain_size
from trajectories.domain.schema import canonical, parse
from trajectories.zstandard import zstd

REFERENCE_BODY = canonical(parse(orjson.dumps(REFERENCE)))
RELEASED = {
    893021575: (
        "KLUv/WOHbTo1LgGdAwBTwgc9yvabZfbiyktx6CAIMqBAOk4oJCclkAkPyvPIgAoBH/y64eOKiYn0C0XxAdOhzCSzF9w6LnuC"
        "UozzkKCHd+6Mku8ufNuhv7DI+xxNrwhGcfWcUo5dOpRYdH1GARijOJ5LSYi1+y8Gy1tjQx+QiAdN"
    ),
}
"""REFERENCE_BODY, compressed with each dictionary that was released. Never remove or change a line."""


@settings(max_examples=examples(100), deadline=None)
@given(trajectories)
def test_a_body_comes_back_as_it_was(trajectory: object) -> None:
    body = canonical(parse(orjson.dumps(trajectory)))
    assert decompress(compress(body)) == body


@pytest.mark.parametrize("stored", [b"", REFERENCE_BODY, compress(REFERENCE_BODY)], ids=["none", "plain", "frame"])
def test_the_size_of_a_body_is_known_without_reading_it(stored: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    size = len(decompress(stored))
    monkeypatch.delattr(zstd, "decompress")
    assert plain_size(stored) == size


@pytest.mark.parametrize("dictionary", RELEASED)
def test_a_frame_of_each_released_dictionary_is_readable(dictionary: int) -> None:
    frame = base64.b64decode(RELEASED[dictionary])
    assert zstd.get_frame_info(frame).dictionary_id == dictionary
    assert decompress(frame) == REFERENCE_BODY


def test_new_frames_name_a_released_dictionary() -> None:
    assert zstd.get_frame_info(compress(REFERENCE_BODY)).dictionary_id in RELEASED


def test_a_body_takes_less_than_half_of_its_bytes() -> None:
    assert 2 * len(compress(REFERENCE_BODY)) < len(REFERENCE_BODY)


def test_plain_bodies_and_those_of_tombstones_are_returned_unchanged() -> None:
    assert decompress(REFERENCE_BODY) == REFERENCE_BODY
    assert decompress(b"") == compress(b"") == b""


def test_a_frame_of_an_unknown_dictionary_says_which_release_to_install() -> None:
    frame = bytearray(compress(REFERENCE_BODY))
    at = frame.index((893021575).to_bytes(4, "little"))
    frame[at : at + 4] = (4_711_000).to_bytes(4, "little")
    with pytest.raises(UnreadableBody, match=r"dictionary 4711000, .* install that release"):
        decompress(bytes(frame))


def test_a_damaged_frame_is_an_error() -> None:
    with pytest.raises(UnreadableBody, match="cannot be decompressed"):
        decompress(compress(REFERENCE_BODY)[:-10])
    for read in (decompress, plain_size):
        with pytest.raises(UnreadableBody):
            read(b"neither JSON nor a frame")
