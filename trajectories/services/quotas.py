"""Quotas of records and bytes per tenant, as exact as a process can know without asking the
archive.

A process counts what it accepts, new records and what new versions add to known ones, on top of
what the archive had when it last looked. It looks at most every LOOK_EVERY_S, in a thread of its
own, for the tenants that recorded since. A repeat of a run that only the archive has is counted as a
new record, so a tenant is not refused before the archive was asked for what was counted since.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from django.db import connections

from trajectories.conf import Settings
from trajectories.exceptions import QuotaExceeded
from trajectories.storage import archive_reads
from trajectories.storage.archive_errors import ArchiveError
from trajectories.storage.archive_reads import Usage
from trajectories.storage.outbox_rows import Appended

logger = logging.getLogger(__name__)

LOOK_EVERY_S = 5.0
LOOK_AGAIN_EVERY_S = 1.0
"""How often a process asks the archive before it refuses: a full tenant goes on sending."""
_MAX_NEW = 1_000
"""New ids that are noted per tenant, for one statement. The others stay counted as new."""
_MAX_NOTED = 100
"""Tenants of which they are noted between two looks: they take 100 kB each."""
_MAX_TENANTS = 10_000
_UNITS = ("records", "bytes of records")
_WHAT_TO_DO = "Delete some, or ask the operator for a larger quota."


@dataclass(slots=True)
class _Counted:
    """What was added to the use of a tenant since the last look: the bytes of ids that this host did
    not know, and all else."""

    new: dict[UUID, int] = field(default_factory=dict)
    records: int = 0
    bytes: int = 0

    def add(self, one: Appended) -> None:
        id_ = one.row.record.id
        if id_ in self.new or (one.is_new and len(self.new) < _MAX_NEW):
            self.new[id_] = self.new.get(id_, 0) + one.added_bytes
        else:
            self.records += one.is_new
            self.bytes += one.added_bytes

    def on_top_of(self, archived: Usage) -> Usage:
        records = archived.records + len(self.new) + self.records
        return Usage(records, max(0, archived.bytes + sum(self.new.values()) + self.bytes))


class Quotas:
    """The use of the tenants that recorded lately, as this process knows it. Thread-safe. A part of
    a store."""

    def __init__(self, conf: Settings) -> None:
        self._limits: tuple[Mapping[str, int], Mapping[str, int]] = conf.quota_records, conf.quota_bytes
        self._lock = threading.Lock()
        self._used: dict[str, Usage] = {}
        self._reserved: dict[str, int] = {}
        """Bytes that requests in this moment add to known records, and that ``add`` has yet to count."""
        self._counted: dict[str, _Counted] = {}
        self._look_at = self._look_again_at = float("-inf")

    def refusal(self, tenant: str) -> QuotaExceeded | None:
        """Return why ``tenant`` may have no further record, or None while it is below its quotas.

        The first request after a start, or after a while, is accepted: its use is not known yet.
        """
        refusal = self._refusal(tenant, self._use_of(tenant))
        if refusal and (used := self._looked_again(tenant)):
            return self._refusal(tenant, used)
        return refusal

    def _refusal(self, tenant: str, used: Usage) -> QuotaExceeded | None:
        for unit, count, limits in zip(_UNITS, used, self._limits, strict=True):
            most = limits.get(tenant, limits.get("*"))
            if most is not None and count >= most:
                return QuotaExceeded(f"This tenant may have {most} {unit}, and has {count}. {_WHAT_TO_DO}")
        return None

    def expect_room(self, tenant: str) -> None:
        """Check that ``tenant`` is below its quotas.

        Raises:
            QuotaExceeded: 403; it has reached one.
        """
        if refusal := self.refusal(tenant):
            raise refusal

    def reserve(self, tenant: str, added_bytes: int) -> int:
        """Check that a new version of a record of ``tenant`` may be longer by ``added_bytes``, and
        keep these for it. There is always room for one that is not longer.

        Returns:
            What was reserved, for ``add`` or ``release``.

        Raises:
            QuotaExceeded: 403; it would be above its quota of bytes.
        """
        limits = self._limits[1]
        most = limits.get(tenant, limits.get("*"))
        if most is None:
            return 0
        self._use_of(tenant)
        with self._lock:
            # Both at one moment: ``add`` moves bytes from one to the other.
            used = self._used.get(tenant, Usage()).bytes + self._reserved.get(tenant, 0)
            if 0 < added_bytes > most - used:
                raise QuotaExceeded(
                    f"This tenant may have {most} bytes of records, has {used}, and this change adds {added_bytes}. {_WHAT_TO_DO}"
                )
            self._reserve(tenant, added_bytes)
        return added_bytes

    def release(self, tenant: str, reserved: int) -> None:
        """Give back what ``reserve`` returned, for versions that were not stored."""
        with self._lock:
            self._reserve(tenant, -reserved)

    def _reserve(self, tenant: str, added_bytes: int) -> None:
        """Add to what is reserved. The caller holds the lock."""
        if reserved := self._reserved.pop(tenant, 0) + added_bytes:
            self._reserved[tenant] = reserved

    def _use_of(self, tenant: str) -> Usage:
        """Return what this process knows of the tenant's use, and look at the archive if that is
        due."""
        if not any(self._limits):
            return Usage()
        with self._lock:
            used = self._used.setdefault(tenant, Usage())
            is_due = time.monotonic() >= self._look_at
            if is_due:
                self._look_at = time.monotonic() + LOOK_EVERY_S
        if is_due:
            _in_thread(self.look)
        return used

    def add(self, tenant: str, accepted: Sequence[Appended], *, reserved: int) -> None:
        """Count versions of records of ``tenant`` that this process has accepted, in place of what was
        reserved for them."""
        if not any(self._limits):
            return
        with self._lock:
            self._reserve(tenant, -reserved)
            for one in accepted:
                used = self._used.get(tenant, Usage())
                # The archive may not have counted the version before, when this one is shorter.
                self._used[tenant] = Usage(used.records + one.is_new, max(0, used.bytes + one.added_bytes))
                if tenant in self._counted or len(self._counted) < _MAX_NOTED:
                    self._counted.setdefault(tenant, _Counted()).add(one)

    def look(self) -> None:
        """Replace the counts by the archive's. Records on their way to it do not count meanwhile."""
        with self._lock:
            tenants = list(self._used)
        try:
            found = archive_reads.usage(tenants)
        except ArchiveError as error:
            logger.warning("Quotas cannot be read from the archive: %r", error)
            return
        with self._lock:
            if len(self._used) > _MAX_TENANTS:
                self._used.clear()
            self._used |= {tenant: found.get(tenant, Usage()) for tenant in tenants}
            self._counted.clear()

    def _looked_again(self, tenant: str) -> Usage | None:
        """Return the use of a tenant without the runs that were counted as new and that the archive
        had; None if it was asked just now, or does not answer."""
        with self._lock:
            counted = self._counted.get(tenant)
            if counted is None or not counted.new or time.monotonic() < self._look_again_at:
                return None
            self._look_again_at = time.monotonic() + LOOK_AGAIN_EVERY_S
            ids = list(counted.new)
        try:
            # Ids first: a run that arrives in between is counted twice, rather than not at all.
            known = archive_reads.known_ids(tenant, ids)
            archived = archive_reads.usage([tenant]).get(tenant, Usage())
        except ArchiveError as error:
            logger.warning("Quotas cannot be read from the archive: %r", error)
            with self._lock:
                self._look_again_at = time.monotonic() + LOOK_EVERY_S
            return None
        with self._lock:
            for id_ in known:
                counted.new.pop(id_, None)
            if self._counted.get(tenant) is counted:  # and no look came in between
                self._used[tenant] = counted.on_top_of(archived)
            return self._used.get(tenant, Usage())


