"""System checks of the settings, each with an id and a hint.

Checks that query a server run only with ``check --deploy``: a project must start, and pass its CI,
while Redis is unavailable.
"""

from __future__ import annotations

import difflib
import math
import os
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from celery import current_app
from django.apps import AppConfig
from django.conf import settings as django_settings
from django.core.checks import CheckMessage, Error, Tags, register
from django.core.checks import Warning as CheckWarning
from django.db import connections, router
from django.utils.module_loading import import_string
from django_redis import get_redis_connection
from django_redis.cache import RedisCache
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from trajectories import private_files, tasks
from trajectories.conf import RATE_LIMITS, Settings, read_settings, unknown_keys, wrong_types
from trajectories.exceptions import OutboxUnavailable
from trajectories.models import SLUG_PATTERN, Trajectory
from trajectories.storage import archive_reads
from trajectories.storage.archive_errors import ArchiveError
from trajectories.storage.store import IdentityUnknown, get_store
from trajectories.training.readiness_checks import THRESHOLDS

MOUNTS = Path("/proc/self/mounts")
# SQLite's WAL needs shared memory and locks between processes, which these file systems do not
# offer, or not reliably.
# fmt: off
NETWORK_FILE_SYSTEMS = frozenset((
    "9p", "afs", "beegfs", "ceph", "cifs", "davfs", "davfs2", "gcsfuse", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs",
    "nfs4", "rclone", "s3fs", "smb", "smb3", "smbfs", "sshfs",
))
# fmt: on
MEMORY_FILE_SYSTEMS = frozenset({"tmpfs", "ramfs"})
_ESCAPE = re.compile(r"\\([0-7]{3})")
"""Escape of a blank in a path in that file."""
_BROKER_TIMEOUT_S = 3
_WORKER_TIMEOUT_S = 2.0

_Found = Iterator[CheckMessage]


@register("trajectories")
def check_settings(app_configs: Sequence[AppConfig] | None, **_: Any) -> list[CheckMessage]:
    """Check ``TRAJECTORIES``: first its keys and types, then, if these are right, its values."""
    given = getattr(django_settings, "TRAJECTORIES", {})
    return list(_form(given)) or [message for check in _CHECKS for message in check(read_settings())]


@register("trajectories", deploy=True)
def check_servers(app_configs: Sequence[AppConfig] | None, **_: Any) -> list[CheckMessage]:
    """Check that Redis, the broker and a worker answer, and that the outbox outlives its container."""
    if check_settings(app_configs):
        return []
    return [message for check in _DEPLOY_CHECKS for message in check(read_settings())]


@register("trajectories", Tags.database)
def check_databases(
    app_configs: Sequence[AppConfig] | None, databases: Sequence[str] | None = None, **_: Any
) -> list[CheckMessage]:
    """Check that the archive's database is supported. ``migrate`` runs this before it starts."""
    routed = [alias for alias in databases or () if router.allow_migrate_model(alias, Trajectory)]
    aliases = [router.db_for_write(Trajectory)] if databases is None else routed
    hint = "Let DATABASE_ROUTERS send the app `trajectories` to a PostgreSQL or SQLite database."
    return [
        Error(
            # Not `display_name`: it connects to the server, to distinguish MariaDB from MySQL.
            f"DATABASES[{alias!r}] has the engine {connections.settings[alias]['ENGINE']!r}. The archive supports "
            "PostgreSQL and SQLite; it does not support MySQL, MariaDB and Oracle.",
            hint=hint,
            id="trajectories.E024",
        )
        for alias in aliases
        if connections[alias].vendor not in VENDORS
    ]


VENDORS = frozenset({"postgresql", "sqlite"})


def _form(given: Any) -> _Found:
    if not isinstance(given, Mapping):
        hint = 'TRAJECTORIES = {"OUTBOX_PATH": "/var/lib/myproject/outbox.sqlite3"}'
        yield Error(f"TRAJECTORIES is a {type(given).__name__} and not a dict.", hint=hint, id="trajectories.E001")
        return
    for key, near in unknown_keys({str(key): value for key, value in given.items()}).items():
        hint = (
            f"Did you mean {near!r}?"
            if near
            else f"The settings are {', '.join(f.name.upper() for f in fields(Settings))}."
        )
        yield Error(f"TRAJECTORIES has no setting {key!r}.", hint=hint, id="trajectories.E002")
    for key, wanted in wrong_types(given).items():
        hint = f"docs/settings.md describes {key}."
        message = f"TRAJECTORIES[{key!r}] must have the type {wanted}, got {given[key]!r}."
        yield Error(message, hint=hint, id="trajectories.E003")


