"""Deletion: remove an id from every tier, and leave a tombstone that rejects every version of it.

The host's outbox comes first. From then on this host neither shows nor accepts the id. Its relay
sends the tombstone to Redis and the archive, even if they are unavailable now. The call then
deletes from Redis and the archive at once, so that the answer can count the removed rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.core import signing

from trajectories import persistence
from trajectories.domain.query import Query, parse_query
from trajectories.domain.record import tombstone
from trajectories.exceptions import ArchiveUnavailable, DeletionIncomplete, InvalidToken, NotFound
from trajectories.models import AuditEntry
from trajectories.services.exports import wait_until_archived
from trajectories.services.read_shares import ReadShares
from trajectories.storage import archive_reads
from trajectories.storage.archive_errors import ArchiveError
from trajectories.storage.archive_writes import DeletedCounts
from trajectories.storage.redis_tier import RedisError
from trajectories.storage.store import Store

BATCH = 500
MATCHING_MAX = 10_000
"""Most records that one call deletes; ``has_more`` then says that more match."""
_TOKEN_AGE_S = 3_600
_SALT = "trajectories.deletion"


@dataclass(slots=True)
class Removed:
    """Counts of a deletion: rows of this host's outbox, Redis keys, archive and quarantine rows."""

    outbox: int = 0
    redis: int = 0
    archive: int = 0
    quarantine: int = 0

    def add(self, gone: DeletedCounts) -> None:
        self.archive += gone.archive
        self.quarantine += gone.quarantine


@dataclass(frozen=True, slots=True)
class Matching:
    """Records that a deletion by filters would remove, and the token that confirms it."""

    count: int
    token: str


@dataclass(frozen=True, slots=True)
class Deleted:
    """Result of a deletion by filters. ``has_more``: repeat the same call to continue."""

    count: int
    removed: Removed
    has_more: bool


def delete_one(store: Store, tenant: str, id_: UUID, *, actor: str = "code") -> Removed:
    """Delete one id permanently. Repeating is safe, and completes an incomplete deletion.

    Args:
        actor: who deletes, for the audit trail.

    Raises:
        NotFound: 404; the tenant has no such record and never had one.
        DeletionIncomplete: 503, naming the unavailable tier. This host no longer shows the record,
            and the relay sends the tombstone to that tier later.
    """
    is_here = bool(store.outbox.versions(tenant, id_)) or store.outbox.is_deleted(tenant, id_)
    try:
        if not is_here and not archive_reads.is_known(tenant, id_):
            raise NotFound(f"There is no trajectory {id_}.", param="id")
    except ArchiveError as error:
        raise DeletionIncomplete("Whether this record exists is unknown: the archive is unavailable.") from error
    try:
        return delete_ids(store, tenant, [id_])
    finally:  # also if it is incomplete: this host has deleted the record
        AuditEntry.objects.note("delete", actor, {tenant: 1}, str(id_))


def matching(store: Store, tenant: str, filters: dict[str, str]) -> Matching:
    """Count the records that ``filters`` match now, and return a token for their deletion.

    The token does not cover records or versions that arrive later.

    Raises:
        InvalidInput: 400; a filter has an invalid value.
        ExportBehind: 503; earlier records of this host are not archived yet, so the count would
            miss them.
        ArchiveUnavailable: 503.
        TooManyReads: 429; as many long reads of this tenant are running as it may have.
    """
    as_of_us = store.now_us()
    query = parse_query(filters, as_of_us)
    wait_until_archived(store, tenant)
    try:
        with store.part(ReadShares).of(tenant) as share:
            share.take()
            count = archive_reads.count_until(tenant, query, as_of_us)
    except ArchiveError as error:
        raise ArchiveUnavailable("Matching records cannot be counted: the archive is unavailable.") from error
    return Matching(count, signing.dumps([tenant, filters, as_of_us], salt=_SALT))


def delete_matching(store: Store, tenant: str, filters: dict[str, str], token: str, *, actor: str = "code") -> Deleted:
    """Delete the records that the dry run of ``token`` counted and that have not changed since.

    One call deletes at most MATCHING_MAX records.

    Raises:
        InvalidToken: 409; the token is invalid, too old, or made for other filters.
        ExportBehind, ArchiveUnavailable, DeletionIncomplete: 503; repeat the same call to continue.
    """
    as_of_us = _as_of_us(tenant, filters, token)
    query = parse_query(filters, as_of_us)  # a span such as 7d ends at the dry run
    wait_until_archived(store, tenant)
    removed, count, ids = Removed(), 0, _some(store, tenant, query, as_of_us)
    try:
        while ids and count < MATCHING_MAX:
            count += len(ids)
            delete_ids(store, tenant, ids, removed)
            ids = _some(store, tenant, query, as_of_us)
    finally:
        if count:
            AuditEntry.objects.note("delete", actor, {tenant: count})
    return Deleted(count, removed, has_more=bool(ids))


def delete_selected(store: Store, tenant: str, ids: Sequence[UUID], *, actor: str = "code") -> Removed:
    """Delete these ids of a tenant permanently, and note who did.

    Raises:
        DeletionIncomplete: 503; as in ``delete_one``. Repeating completes it.
    """
    removed, count = Removed(), 0
    try:
        for at in range(0, len(ids), BATCH):
            some = ids[at : at + BATCH]
            count += len(some)
            delete_ids(store, tenant, some, removed)
    finally:
        if count:
            AuditEntry.objects.note("delete", actor, {tenant: count})
    return removed


def delete_ids(store: Store, tenant: str, ids: Sequence[UUID], removed: Removed | None = None) -> Removed:
    """Delete ``ids`` from every tier, add the counts to ``removed`` and return it.

    Raises:
        DeletionIncomplete: 503; as in ``delete_one``.
    """
    removed = removed or Removed()
    removed.outbox += store.outbox.delete(tenant, ids)
    stamp = store.now_us()
    tombstones = [tombstone(tenant, id_, stamp) for id_ in ids]
    unavailable = []
    try:
        removed.redis += store.redis_tier.delete(tombstones)
    except RedisError:
        unavailable.append("Redis")
    try:
        removed.add(persistence.delete(store, tombstones))
    except ArchiveError:
        unavailable.append("the archive")
    if unavailable:
        raise DeletionIncomplete(
            f"Not yet deleted from {' and '.join(unavailable)}, which did not answer. The server repeats it; so may you."
        )
    return removed


def _some(store: Store, tenant: str, query: Query, as_of_us: int) -> list[UUID]:
    try:
        return archive_reads.ids_until(tenant, query, as_of_us, BATCH)
    except ArchiveError as error:
        raise ArchiveUnavailable("Matching records cannot be found: the archive is unavailable.") from error


def _as_of_us(tenant: str, filters: dict[str, str], token: str) -> int:
    try:
        given: list[Any] = signing.loads(token, salt=_SALT, max_age=_TOKEN_AGE_S)
    except signing.BadSignature:
        raise _wrong() from None
    if given[:2] != [tenant, filters]:
        raise _wrong()
    return int(given[2])


def _wrong() -> InvalidToken:
    return InvalidToken(
        "The token is not one of a dry run with these filters in the last hour. Ask with dry_run=1 first.",
        param="token",
    )
