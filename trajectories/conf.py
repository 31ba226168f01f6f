"""The ``TRAJECTORIES`` setting as one typed, frozen object."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_args, get_type_hints

from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured

RATE_LIMITS = ("requests_per_minute", "bytes_per_minute", "read_cpu_ms_per_minute")
"""Keys of ``rate_limits``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The keys of ``settings.TRAJECTORIES``, which are these names in upper case."""

    outbox_path: str = ""
    """File of the outbox (SQLite). Required. On a local disk; in containers, on a volume that
    outlives them."""

    outbox_synchronous: Literal["FULL", "NORMAL"] = "FULL"
    """FULL: a record answered with 2xx survives power loss. NORMAL: it survives a killed process,
    but power loss may lose the last commits."""

    outbox_max_bytes: int = 4 * 1024**3
    """Size of the outbox file at which writes get 503, so that the disk does not fill up."""

    outbox_disk_reserve_bytes: int = 64 * 1024**2
    """Free space to leave on the outbox's disk. Writes that would use it get 503, because
    confirming and deleting rows needs it. At least three times ``max_request_bytes``."""

    outbox_keep_confirmed_s: float = 600.0
    """How long rows stay in the outbox after the archive has them, so that every process of the
    host can read them."""

    cache_alias: str = "trajectories"
    """Alias in ``CACHES`` of the Redis tier. Give it an alias and a database number of its own,
    because ``clear()`` of this cache empties the whole database."""

    redis_ttl_s: int = 90 * 24 * 3600
    """How long Redis keeps a record, counted from its revision."""

    compress_bodies: bool = False
    """Store the bodies of records compressed in Redis and in the archive, and send them to workers
    in that form. Turn it on when no process of an earlier release is left: those read plain bodies
    only (docs/reliability.md)."""

    tombstone_keep_s: int = 365 * 24 * 3600
    """How long a deleted id is rejected. Must be longer than any outbox, queue or spool can hold an
    old copy: a copy that arrives later is a new record."""

    audit_keep_s: int = 365 * 24 * 3600
    """How long the audit trail keeps an entry."""

    retention_days: Mapping[str, int] = field(default_factory=dict)
    """Days after which records are deleted permanently, by tenant; ``"*"`` applies to all other
    tenants. Empty: records are deleted only by ``manage.py prune``."""

    quota_records: Mapping[str, int] = field(default_factory=dict)
    """Maximum records of a tenant, by tenant; ``"*"`` applies to all other tenants. Requests that
    record beyond it get 403 ``quota_exceeded``. Empty: no quota. See docs/security.md."""

    quota_bytes: Mapping[str, int] = field(default_factory=dict)
    """The same for the bytes of the bodies of its records, as stored."""

    redis_retry_s: float = 1.0
    """After Redis failed a read, how long reads skip Redis before they try it again. Rate limits
    skip it likewise."""

    feed_poll_s: float = 0.05
    """Minimum time between two reads of one tenant's change feed by one process."""

    archive_retry_s: float = 1.0
    """After the archive failed to fill the hot cache, how long reads skip it before they try
    again."""

    archive_statement_timeout_s: float = 30.0
    """Statement timeout of an archive read on Postgres, where it can be set for a transaction."""

    rollup_max_cells: int = 5_000
    """Maximum number of precomputed sums (roll-ups) of a tenant: of those of all time, and of those
    of one day. Beyond it, stats of one project scan its records, and beyond twice as many all stats
    do (docs/reliability.md)."""

    queue: str | None = None
    """Celery queue of the tasks; ``None``: the one that ``CELERY_TASK_ROUTES`` gives, else the
    app's default queue, which a plain worker consumes. ``{store}`` in it stands for the identity of
    the store (``manage.py store_identity``), so that stores can share a broker."""

    queue_max_messages: int = 16
    """Number of messages waiting in the broker at which resending stops: the worker is slow, and no
    message is lost."""

    batch_max_records: int = 100
    """Maximum records in one Celery task."""

    batch_max_bytes: int = 1024**2
    """Maximum size of all bodies in one Celery task; a larger record is sent alone."""

    batches_in_flight: int = 8
    """Maximum batches that a host has sent and that are not archived yet."""

    resend_after_s: float = 30.0
    """Time after which an unconfirmed batch is sent again; doubles with each attempt."""

    resend_max_s: float = 600.0
    """Maximum of that doubled time."""

    settle_after_s: float = 120.0
    """Time after which another worker writes the archive's result of a batch to Redis, because the
    batch's own worker has not. Must be longer than a batch may take."""

    relay_in_process: bool = True
    """Run the relay as a thread of the web process. Turn off where ``manage.py relay`` runs."""

    hot_max_records: int = 10_000
    """Maximum records per tenant in the hot cache of a process: the newest ones, by the time at
    which their id was first accepted."""

    hot_max_bytes: int = 1024**3
    """Maximum memory of the hot caches of all web processes of a host, by the caches' own estimate.
    Each process has an equal share."""

    web_processes: int = 1
    """Number of web processes of a host, which share ``hot_max_bytes``. ``trajectories-server``
    sets it from ``--workers``; set it where another server runs several. The quick start starts so
    many, by default one for each two cores, at most four."""

    max_record_bytes: int = 1024**2
    """Maximum size of one record's body, as sent and as stored. ``id``, ``recorded_at`` and
    ``revision`` do not count."""

    outcomes_per_target: int = 100
    """Maximum late outcomes of a trajectory, and of a reference such as a pull request
    (docs/outcomes.md)."""

    redact: bool = True
    """Replace credentials in posted records by ``[redacted:kind]`` before they are stored
    (docs/security.md). Off: records are stored as sent."""

    max_request_bytes: int = 16 * 1024**2
    """Maximum size of a request, NDJSON included."""

    list_max_bytes: int = 8 * 1024**2
    """Maximum size of a list page; the page ends here even when ``limit`` is not reached."""

    export_wait_s: float = 10.0
    """How long an export waits for earlier records of this host to reach the archive before it
    answers 503."""

    readiness: Mapping[str, float] = field(default_factory=dict)
    """Other thresholds for checks of readiness: ``{"runs": 2000, "propensity": 0.5}``
    (docs/training.md, section Readiness)."""

    phase_aliases: Mapping[str, str] = field(default_factory=dict)
    """Additional aliases that group phases, in lower case, beside the built-in ones: ``{"qa":
    "test"}``. A change applies to records accepted after it."""

    credit_rule: Literal["checks", "phase_outcome", "run_outcome"] = "checks"
    """How phases are credited where a request does not say. ``checks``: by the tests, builds and
    reviews that judged them. See docs/contract.md."""

    metrics_access: str = field(default="off", repr=False)
    """Access to ``/metrics``. ``off``: no access. ``open``: no authentication. Any other text, at
    least 16 characters: clients must send it as bearer token."""

    tenant_from_request: str | None = None
    """Dotted path of a function that replaces API keys (docs/authentication.md). It takes the
    request and returns a ``trajectories.Caller``, a tenant slug, which may record and read, or
    ``None`` (not authenticated)."""

    key_cache_s: float = 60.0
    """How long a verified API key is accepted without a database query. A revocation takes effect
    on its host at once, on other hosts within a second, and without Redis there after this time."""

    key_cache_max: int = 10_000
    """Maximum keys in that cache."""

    key_offline_s: float = 24 * 3600.0
    """How long a verified key is still accepted while the database is unavailable."""

    rate_limits: Mapping[str, int] = field(default_factory=dict)
    """Rate limits of each API key: ``{"requests_per_minute": 600, "bytes_per_minute": 104857600,
    "read_cpu_ms_per_minute": 20000}``, or some of them. Requests over a limit get 429. Empty: no
    limits. See docs/security.md."""

    long_reads_per_tenant: int = 2
    """Maximum long reads (stats, exports, and lists that examine many records) and patches of large
    records of one tenant that a process works on at once. One more waits for up to a second; others
    get 429. 0: no limit."""

    key_failures_per_minute: int = 20
    """Maximum invalid keys a minute from one client address, counted per process. Further invalid
    keys get 429 until the minute ends. Valid keys are always accepted."""

    trusted_proxies: int = 0
    """Number of proxies in front of the server that each append the client's address to
    ``X-Forwarded-For``. The client is the entry at this position, counted from the right. 0:
    ``X-Forwarded-For`` is ignored; the client is the address that connects."""


