"""The records of an export, page by page, in the order of their first arrival in the archive."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Iterator
from itertools import chain
from typing import NamedTuple
from uuid import UUID

from trajectories.domain.query import Query
from trajectories.domain.record import Record
from trajectories.exceptions import ArchiveUnavailable, ExportBehind, NotFound
from trajectories.models import AuditEntry
from trajectories.services.read_shares import ReadShares, Share
from trajectories.storage import archive_reads
from trajectories.storage.archive_errors import ArchiveError
from trajectories.storage.store import Store

_FIRST_PAGE = 100
_PAGE = 400
_PAGE_BYTES = 4 * 1024**2
"""Maximum records of a page, and the size that a page has if its records are as large as those of
the last one."""
_WAIT_S = 0.02


class Pages(NamedTuple):
    """The records of an export, page by page. ``up_to_seq``: where it ends, whatever comes later."""

    up_to_seq: int
    pages: Generator[list[Record], None, None]


def export_pages(
    store: Store,
    tenant: str,
    query: Query,
    *,
    after: UUID | None = None,
    up_to_seq: int | None = None,
    actor: str = "code",
) -> Pages:
    """Return every matching record, in the order of first arrival in the archive.

    The first page is read before this returns, so an early failure is an error response and not a
    broken stream.

    Args:
        after: id of the last record that the caller has; the export continues after it.
        up_to_seq: of the export that is continued; by default it ends with what is archived now.
        actor: who exports, for the audit trail. The entry is written when the pages end, also
            when they are not read to the end.

    Raises:
        NotFound: 404; ``after`` is not an id of this tenant.
        ExportBehind: 503; earlier records of this host have not reached the archive within
            ``export_wait_s``.
        ArchiveUnavailable: 503. After the first page, a database error ends the pages.
        TooManyReads: 429; as for ``list_``.
    """
    wait_until_archived(store, tenant)
    share = store.part(ReadShares).of(tenant)
    share.take()
    try:
        after_seq = 0 if after is None else archive_reads.seq_of(tenant, after)
        if after_seq is None:
            raise NotFound(f"Invalid cursor: there is no trajectory {after}.", code="invalid_cursor", param="after")
        up_to_seq = archive_reads.last_seq(tenant) if up_to_seq is None else up_to_seq
        pages = _export_pages(tenant, query, after_seq, up_to_seq)
        first = next(pages, [])
    except ArchiveError as error:
        raise ArchiveUnavailable("Exports are read from the archive, which is unavailable.") from error
    return Pages(up_to_seq, _noted(tenant, actor, chain([first], pages), share))


def wait_until_archived(store: Store, tenant: str) -> None:
    """Wait until every current row of this host is archived.

    Raises:
        ExportBehind: 503; the rows are not archived within ``export_wait_s``.
    """
    up_to_n = store.outbox.last_n()
    until = time.monotonic() + store.conf.export_wait_s
    while store.outbox.has_waiting(tenant, up_to_n):
        if time.monotonic() >= until:
            raise ExportBehind(
                "Earlier records of this host have not reached the archive yet; this answer would lack them."
            )
        time.sleep(_WAIT_S)


def _export_pages(tenant: str, query: Query, after_seq: int, up_to_seq: int) -> Iterator[list[Record]]:
    limit = min(_FIRST_PAGE, _PAGE)
    while page := archive_reads.exported(tenant, query, after_seq, up_to_seq, limit):
        yield [exported.record for exported in page]
        after_seq = page[-1].seq
        mean_bytes = max(1, sum(len(exported.record.body) for exported in page) // len(page))
        limit = min(_PAGE, max(1, _PAGE_BYTES // mean_bytes))


def _noted(tenant: str, actor: str, pages: Iterable[list[Record]], share: Share) -> Generator[list[Record], None, None]:
    """Yield ``pages``, note them in the audit trail at the end, and give back the share."""
    count = 0
    try:
        for page in pages:
            count += len(page)
            yield page
    finally:
        share.give_back()
        AuditEntry.objects.note("export", actor, {tenant: count})
