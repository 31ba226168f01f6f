"""Erasure audit: search every tier and every readable file of this host for data of a tenant."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import starmap
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

import orjson
from django.db.models import Q

from trajectories.domain.compression import from_columns
from trajectories.models import (
    Annotation,
    ApiKey,
    LateOutcome,
    Phase,
    Quarantined,
    Reference,
    RollUp,
    RunOutcome,
    Tenant,
    Tombstone,
    Trajectory,
)
from trajectories.storage import archive_files, archive_writes
from trajectories.storage.archive_errors import archive_errors
from trajectories.storage.store import Store

_SAMPLE = 10
_LOOKED_AT = 200
_DISTINCT_BYTES = 8  # a random UUID has sixteen distinct bytes or a few less
_CHUNK_BYTES = 1024**2


class Trace(NamedTuple):
    """A place, the number of matches in it, and the unit of that number."""

    place: str
    found: int
    unit: str


@archive_errors()
def markers_of(store: Store, tenant: str) -> list[str]:
    """Return strings that identify a tenant: some of its ids, and the prefixes of its keys."""
    trajectories = Trajectory.objects.using(archive_writes.alias()).filter(tenant=tenant).order_by("-recorded_at_us")
    ids = trajectories.values_list("trajectory_id", flat=True)[:_LOOKED_AT]
    keys = ApiKey.objects.using(archive_writes.alias()).filter(tenant=tenant).values_list("prefix", flat=True)[:_SAMPLE]
    waiting = store.outbox.waiting_ids(tenant)[:_LOOKED_AT]
    told = [*_telling(tenant, list(ids))[:_SAMPLE], *_telling(tenant, waiting)[:_SAMPLE]]
    return list(dict.fromkeys([*map(str, told), *keys]))


def _telling(tenant: str, ids: Sequence[UUID]) -> list[UUID]:
    """Return those of ``ids`` that only ``tenant`` has.

    Clients choose ids, so other tenants may have the same ones, or ids of zeros.
    """
    others = Trajectory.objects.using(archive_writes.alias()).filter(trajectory_id__in=ids).exclude(tenant=tenant)
    shared = set(others.values_list("trajectory_id", flat=True))
    return [id_ for id_ in ids if id_ not in shared and len(set(id_.bytes)) >= _DISTINCT_BYTES]


def forms_of(text: str) -> list[bytes]:
    """Return ``text`` as a tier may write it: an id in three forms, other text also as JSON."""
    try:
        id_ = UUID(text)
    except ValueError:
        return list(dict.fromkeys([text.encode(), orjson.dumps(text)[1:-1]]))
    return [str(id_).encode(), id_.hex.encode(), id_.bytes]


def find_traces(store: Store, tenant: str, markers: Sequence[bytes]) -> Iterator[Trace]:
    """Yield every place with its number of matches; 0 is good. Reads all of Redis and the files."""
    yield from _in_archive(tenant, markers)
    yield Trace("outbox", store.outbox.count_of(tenant), "rows")
    names, values = store.redis_tier.find_traces(tenant, markers)
    yield Trace("Redis", names, "keys")
    yield Trace("Redis", values, "values")
    for path in files(store):
        yield Trace(str(path), in_file(path, markers), "places")


def files(store: Store) -> list[Path]:
    """List this host's files with records: outbox, SQLite archive, and a local Redis's files."""
    bases = [store.conf.outbox_path, *archive_files.files()]
    paths = [Path(base + end) for base in bases for end in ("", "-wal", "-journal")]
    return [path for path in (*paths, *map(Path, store.redis_tier.files())) if path.is_file()]


def in_file(path: Path, markers: Sequence[bytes]) -> int:
    """Count the positions of a file at which one of ``markers`` begins."""
    overlap = max(map(len, markers), default=1) - 1
    found, before = 0, b""
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            # Keep less than one marker of the previous chunk, so that no match is counted twice.
            window = before + chunk
            found += sum(_count(window, marker, len(before) - len(marker) + 1) for marker in markers)
            before = window[len(window) - overlap :] if overlap else b""
    return found


def _count(window: bytes, marker: bytes, start: int) -> int:
    return window.count(marker, max(0, start))


@archive_errors()
def _in_archive(tenant: str, markers: Iterable[bytes]) -> list[Trace]:
    return list(_search_archive(tenant, markers))


def _search_archive(tenant: str, markers: Iterable[bytes]) -> Iterator[Trace]:
    models = Trajectory, LateOutcome, Reference, RunOutcome, Quarantined, Tombstone, ApiKey, RollUp, Annotation
    for model in models:
        rows = model._default_manager.using(archive_writes.alias()).filter(tenant=tenant)
        yield Trace(f"archive, {model._meta.verbose_name_plural}", rows.count(), "rows")
    phases = Phase.objects.using(archive_writes.alias()).filter(trajectory__tenant=tenant)
    yield Trace("archive, phases", phases.count(), "rows")
    yield Trace("archive, tenants", Tenant.objects.using(archive_writes.alias()).filter(pk=tenant).count(), "rows")
    texts = [text for marker in markers if (text := _text(marker))]
    in_body, in_error = Q(), Q()
    for text in texts:
        in_body |= Q(body__contains=text)
        in_error |= Q(error__contains=text)
    if texts:
        trajectories = Trajectory.objects.using(archive_writes.alias())
        found = trajectories.filter(in_body).count()
        bodies = trajectories.filter(body="").values_list("body", "compressed_body").iterator(chunk_size=100)
        found += sum(any(text.encode() in body for text in texts) for body in starmap(from_columns, bodies))
        found += LateOutcome.objects.using(archive_writes.alias()).filter(in_body).count()
        found += Quarantined.objects.using(archive_writes.alias()).filter(in_error).count()
        yield Trace("archive, records of other tenants", found, "rows")


def _text(marker: bytes) -> str | None:
    """Return a marker as a text column may hold it, or None for bytes that no text column holds."""
    try:
        text = marker.decode()
    except UnicodeDecodeError:
        return None
    return None if "\0" in text else text