def read_settings() -> Settings:
    """Return the current settings.

    Raises:
        ImproperlyConfigured: ``TRAJECTORIES`` is not a dict, or has an unknown key.
    """
    global _settings
    if _settings is None:
        _settings = _build(getattr(django_settings, "TRAJECTORIES", {}))
    return _settings


def unknown_keys(given: Mapping[str, Any]) -> dict[str, str | None]:
    """Return the keys of ``given`` that are not settings, each with the nearest setting."""
    known = [f.name.upper() for f in fields(Settings)]
    unknown = [key for key in given if key not in known]
    return {key: next(iter(difflib.get_close_matches(str(key).upper(), known, 1)), None) for key in unknown}


def wrong_types(given: Mapping[str, Any]) -> dict[str, str]:
    """Return the known keys of ``given`` whose value has a wrong type, each with the right type."""
    hints = get_type_hints(Settings)
    wrong = {}
    for f in fields(Settings):
        value = _plain(given.get(f.name.upper(), f.default))
        if f.name.upper() in given and not _fits(value, hints[f.name]):
            wrong[f.name.upper()] = str(f.type)
    return wrong


def _plain(value: Any) -> Any:
    """Return a path as text, so that ``BASE_DIR / "outbox.sqlite3"`` is valid."""
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def _fits(value: Any, hint: Any) -> bool:
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if hint == str | None:
        return value is None or isinstance(value, str)
    if hint in (str, bool):
        return isinstance(value, hint)
    if hint == Mapping[str, str]:
        return isinstance(value, Mapping) and all(isinstance(x, str) for pair in value.items() for x in pair)
    for number, of_number in ((int, Mapping[str, int]), (float, Mapping[str, float])):
        if hint == of_number:
            return isinstance(value, Mapping) and all(_fits(k, str) and _fits(v, number) for k, v in value.items())
    return value in get_args(hint)


def _build(given: Any) -> Settings:
    if not isinstance(given, Mapping):
        raise ImproperlyConfigured("TRAJECTORIES must be a dict.")
    for key, near in unknown_keys(given).items():
        raise ImproperlyConfigured(
            f"TRAJECTORIES has no setting {key!r}." + (f" Did you mean {near!r}?" if near else "")
        )
    return Settings(**{key.lower(): _plain(value) for key, value in given.items()})


# Global because Django's settings are. The store clears it when a test or a host changes the dict.
# A single reference needs no lock.
_settings: Settings | None = None


def forget_settings() -> None:
    """Clear the cached settings, so that the next ``read_settings()`` reads them again."""
    global _settings
    _settings = None
