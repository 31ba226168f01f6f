"""Hostile requests that are sent in one go, each with what may be answered to it."""

from __future__ import annotations

import gzip
from typing import NamedTuple

from tests.api.client import JSON, NDJSON, PATH

MIB = 1024**2


class Hostile(NamedTuple):
    """``statuses``: one answer for each of these, in this order; an empty one only closes the
    connection."""

    name: str
    request: bytes
    statuses: tuple[int, ...]
    at_most_mib: int = 24


def _head(first: str, *lines: str) -> bytes:
    return "\r\n".join([first, "Host: 127.0.0.1", "Authorization: KEY", *lines, "", ""]).encode("latin-1")


def _get(target: str, *lines: str, method: str = "GET") -> bytes:
    return _head(f"{method} {target} HTTP/1.1", "Connection: close", *lines)


def _post(body: bytes, *lines: str, content_type: str = JSON, length: str | None = "") -> bytes:
    """``length`` in place of the right one; None: none is said."""
    said = [] if length is None else [f"Content-Length: {length or len(body)}"]
    return _head(f"POST {PATH} HTTP/1.1", f"Content-Type: {content_type}", "Connection: close", *said, *lines) + body


def _chunked(body: bytes, *lines: str) -> bytes:
    return _post(body, "Transfer-Encoding: chunked", *lines, length=None)


def _with(more: bytes) -> bytes:
    return b'{"request_summary":"x","phases":[],%b}' % more


def _camel(*tools: bytes) -> bytes:
    phases = b",".join(b'{"phase":"a","success":true,"toolCalls":[%b1]}' % (some[2:],) for some in tools)
    return b'{"request":"x","phases":[%b]}' % phases


_GOOD = b'{"request_summary":"x","phases":[]}'
_SMUGGLED = _get(PATH)
_ATTEMPTS = b'{"phase_name":"x","attempts":[%b{}]}' % (b"{}," * 199)
_PROBLEMS = b'{"request_summary":"x","phases":[%b%b]}\n' % ((_ATTEMPTS + b",") * 199, _ATTEMPTS)
"""80,000 problems in 126 kB."""
_BOMB = gzip.compress(bytes(64 * MIB)) * 16
"""A gibibyte of zeros, in one mebibyte."""
assert len(_BOMB) < 1.1 * MIB

