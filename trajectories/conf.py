"""The ``TRAJECTORIES`` setting as one typed, frozen object."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_type_hints

from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured

RATE_LIMITS = ("requests_per_minute", "bytes_per_minute")
"""Keys of ``rate_limits``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What ``settings.TRAJECTORIES`` may hold; keys there are these names in upper case."""

    outbox_path: str = ""
    """File of the outbox (SQLite). Required. On a local disk; in containers on a volume that outlives them."""

    outbox_synchronous: Literal["FULL", "NORMAL"] = "FULL"
    """FULL: a 2xx survives power loss. NORMAL: it survives a killed process, but power loss may take the last commits."""

    outbox_max_bytes: int = 4 * 1024**3
    """Size of the outbox file at which writes are answered 503 instead of filling the disk."""

    outbox_disk_reserve_bytes: int = 64 * 1024**2
    """Room that writes leave on the outbox's disk, and are answered 503 instead of taking: what confirms and deletes rows needs it.
    At least three times ``max_request_bytes``."""

    outbox_keep_confirmed_s: float = 600.0
    """How long rows stay after the archive has them, so that every process of the host can still follow."""

    cache_alias: str = "trajectories"
    """Alias in ``CACHES`` of the Redis tier. An own alias and database number: its ``clear()`` empties the database."""

    redis_ttl_s: int = 90 * 24 * 3600
    """Life of a record in Redis, from its revision on."""

    tombstone_keep_s: int = 365 * 24 * 3600
    """How long a deleted id is known as deleted. Longer than any outbox, queue or spool can hold an old copy: one that comes
    later than this is a new record."""

    retention_days: Mapping[str, int] = field(default_factory=dict)
    """After how many days a record is deleted for good, by tenant; ``"*"`` is for those that are not named. Empty: never, but
    by ``manage.py prune``."""

    redis_retry_s: float = 1.0
    """After Redis failed a read, how long reads go without asking it again; limits likewise."""

    feed_poll_s: float = 0.05
    """Shortest time between two looks of one process at the change feed of one tenant."""

    archive_retry_s: float = 1.0
    """After the archive failed to fill the hot cache, how long reads go without asking it again."""

    archive_statement_timeout_s: float = 30.0
    """Longest time that a statement of an archive read may take on Postgres, where a transaction can say so."""

    queue: str | None = None
    """Celery queue of the tasks; ``None`` is the app's default queue, which a plain worker consumes."""

    queue_max_messages: int = 16
    """With this many messages waiting in the broker nothing is sent again: the worker is slow, not the message lost."""

    batch_max_records: int = 100
    """Records in one Celery task."""

    batch_max_bytes: int = 1024**2
    """Bodies in one Celery task, in bytes; a larger record goes alone."""

    batches_in_flight: int = 8
    """Batches that a host has sent and not yet seen in the archive."""

    resend_after_s: float = 30.0
    """Time after which an unconfirmed batch is sent again; doubles with each attempt."""

    resend_max_s: float = 600.0
    """Bound of that doubling."""

    settle_after_s: float = 120.0
    """Time after which another worker tells Redis what the archive made of a batch whose own worker did not come to it. Longer
    than a batch may take."""

    relay_in_process: bool = True
    """Run the relay as a thread of the web process. Off where ``manage.py relay`` runs beside it."""

    hot_max_records: int = 10_000
    """Records that the hot cache of a process holds per tenant: the newest, by when their id was first accepted."""

    hot_max_bytes: int = 1024**3
    """Memory that the hot cache of a process may take over all tenants, by its own estimate."""

    max_record_bytes: int = 1024**2
    """Largest body of one record."""

    redact: bool = True
    """Replace credentials in posted records by ``[redacted:kind]`` before they are stored (docs/security.md). Off: kept as sent."""

    max_request_bytes: int = 16 * 1024**2
    """Largest request, NDJSON included."""

    list_max_bytes: int = 8 * 1024**2
    """A page of the list ends here even when ``limit`` is not reached."""

    export_wait_s: float = 10.0
    """How long an export waits for earlier records of this host to reach the archive before it answers 503."""

    phase_aliases: Mapping[str, str] = field(default_factory=dict)
    """More names under which phases are grouped, beside the built-in ones, in small letters: ``{"qa": "test"}``. For what is accepted
    from then on."""

    metrics_access: str = field(default="off", repr=False)
    """Who may read ``/metrics``: ``off`` nobody, ``open`` whoever reaches the server, any other text (from 16 characters) whoever
    sends it as bearer token."""

    tenant_from_request: str | None = None
    """Dotted path of a function from request to ``Caller`` or tenant slug (``None``: not authenticated), in place of API keys."""

    key_cache_s: float = 60.0
    """How long a verified API key is taken without asking the database; also the longest time until a revocation is seen."""

    key_cache_max: int = 10_000
    """Keys in that cache."""

    key_offline_s: float = 24 * 3600.0
    """How long a verified key is still taken while the database cannot be asked."""

    rate_limits: Mapping[str, int] = field(default_factory=dict)
    """What each API key may use in a minute, ``{"requests_per_minute": 600, "bytes_per_minute": 104857600}`` or one of the two; over
    it the answer is 429. Empty: no limits. See docs/security.md."""

    key_failures_per_minute: int = 20
    """Keys that are not good, of one client address and in one process, after which further ones are answered 429 until the minute is
    over. Good keys are always taken."""

    trusted_proxies: int = 0
    """Proxies in front of the server that each append to ``X-Forwarded-For`` from which address they were called: so many entries from
    the right is the client's. 0: nobody's word is taken, the client is who has connected."""


