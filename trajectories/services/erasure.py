"""Erasure: remove a tenant and all its data, and keep a digest of its slug to drop late copies.

The archive comes first: from then on no worker stores records of the tenant. Redis follows, once no
worker still holds data that it read before. Hosts read the erasure from the archive
(``relay.follow_erasures``), twice, so that records accepted in between are erased as well.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from kombu.exceptions import OperationalError as BrokerError

from trajectories import relay, tasks
from trajectories.exceptions import NotFound
from trajectories.models import ApiKey, AuditEntry
from trajectories.storage import archive_files, archive_writes
from trajectories.storage.redis_tier import REBUILDING
from trajectories.storage.store import Store

BATCH = 500
_CLAIM_S = 600.0
_LOOK_EVERY_S = 0.2


class ErasureIncomplete(Exception):
    """A step did not finish in time. Erased data stays erased; repeat the same call to continue."""


@dataclass(slots=True)
class Erased:
    """Counts of an erasure: API keys, archive, quarantine and outbox rows, and Redis keys."""

    api_keys: int
    archive: int = 0
    quarantine: int = 0
    outbox: int = 0
    redis: int = 0


def erase(
    store: Store,
    tenant: str,
    *,
    timeout_s: float,
    on_progress: Callable[[int], object] = lambda archived: None,
    forget: Callable[[list[ApiKey]], object] = lambda keys: None,
    actor: str = "code",
) -> Erased:
    """Remove ``tenant`` permanently. Safe to repeat, and safe while the store is in use.

    Args:
        timeout_s: how long to wait for workers to finish their current batches.
        on_progress: called with the number of archived records that a batch has removed.
        forget: called once with the API keys, before they are deleted.
        actor: who erases, for the audit trail. Of the tenant's entries only this one stays, with
            the digest.

    Raises:
        NotFound: the tenant does not exist and never did.
        ErasureIncomplete: a step timed out; the message names it.
        RedisError, archive.ArchiveError, OutboxUnavailable: that tier is unavailable.
    """
    # The outbox may hold a tenant that the archive does not know: its first record creates the row.
    keys = archive_writes.begin_erasure(tenant, store.now_us(), forget, is_known=store.outbox.count_of(tenant) > 0)
    if keys is None:
        raise NotFound(f"There is no tenant {tenant!r}.", param="tenant")
    erased = Erased(len(keys))
    erased.outbox += _outbox_rows(store, tenant)
    while gone := archive_writes.erase_some(tenant, BATCH):
        erased.archive += gone.archive
        erased.quarantine += gone.quarantine
        on_progress(gone.archive)
    _wait(
        lambda: _is_queue_empty(store),
        timeout_s,
        "messages wait in the queue, and hold records until a worker has dropped them",
    )
    erased.redis += _erase_redis(store, tenant, timeout_s)
    archive_writes.end_erasure(tenant, store.now_us())
    AuditEntry.objects.note("erase", actor, {tenant: erased.archive})
    erased.outbox += _outbox_rows(store, tenant)
    return erased


def compact(store: Store, *, is_full: bool, timeout_s: float) -> None:
    """Rewrite the files of archive and outbox without deleted data, as far as each supports it.

    Args:
        is_full: on Postgres, rewrite the tables (``VACUUM FULL``); each table is locked meanwhile.

    Raises:
        ErasureIncomplete: a file is in use for longer than ``timeout_s``.
    """
    _wait(lambda: archive_files.compact(is_full=is_full), timeout_s, "the archive's file is in use")
    _wait(store.outbox.compact, timeout_s, "the outbox is being read")


def rewrite_redis_files(store: Store, timeout_s: float) -> None:
    """Rewrite the persistence files of Redis without deleted data.

    Raises:
        ErasureIncomplete: the rewrite takes longer than ``timeout_s``.
        ResponseError: the server does not allow this command.
    """
    tier, is_writing = store.redis_tier, "Redis is still writing its files"
    _wait(lambda: not tier.is_writing_files(), timeout_s, is_writing)
    tier.rewrite_files()
    _wait(lambda: not tier.is_writing_files(), timeout_s, is_writing)


def _outbox_rows(store: Store, tenant: str) -> int:
    """Erase ``tenant`` in this host's outbox, as every relay does, and return the record count."""
    before = store.outbox.count_of(tenant)
    relay.follow_erasures(store)
    return before - store.outbox.count_of(tenant)


def _is_queue_empty(store: Store) -> bool:
    try:
        return not tasks.waiting_messages(store.queue)
    except BrokerError as error:
        raise ErasureIncomplete(f"The broker is unavailable, and its queue may hold records: {error}") from error


def _erase_redis(store: Store, tenant: str, timeout_s: float) -> int:
    """Erase the tenant's Redis keys.

    Wait first for workers that read the archive before the erasure: they would write it back.
    """
    tier = store.redis_tier
    _wait(lambda: not tier.is_under_way(tenant), timeout_s, "a worker has records of it in hand")
    _wait(lambda: tier.claim(REBUILDING, _CLAIM_S), timeout_s, "Redis is being rebuilt")
    try:
        return tier.erase_all(tenant)
    finally:
        tier.release(REBUILDING)


def _wait(condition: Callable[[], bool], timeout_s: float, otherwise: str) -> None:
    until = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() >= until:
            raise ErasureIncomplete(f"Not finished, the same command goes on: {otherwise}.")
        time.sleep(_LOOK_EVERY_S)
