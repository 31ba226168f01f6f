"""Ingest: bytes in, a durable record out. It waits only for the disk of the outbox."""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple
from uuid import UUID, uuid4, uuid5

from trajectories import metrics
from trajectories.conf import Settings
from trajectories.domain import dialects, patch, redaction, schema
from trajectories.domain.quotes import Quotes
from trajectories.domain.record import ID_BYTES, SERVER_FIELDS_BYTES, Record, digest_of
from trajectories.exceptions import (
    ArchiveUnavailable,
    PhasesDropped,
    QuotaExceeded,
    RevisionMismatch,
    TooLarge,
    TrajectoriesError,
)
from trajectories.services import reads
from trajectories.services.lines import MAX_LINE_DETAILS, KnownRecords, drafts_of
from trajectories.services.quotas import Quotas, Room
from trajectories.services.read_shares import ReadShares
from trajectories.storage.outbox_rows import Appended, Draft, deleted
from trajectories.storage.store import Store

IDEMPOTENCY_NAMESPACE = UUID("0f2b8a3e-6a57-5c8e-8f43-0d9f4f1a7b60")
LARGE_BYTES = 64 * 2**10
"""Body of a record from which on a patch takes one of the tenant's shares: it costs milliseconds, and
again under the lock of all writers where a newer version has come."""


class Accepted(NamedTuple):
    """A durable record. ``is_new``: this host did not know its id before."""

    record: Record
    is_new: bool

    @property
    def id(self) -> UUID:
        return self.record.id


class Line(NamedTuple):
    """The result of one line, counted from 1."""

    number: int
    id: UUID | None
    outcome: Accepted | TrajectoriesError


def record(
    store: Store, tenant: str, data: bytes, *, idempotency_key: str | None = None, replace: bool = False
) -> Accepted:
    """Record one trajectory, canonical or in a dialect.

    Args:
        data: one JSON object, at most ``max_record_bytes`` long, besides the fields that the server
            adds. The same limit holds for the record as it is stored.
        idempotency_key: determines the id of a body without one, so that a retry is the same
            record.
        replace: a canonical body may lack phases that this host knows of the id.

    Raises:
        InvalidInput: 400; every problem is in ``details``.
        TooLarge: 413.
        Deleted: 409; this host knows that the id was deleted.
        PhasesDropped: 409; the body lacks phases, and ``replace`` is off.
        QuotaExceeded: 403; the id is new, and the tenant has as much as it may have. Or the record
            is longer than its version before by more than the tenant has room for.
        ArchiveUnavailable: 503; the tenant has as much as it may have, and only the archive can know
            whether the id is new.
        OutboxUnavailable: 503; nothing was stored.
    """
    room = _room_of(store, tenant)
    draft = _draft(store, tenant, data, idempotency_key, 0, _known(store, tenant), room, replace=replace)
    return _appended(store, draft, room)


def update(store: Store, tenant: str, id_: UUID, data: bytes, *, if_match: Container[int] | None = None) -> Accepted:
    """Change one trajectory by a JSON merge patch, as ``domain.patch`` defines it.

    The newest version that this host can know is read, changed and stored under the outbox's lock,
    so no patch of this host is lost. Across hosts the later stamp wins the whole record.

    Args:
        data: one JSON object; its limit is that of a record.
        if_match: change the record only if its revision is one of these.

    Raises:
        InvalidInput: 400; the patch or the patched record is invalid.
        NotFound: 404; the tenant has no such record.
        Deleted: 409; this host knows that the id was deleted.
        RevisionMismatch: 412.
        QuotaExceeded: 403; the patched record is longer by more than the tenant has room for.
        TooLarge: 413; the patched record is over the limit.
        TooManyReads: 429; other long reads or changes of large records of the tenant are running.
        ArchiveUnavailable: 503; only the archive can have the record, and it is unavailable.
        OutboxUnavailable: 503; nothing was stored.
    """
    changes = patch.parse(data, id_)
    if store.outbox.is_deleted(tenant, id_):
        raise deleted(id_)
    known = reads.newest(store, tenant, id_)
    with store.part(ReadShares).of(tenant) as share:
        if len(known.body) >= LARGE_BYTES:
            share.take()
        patching = partial(_patch, store, changes)
        revise = partial(_patched, patching, if_match, _ahead(patching, known))
        room = _room_of(store, tenant)
        draft = Draft(tenant, id_, known.digest, known.body, known, revise, partial(room.expect, 0))
        return _appended(store, draft, room)


