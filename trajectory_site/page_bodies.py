"""Bodies of requests outside the API, whose views bound and authenticate theirs.

A page's form is read before its view runs, by the check of its CSRF token, so this comes before it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest, HttpResponse, HttpResponseBase, UnreadablePostError

from trajectories.conf import read_settings
from trajectory_site.api_requests import PREFIX

STRANGER_BYTES = 64 * 1024
"""Limit of a body without the session of a user of the admin. A login form has less than 1 KiB."""
_WAIT_S = 0.1
"""Time to wait while another such body is read, which takes a millisecond unless it is slow."""


def bound_bodies(get_response: Callable[[HttpRequest], HttpResponseBase]) -> Callable[[HttpRequest], HttpResponseBase]:
    """Refuse a body that is too large before it is read, and read one body of a stranger at a time.

    So slow ones hold one thread of a process and no more. Granian's read has no timeout. A response
    from another thread than the one that reads is no way out: with a second body under way it
    stopped the whole process (measured with granian 2.8.9).
    """
    reading = threading.Lock()

    def bounded(request: HttpRequest) -> HttpResponseBase:
        # With TENANT_FROM_REQUEST, requests of the API pass this list of middleware too.
        size = _length(request)
        if not size or request.path_info.startswith(PREFIX):
            return get_response(request)
        is_known = request.user.is_active and request.user.is_staff
        limit = read_settings().max_request_bytes if is_known else STRANGER_BYTES
        if size > limit:
            hint = " Compress a file to import, or use the SDK's command." if is_known else ""
            return _refused(413, f"The body may have {limit} bytes, got {size}.{hint}")
        if is_known:
            return get_response(request)
        return _read(request, reading) or get_response(request)

    return bounded


def _length(request: HttpRequest) -> int:
    """Return the bytes that Django would read: none without a Content-Length, as of a chunked
    body."""
    try:
        return int(request.META.get("CONTENT_LENGTH") or 0)
    except ValueError:
        return 0


def _read(request: HttpRequest, reading: threading.Lock) -> HttpResponse | None:
    """Keep the body in the request, or return why not."""
    if not reading.acquire(timeout=_WAIT_S):
        response = _refused(503, "Bodies of other clients are slow. Try again.")
        response["Retry-After"] = "5"
        return response
    try:
        request.body  # noqa: B018  # Django keeps it
    except (UnreadablePostError, RequestDataTooBig):
        return _refused(400, "The body cannot be read.")
    finally:
        reading.release()
    return None


def _refused(status: int, message: str) -> HttpResponse:
    return HttpResponse(message + "\n", status=status, content_type="text/plain; charset=utf-8")
