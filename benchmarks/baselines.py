"""Baselines for a POST: an empty DRF view, two with nested serializers, and a bare view.

None stores anything. ``NestedView`` has all fields of the contract and returns the validated data,
as a ModelViewSet does. ``ShortView`` has the main fields and returns a number.
"""

from __future__ import annotations

import json
from typing import Any, get_args

from django.http import HttpRequest, HttpResponse, JsonResponse
from rest_framework import serializers
from rest_framework.parsers import JSONParser
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from trajectories.domain.contract_types import (
    MAX_COST_USD,
    MAX_DURATION_MS,
    MAX_INT,
    MAX_NAME,
    MAX_PHASES,
    Outcome,
    PhaseOutcome,
)

_unknown: dict[str, Any] = {"required": False, "allow_null": True}


def _name(**options: Any) -> serializers.CharField:
    return serializers.CharField(max_length=MAX_NAME, **(options or _unknown))


def _count() -> serializers.IntegerField:
    return serializers.IntegerField(min_value=0, max_value=MAX_INT, **_unknown)


def _number(maximum: float | None = None) -> serializers.FloatField:
    return serializers.FloatField(min_value=0, max_value=maximum, **_unknown)


class CandidateSerializer(serializers.Serializer[Any]):
    model = _name(required=True)
    score = serializers.FloatField(**_unknown)
    probability = _number(1)


class FeedbackLoopSerializer(serializers.Serializer[Any]):
    from_phase = _name()
    to_phase = _name()
    reason = serializers.CharField(**_unknown)
    at = serializers.DateTimeField(**_unknown)


class PhaseSerializer(serializers.Serializer[Any]):
    phase_name = _name(required=True)
    agent = _name()
    model = _name()
    requested_model = _name()
    model_selection_method = _name()
    candidates = CandidateSerializer(many=True, **_unknown)
    selection_probability = _number(1)
    tools_used = serializers.ListField(child=serializers.CharField(), **_unknown)
    steps_taken = _count()
    input_tokens = _count()
    output_tokens = _count()
    cached_input_tokens = _count()
    reasoning_tokens = _count()
    cost_usd = _number(MAX_COST_USD)
    duration_ms = _number(MAX_DURATION_MS)
    outcome = serializers.ChoiceField(get_args(PhaseOutcome), **_unknown)
    skip_reason = serializers.CharField(**_unknown)
    attempt = _count()
    error = serializers.CharField(**_unknown)
    started_at = serializers.DateTimeField(**_unknown)
    metadata = serializers.DictField(**_unknown)


class TrajectorySerializer(serializers.Serializer[Any]):
    id = serializers.UUIDField(**_unknown)
    request_summary = serializers.CharField()
    request_type = _name()
    source = _name()  # type: ignore[assignment]  # the name shadows an attribute of Field
    project = _name()
    phases = PhaseSerializer(many=True, max_length=MAX_PHASES)  # type: ignore[call-arg]  # goes to the list
    outcome = serializers.ChoiceField(get_args(Outcome), **_unknown)
    total_cost_usd = _number(MAX_COST_USD)
    total_duration_ms = _number(MAX_DURATION_MS)
    total_phases = _count()
    phases_skipped = _count()
    build_passed = serializers.BooleanField(**_unknown)
    tests_passed = serializers.BooleanField(**_unknown)
    review_findings = _count()
    critical_findings = _count()
    files_changed = _count()
    planned_phases = serializers.ListField(child=_name(required=True), **_unknown)
    feedback_loops = FeedbackLoopSerializer(many=True, **_unknown)
    error = serializers.CharField(**_unknown)
    started_at = serializers.DateTimeField(**_unknown)
    ended_at = serializers.DateTimeField(**_unknown)
    session_id = _name()
    trace_id = _name()
    tags = serializers.ListField(child=_name(required=True), **_unknown)
    external_refs = serializers.DictField(child=_name(required=True), **_unknown)
    metadata = serializers.DictField(**_unknown)


class ShortPhaseSerializer(serializers.Serializer[Any]):
    phase_name = _name(required=True)
    agent = _name()
    model = _name()
    model_selection_method = _name()
    tools_used = serializers.ListField(child=serializers.CharField(), **_unknown)
    steps_taken = _count()
    input_tokens = _count()
    output_tokens = _count()
    cost_usd = _number(MAX_COST_USD)
    duration_ms = _number(MAX_DURATION_MS)
    outcome = serializers.ChoiceField(get_args(PhaseOutcome), **_unknown)


class ShortSerializer(serializers.Serializer[Any]):
    request_summary = serializers.CharField()
    request_type = _name()
    source = _name()  # type: ignore[assignment]  # the name shadows an attribute of Field
    project = _name()
    phases = ShortPhaseSerializer(many=True, max_length=MAX_PHASES)  # type: ignore[call-arg]  # goes to the list
    build_passed = serializers.BooleanField(**_unknown)
    tests_passed = serializers.BooleanField(**_unknown)


class _Bare(APIView):
    authentication_classes = ()
    permission_classes = ()
    parser_classes = (JSONParser,)
    renderer_classes = (JSONRenderer,)


class EmptyView(_Bare):
    def get(self, request: Request) -> Response:
        return Response()

    def post(self, request: Request) -> Response:
        assert request._request.body  # an unread body would close the connection
        return Response(status=201)


def bare_view(request: HttpRequest) -> HttpResponse:
    """Parse the body with the standard library, check two fields, and answer; Django alone."""
    body = json.loads(request.body)
    is_valid = isinstance(body.get("phases"), list) and isinstance(body.get("request_summary"), str)
    return JsonResponse({"phases": len(body["phases"])}, status=201 if is_valid else 400)


class NestedView(_Bare):
    def post(self, request: Request) -> Response:
        serializer = TrajectorySerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        return Response(serializer.data, status=201)


class ShortView(_Bare):
    def post(self, request: Request) -> Response:
        serializer = ShortSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        return Response({"phases": len(serializer.validated_data["phases"])}, status=201)
