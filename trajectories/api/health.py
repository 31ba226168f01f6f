"""``/health/live``, ``/health/ready`` and ``/health``, which is the same, for supervisors and load balancers.

They return JSON and need no API key.
"""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

from django.http import HttpRequest, HttpResponse
from health_check.base import HealthCheck
from health_check.exceptions import ServiceUnavailable
from health_check.views import HealthCheckView

from trajectories.api.request_ids import HEADER, request_id
from trajectories.exceptions import OutboxUnavailable
from trajectories.storage.store import get_store


class _HealthView(HealthCheckView):  # type: ignore[misc]
    """Return the checks of the library, always as JSON.

    Its HTML needs a template of an app that a host project may not have installed.
    """

    http_method_names = ["get", "head", "options"]  # noqa: RUF012  as in Django

    async def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        self.results = await asyncio.gather(*(check.get_result() for check in self.get_checks()))
        is_well = not any(result.error for result in self.results)
        response: HttpResponse = self.render_to_response_json(200 if is_well else 503)
        response[HEADER] = request_id(request)
        if not is_well:
            response["Retry-After"] = str(OutboxUnavailable.retry_after_s)
        return response


@dataclasses.dataclass
class TakesWrites(HealthCheck):  # type: ignore[misc]
    """The outbox accepts a record of the largest size.

    Redis, broker and archive may be unavailable: writes succeed without them.
    """

    def run(self) -> None:  # the library runs it in a thread
        if problem := get_store().write_problem():
            raise ServiceUnavailable(problem)


class LiveView(_HealthView):
    """The process responds."""

    checks = ()


class ReadyView(_HealthView):
    """The process accepts writes."""

    checks = (TakesWrites,)