def record_many(
    store: Store, tenant: str, lines: Iterable[bytes], *, idempotency_key: str | None = None, replace: bool = False
) -> list[Line]:
    """Record the trajectories of an NDJSON body.

    Valid lines are stored in one commit. An invalid line fails alone. Blank lines are skipped.
    After many invalid lines, the others are not read (``lines.MAX_PROBLEMS``).

    Raises:
        QuotaExceeded: 403; a quota refuses lines as ``record`` does, and no other line is valid.
            Nothing was stored.
        ArchiveUnavailable: 503; likewise, if the archive would have to decide on a line.
        OutboxUnavailable: 503; nothing was stored.
    """
    known, room = _known(store, tenant), _room_of(store, tenant)
    drafts, refused = drafts_of(
        lines,
        lambda index, line, quotes: _draft(
            store, tenant, line, idempotency_key, index, known, room, replace=replace, quotes=quotes
        ),
        max_details=MAX_LINE_DETAILS,
    )
    outcomes: dict[int, Accepted | TrajectoriesError] = {**refused}
    outcomes |= zip(drafts, _append(store, list(drafts.values()), room), strict=True)
    _expect_some(outcomes.values())
    return [Line(index + 1, _id_of(outcomes[index]), outcomes[index]) for index in sorted(outcomes)]


def _expect_some(outcomes: Collection[Accepted | TrajectoriesError]) -> None:
    """Refuse a request of which quotas leave nothing: its client then waits with all of it. It waits
    less for an archive that is away."""
    if not any(isinstance(one, Accepted) for one in outcomes):
        for refusal in (ArchiveUnavailable, QuotaExceeded):
            for one in outcomes:
                if isinstance(one, refusal):
                    raise one


def _known(store: Store, tenant: str) -> KnownRecords:
    return KnownRecords(store, tenant, refusal=store.part(Quotas).refusal(tenant))


def _room_of(store: Store, tenant: str) -> Room:
    return Room(store.part(Quotas), tenant)


def _id_of(outcome: Accepted | TrajectoriesError) -> UUID | None:
    return outcome.id if isinstance(outcome, Accepted) else None


def _draft(
    store: Store,
    tenant: str,
    data: bytes,
    idempotency_key: str | None,
    index: int,
    records: KnownRecords,
    room: Room,
    *,
    replace: bool,
    quotes: Quotes | None = None,
) -> Draft:
    conf = store.conf
    if len(data) > conf.max_record_bytes + SERVER_FIELDS_BYTES:
        raise _too_large(conf, f"got {len(data)}")
    trajectory, body = dialects.read_canonical(data, quotes)
    id_ = trajectory.id or _new_id(tenant, idempotency_key, index)
    known = records.replaced_by(id_, is_generated=trajectory.id is None and idempotency_key is None)
    body = _storable(conf, body if trajectory.id else schema.with_id(body, id_))
    # A client of the dialect repeats a refused request, and posts a run several times.
    may_drop = replace or isinstance(trajectory, dialects.Converted)
    digest = digest_of(body)
    revise = None if may_drop else partial(_with_all_phases, body, digest, records)
    return Draft(tenant, id_, digest, body, known, revise, partial(room.expect, index))


def _with_all_phases(
    body: bytes, digest: str, records: KnownRecords, known: Record | None, known_body: Callable[[], bytes]
) -> bytes:
    if known is None or known.digest == digest:
        return body
    if dropped := patch.dropped_phases(records.read(known_body, len(body)), body):
        raise PhasesDropped(
            f"phases: {dropped}. Send all phases, change some with PATCH, or replace the record with ?replace=1.",
            param="phases",
        )
    return body


