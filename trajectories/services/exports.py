"""The records of an export, page by page, in the order of their first arrival in the archive."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, reduce
from itertools import chain
from operator import or_
from typing import NamedTuple
from uuid import UUID

from django.db.models import QuerySet

from trajectories.domain.export_facts import SHARED, VARIED
from trajectories.domain.query import Query
from trajectories.domain.record import Record
from trajectories.exceptions import ArchiveUnavailable, ExportBehind, NotFound
from trajectories.models import AuditEntry, Trajectory
from trajectories.services.read_shares import ReadShares, Share
from trajectories.storage import archive_reads, export_reads
from trajectories.storage.archive_errors import ArchiveError
from trajectories.storage.store import Store

_FIRST_PAGE = 100
_PAGE = 400
_PAGE_BYTES = 4 * 1024**2
"""Maximum records of a page, and the size that a page has if its records are as large as those of
the last one."""
_KEYS = 5_000
"""Records that are decided on at once, by their facts."""
_WAIT_S = 0.02
DUPLICATE = "duplicate"
"""Why a record with the content of an earlier one is left out."""


class Need(NamedTuple):
    """Facts (``domain.export_facts``) of which a record needs at least one, and the reason for which
    a record without them is left out."""

    facts: int
    reason: str


class Choice(NamedTuple):
    """Which bodies of an export are read.

    ``left_out_by`` returns for the bucket of a session or project, as ``split_by`` says, why the bodies
    of its runs are not read, None if they are. ``is_new`` then returns whether a ``content_key`` is that of no earlier record. ``needs``: records
    that lack one of these are not read.
    """

    needs: Sequence[Need] = ()
    left_out_by: Callable[[int], str | None] | None = None
    split_by: str | None = None
    is_new: Callable[[int], bool] | None = None

    @property
    def facts(self) -> int:
        """The facts of all needs."""
        return reduce(or_, (need.facts for need in self.needs), 0)

    @property
    def reads_all(self) -> bool:
        return not (self.needs or self.left_out_by or self.is_new)


@dataclass(frozen=True, slots=True)
class Page:
    """Some records of an export, one after the other.

    ``left_out`` counts by reason those whose bodies were not read. ``last`` is the id of the last
    record, None if there is none.
    """

    records: list[Record]
    left_out: Counter[str] = field(default_factory=Counter)
    last: UUID | None = None

    @property
    def count(self) -> int:
        return len(self.records) + self.left_out.total()


class Pages(NamedTuple):
    """The records of an export, page by page. ``up_to_seq``: where it ends, whatever comes later."""

    up_to_seq: int
    pages: Generator[Page, None, None]


def export_pages(
    store: Store,
    tenant: str,
    query: Query,
    *,
    choice: Choice = Choice(),  # noqa: B008  a tuple
    after: UUID | None = None,
    up_to_seq: int | None = None,
    actor: str = "code",
) -> Pages:
    """Return every matching record, in the order of first arrival in the archive.

    The first page is read before this returns, so an early failure is an error response and not a
    broken stream.

    Args:
        choice: of which records the bodies are read; the others are counted.
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
        pages = _export_pages(tenant, query, after_seq, up_to_seq, choice)
        first = next(pages, Page([]))
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


def _export_pages(tenant: str, query: Query, after_seq: int, up_to_seq: int, choice: Choice) -> Iterator[Page]:
    rows = archive_reads.in_order(tenant, query)
    if not choice.reads_all:
        yield from _chosen_pages(tenant, rows, after_seq, up_to_seq, choice)
        return
    limit = min(_FIRST_PAGE, _PAGE)
    while page := archive_reads.exported(rows, after_seq, up_to_seq, limit):
        records = [exported.record for exported in page]
        yield Page(records, last=records[-1].id)
        after_seq, limit = page[-1].seq, _limit(records, limit)


def _limit(records: Sequence[Record], limit: int) -> int:
    """Return the maximum records of the next page."""
    if not records:
        return limit
    mean_bytes = max(1, sum(len(record.body) for record in records) // len(records))
    return min(_PAGE, max(1, _PAGE_BYTES // mean_bytes))


def _chosen_pages(
    tenant: str, rows: QuerySet[Trajectory], after_seq: int, up_to_seq: int, choice: Choice
) -> Iterator[Page]:
    """Yield pages of which only the bodies are read that may reach a line.

    A record that changes between the two reads is decided on by its earlier facts.
    """
    needs, left_out_by, split_by, is_new = choice
    needed, limit = choice.facts, min(_FIRST_PAGE, _PAGE)
    shared = export_reads.shared_requests(rows, up_to_seq) if needed & SHARED else frozenset()
    alone: frozenset[int] | None = frozenset()
    # Where no request is shared, few runs are left, and each can only be in a pair with itself.
    if needed & VARIED and not (needed & SHARED and shared == frozenset()):
        alone = export_reads.without_pairs(rows, up_to_seq, needed)
        if alone is None:  # no run reaches a line, so none is compared with the earlier ones
            is_new = None
            if left_out_by is None:
                count, last_seq = export_reads.counted(rows, after_seq, up_to_seq)
                lacking = next(need.reason for need in needs if need.facts == VARIED)
                if count:
                    yield Page([], Counter({lacking: count}), export_reads.id_at(tenant, last_seq))
                return
    asked = export_reads.Asked(needed, is_new is not None, split_by, shared, alone)

    @lru_cache(1 << 11)
    def lacks(facts: int) -> str | None:
        return next((need.reason for need in needs if not facts & need.facts), None)

    def reason_of(facts: int, content: int, bucket: int) -> str | None:
        if left_out_by and (reason := left_out_by(bucket)):
            return reason
        # Before the needs: a later record repeats also one without a line.
        if is_new and not is_new(content):
            return DUPLICATE
        return lacks(facts & needed)

    def page(seqs: list[int], left_out: list[str], last_seq: int) -> Page:
        found = export_reads.exported_of(rows, seqs) if seqs else []
        records = [one.record for one in found]
        is_last = bool(found) and found[-1].seq == last_seq
        last = records[-1].id if is_last else export_reads.id_at(tenant, last_seq)
        return Page(records, Counter(left_out), last)

    while found := export_reads.known(rows, after_seq, up_to_seq, asked, _KEYS):
        seqs, left_out = list[int](), list[str]()
        for seq, facts, content, bucket in found:
            if reason := reason_of(facts, content, bucket):
                left_out.append(reason)
                continue
            seqs.append(seq)
            if len(seqs) == limit:
                one = page(seqs, left_out, seq)
                yield one
                limit, seqs, left_out = _limit(one.records, limit), [], []
        after_seq = found[-1][0]
        if seqs or left_out:
            one = page(seqs, left_out, after_seq)
            yield one
            limit = _limit(one.records, limit)


def _noted(tenant: str, actor: str, pages: Iterable[Page], share: Share) -> Generator[Page, None, None]:
    """Yield ``pages``, note them in the audit trail at the end, and give back the share."""
    count = 0
    try:
        for page in pages:
            count += page.count
            yield page
    finally:
        share.give_back()
        AuditEntry.objects.note("export", actor, {tenant: count})