BODIES = [
    Hostile("integer of 500,000 digits", _post(_with(b'"total_phases":' + b"9" * 500_000)), (400,)),
    Hostile("free integer of 4,000 digits", _post(_with(b'"metadata":{"a":%b}' % (b"9" * 4_000))), (400,)),
    Hostile("float of 1,000,000 digits", _post(_with(b'"total_cost_usd":0.' + b"1" * 1_000_000)), (201,)),
    Hostile("exponent beyond any float", _post(_with(b'"metadata":{"a":1e999999999999}')), (400,)),
    Hostile("500,000 open brackets", _post(b"[" * 500_000), (413,)),
    Hostile(
        "100,000 nested objects", _post(_with(b'"metadata":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000)), (413,)
    ),
    Hostile(
        "90,000 keys of no meaning",
        _post(_with(b",".join(b'"k%d":0' % k for k in range(90_000)))),
        (400,),
        at_most_mib=128,
    ),
    Hostile(
        "a key 170,000 times",
        _post(_with(b'"metadata":{' + b",".join([b'"a":1'] * 170_000) + b"}")),
        (413,),
        at_most_mib=64,
    ),
    Hostile(
        "300,000 empty objects", _post(_with(b'"metadata":{"a":[%b{}]}' % (b"{}," * 300_000))), (413,), at_most_mib=96
    ),
    Hostile(
        "45,000 empty objects", _post(_with(b'"metadata":{"a":[%b{}]}' % (b"{}," * 45_000))), (201,), at_most_mib=96
    ),
    Hostile("90,000 numbers for names", _post(_camel(b"1," * 90_000)), (400,), at_most_mib=80),
    Hostile("90,000 open brackets", _post(b"[" * 90_000), (400,)),
    Hostile("500,000 numbers for names", _post(_camel(b"1," * 500_000)), (413,), at_most_mib=80),
    Hostile("500,000 in lists of 10,000", _post(_camel(*[b"1," * 10_000] * 50)), (413,), at_most_mib=80),
    Hostile("no UTF-8", _post(_with(b'"error":"\xff\xfe\xc0\x80"')), (400,)),
    Hostile("UTF-16", _post(_GOOD.decode().encode("utf-16")), (400,)),
    Hostile("byte order mark", _post(b"\xef\xbb\xbf" + _GOOD), (201,)),
    Hostile("lone surrogate", _post(_with(b'"error":"\\ud800"')), (400,)),
    Hostile("NUL bytes", _post(bytes(1_000)), (400,)),
    Hostile("NUL in a text", _post(_with(b'"error":"a\\u0000b"')), (400,)),
    Hostile("gzip bomb of 1 GiB", _post(_BOMB, "Content-Encoding: gzip", content_type=NDJSON), (413,)),
    Hostile("gzip bomb that says nothing of it", _post(_BOMB, content_type=NDJSON), (200,), at_most_mib=48),
    Hostile("no JSON type", _post(_GOOD, content_type="text/html"), (415,)),
    Hostile("multipart", _post(b"--x\r\n\r\n--x--", content_type="multipart/form-data; boundary=x"), (415,)),
    Hostile("a million tiny lines", _post(b"1\n" * 10**6, content_type=NDJSON), (413,)),
    Hostile("16 MiB of empty lines", _post(b"\n" * 16 * MIB, content_type=NDJSON), (413,), at_most_mib=64),
    Hostile("1,000 bad lines", _post(b"1\n" * 1_000, content_type=NDJSON), (200,), at_most_mib=48),
    Hostile("10,000 bad lines", _post(b"1\n" * 10_000, content_type=NDJSON), (413,), at_most_mib=48),
    # The body three times over (as it came, joined, in lines) is 36 MiB. Pydantic keeps the problems
    # of a line in 36 more, before it says how many there are.
    Hostile("100 lines of 80,000 problems", _post(_PROBLEMS * 100, content_type=NDJSON), (200,), at_most_mib=112),
    Hostile("one line of 16 MiB", _post(b"1" * 16 * MIB, content_type=NDJSON), (200,), at_most_mib=80),
]

HEADS = [
    Hostile("10,000 header lines", _get(PATH, *(f"X-{n}: 1" for n in range(10_000))), (431,)),
    Hostile("a header of 1 MiB", _get(PATH, "X-A: " + "a" * MIB), (431,)),
    Hostile("a head that does not end", b"GET / HTTP/1.1\r\n" + b"X-A: 1\r\n" * 500_000, (431,)),
    Hostile("address of 100 kB", _get(PATH + "/" + "a" * 100_000), (414,)),
    Hostile("query of 3,900 bytes", _get(PATH + "?q=" + "a" * 3_900), (400,)),
    Hostile("query of 1 MiB", _get(PATH + "?q=" + "a" * MIB), (431,)),
    Hostile("1,900 parameters", _get(PATH + "?" + "a&" * 1_900), (400,)),
    Hostile("one parameter 400 times", _get(PATH + "?" + "limit=1&" * 400), (400,)),
    Hostile("NUL in the address", _get(PATH + "/%00"), (404,)),
    Hostile("raw NUL in the address", _get(PATH + "/\0"), (400,)),
    Hostile("NUL in a parameter", _get(PATH + "?project=%00"), (400,)),
    Hostile("no UTF-8 in the address", _get(PATH + "/%ff%fe"), (404,)),
    Hostile("no UTF-8 in a parameter", _get(PATH + "?project=%ff%fe"), (200,)),
    Hostile("lone surrogate in a parameter", _get(PATH + "?project=%ed%a0%80"), (200,)),
    Hostile("way out of the folder", _get(PATH + "/../../../etc/passwd"), (404,)),
    Hostile("NUL in a header", _get(PATH, "Idempotency-Key: a\0b"), (400,)),
    Hostile("folded header", _get(PATH, "X-A: 1\r\n b"), (400,)),
    Hostile("header without a name", _get(PATH, ": 1"), (400,)),
    Hostile("header with a space in its name", _get(PATH, "X A: 1"), (400,)),
    Hostile("no version", b"GET /\r\n\r\n", (400,)),
    Hostile("version 9.9", b"GET / HTTP/9.9\r\n\r\n", (400,)),
    Hostile("HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", ()),
    Hostile("a TLS greeting", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500), (400,)),
    Hostile("nothing but line ends", b"\r\n" * 100_000, ()),
    Hostile(
        "another host",
        b"GET %b HTTP/1.1\r\nHost: elsewhere.example\r\nConnection: close\r\n\r\n" % PATH.encode(),
        (400,),
    ),
    *(
        Hostile(f"method {method}", _get(PATH, method=method), (status,))
        for method, status in {
            "DELETE": 403,  # without a filter
            "PUT": 405,
            "PATCH": 405,
            "OPTIONS": 405,
            "TRACE": 405,
            "PROPFIND": 405,
            "M-SEARCH": 405,
            "X" * 20: 405,
            "get": 200,  # Django reads methods in upper case
            "G\x01T": 400,
        }.items()
    ),
]

FRAMES = [
    Hostile("length and chunks", _chunked(b"0\r\n\r\n" + _SMUGGLED, "Content-Length: 5"), (400,)),
    Hostile("two lengths", _post(_GOOD + _SMUGGLED, f"Content-Length: {len(_GOOD)}"), (400,)),
    Hostile("length +35", _post(_GOOD, length="+35"), (400,)),
    Hostile("length -1", _post(_GOOD, length="-1"), (400,)),
    Hostile("length 0x23", _post(_GOOD, length="0x23"), (400,)),
    Hostile("length of 30 digits", _post(_GOOD, length="9" * 30), (400,)),
    Hostile("length in other digits", _post(_GOOD, length="\xb2"), (400,)),
    Hostile("length too small", _post(_GOOD + b"}", length=str(len(_GOOD) - 5)), (400,)),
    Hostile("length too large", _post(_GOOD, length=str(len(_GOOD) + 5)), (400,)),
    Hostile("chunked twice", _chunked(b"0\r\n\r\n" + _SMUGGLED, "Transfer-Encoding: chunked"), (400,)),
    Hostile("chunked, identity", _post(_GOOD, "Transfer-Encoding: chunked, identity", length=None), (400,)),
    Hostile("xchunked", _post(b"0\r\n\r\n", "Transfer-Encoding: xchunked", length=None), (400,)),
    Hostile(
        "chunked with a space before the colon", _post(b"0\r\n\r\n", "Transfer-Encoding : chunked", length=None), (400,)
    ),
    Hostile("chunked behind a line feed", _post(b"0\r\n\r\n", "X-A: 1\nTransfer-Encoding: chunked"), (400,)),
    Hostile("chunked in HTTP/1.0", _chunked(b"0\r\n\r\n").replace(b"HTTP/1.1", b"HTTP/1.0", 1), (400,)),
    Hostile("chunk size that is none", _chunked(b"zz\r\n\r\n" + _SMUGGLED), (400,)),
    Hostile("negative chunk size", _chunked(b"-5\r\nhello\r\n0\r\n\r\n"), (400,)),
    Hostile("chunk size beyond 64 bits", _chunked(b"F" * 20 + b"\r\nhello\r\n"), (400,)),
    Hostile("chunk without its end", _chunked(b"5\r\nhelloX\r\n0\r\n\r\n"), (400,)),
    Hostile("chunks of one byte", _chunked(b"1\r\n \r\n" * 50_000 + b"0\r\n\r\n"), (400,)),
    Hostile("chunk extension of 1 MiB", _chunked(b"5;" + b"a" * MIB + b"\r\nhello\r\n0\r\n\r\n"), (400,)),
    Hostile("trailers that are none", _chunked(b"0\r\nX A\r\n\r\n"), (400,)),
    Hostile("trailers without end", _chunked(b"0\r\n" + b"X: 1\r\n" * 300_000), (400,)),
    Hostile("garbage behind a request", _head("GET /health/live HTTP/1.1") + b"\x00\x01garbage\r\n\r\n", (200, 400)),
    Hostile("two requests at once", _head("GET /health/live HTTP/1.1") + _SMUGGLED, (200, 401)),
    Hostile("a thousand at once", _head("GET /health/live HTTP/1.1") * 1_000 + _get("/health/live"), (200,) * 1_001),
]
