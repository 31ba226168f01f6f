"""Lines of a request. The cost of refused ones is bounded."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from uuid import UUID

from trajectories.domain import late_outcomes
from trajectories.domain.compression import plain_size
from trajectories.domain.quotes import Quotes
from trajectories.domain.record import Record
from trajectories.exceptions import (
    ArchiveUnavailable,
    InvalidInput,
    NotFound,
    NotRead,
    QuotaExceeded,
    TooLarge,
    TrajectoriesError,
)
from trajectories.services import reads
from trajectories.storage.outbox_rows import Draft
from trajectories.storage.store import Store

MAX_PROBLEMS = 10_000
"""Problems in the lines of a request after which no further line is read. A problem takes about 5
microseconds of CPU and a few bytes, so an unbounded request of 16 MiB could take minutes."""
MAX_LINE_DETAILS = 10
"""Problems or warnings listed per line: all of them would make the answer far larger than the
request."""
_REFUSAL = 2
"""A refused line, in problems."""
MAX_KNOWN_BYTES = 8 * 2**20
"""Bytes of stored bodies that the lines of a request are compared with, beyond their own. A line of
80 bytes may name a record of a mebibyte, which takes 6 ms of CPU, under the lock of all writers."""
MAX_SEARCHED = 30
"""Ids of a request of a full tenant that are searched below the hot cache. Each takes a millisecond:
a query of the archive and one of Redis."""


class KnownRecords:
    """What the lines of one request learn of stored records.

    Args:
        refusal: why the tenant may have no further record; None if it may.
    """

    def __init__(self, store: Store, tenant: str, *, refusal: QuotaExceeded | None = None) -> None:
        self._store, self._tenant, self._refusal = store, tenant, refusal
        self._found: dict[UUID, Record | None] = {}
        self._unread: dict[UUID, int] = {}
        """Bytes of the runs of outcomes, 0 once they are read."""
        self._left, self._searches_left = MAX_KNOWN_BYTES, MAX_SEARCHED
        self._away: ArchiveUnavailable | None = None

    def find(self, id_: UUID) -> Record | None:
        """Return ``HotCache.known``, once for each id: lines may repeat one with megabytes of
        outcomes."""
        if id_ not in self._found:
            self._found[id_] = self._store.hot_cache.known(self._tenant, id_)
        return self._found[id_]

    def target(self, id_: UUID, outcome: bytes) -> Record | None:
        """Return ``find`` of what an outcome is about. The hot cache merges the outcome with the ones
        before, and perhaps reads the run.

        Args:
            outcome: a JSON list of it.

        Raises:
            NotRead: 429; the lines before are about too many large records.
        """
        known = self.find(id_)
        if known is None:
            return None
        is_read, unread, cost = late_outcomes.depend_on_run(outcome), self._unread.get(id_), 0
        if unread is None:
            unread, cost = plain_size(known.body), len(known.outcomes)
            is_read = is_read or late_outcomes.depend_on_run(known.outcomes)
        if is_read:
            cost, unread = cost + unread, 0
        if cost and self._left <= 0:
            raise NotRead("Not read: the lines before it are about too many large records. Send it again.")
        self._left, self._unread[id_] = self._left - cost, unread
        return known

    def replaced_by(self, id_: UUID, *, is_generated: bool) -> Record | None:
        """Return ``find`` of the id of a record to store. If the tenant is full, all tiers are
        searched, because only a new version may be accepted.

        Args:
            is_generated: the server made the id just now, so that no record has it.

        Raises:
            QuotaExceeded: 403; the tenant is full, and there is no such record.
            ArchiveUnavailable: 503; the tenant is full, and only the archive can have the record.
            NotRead: 429; the lines before have searched for too much.
        """
        known = None if is_generated else self.find(id_)
        if known is not None or self._refusal is None:
            return known
        if not is_generated:
            known = self._found[id_] = self._searched(id_)
        if known is None:
            raise self._refusal
        return known

    def _searched(self, id_: UUID) -> Record | None:
        if self._away:  # ask an archive that fails after seconds once
            raise self._away
        if not self._searches_left or self._left <= 0:
            raise NotRead("Not read: the lines before it needed too many older records. Send it again.")
        self._searches_left -= 1
        try:
            found = reads.newest(self._store, self._tenant, id_)
        except NotFound:
            return None
        except ArchiveUnavailable as error:
            self._away = error
            raise
        self._left -= len(found.body)
        return found

    def read(self, stored: Callable[[], bytes], sent: int) -> bytes:
        """Return a stored body, for a line that has ``sent`` bytes.

        Raises:
            NotRead: 429; the lines before have read too much.
        """
        if self._left <= 0:
            raise NotRead("Not read: the lines before it change too many large records. Send it again.")
        body = stored()
        self._left -= max(0, len(body) - sent)
        return body


def drafts_of(
    lines: Iterable[bytes], draft: Callable[[int, bytes, Quotes], Draft], *, max_details: int
) -> tuple[dict[int, Draft], dict[int, TrajectoriesError]]:
    """Return the drafts of valid lines and the errors of the others, each by the line's index from
    0.

    Blank lines are skipped. After ``MAX_PROBLEMS`` the other lines are not read: their error is
    ``NotRead``.

    Args:
        draft: makes a draft of the index and the bytes of a line, with what its errors quote. It
            raises InvalidInput, TooLarge, QuotaExceeded, NotRead or ArchiveUnavailable.
        max_details: maximum problems of a line that are listed.
    """
    not_read = NotRead("Not read: too many lines before it were refused. Send it again.")
    drafts: dict[int, Draft] = {}
    errors: dict[int, TrajectoriesError] = {}
    problems, quotes = 0, Quotes(max_details=max_details)
    for index, line in enumerate(lines):
        if not line.strip():
            continue
        if problems > MAX_PROBLEMS:
            errors[index] = not_read
            continue
        try:
            drafts[index] = draft(index, line, quotes)
        except (InvalidInput, TooLarge, QuotaExceeded, NotRead, ArchiveUnavailable) as error:
            problems += _REFUSAL + (error.found if isinstance(error, InvalidInput) else 1)
            # Without its frames, thousands of which take longer to collect than the lines to read.
            error.__context__ = None
            errors[index] = error.with_traceback(None)
    return drafts, errors
