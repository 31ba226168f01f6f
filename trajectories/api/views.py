"""The HTTP surface: one viewset. It reads bytes, calls ``ingest`` and ``reads``, and joins bytes; nothing is serialised twice.

Every option of DRF that a host project could set globally is set here.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any
from uuid import UUID

import orjson
from django.db import transaction
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from rest_framework.decorators import action
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.viewsets import ViewSet

from trajectories import metrics
from trajectories.api import request_ids, throttling
from trajectories.api.authentication import Caller, authenticate
from trajectories.api.exception_handler import error_object, error_response
from trajectories.api.openapi import AutoSchema, documented
from trajectories.api.sliding_window import Allowance
from trajectories.conf import read_settings
from trajectories.domain.query import FILTERS, decode_cursor, encode_cursor, parameters, parse_query
from trajectories.exceptions import (
    Busy,
    InvalidInput,
    MethodNotAllowed,
    NotFound,
    RequestTimeout,
    ScopeMissing,
    TooLarge,
    TrajectoriesError,
    UnsupportedMediaType,
)
from trajectories.services import deletion, ingest, reads

logger = logging.getLogger(__name__)

JSON = "application/json"
NDJSON = "application/x-ndjson"
LIST_LIMIT = 50
LIST_LIMIT_MAX = 1_000
MAX_LINES = 10_000
MAX_LINE_DETAILS = 10
"""Problems told of one line: all of every line would make the answer far larger than the request."""
MAX_IDEMPOTENCY_KEY = 255
_READ_CHUNK = 64 * 1024
_NO_ACTION = ("none", "other", "405")
_SCOPES = {
    "record": "record",
    "list": "read",
    "retrieve": "read",
    "stats": "read",
    "export": "export",
    "delete_one": "admin",
    "delete_matching": "admin",
}


class AnyAccept(BaseContentNegotiation):
    """There is one form of each answer, so Accept does not choose."""

    def select_parser(self, request: Any, parsers: Any) -> Any:
        return None

    def select_renderer(self, request: Any, renderers: Any, format_suffix: Any = None) -> Any:
        return renderers[0], JSON


class TrajectoryViewSet(ViewSet):
    """Record, list, retrieve, stats, export."""

    authentication_classes = ()
    permission_classes = ()
    throttle_classes = ()
    parser_classes = ()
    renderer_classes = (JSONRenderer,)
    content_negotiation_class = AnyAccept
    metadata_class = None
    versioning_class = None
    schema = AutoSchema()
    lookup_field = "id"
    http_method_names = ["get", "head", "post", "delete"]  # noqa: RUF012  a list, as View has it

    caller: Caller
    allowance: Allowance | None = None

    @classmethod
    def as_view(cls, actions: Any = None, **initkwargs: Any) -> Any:
        # The outbox commits by itself, and a read must not hold a transaction open while it streams.
        return transaction.non_atomic_requests(super().as_view(actions, **initkwargs))

    def dispatch(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        started = time.perf_counter()
        token = request_ids.current.set(request_ids.request_id(request))
        try:
            response = super().dispatch(request, *args, **kwargs)
        finally:
            request_ids.current.reset(token)
        response[request_ids.HEADER] = request_ids.request_id(request)
        if self.allowance is not None:
            for name, text in self.allowance.headers().items():
                response[name] = text
        response["X-Content-Type-Options"] = "nosniff"
        # Whatever a client may call its method, there are few series.
        labels = (self.action, request.method, str(response.status_code)) if self.action in _SCOPES else _NO_ACTION
        metrics.request_seconds.labels(*map(str, labels)).observe(time.perf_counter() - started)
        return response

    def perform_authentication(self, request: Request) -> None:
        """Nobody is asked for a user of the host project, whatever it has set for those who are not one."""

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        if self.action not in _SCOPES:
            raise MethodNotAllowed(f"{request.method} is not for this address; {', '.join(self.allowed_methods)} are.")
        self.caller = authenticate(request._request)
        self.allowance = throttling.count(self.caller, request._request)
        if self.allowance is not None:
            self.allowance.expect_taken()
        if _SCOPES[self.action] not in self.caller.scopes:
            raise ScopeMissing(f"This API key lacks the scope {_SCOPES[self.action]!r}.")

    def handle_exception(self, exc: Exception) -> HttpResponse:  # type: ignore[override]
        response = error_response(exc, self.request._request)
        if isinstance(exc, MethodNotAllowed):
            response["Allow"] = ", ".join(self.allowed_methods)
        return response

    @documented("record")
    def record(self, request: Request) -> HttpResponse:
        """Take one trajectory, or many as NDJSON."""
        self._parameters(())
        media_type = _media_type(request._request)
        conf = read_settings()
        key = _idempotency_key(request._request)
        if media_type == NDJSON:
            data = read_body(request._request, conf.max_request_bytes, self.caller)
            # Before they are split: of millions of lines each would take more than its bytes.
            if data.count(b"\n") > MAX_LINES:
                raise TooLarge(f"A request may have {MAX_LINES} lines.", code="too_many_lines")
            return _lines_response(ingest.record_many(self.caller.tenant, data.split(b"\n"), idempotency_key=key))
        data = read_body(request._request, conf.max_record_bytes, self.caller)
        record, is_new = ingest.record(self.caller.tenant, data, idempotency_key=key)
        response = HttpResponse(record.json(), status=201 if is_new else 200, content_type=JSON)
        response["Location"] = f"{request.path}/{record.id}"
        return response

    @documented("list")
    def list(self, request: Request) -> HttpResponse:
        """A page of trajectories, newest first."""
        given = self._parameters((*FILTERS, "cursor", "limit"))
        cursor, limit = given.pop("cursor", None), _limit(given.pop("limit", None))
        after = None if cursor is None else decode_cursor(cursor)
        page = reads.list_(self.caller.tenant, parse_query(given), after=after, limit=limit)
        rest = {
            "next_cursor": page.next_position and encode_cursor(page.next_position),
            "has_more": page.next_position is not None,
            "tiers": page.tiers,
            "complete": page.is_complete,
        }
        data = b",".join(record.json() for record in page.records)
        return HttpResponse(b'{"data":[%b],%b' % (data, orjson.dumps(rest)[1:]), content_type=JSON)

    @documented("retrieve")
    def retrieve(self, request: Request, id: str) -> HttpResponse:  # noqa: A002  the name in the URL
        """One trajectory."""
        self._parameters(())
        return HttpResponse(reads.retrieve(self.caller.tenant, _known_id(id)).json(), content_type=JSON)

    @documented("stats")
    @action(detail=False, methods=["get"])
    def stats(self, request: Request) -> HttpResponse:
        """Totals and groups."""
        query = parse_query(self._parameters(FILTERS))
        return HttpResponse(orjson.dumps(reads.stats(self.caller.tenant, query)), content_type=JSON)

    @documented("export")
    @action(detail=False, methods=["get"])
    def export(self, request: Request) -> StreamingHttpResponse:
        """Every matching trajectory as NDJSON."""
        given = self._parameters((*FILTERS, "after", "end"))
        after, has_end = _after(given.pop("after", None)), _flag("end", given.pop("end", "0"))
        lines = reads.export(self.caller.tenant, parse_query(given), after=after, has_end=has_end)
        return StreamingHttpResponse(_log_stream_errors(lines, request._request), content_type=NDJSON)

    @documented("delete_one")
    def delete_one(self, request: Request, id: str) -> HttpResponse:  # noqa: A002  the name in the URL
        """Delete one trajectory, for good."""
        self._parameters(())
        known_id = _known_id(id)
        removed = deletion.delete_one(self.caller.tenant, known_id)
        answer = {"id": known_id, "deleted": True, "removed": asdict(removed)}
        return HttpResponse(orjson.dumps(answer), content_type=JSON)

    @documented("delete_matching")
    def delete_matching(self, request: Request) -> HttpResponse:
        """Delete every trajectory that the filters find, after a dry run."""
        given = self._parameters((*FILTERS, "dry_run", "token"))
        is_dry, token = _flag("dry_run", given.pop("dry_run", "0")), given.pop("token", "")
        if not given:
            raise InvalidInput("Name at least one filter; everything is not deleted at once.", code="filter_required")
        query = parse_query(given)
        if is_dry:
            found = deletion.matching(self.caller.tenant, query, given)
            return HttpResponse(orjson.dumps({"count": found.count, "token": found.token}), content_type=JSON)
        deleted = deletion.delete_matching(self.caller.tenant, query, given, token)
        answer = {"deleted": deleted.count, "has_more": deleted.has_more, "removed": asdict(deleted.removed)}
        return HttpResponse(orjson.dumps(answer), content_type=JSON)

    def _parameters(self, allowed: Any) -> dict[str, str]:
        return parameters(self.request._request.GET.lists(), allowed=allowed)


def _log_stream_errors(lines: Iterator[bytes], request: HttpRequest) -> Iterator[bytes]:
    """``lines``; what breaks them off is logged by whoever sends them, who does not know of which request they are."""
    try:
        yield from lines
    except Exception as error:
        logger.error(
            "An export breaks off (request %s): %s",
            request_ids.request_id(request),
            type(error).__name__,
            extra={"request_id": request_ids.request_id(request)},
        )
        raise


def _lines_response(lines: list[ingest.Line]) -> HttpResponse:
    results = [_line_result(line) for line in lines]
    refused = sum(1 for line in lines if isinstance(line.outcome, TrajectoriesError))
    body = {"accepted": len(lines) - refused, "refused": refused, "results": results}
    return HttpResponse(orjson.dumps(body), content_type=JSON)


def _line_result(line: ingest.Line) -> dict[str, Any]:
    if isinstance(line.outcome, TrajectoriesError):
        return {
            "line": line.number,
            "status": line.outcome.status,
            "error": error_object(line.outcome, max_details=MAX_LINE_DETAILS),
        }
    record, is_new = line.outcome
    return {"line": line.number, "id": record.id, "status": 201 if is_new else 200, "revision": record.revision}


def _media_type(request: HttpRequest) -> str:
    media_type = (request.content_type or "").lower()
    if media_type not in (JSON, NDJSON):
        raise UnsupportedMediaType(f"Content-Type must be {JSON}, or {NDJSON} for one record a line.")
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise UnsupportedMediaType("Send the body without Content-Encoding.", code="unsupported_content_encoding")
    return media_type


def read_body(request: HttpRequest, limit: int, caller: Caller) -> bytes:
    """The body, refused before it is read when its announced length is over ``limit``.

    Read from the stream, since ``request.body`` has a limit of the host project's.
    """
    too_large = TooLarge(f"The body may have {limit} bytes.", code="body_too_large")
    announced = request.headers.get("Content-Length") or "0"
    if announced.isdigit() and int(announced) > limit:
        raise too_large
    chunks, size = [], 0
    try:
        for chunk in _chunks(request):
            size += len(chunk)
            if size > limit:
                raise too_large
            chunks.append(chunk)
    finally:
        throttling.count_unannounced(caller, request, size)
    if announced.isdigit() and size < int(announced):
        raise _broken_off()  # lines of NDJSON that did arrive would else be taken without anybody being told
    return b"".join(chunks)


def _chunks(request: HttpRequest) -> Iterator[bytes]:
    stream = _stream(request)
    try:
        while chunk := stream.read(_READ_CHUNK):
            yield chunk
    except OSError as error:
        raise _unread(error.__cause__ or error) from error  # Django puts an error of its own before it
    except Exception as error:
        # Of chunks that are none each server has errors of its own.
        raise InvalidInput("The body is malformed; nothing of it was taken.", code="body_malformed") from error


def _stream(request: HttpRequest) -> Any:
    """Where the body is read from. Under WSGI Django takes a body without Content-Length for an empty one."""
    is_chunked = "Transfer-Encoding" in request.headers and not request.headers.get("Content-Length")
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


def _idempotency_key(request: HttpRequest) -> str | None:
    key = request.headers.get("Idempotency-Key") or request.headers.get("X-Idempotency-Key")
    if key is not None and len(key) > MAX_IDEMPOTENCY_KEY:
        raise InvalidInput(f"Idempotency-Key may have {MAX_IDEMPOTENCY_KEY} characters.", param="Idempotency-Key")
    return key


def _known_id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise NotFound("There is no such trajectory; ids are UUIDs.", param="id") from None


def _limit(text: str | None) -> int:
    if text is None:
        return LIST_LIMIT
    is_number = text.isascii() and text.isdigit() and len(text) <= len(str(LIST_LIMIT_MAX))
    if not is_number or not 1 <= int(text) <= LIST_LIMIT_MAX:
        raise InvalidInput(f"limit must be 1 to {LIST_LIMIT_MAX}.", code="invalid_parameter", param="limit")
    return int(text)


def _after(text: str | None) -> UUID | None:
    try:
        return None if text is None else UUID(text)
    except ValueError:
        raise InvalidInput(
            "after must be the id of an exported record.", code="invalid_cursor", param="after"
        ) from None


def _flag(name: str, text: str) -> bool:
    if text not in ("0", "1"):
        raise InvalidInput(f"{name} must be 0 or 1.", code="invalid_parameter", param=name)
    return text == "1"
