"""``/health/live`` and ``/health/ready``, for whoever restarts processes or sends them traffic. JSON, without a key."""

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
    """The library's checks, always as JSON: its HTML wants a template of an app that a host project need not install."""

    http_method_names = ["get", "head", "options"]  # noqa: RUF012  as Django has it

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
    """The outbox takes a record of the largest size. Redis, broker and archive may be away: nobody who writes would notice."""

    def run(self) -> None:  # the library runs it in a thread
        if problem := get_store().write_problem():
            raise ServiceUnavailable(problem)


class LiveView(_HealthView):
    """The process answers."""

    checks = ()


class ReadyView(_HealthView):
    """The process takes writes."""

    checks = (TakesWrites,)