def _check_numbers(conf: Settings) -> _Found:
    for f in fields(Settings):
        value, least = getattr(conf, f.name), 1 if f.type == "int" and f.name not in _MAY_BE_0 else 0
        if f.type in ("int", "float") and not (math.isfinite(value) and value >= least):
            yield _bad_number(f.name, value, f"at least {least}")
    if conf.resend_after_s == 0:
        yield _bad_number("resend_after_s", 0, "more than 0, or each batch is sent again without end")
    for small, large in (
        ("resend_after_s", "resend_max_s"),
        ("max_record_bytes", "max_request_bytes"),
        ("redis_ttl_s", "tombstone_keep_s"),  # otherwise Redis could restore deleted records
    ):
        if getattr(conf, large) < getattr(conf, small):
            yield _bad_number(large, getattr(conf, large), f"at least {small.upper()} ({getattr(conf, small)!r})")


_MAY_BE_0 = ("trusted_proxies",)


def _bad_number(name: str, value: float, rule: str) -> CheckMessage:
    message, hint = (
        f"TRAJECTORIES[{name.upper()!r}] must be {rule}, got {value!r}.",
        f"docs/settings.md describes {name.upper()}.",
    )
    return Error(message, hint=hint, id="trajectories.E004")


def _check_outbox(conf: Settings) -> _Found:
    if not conf.outbox_path:
        hint = "A file on a disk of this host, in a container on a volume that outlives it."
        yield Error("TRAJECTORIES has no OUTBOX_PATH.", hint=hint, id="trajectories.E005")
        return
    if not Path(conf.outbox_path).is_absolute():
        hint = "Processes started from different directories would have different outboxes: str(BASE_DIR / ...)."
        yield Error(f"OUTBOX_PATH {conf.outbox_path} is not absolute.", hint=hint, id="trajectories.E006")
        return
    yield from _check_outbox_file_system(conf.outbox_path)
    try:
        is_writable = _can_write(Path(conf.outbox_path))
    except OSError:  # a name that no file can have
        is_writable = False
    if not is_writable:
        hint = f"The user {os.getuid()} of this process must be allowed to write there."
        yield Error(f"The outbox {conf.outbox_path} cannot be written to.", hint=hint, id="trajectories.E008")


def _check_outbox_file_system(path: str) -> _Found:
    kind = _file_system_of(Path(path))
    if kind in NETWORK_FILE_SYSTEMS:
        hint = "SQLite loses data where locks and memory are not shared by all processes. Use a disk of this host."
        yield Error(f"The outbox {path} is on a network file system ({kind}).", hint=hint, id="trajectories.E007")
    if kind in MEMORY_FILE_SYSTEMS:
        hint = "Acknowledged records are lost when this host restarts. Use a disk."
        yield CheckWarning(f"The outbox {path} is in memory ({kind}).", hint=hint, id="trajectories.W001")


def _file_system_of(path: Path) -> str | None:
    """Return the type of the file system of ``path``, or None where the system does not say."""
    try:
        mounts = [line.split() for line in MOUNTS.read_text().splitlines()]
    except OSError:
        return None
    place, found = path.resolve(), (-1, "")
    for _, point, kind, *_rest in mounts:
        mounted = Path(_ESCAPE.sub(lambda code: chr(int(code[1], 8)), point))
        # The longest path wins. At equal paths the later mount wins, since it covers the other.
        if place.is_relative_to(mounted) and len(mounted.parts) >= found[0]:
            found = len(mounted.parts), kind
    return found[1].removeprefix("fuse.") or None


def _can_write(path: Path) -> bool:
    if path.exists():
        return path.is_file() and os.access(path, os.R_OK | os.W_OK) and os.access(path.parent, os.W_OK | os.X_OK)
    there = next(parent for parent in path.parents if parent.exists())
    return there.is_dir() and os.access(there, os.W_OK | os.X_OK)


def _check_cache(conf: Settings) -> _Found:
    caches = django_settings.CACHES
    if conf.cache_alias not in caches:
        hint = (
            f'CACHES["{conf.cache_alias}"] = {{"BACKEND": "django_redis.cache.RedisCache", "LOCATION": "redis://…/2"}}'
        )
        yield Error(
            f"CACHES has no alias {conf.cache_alias!r}, which the Redis tier needs.", hint=hint, id="trajectories.E009"
        )
        return
    if not _is_django_redis(caches[conf.cache_alias]):
        hint = "Use django_redis.cache.RedisCache: the Redis tier needs its raw connection."
        backend = caches[conf.cache_alias].get("BACKEND")
        yield Error(
            f"CACHES[{conf.cache_alias!r}] has the backend {backend}, which is not supported.",
            hint=hint,
            id="trajectories.E010",
        )
    ours = caches[conf.cache_alias].get("LOCATION")
    for alias, other in caches.items():
        if alias != conf.cache_alias and ours and other.get("LOCATION") == ours:
            hint = "clear() of either empties the whole database, with all records in it. Give it a number of its own."
            message = f"CACHES[{alias!r}] is the same Redis database as the Redis tier."
            yield CheckWarning(message, hint=hint, id="trajectories.W002")


