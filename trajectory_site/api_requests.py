"""Requests of the API pass a short list of middleware, ``API_MIDDLEWARE``.

They have no session, form, message or page, and the middleware for those took a seventh of the CPU
of a web process. Django's handler reads one list, so there are two handlers, chosen by path.
"""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

from django.conf import settings
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.base import BaseHandler
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpRequest, HttpResponseBase
from django.urls import ResolverMatch

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

AsgiApplication: TypeAlias = "Callable[[Any, Any, Any], Awaitable[None]]"

PREFIX = "/v1/"
_loading = threading.Lock()


class ApiMiddleware(BaseHandler):
    """Django's handler with the middleware of the API, which looks up an address without parameters
    once."""

    def __init__(self) -> None:
        self._matches: dict[str, ResolverMatch] = {}
        super().__init__()

    def resolve_request(self, request: HttpRequest) -> ResolverMatch:
        match = None if hasattr(request, "urlconf") else self._matches.get(request.path_info)
        if match is None:
            match = super().resolve_request(request)
            # A viewset's routes have one address each, so the number of these is bounded.
            if hasattr(match.func, "actions") and not match.args and not match.kwargs:
                self._matches[request.path_info] = match
        request.resolver_match = match
        return match

    def load_middleware(self, is_async: bool = False) -> None:
        with _middleware(settings.API_MIDDLEWARE):
            super().load_middleware(is_async)


class ApiWSGIHandler(ApiMiddleware, WSGIHandler):
    pass


class ApiASGIHandler(ApiMiddleware, ASGIHandler):
    pass


@contextmanager
def _middleware(names: list[str]) -> Iterator[None]:
    """Make ``load_middleware``, which has no parameter for it, find these."""
    with _loading:
        before, settings.MIDDLEWARE = settings.MIDDLEWARE, names
        try:
            yield
        finally:
            settings.MIDDLEWARE = before


def by_path(pages: WSGIApplication) -> WSGIApplication:
    """Return an application that gives requests of the API to a handler of their own, others to
    ``pages``."""
    api = ApiWSGIHandler()

    def chosen(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        handler: Any = api if environ["PATH_INFO"].startswith(PREFIX) else pages
        answer: Iterable[bytes] = handler(environ, start_response)
        return answer

    return chosen


def by_path_asgi(pages: AsgiApplication) -> AsgiApplication:
    """Return an application that gives requests of the API to a handler of their own, others to
    ``pages``."""
    api: Any = ApiASGIHandler()

    async def chosen(scope: Any, receive: Any, send: Any) -> None:
        path = scope.get("path", "").removeprefix(scope.get("root_path", ""))
        await (api if path.startswith(PREFIX) else pages)(scope, receive, send)

    return chosen


def content_security_policy(get_response: Callable[[HttpRequest], HttpResponseBase]) -> Any:
    """Add the policy of an answer that is no page: it may load nothing and stand in no frame."""

    def with_policy(request: HttpRequest) -> HttpResponseBase:
        response = get_response(request)
        response["Content-Security-Policy"] = "default-src 'none'; frame-ancestors 'none'"
        return response

    return with_policy
