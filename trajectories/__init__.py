"""The store for orchestration trajectories, as a reusable Django app.

``record`` and ``update`` are the entry for code in the same Django project. They import the app at
the first call, so that importing this package is cheap and needs no settings.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from uuid import UUID

    from trajectories.services.ingest import Accepted

from trajectories.caller import Caller

__all__ = ["Caller", "record", "update"]
__version__ = "0.1.0"


def record(
    tenant: str, trajectory: Mapping[str, Any] | bytes, *, idempotency_key: str | None = None, replace: bool = False
) -> Accepted:
    """Record one trajectory for ``tenant``; return ``id``, ``record`` and ``is_new``.

    When this returns, the record is durable in the outbox of this host, even if a transaction
    around the call rolls back. The relay of the host delivers it; this process runs the relay if no
    other does and ``RELAY_IN_PROCESS`` is on.

    Args:
        tenant: the slug of a tenant; it need not exist yet.
        trajectory: what ``POST /v1/agent/trajectories`` accepts, as a dict or as JSON.
        idempotency_key: determines the id of a trajectory without one, so that a retry is the same
            record.
        replace: the trajectory may lack phases that are stored.

    Raises:
        InvalidInput: the slug or the trajectory is invalid; every problem is in ``details``.
        TooLarge: the trajectory is larger than ``MAX_RECORD_BYTES``.
        Deleted: the id was deleted.
        PhasesDropped: the trajectory lacks phases that this host knows, and ``replace`` is off.
        QuotaExceeded: the tenant has as much as ``QUOTA_RECORDS`` and ``QUOTA_BYTES`` allow, and the
            id is new, or the trajectory is longer than the stored one.
        OutboxUnavailable: the disk is full or fails; nothing was stored.
    """
    from trajectories.services import from_code

    return from_code.record(tenant, trajectory, idempotency_key=idempotency_key, replace=replace)


def update(
    tenant: str,
    id_: UUID,
    changes: Mapping[str, Any] | bytes,
    *,
    if_match: Container[int] | None = None,
) -> Accepted:
    """Change a stored trajectory of ``tenant``; return as ``record``, with the whole new record.

    Args:
        changes: what ``PATCH /v1/agent/trajectories/{id}`` accepts, as a dict or as JSON.
        if_match: change it only if its ``revision`` is one of these.

    Raises:
        InvalidInput, TooLarge, Deleted, OutboxUnavailable: as ``record``.
        NotFound: the tenant has no such trajectory.
        RevisionMismatch: it has another revision than ``if_match`` names.
        QuotaExceeded: it is longer than before by more than the tenant has room for.
        ArchiveUnavailable: only the archive can have it, and it is unavailable.
    """
    from trajectories.services import from_code

    return from_code.update(tenant, id_, changes, if_match=if_match)