def _is_django_redis(cache: Mapping[str, Any]) -> bool:
    try:
        return issubclass(import_string(cache.get("BACKEND", "")), RedisCache)
    except (ImportError, TypeError):
        return False


def _check_tenant_from_request(conf: Settings) -> _Found:
    path = conf.tenant_from_request
    if path is None:
        return
    try:
        is_callable, why = callable(import_string(path)), "it cannot be called"
    except ImportError as error:
        is_callable, why = False, str(error)
    if not is_callable:
        hint = "A function of the request, which returns the slug of a tenant, or None."
        message = f"TENANT_FROM_REQUEST {path!r} cannot be used: {why}."
        yield Error(message, hint=hint, id="trajectories.E011")


def _check_phase_aliases(conf: Settings) -> _Found:
    for name in {*conf.phase_aliases, *conf.phase_aliases.values()}:
        if name != name.strip().casefold():
            hint = f"Write it in lower case: {name.strip().casefold()!r}."
            yield Error(f"PHASE_ALIASES has {name!r}, which never matches a phase.", hint=hint, id="trajectories.E012")


def _check_metrics_access(conf: Settings) -> _Found:
    if conf.metrics_access not in ("off", "open") and len(conf.metrics_access) < _SECRET_MIN:
        hint = f"'off', 'open', or a secret of at least {_SECRET_MIN} characters."
        yield Error("METRICS_ACCESS is too short to be a secret.", hint=hint, id="trajectories.E013")


_SECRET_MIN = 16


def _check_rate_limits(conf: Settings) -> _Found:
    for name, limit in conf.rate_limits.items():
        if name not in RATE_LIMITS:
            near = difflib.get_close_matches(name.lower(), RATE_LIMITS, 1)
            hint = f"Did you mean {near[0]!r}?" if near else f"The limits are {' and '.join(RATE_LIMITS)}."
            yield Error(f"RATE_LIMITS has no limit {name!r}.", hint=hint, id="trajectories.E020")
        elif limit < (least := conf.max_request_bytes if name == "bytes_per_minute" else 1):
            hint = "With less than MAX_REQUEST_BYTES, the largest allowed request is always refused."
            message = f"RATE_LIMITS[{name!r}] must be at least {least}, got {limit!r}."
            yield Error(message, hint=hint if least > 1 else "Leave it out for no limit.", id="trajectories.E021")


def _check_retention_days(conf: Settings) -> _Found:
    for tenant, days in conf.retention_days.items():
        if days < 1:
            hint = "Leave a tenant out to keep its records."
            message = f"RETENTION_DAYS[{tenant!r}] must be a number of days from 1, got {days!r}."
            yield Error(message, hint=hint, id="trajectories.E022")
    yield from _wrong_tenants("RETENTION_DAYS", conf.retention_days, "trajectories.E023")


def _check_quotas(conf: Settings) -> _Found:
    for name, quotas in (("QUOTA_RECORDS", conf.quota_records), ("QUOTA_BYTES", conf.quota_bytes)):
        for tenant, most in quotas.items():
            if most < 0:
                hint = "Leave a tenant out to have no quota."
                yield Error(f"{name}[{tenant!r}] must be at least 0, got {most!r}.", hint=hint, id="trajectories.E026")
        yield from _wrong_tenants(name, quotas, "trajectories.E027")


def _wrong_tenants(name: str, by_tenant: Mapping[str, int], id_: str) -> _Found:
    for tenant in by_tenant:
        if tenant != "*" and not re.match(SLUG_PATTERN, tenant):
            hint = 'Use the slug of a tenant, or "*" for all tenants that are not named.'
            yield Error(f"{name} has {tenant!r}, which is not a valid tenant slug.", hint=hint, id=id_)


def _check_readiness(conf: Settings) -> _Found:
    for name, threshold in conf.readiness.items():
        if name not in THRESHOLDS:
            near = difflib.get_close_matches(name, THRESHOLDS, 1)
            hint = f"Did you mean {near[0]!r}?" if near else f"The thresholds are {', '.join(THRESHOLDS)}."
            yield Error(f"READINESS has no threshold {name!r}.", hint=hint, id="trajectories.E028")
        elif threshold < 0 or (THRESHOLDS[name] < 1 and threshold > 1):
            rule = "between 0 and 1" if THRESHOLDS[name] < 1 else "at least 0"
            message, hint = f"READINESS[{name!r}] must be {rule}, got {threshold!r}.", "docs/training.md describes it."
            yield Error(message, hint=hint, id="trajectories.E029")


