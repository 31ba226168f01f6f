"""``/health/live``, ``/health/ready`` and ``/health``, which is the same, for supervisors and load
balancers.

They return JSON and need no API key.
"""

from __future__ import annotations

import logging

from django.contrib.auth.decorators import login_not_required
from django.db import transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.cache import never_cache

from trajectories.api.request_ids import HEADER, request_id
from trajectories.exceptions import OutboxUnavailable
from trajectories.storage.store import get_store

logger = logging.getLogger(__name__)


@method_decorator([login_not_required, never_cache, transaction.non_atomic_requests], name="dispatch")
class LiveView(View):
    """The process responds."""

    http_method_names = ["get", "head", "options"]  # noqa: RUF012  as in Django

    def get(self, request: HttpRequest) -> HttpResponse:
        return _response(request, {})


class ReadyView(LiveView):
    """The process accepts writes: the outbox has room for a record of the largest size.

    Redis, broker and archive may be unavailable: writes succeed without them.
    """

    def get(self, request: HttpRequest) -> HttpResponse:
        return _response(request, {"TakesWrites()": _write_problem()})


def _write_problem() -> str:
    try:
        problem = get_store().write_problem()
    except Exception:
        # The text may hold paths, so it goes to the log only.
        logger.exception("The outbox cannot be checked")
        return "Unknown Error: unknown error"
    return f"Unavailable: {problem}" if problem else ""


def _response(request: HttpRequest, problems: dict[str, str]) -> HttpResponse:
    """Return the check's names with "OK" or the problem, and 503 if there is one."""
    is_well = not any(problems.values())
    response = JsonResponse(
        {name: problem or "OK" for name, problem in problems.items()}, status=200 if is_well else 503
    )
    response[HEADER] = request_id(request)
    if not is_well:
        response["Retry-After"] = str(OutboxUnavailable.retry_after_s)
    return response
