"""The base of every viewset of the API.

Every DRF option that a host project could set globally is set here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, TypeVar, cast

from django.db import transaction
from django.http import HttpResponse
from rest_framework.authentication import BaseAuthentication
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.parsers import BaseParser
from rest_framework.permissions import BasePermission
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle
from rest_framework.viewsets import ViewSet

from trajectories import metrics
from trajectories.api import request_ids, throttling
from trajectories.api.authentication import ApiKeyAuthentication
from trajectories.api.exception_handler import exception_handler
from trajectories.api.parsers import JSON, RecordParser
from trajectories.api.permissions import HasScope
from trajectories.api.sliding_window import Allowance
from trajectories.api.throttling import ApiKeyThrottle
from trajectories.caller import Caller
from trajectories.domain.query import parameters
from trajectories.exceptions import MethodNotAllowed, UnsupportedMediaType

_NO_ACTION = ("none", "other", "405")
F = TypeVar("F", bound=Callable[..., Any])


def documented(operation: str) -> Callable[[F], F]:
    """Name the description of an action in ``operations``, which ``openapi`` reads for its first
    document."""

    def decorate(method: F) -> F:
        method.operation = operation  # type: ignore[attr-defined]
        return method

    return decorate


class AnyAccept(BaseContentNegotiation):
    """Accept has no effect: each response has one format."""

    def select_parser(self, request: Any, parsers: Any) -> Any:
        media_type = (request._request.content_type or "").lower()
        return next((parser for parser in parsers if parser.media_type == media_type), None)

    def select_renderer(self, request: Any, renderers: Any, format_suffix: Any = None) -> Any:
        return renderers[0], JSON


_READING = ("read", "export")
"""Scopes of actions whose CPU time is limited."""


class ApiViewSet(ViewSet):
    """Authentication, limits, scopes, error shape and metrics of every endpoint.

    A subclass names the scope of each of its actions in ``required_scopes``.
    """

    # Annotated, so that a typed host project can replace each.
    authentication_classes: Sequence[type[BaseAuthentication]] = (ApiKeyAuthentication,)
    permission_classes: Sequence[type[BasePermission]] = (HasScope,)
    throttle_classes: Sequence[type[BaseThrottle]] = (ApiKeyThrottle,)
    parser_classes: Sequence[type[BaseParser]] = (RecordParser,)
    exception_handler: Callable[[Exception, dict[str, Any]], HttpResponse] = staticmethod(exception_handler)
    required_scopes: ClassVar[Mapping[str, str]] = {}
    renderer_classes = (JSONRenderer,)
    content_negotiation_class = AnyAccept
    metadata_class = None
    versioning_class = None
    schema: Any = None  # not that of the host project; ``openapi`` describes the actions
    http_method_names = ["get", "head", "post", "patch", "delete"]  # noqa: RUF012  a list, as in View

    allowance: Allowance | None = None

    @classmethod
    def as_view(cls, actions: Any = None, **initkwargs: Any) -> Any:
        # The outbox commits by itself, and a read must not hold a transaction open while it
        # streams. Without a schema the view stays out of the host project's own document.
        return transaction.non_atomic_requests(super().as_view(actions, **initkwargs | {"schema": None}))

    def dispatch(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        started, cpu_s = time.perf_counter(), time.thread_time()
        token = request_ids.current.set(request_ids.request_id(request))
        try:
            response = super().dispatch(request, *args, **kwargs)
        finally:
            request_ids.current.reset(token)
        response[request_ids.HEADER] = request_ids.request_id(request)
        if self.allowance is not None:
            if self.allowance.retry_after_s is None:
                throttling.count_cpu(self.caller, request, time.thread_time() - cpu_s)
            for name, text in self.allowance.headers().items():
                response[name] = text
        response["X-Content-Type-Options"] = "nosniff"
        # Unknown methods share one series, because clients can send any method name.
        labels = (
            (self.action, request.method, str(response.status_code))
            if self.action in self.required_scopes
            else _NO_ACTION
        )
        metrics.request_seconds.labels(*map(str, labels)).observe(time.perf_counter() - started)
        return response

    @property
    def caller(self) -> Caller:
        caller: Any = self.request.auth
        return cast(Caller, caller)

    @property
    def actor(self) -> str:
        """Return the caller as the audit trail names it."""
        return f"key {self.caller.key}" if self.caller.key else "request"

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Check method, key, limits and scope, in this order.

        DRF would check the scope before the limits.
        """
        self.format_kwarg = self.get_format_suffix(**kwargs)
        request.accepted_renderer, request.accepted_media_type = self.perform_content_negotiation(request)
        request.version, request.versioning_scheme = self.determine_version(request, *args, **kwargs)
        if self.action not in self.required_scopes:
            raise MethodNotAllowed(f"{request.method} is not for this address; {', '.join(self.allowed_methods)} are.")
        if self.required_scopes[self.action] in _READING:
            throttling.mark_read(request._request)
        self.perform_authentication(request)
        self.check_throttles(request)
        self.check_permissions(request)

    def get_exception_handler(self) -> Any:
        return self.exception_handler

    def _parser(self, classes: Sequence[type[BaseParser]], media_types: str) -> BaseParser:
        request: Any = self.request
        parser: BaseParser | None = request.negotiator.select_parser(request, [parser() for parser in classes])
        if parser is None:
            raise UnsupportedMediaType(f"Content-Type must be {media_types}.")
        return parser

    def _data(self, parser: BaseParser) -> Any:
        # The stream is Django's request: DRF's `request.data` treats a chunked body as empty.
        stream: Any = self.request._request
        return parser.parse(stream, parser.media_type, {"request": self.request, "view": self})

    def _parameters(self, allowed: Any) -> dict[str, str]:
        return parameters(self.request._request.GET.lists(), allowed=allowed)
