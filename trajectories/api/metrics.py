"""``GET /metrics`` for Prometheus."""

from __future__ import annotations

import hmac
import os
from collections.abc import Iterator

from django.contrib.auth.decorators import login_not_required
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.debug import sensitive_variables
from prometheus_client import CollectorRegistry, exposition
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from trajectories import metrics
from trajectories.api.exception_handler import error_response
from trajectories.api.request_ids import HEADER, request_id
from trajectories.conf import read_settings
from trajectories.domain.clock import now_us
from trajectories.exceptions import (
    AuthenticationFailure,
    MethodNotAllowed,
    NotFound,
    OutboxUnavailable,
    TrajectoriesError,
)
from trajectories.storage.outbox import Counts
from trajectories.storage.store import get_store

_COUNTERS = {
    "acknowledged": "Records answered with 2xx by this host, repeats included.",
    "sent": "Records handed over to the workers for the first time.",
    "resent": "Records handed over again because the archive had not confirmed them in time.",
    "confirmed": "Records that the archive has.",
    "quarantined": "Records that the archive has refused.",
    "deleted": "Records that were waiting when their id was deleted, late copies from elsewhere included.",
}


@login_not_required
@csrf_exempt  # CSRF failures respond with an HTML page
@transaction.non_atomic_requests
def metrics_text(request: HttpRequest) -> HttpResponse:
    """Return counters of this host and its web processes, in the format that the client accepts."""
    try:
        _admit(request)
    except TrajectoriesError as error:
        return error_response(error, request)
    encode, content_type = exposition.choose_encoder(request.headers.get("Accept", ""))
    return HttpResponse(encode(_registry()), content_type=content_type, headers={HEADER: request_id(request)})


@sensitive_variables()
def _admit(request: HttpRequest) -> None:
    access = read_settings().metrics_access
    if access == "off":
        raise NotFound("No endpoint or page has this path. Check the URL.")
    if request.method not in ("GET", "HEAD"):
        raise MethodNotAllowed("Metrics can be read only.")
    if access != "open" and not hmac.compare_digest(
        request.headers.get("Authorization", "").encode(), f"Bearer {access}".encode()
    ):
        raise AuthenticationFailure("Send the secret of METRICS_ACCESS as 'Authorization: Bearer SECRET'.")


def _registry() -> CollectorRegistry:
    registry = CollectorRegistry()
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    else:
        registry.register(_Process())
    registry.register(_Outbox())
    return registry


class _Process(Collector):
    """Metrics of this process alone."""

    def collect(self) -> Iterator[Metric]:
        yield from metrics.registry.collect()


class _Outbox(Collector):
    """Counters of the outbox: equal in every process of the host, and kept over restarts."""

    def collect(self) -> Iterator[Metric]:
        try:
            counts = get_store().outbox.counts()
        except OutboxUnavailable:
            yield GaugeMetricFamily("trajectories_outbox_up", _UP, 0)
            return
        yield GaugeMetricFamily("trajectories_outbox_up", _UP, 1)
        for name, text in _COUNTERS.items():
            yield CounterMetricFamily(f"trajectories_{name}", text, getattr(counts, name))
        yield from _gauges(counts)


_UP = "1 if the outbox's file can be read."


def _gauges(counts: Counts) -> Iterator[Metric]:
    since_us = counts.oldest_waiting_us
    age_s = 0.0 if since_us is None else max(0, now_us() - since_us) / 1_000_000
    yield GaugeMetricFamily("trajectories_outbox_waiting", "Records that the archive may not have yet.", counts.waiting)
    yield GaugeMetricFamily(
        "trajectories_outbox_oldest_waiting_seconds", "For how long the oldest of them waits.", age_s
    )
    yield GaugeMetricFamily("trajectories_outbox_bytes", "Size of the outbox with its log.", counts.bytes)
    yield GaugeMetricFamily("trajectories_outbox_limit_bytes", "Size at which writes are refused.", counts.max_bytes)