def read_settings() -> Settings:
    """The settings as they are now.

    Raises:
        ImproperlyConfigured: ``TRAJECTORIES`` is not a dict, or has a key that is not a setting.
    """
    global _settings
    if _settings is None:
        _settings = _build(getattr(django_settings, "TRAJECTORIES", {}))
    return _settings


def unknown_keys(given: Mapping[str, Any]) -> dict[str, str | None]:
    """Keys of ``given`` that are not settings, each with the nearest one that is."""
    known = [f.name.upper() for f in fields(Settings)]
    unknown = [key for key in given if key not in known]
    return {key: next(iter(difflib.get_close_matches(str(key).upper(), known, 1)), None) for key in unknown}


def wrong_types(given: Mapping[str, Any]) -> dict[str, str]:
    """Known keys of ``given`` whose value has another type than the setting, each with the type it wants."""
    hints = get_type_hints(Settings)
    wrong = {}
    for f in fields(Settings):
        value = _plain(given.get(f.name.upper(), f.default))
        if f.name.upper() in given and not _fits(value, hints[f.name]):
            wrong[f.name.upper()] = str(f.type)
    return wrong


def _plain(value: Any) -> Any:
    """A path is as good as its text: ``BASE_DIR / "outbox.sqlite3"``."""
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
    if hint == Mapping[str, int]:
        return isinstance(value, Mapping) and all(_fits(k, str) and _fits(v, int) for k, v in value.items())
    return value in ("FULL", "NORMAL")


def _build(given: Any) -> Settings:
    if not isinstance(given, Mapping):
        raise ImproperlyConfigured("TRAJECTORIES must be a dict.")
    for key, near in unknown_keys(given).items():
        raise ImproperlyConfigured(
            f"TRAJECTORIES has no setting {key!r}." + (f" Did you mean {near!r}?" if near else "")
        )
    return Settings(**{key.lower(): _plain(value) for key, value in given.items()})


# Global because Django's settings are. The store forgets them when a test or a host changes the dict. One reference, no lock.
_settings: Settings | None = None


def forget_settings() -> None:
    """Have the next ``read_settings()`` read them anew."""
    global _settings
    _settings = None