class _Ahead(NamedTuple):
    """A version that was read before the lock of all writers, and its patched body, or why that is
    refused."""

    read: Record
    patched: bytes | TrajectoriesError


def _ahead(patching: Callable[[bytes], bytes], read: Record) -> _Ahead:
    """Patch a version before the lock: a record of a mebibyte takes 70 ms."""
    try:
        return _Ahead(read, patching(read.body))
    except TrajectoriesError as error:
        return _Ahead(read, error)


def _patch(store: Store, changes: Mapping[str, Any], body: bytes) -> bytes:
    """Return the patched body as it is stored."""
    return _storable(store.conf, patch.apply(body, changes))


def _patched(
    patching: Callable[[bytes], bytes],
    if_match: Container[int] | None,
    ahead: _Ahead,
    newest: Record | None,
    newest_body: Callable[[], bytes],
) -> bytes:
    known = newest or ahead.read
    if if_match is not None and known.revision not in if_match:
        raise RevisionMismatch(
            f"The record has the revision {known.revision}, and If-Match names another one. Read it again, and repeat"
            " the change with its ETag.",
            param="If-Match",
        )
    if known.digest == ahead.read.digest:
        if isinstance(ahead.patched, TrajectoriesError):
            raise ahead.patched
        return ahead.patched
    return patching(newest_body())


def _storable(conf: Settings, body: bytes) -> bytes:
    """Return a canonical body as it is stored."""
    if conf.redact:
        body = _redacted(body)
    # Numbers such as 1e15 and placeholders of short credentials take more bytes than the client sent.
    if len(body) > conf.max_record_bytes + ID_BYTES:
        raise _too_large(conf, f"the stored form of this one has {len(body)}")
    return body


def _too_large(conf: Settings, found: str) -> TooLarge:
    message = f"A record must not exceed {conf.max_record_bytes} bytes, {found}. Shorten its texts or its metadata."
    return TooLarge(message, code="record_too_large")


def _redacted(body: bytes) -> bytes:
    try:
        redacted = redaction.redact(body)
    except redaction.TooManyCredentials:
        message = (
            f"A record must not have more than {redaction.MAX_CREDENTIALS:,} credentials, or {redaction.MAX_CANDIDATES:,}"
            " texts in the places of some, such as passwords in URLs, options of curl and tokens that are broken"
            " over lines. Remove them first."
        )
        raise TooLarge(message, code="record_too_large") from None
    for kind, count in redacted.found.items():
        metrics.redacted.labels(kind).inc(count)
    return redacted.body


def _new_id(tenant: str, idempotency_key: str | None, index: int) -> UUID:
    if idempotency_key is None:
        return uuid4()
    return uuid5(uuid5(IDEMPOTENCY_NAMESPACE, tenant), f"{index}:{idempotency_key}")


def _appended(store: Store, draft: Draft, room: Room) -> Accepted:
    (outcome,) = _append(store, [draft], room)
    if isinstance(outcome, TrajectoriesError):
        raise outcome
    return outcome


def _append(store: Store, drafts: Sequence[Draft], room: Room) -> list[Accepted | TrajectoriesError]:
    if not drafts:
        return []
    with room:
        results = store.append(drafts)
        appended = [one for one in results if isinstance(one, Appended)]
        room.count(appended)
    store.hot_cache.take(appended)
    return [_outcome(one, draft.known) for one, draft in zip(results, drafts, strict=True)]


def _outcome(result: Appended | Exception, known: Record | None) -> Accepted | TrajectoriesError:
    match result:
        case Appended():
            # Late outcomes are no part of the row; the answer has those that this process knows.
            record = result.row.record
            return Accepted(record.with_outcomes(known.outcomes) if known else record, result.is_new)
        case TrajectoriesError():
            return result
    raise result
