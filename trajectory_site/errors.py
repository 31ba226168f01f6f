"""Error handlers for requests that no view answers.

Below ``/v1/`` they return JSON in the API's error shape, elsewhere an HTML page.
"""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views import defaults

from trajectories.domain import redaction
from trajectories.domain.text import escaped

_MAX_QUOTED = 300


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    if not _is_api(request):
        return defaults.bad_request(request, exception)
    return _error(
        400, "invalid_request_error", "bad_request", "The request is malformed, or its Host is not served here."
    )


def permission_denied(request: HttpRequest, exception: Exception) -> HttpResponse:
    if not _is_api(request):
        return defaults.permission_denied(request, exception)
    return _error(403, "permission_error", "permission_denied", "This request is not allowed.")


def page_not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    if not _is_api(request):
        return defaults.page_not_found(request, exception)
    path = redaction.quoted(request.path, max_chars=_MAX_QUOTED)
    return _error(404, "not_found_error", "not_found", f"There is nothing at {path}.")


def server_error(request: HttpRequest) -> HttpResponse:
    if not _is_api(request):
        return defaults.server_error(request)
    return _error(500, "server_error", "server_error", "The server failed; its log says how.")


def _is_api(request: HttpRequest) -> bool:
    return request.path_info.startswith("/v1/")


def _error(status: int, kind: str, code: str, message: str) -> JsonResponse:
    return JsonResponse({"error": {"type": kind, "code": code, "message": escaped(message)}}, status=status)
