"""When enough of a request is there to give it to a thread."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trajectory_site.receiving import MAX_BODY, MAX_HEAD, Incoming

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST / HTTP/1.1\r\ncontent-length : 5\r\n\r\nhello"
CHUNKED = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n1\r\n!\r\n0\r\n\r\n"
TRAILERS = CHUNKED[:-2] + b"X-A: 1\r\n\r\n"
WHOLE = [GET, POST, CHUNKED, TRAILERS, b"\r\n" + GET]


@given(st.sampled_from(WHOLE), st.data())
def test_a_request_is_enough_with_its_last_byte_however_it_is_cut(request: bytes, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.sets(st.integers(1, len(request) - 1), max_size=6)))
    incoming = Incoming(b"", 0.0)
    for begin, end in zip([0, *cuts], [*cuts, len(request)], strict=True):
        assert not incoming.is_enough
        incoming.take(request[begin:end])
    assert incoming.is_enough
    assert bytes(incoming.data) == request


@pytest.mark.parametrize(
    "data",
    [
        b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % (MAX_BODY + 1),
        b"POST / HTTP/1.1\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nno size\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\n \r\n" * 2_000,
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFF\r\n" + b" " * (MAX_HEAD + MAX_BODY),
        b"GET / HTTP/1.1\r\n" + b"X: 1\r\n" * MAX_HEAD,
    ],
)
def test_what_is_long_or_odd_is_not_waited_for(data: bytes) -> None:
    assert Incoming(data, 0.0).is_enough
