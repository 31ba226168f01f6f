"""Quotas of records and bytes per tenant, as exact as a process can know without asking the
archive.

A process counts what it accepts, new records and what new versions add to known ones, on top of
what the archive had when it last looked. It looks at most every LOOK_EVERY_S, in a thread of its
own, for the tenants that recorded since.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence

from django.db import connections

from trajectories.conf import Settings
from trajectories.exceptions import QuotaExceeded
from trajectories.storage import archive_reads
from trajectories.storage.archive_errors import ArchiveError
from trajectories.storage.archive_reads import Usage
from trajectories.storage.outbox_rows import Appended

logger = logging.getLogger(__name__)

LOOK_EVERY_S = 5.0
_MAX_TENANTS = 10_000
_UNITS = ("records", "bytes of records")
_WHAT_TO_DO = "Delete some, or ask the operator for a larger quota."


class Quotas:
    """The use of the tenants that recorded lately, as this process knows it. Thread-safe. A part of
    a store."""

    def __init__(self, conf: Settings) -> None:
        self._limits: tuple[Mapping[str, int], Mapping[str, int]] = conf.quota_records, conf.quota_bytes
        self._lock = threading.Lock()
        self._used: dict[str, Usage] = {}
        self._reserved: dict[str, int] = {}
        """Bytes that requests in this moment add to known records, and that ``add`` has yet to count."""
        self._look_at = float("-inf")

    def refusal(self, tenant: str) -> QuotaExceeded | None:
        """Return why ``tenant`` may have no further record, or None while it is below its quotas.

        The first request after a start, or after a while, is accepted: its use is not known yet.
        """
        for unit, count, limits in zip(_UNITS, self._use_of(tenant), self._limits, strict=True):
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
