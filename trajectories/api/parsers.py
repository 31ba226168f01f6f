"""DRF parsers of the API: each reads a body up to its limit and returns its bytes."""

from __future__ import annotations

import codecs
from collections.abc import Iterator, Mapping
from typing import Any

from django.http import HttpRequest
from rest_framework.parsers import BaseParser

from trajectories.api import throttling
from trajectories.api.content_encoding import decoded
from trajectories.caller import Caller
from trajectories.conf import read_settings
from trajectories.domain.late_outcomes import MAX_OUTCOME_BYTES
from trajectories.domain.record import SERVER_FIELDS_BYTES
from trajectories.exceptions import Busy, InvalidInput, RequestTimeout, TooLarge, TrajectoriesError

JSON = "application/json"
MERGE_PATCH = "application/merge-patch+json"
NDJSON = "application/x-ndjson"
MAX_LINES = 10_000
SHORT_LINES = 1_000
"""Lines that a request may have however short they are."""
BYTES_PER_LINE = 1_024
"""Bytes for which a request may have one more line. A record of 36 bytes takes as much CPU as one
of 900, so without this the smallest requests would be the costliest for their size."""
_READ_CHUNK = 64 * 1024


class RecordParser(BaseParser):
    """Return the bytes of one record, at most ``max_record_bytes`` and the server's own fields."""

    media_type = JSON

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Mapping[str, Any] | None = None) -> Any:
        """Read ``stream``, Django's request. ``parser_context["request"].auth`` is its caller."""
        caller: Any = (parser_context or {})["request"].auth
        return read_body(stream, read_settings().max_record_bytes + SERVER_FIELDS_BYTES, caller)


class OutcomeParser(BaseParser):
    """Return the bytes of one late outcome."""

    media_type = JSON

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Mapping[str, Any] | None = None) -> Any:
        caller: Any = (parser_context or {})["request"].auth
        return read_body(stream, MAX_OUTCOME_BYTES, caller)


class PatchParser(RecordParser):
    """Return the bytes of a merge patch (RFC 7396), with the limit of a record."""

    media_type = MERGE_PATCH


class LinesParser(BaseParser):
    """Return the bytes of NDJSON: at most ``max_request_bytes`` and 10,000 lines, fewer if they are
    short."""

    media_type = NDJSON

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Mapping[str, Any] | None = None) -> Any:
        caller: Any = (parser_context or {})["request"].auth
        data = read_body(stream, read_settings().max_request_bytes, caller)
        # Check before splitting: each of millions of lines would take more memory than its bytes.
        most = min(MAX_LINES, SHORT_LINES + len(data) // BYTES_PER_LINE)
        if (lines := data.count(b"\n")) > most:
            message = f"A request of {len(data):,} bytes may have {most:,} lines, got {lines:,}. Send {SHORT_LINES:,} lines at a time."
            raise TooLarge(message, code="too_many_lines")
        return data


def read_body(request: HttpRequest, limit: int, caller: Caller) -> bytes:
    """Return the decoded body of ``request``, without a byte order mark.

    It is refused unread if its Content-Length is over ``limit``. No more than ``limit`` bytes are
    read, and no more are decoded.

    Read from the stream, because ``request.body`` has a limit that the host project sets.
    """
    too_large = TooLarge(f"The body may have {limit} bytes.", code="body_too_large")
    announced = request.META.get("CONTENT_LENGTH") or "0"
    if announced.isdigit() and int(announced) > limit:
        raise too_large
    chunks, size = [], 0
    try:
        encoding = request.META.get("HTTP_CONTENT_ENCODING", "")
        for chunk in decoded(_limited(_chunks(request), limit, too_large), encoding):
            size += len(chunk)
            if size > limit:
                raise too_large
            chunks.append(chunk)
    finally:
        throttling.count_unannounced(caller, request, size)
    return b"".join(chunks).removeprefix(codecs.BOM_UTF8)


def _limited(chunks: Iterator[bytes], limit: int, too_large: TooLarge) -> Iterator[bytes]:
    """Yield ``chunks`` up to ``limit`` bytes: an endless compressed body may decode to nothing."""
    size = 0
    for chunk in chunks:
        size += len(chunk)
        if size > limit:
            raise too_large
        yield chunk


def _chunks(request: HttpRequest) -> Iterator[bytes]:
    stream, size = _stream(request), 0
    try:
        while chunk := stream.read(_READ_CHUNK):
            size += len(chunk)
            yield chunk
    except OSError as error:
        raise _unread(error.__cause__ or error) from error  # Django wraps the server's error
    except Exception as error:
        # Each server raises its own errors for malformed chunks.
        raise InvalidInput("The body is malformed; nothing of it was taken.", code="body_malformed") from error
    announced = request.META.get("CONTENT_LENGTH") or "0"
    if announced.isdigit() and size < int(announced):
        raise _broken_off()  # otherwise a truncated NDJSON body is accepted silently


def _stream(request: HttpRequest) -> Any:
    """Return the stream of the body.

    Under WSGI, Django treats a body without Content-Length as empty.
    """
    is_chunked = "HTTP_TRANSFER_ENCODING" in request.META and not request.META.get("CONTENT_LENGTH")
    if not is_chunked or "wsgi.input" not in request.META:
        return request
    if not request.META.get("wsgi.input_terminated"):
        raise InvalidInput("This server takes no chunked bodies; send Content-Length.", code="length_required")
    return request.META["wsgi.input"]


def _unread(error: BaseException) -> TrajectoriesError:
    match error:
        case TimeoutError():
            return RequestTimeout("The body did not come within the time that it may take; nothing of it was taken.")
        case BlockingIOError():
            return Busy("Too many clients send slowly at once; nothing of the body was taken.")
    return _broken_off()


def _broken_off() -> InvalidInput:
    return InvalidInput("The body broke off before its end; nothing of it was taken.", code="body_incomplete")
