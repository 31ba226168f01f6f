"""The HTTP API of trajectories.

It reads bytes, calls ``ingest`` and ``reads``, and joins bytes; nothing is serialised twice.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, ClassVar

import orjson
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from rest_framework.decorators import action
from rest_framework.parsers import BaseParser
from rest_framework.request import Request

from trajectories.api import request_ids, request_values, throttling
from trajectories.api.exception_handler import MAX_SHORT_MESSAGE, LineErrors
from trajectories.api.outcome_views import OutcomeActions
from trajectories.api.pagination import PositionPagination, bounded
from trajectories.api.parsers import JSON, MERGE_PATCH, NDJSON, LinesParser, PatchParser, RecordParser
from trajectories.api.viewset import ApiViewSet, documented
from trajectories.domain import answers
from trajectories.domain.credit import RULES
from trajectories.domain.query import FILTERS, Query, parse_query
from trajectories.domain.record import Record
from trajectories.domain.stats import BUCKETS
from trajectories.domain.warnings import warnings_of
from trajectories.exceptions import (
    InvalidInput,
    ScopeMissing,
    TrajectoriesError,
)
from trajectories.services import deletion, ingest, reads
from trajectories.services.lines import MAX_LINE_DETAILS
from trajectories.storage.store import get_store
from trajectories.training import export, readiness
from trajectories.training.encoding import PARQUET, parse_encoding
from trajectories.training.export import Request as ExportRequest

logger = logging.getLogger(__name__)

MAX_FULL_WARNINGS = 100
"""Lines of a request whose warnings are answered in full. Those of later ones get path, code and the
beginning of the message."""
PARQUET_TYPE = "application/vnd.apache.parquet"
_EXPORT_PARAMETERS = (*FILTERS, *export.PARAMETERS, *export.OPTIONS)
_SCOPES = {
    "record": "record",
    "update": "record",
    "list": "read",
    "retrieve": "read",
    "stats": "read",
    "readiness": "read",
    "export": "export",
    "export_manifest": "export",
    "list_outcomes": "read",
    "record_outcome": "record",
    "record_outcomes": "record",
    "delete_one": "admin",
    "delete_matching": "admin",
}


class TrajectoryViewSet(OutcomeActions, ApiViewSet):
    """Record, update, list, retrieve, late outcomes, stats, readiness, export and its manifest,
    delete."""

    # Annotated, so that a typed host project can replace each.
    parser_classes: Sequence[type[BaseParser]] = (RecordParser, LinesParser)
    update_parser_classes: Sequence[type[BaseParser]] = (PatchParser, RecordParser)
    pagination_class: type[PositionPagination] = PositionPagination
    required_scopes: ClassVar[Mapping[str, str]] = _SCOPES
    lookup_field = "id"

    @documented("record")
    def record(self, request: Request) -> HttpResponse:
        """Take one trajectory, or many as NDJSON."""
        replace = request_values.flag("replace", self._parameters(("replace",)).get("replace", "0"))
        parser = self._parser(self.parser_classes, f"{JSON}, or {NDJSON} for one record a line")
        key = request_values.idempotency_key(request._request)
        data = self._data(parser)
        if parser.media_type == NDJSON:
            lines = data.split(b"\n")
            return _lines_response(
                ingest.record_many(get_store(), self.caller.tenant, lines, idempotency_key=key, replace=replace)
            )
        record, is_new = ingest.record(get_store(), self.caller.tenant, data, idempotency_key=key, replace=replace)
        response = _record_response(record, status=201 if is_new else 200)
        response["Location"] = f"{request.path}/{record.id}"
        return response

    @documented("update")
    def update(self, request: Request, id: str) -> HttpResponse:  # noqa: A002  the name in the URL
        """Change fields of one trajectory, and phases by their phase_id."""
        self._parameters(())
        known_id, if_match = request_values.known_id(id), request_values.if_match(request._request)
        data = self._data(self._parser(self.update_parser_classes, f"{MERGE_PATCH} or {JSON}"))
        return _record_response(
            ingest.update(get_store(), self.caller.tenant, known_id, data, if_match=if_match).record
        )

    @documented("list")
    def list(self, request: Request) -> HttpResponse:
        """A page of trajectories, newest first."""
        paginator = self.pagination_class()
        given = self._parameters((*FILTERS, *paginator.parameters))
        after, limit = paginator.read(given)
        return paginator.response(
            reads.list_(get_store(), self.caller.tenant, self._query(given), after=after, limit=limit)
        )

    @documented("retrieve")
    def retrieve(self, request: Request, id: str) -> HttpResponse:  # noqa: A002  the name in the URL
        """One trajectory."""
        self._parameters(())
        return _record_response(reads.retrieve(get_store(), self.caller.tenant, request_values.known_id(id)))

    @documented("stats")
    @action(detail=False, methods=["get"])
    def stats(self, request: Request) -> HttpResponse:
        """Totals and groups."""
        given = self._parameters((*FILTERS, "credit", "bucket"))
        credit_rule, bucket = (
            request_values.choice("credit", given, RULES),
            request_values.choice("bucket", given, BUCKETS),
        )
        query = self._query(given)
        found = reads.stats_json(get_store(), self.caller.tenant, query, credit_rule=credit_rule, bucket=bucket)
        return HttpResponse(found, content_type=JSON)

    @documented("readiness")
    @action(detail=False, methods=["get"])
    def readiness(self, request: Request) -> HttpResponse:
        """Whether the data is worth training on."""
        given = self._parameters((*FILTERS, "max_runs"))
        most = readiness.MAX_RUNS
        max_runs = bounded("max_runs", given.pop("max_runs", None), default=most, most=most)
        limits = readiness.SAMPLE._replace(runs=min(max_runs, readiness.SAMPLE.runs))
        found = readiness.readiness(get_store(), self.caller.tenant, self._query(given), limits)
        return HttpResponse(orjson.dumps(found), content_type=JSON)

    @documented("export")
    @action(detail=False, methods=["get"])
    def export(self, request: Request) -> StreamingHttpResponse:
        """Every matching trajectory as NDJSON, in any format."""
        given = self._parameters((*_EXPORT_PARAMETERS, "after", "end", "file", "compression"))
        after, has_end = (
            request_values.after_id(given.pop("after", None)),
            request_values.flag("end", given.pop("end", "0")),
        )
        encoding = parse_encoding({name: given.pop(name) for name in ("file", "compression") if name in given})
        chunks = export.export(
            get_store(),
            self.caller.tenant,
            self._export(given),
            encoding=encoding,
            after=after,
            has_end=has_end,
            actor=self.actor,
        )
        is_parquet = encoding.file == PARQUET
        lines = throttling.metered(self.caller, request._request, _log_stream_errors(chunks, request._request))
        response = StreamingHttpResponse(lines, content_type=PARQUET_TYPE if is_parquet else NDJSON)
        if encoding.compression != "none" and not is_parquet:
            response["Content-Encoding"] = encoding.compression
        return response

    @documented("export_manifest")
    @action(detail=False, methods=["get"], url_path="export/manifest")
    def export_manifest(self, request: Request) -> HttpResponse:
        """Counts, origin and SHA-256 of an export."""
        asked = self._export(self._parameters(_EXPORT_PARAMETERS))
        found = export.manifest(get_store(), self.caller.tenant, asked, actor=self.actor)
        return HttpResponse(orjson.dumps(found.as_json()), content_type=JSON)

    @documented("delete_one")
    def delete_one(self, request: Request, id: str) -> HttpResponse:  # noqa: A002  the name in the URL
        """Delete one trajectory, for good."""
        self._parameters(())
        known_id = request_values.known_id(id)
        removed = deletion.delete_one(get_store(), self.caller.tenant, known_id, actor=self.actor)
        answer = {"id": known_id, "deleted": True, "removed": asdict(removed)}
        return HttpResponse(orjson.dumps(answer), content_type=JSON)

    @documented("delete_matching")
    def delete_matching(self, request: Request) -> HttpResponse:
        """Delete every trajectory that the filters find, after a dry run."""
        given = self._parameters((*FILTERS, "dry_run", "token"))
        is_dry, token = request_values.flag("dry_run", given.pop("dry_run", "0")), given.pop("token", "")
        if not given:
            raise ScopeMissing("Name at least one filter; everything is not deleted at once.", code="filter_required")
        if is_dry:
            found = deletion.matching(get_store(), self.caller.tenant, given)
            return HttpResponse(orjson.dumps({"count": found.count, "token": found.token}), content_type=JSON)
        deleted = deletion.delete_matching(get_store(), self.caller.tenant, given, token, actor=self.actor)
        answer = {"deleted": deleted.count, "has_more": deleted.has_more, "removed": asdict(deleted.removed)}
        return HttpResponse(orjson.dumps(answer), content_type=JSON)

    def _query(self, given: Mapping[str, str]) -> Query:
        return parse_query(given, get_store().now_us())

    def _export(self, given: Mapping[str, str]) -> ExportRequest:
        asked = export.parse_request(given, get_store().now_us())
        if asked.split is not None and asked.part is None:
            raise InvalidInput(
                f"One answer has one part: add part={' or part='.join(asked.split.names)}.",
                code="invalid_parameter",
                param="part",
            )
        return asked


def _log_stream_errors(lines: Iterator[bytes], request: HttpRequest) -> Iterator[bytes]:
    """Yield ``lines``; log an error that breaks them off.

    The server that sends the lines does not know their request.
    """
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


def _record_response(record: Record, *, status: int = 200) -> HttpResponse:
    return HttpResponse(
        answers.whole(record), status=status, content_type=JSON, headers={"ETag": f'"{record.revision}"'}
    )


def _lines_response(lines: list[ingest.Line]) -> HttpResponse:
    refused = warned = 0
    results, errors = [], LineErrors(max_details=MAX_LINE_DETAILS)
    for line in lines:
        if isinstance(line.outcome, TrajectoriesError):
            refused += 1
            error = errors.of(line.outcome)
            results.append({"line": line.number, "status": line.outcome.status, "error": error})
        else:
            results.append(result := _accepted_line(line.number, line.outcome))
            warned += "warnings" in result
            if warned > MAX_FULL_WARNINGS:
                _shorten(result.get("warnings", ()))
    body = {"accepted": len(lines) - refused, "refused": refused, "results": results}
    return HttpResponse(orjson.dumps(body), content_type=JSON)


def _accepted_line(number: int, accepted: ingest.Accepted) -> dict[str, Any]:
    record, is_new = accepted
    result = {"line": number, "id": record.id, "status": 201 if is_new else 200, "revision": record.revision}
    warnings = [one._asdict() for one in warnings_of(orjson.loads(record.body), MAX_LINE_DETAILS)]
    return result | ({"warnings": warnings} if warnings else {})


def _shorten(warnings: Iterable[dict[str, str]]) -> None:
    for warning in warnings:
        warning["message"] = warning["message"][:MAX_SHORT_MESSAGE]
