"""The endpoints of late outcomes, as actions of the viewset."""

from __future__ import annotations

from typing import Any

import orjson
from django.http import HttpRequest, HttpResponse
from rest_framework.decorators import action
from rest_framework.request import Request

from trajectories.api import request_values
from trajectories.api.exception_handler import LineErrors
from trajectories.api.parsers import JSON, NDJSON, LinesParser, OutcomeParser
from trajectories.api.viewset import documented
from trajectories.caller import Caller
from trajectories.exceptions import TrajectoriesError
from trajectories.services import outcomes
from trajectories.services.outcomes import OutcomeLine
from trajectories.storage.store import get_store


class OutcomeActions:
    """Record and list late outcomes. A part of ``TrajectoryViewSet``."""

    outcome_parser_classes = (OutcomeParser, LinesParser)
    caller: Caller
    request: Any
    _parser: Any
    _data: Any
    _parameters: Any

    @documented("list_outcomes")
    @action(detail=True, methods=["get"], url_path="outcomes")
    def list_outcomes(self, request: Request, id: str) -> HttpResponse:  # noqa: A002  the name in the URL
        """The late outcomes of one trajectory."""
        self._parameters(())
        found = outcomes.list_(get_store(), self.caller.tenant, request_values.known_id(id))
        return HttpResponse(orjson.dumps({"data": found}), content_type=JSON)

    @documented("record_outcome")
    @list_outcomes.mapping.post
    def record_outcome(self, request: Request, id: str) -> HttpResponse:  # noqa: A002  the name in the URL
        """Take one late outcome of a trajectory."""
        self._parameters(())
        known_id = request_values.known_id(id)
        data = self._data(self._parser(self.outcome_parser_classes[:1], JSON))
        return self._recorded(data, request._request, trajectory_id=known_id)

    @documented("record_outcomes")
    def record_outcomes(self, request: Request) -> HttpResponse:
        """Take late outcomes that name their targets: one, or many as NDJSON."""
        self._parameters(())
        parser = self._parser(self.outcome_parser_classes, f"{JSON}, or {NDJSON} for one outcome a line")
        request_values.idempotency_key(request._request)  # checked; equal lines are one outcome without it
        data = self._data(parser)
        if parser.media_type != NDJSON:
            return self._recorded(data, request._request)
        lines = outcomes.record_many(get_store(), self.caller.tenant, data.split(b"\n"), source=self.caller.source)
        errors = LineErrors(max_details=1)
        results = [_line(line, errors) for line in lines]
        refused = sum("error" in result for result in results)
        answer = {"accepted": len(results) - refused, "refused": refused, "results": results}
        return HttpResponse(orjson.dumps(answer), content_type=JSON)

    def _recorded(self, data: bytes, request: HttpRequest, **target: Any) -> HttpResponse:
        taken = outcomes.record(
            get_store(),
            self.caller.tenant,
            data,
            source=self.caller.source,
            idempotency_key=request_values.idempotency_key(request),
            **target,
        )
        return HttpResponse(taken.body, status=201 if taken.is_new else 200, content_type=JSON)


def _line(line: OutcomeLine, errors: LineErrors) -> dict[str, Any]:
    if isinstance(line.result, TrajectoriesError):
        return {"line": line.number, "status": line.result.status, "error": errors.of(line.result)}
    id_ = orjson.loads(line.result.body)["id"]
    return {"line": line.number, "id": id_, "status": 201 if line.result.is_new else 200}
