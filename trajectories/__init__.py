"""The store for orchestration trajectories, as a reusable Django app.

``record`` is the entry for code in the same Django project. It imports the app at its first call,
so that importing this package is cheap and needs no settings.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trajectories.services.ingest import Accepted

from trajectories.caller import Caller

__all__ = ["Caller"]
__version__ = "0.1.0"
__all__ = ["record"]


def record(tenant: str, trajectory: Mapping[str, Any] | bytes, *, idempotency_key: str | None = None) -> Accepted:
    """Record one trajectory for ``tenant``; return ``id``, ``record`` and ``is_new``.

    When this returns, the record is durable in the outbox of this host, even if a transaction around
    the call rolls back. The relay of the host delivers it; this process runs the relay if no other
    does and ``RELAY_IN_PROCESS`` is on.

    Args:
        tenant: the slug of a tenant; it need not exist yet.
        trajectory: what ``POST /v1/agent/trajectories`` accepts, as a dict or as JSON.
        idempotency_key: determines the id of a trajectory without one, so that a retry is the same
            record.

    Raises:
        InvalidInput: the slug or the trajectory is invalid; every problem is in ``details``.
        TooLarge: the trajectory is larger than ``MAX_RECORD_BYTES``.
        Deleted: the id was deleted.
        OutboxUnavailable: the disk is full or fails; nothing was stored.
    """
    from trajectories.services import from_code

    return from_code.record(tenant, trajectory, idempotency_key=idempotency_key)