def _check_celery(conf: Settings) -> _Found:
    if current_app.main == _APP_OF_CELERY:
        hint = "Its module must be imported with the project: docs/host-project.md, section Celery."
        yield CheckWarning(
            "This project has no Celery app, so no worker archives records.", hint=hint, id="trajectories.W008"
        )


_APP_OF_CELERY = "default"
"""Name of the app that Celery makes where the project has none."""


_CHECKS: Sequence[Callable[[Settings], _Found]] = (
    _check_numbers,
    _check_outbox,
    _check_cache,
    _check_celery,
    _check_tenant_from_request,
    _check_phase_aliases,
    _check_metrics_access,
    _check_rate_limits,
    _check_retention_days,
    _check_quotas,
    _check_readiness,
)


def _check_redis(conf: Settings) -> _Found:
    try:
        get_redis_connection(conf.cache_alias).ping()
    except (RedisError, OSError) as error:
        hint = "Records are accepted all the same, and wait in the outbox."
        yield CheckWarning(f"The Redis tier does not answer: {error}", hint=hint, id="trajectories.W003")


def _check_broker(conf: Settings) -> _Found:
    if current_app.conf.task_always_eager:
        return  # the relay runs the tasks itself
    try:
        with current_app.connection_for_write(connect_timeout=_BROKER_TIMEOUT_S) as connection:
            connection.ensure_connection(max_retries=1, timeout=_BROKER_TIMEOUT_S)
        queue = tasks.queue_name(_queue())
        is_consumed = tasks.is_consumed(queue, _WORKER_TIMEOUT_S)
    except RedisError:
        return  # the check of Redis says so
    except (OperationalError, OSError) as error:
        hint = "Records are accepted all the same, and wait in the outbox. Check the URL of the broker in Celery's settings."
        message = f"Celery's broker {tasks.broker_address()} does not answer: {error}"
        yield CheckWarning(message, hint=hint, id="trajectories.W004")
        return
    if not is_consumed:
        hint = (
            f"Start one: celery -A PROJECT worker -Q {queue}, with the SECRET_KEY, Redis and database of this process. "
            "If another store uses this queue, put {store} into QUEUE, so that each has its own. "
            f"A worker that is busy for {_WORKER_TIMEOUT_S:g} s does not answer either."
        )
        message = f"No worker answers a message in the queue {queue!r}; accepted records wait in the outbox."
        yield CheckWarning(message, hint=hint, id="trajectories.W006")


def _queue() -> str | None:
    try:
        return get_store().queue
    except IdentityUnknown:
        return read_settings().queue


def _check_store(conf: Settings) -> _Found:
    """Compare outbox and database without binding one to the other."""
    if not Path(conf.outbox_path).exists():
        return
    try:
        kept, found = get_store().outbox.binding().store, archive_reads.identity()
    except (ArchiveError, OutboxUnavailable):
        return
    if kept not in (None, found):
        hint = "Correct DATABASES or OUTBOX_PATH. If the database was replaced on purpose: docs/reliability.md."
        message = f"The outbox {conf.outbox_path} belongs to the store {kept}, and the database to the store {found}."
        yield Error(message, hint=hint, id="trajectories.E025")


def _check_container(conf: Settings) -> _Found:
    if _file_system_of(Path(conf.outbox_path)) == "overlay":
        hint = "Mount a volume there. Otherwise acknowledged records that are not archived yet are lost with the container."
        message = f"The outbox {conf.outbox_path} is in the writable layer of a container."
        yield CheckWarning(message, hint=hint, id="trajectories.W005")


def _check_files(conf: Settings) -> _Found:
    archive = connections[router.db_for_write(Trajectory)]
    databases = [conf.outbox_path, *([str(archive.settings_dict["NAME"])] if archive.vendor == "sqlite" else [])]
    for name in databases:
        # Other files of SQLite get the mode of their database.
        if exposed := [str(path) for end in ("", "-wal", "-shm") if private_files.is_exposed(path := Path(name + end))]:
            message = f"Other users of this machine can use {exposed[0]}, which holds records or sessions."
            yield CheckWarning(message, hint=f"chmod 600 {shlex.join(exposed)}", id="trajectories.W007")


_DEPLOY_CHECKS: Sequence[Callable[[Settings], _Found]] = (
    _check_redis,
    _check_broker,
    _check_store,
    _check_container,
    _check_files,
)
