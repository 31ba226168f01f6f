"""Prometheus metrics of a process. A host's rows in flight are counted in the outbox's file.

If ``PROMETHEUS_MULTIPROC_DIR`` is set before this module is imported, the library keeps the values
in files of that directory. Any process then answers for all of them.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

# Global because metrics belong to a process. A registry of its own, to avoid name clashes with the
# host project's metrics.
registry = CollectorRegistry()

hot_records = Gauge(
    "trajectories_hot_records", "Records in hot caches.", registry=registry, multiprocess_mode="livesum"
)
hot_bytes = Gauge(
    "trajectories_hot_bytes",
    "Memory of hot caches in bytes, by their own estimate.",
    registry=registry,
    multiprocess_mode="livesum",
)
hot_reads = Counter(
    "trajectories_hot_reads",
    "Reads answered out of the hot cache alone (hit), and reads that needed another tier (miss).",
    ["result"],
    registry=registry,
)
redacted = Counter(
    "trajectories_redacted",
    "Credentials that were replaced in posted records, by kind; those of a repeat again.",
    ["kind"],
    registry=registry,
)
feed_lost_timestamp_seconds = Gauge(
    "trajectories_feed_lost_timestamp_seconds",
    "Since when a process cannot follow the change feed, so how far it may lag behind other hosts; 0 if all follow.",
    registry=registry,
    multiprocess_mode="livemax",
)
confirm_seconds = Histogram(
    "trajectories_confirm_seconds",
    "From the acknowledgement of a record until the relay saw it in the archive; other hosts see it earlier than that.",
    registry=registry,
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1_800, 3_600, 86_400),
)
request_seconds = Histogram(
    "trajectories_request_seconds",
    "Answering time by endpoint, method and status; of an export until its first byte.",
    ["endpoint", "method", "status"],
    registry=registry,
)
alerts = Gauge(
    "trajectories_alerts",
    "Alerts of all tenants by code, as of the last answer about alerts of each (docs/learning.md).",
    ["code"],
    registry=registry,
    multiprocess_mode="mostrecent",
)