class Room:
    """The room that the drafts of one request take, until it is counted. They are checked one after
    another in their commit, as those of other requests in it, before any of them is counted.

    A context: what is reserved when it ends is given back.
    """

    def __init__(self, quotas: Quotas, tenant: str) -> None:
        self._quotas, self._tenant = quotas, tenant
        self._reserved, self._last = 0, -1

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None:
        self._release()

    def count(self, accepted: Sequence[Appended]) -> None:
        """Count what became of the drafts."""
        self._quotas.add(self._tenant, accepted, reserved=self._reserved)
        self._reserved = 0

    def expect(self, index: int, added_bytes: int) -> None:
        """``Quotas.reserve`` for the draft with this index; indices ascend.

        Raises:
            QuotaExceeded: 403.
        """
        if index <= self._last:
            self._release()  # the outbox was full, and the commit begins anew
        self._last = index
        self._reserved += self._quotas.reserve(self._tenant, added_bytes)

    def _release(self) -> None:
        if self._reserved:
            self._quotas.release(self._tenant, self._reserved)
            self._reserved = 0


def _in_thread(work: Callable[[], None]) -> None:
    def run() -> None:
        try:
            work()
        finally:
            connections.close_all()

    threading.Thread(target=run, name="trajectories-quotas", daemon=True).start()
