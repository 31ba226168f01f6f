"""Ingest: bytes in, a durable record out. It waits only for the disk of the outbox."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple
from uuid import UUID, uuid4, uuid5

from trajectories import metrics
from trajectories.conf import Settings
from trajectories.domain import dialects, redaction, schema
from trajectories.domain.record import ID_BYTES, SERVER_FIELDS_BYTES, Record, digest_of
from trajectories.exceptions import Deleted, InvalidInput, TooLarge, TrajectoriesError
from trajectories.storage.outbox_rows import Draft
from trajectories.storage.store import Store

IDEMPOTENCY_NAMESPACE = UUID("0f2b8a3e-6a57-5c8e-8f43-0d9f4f1a7b60")


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


def record(store: Store, tenant: str, data: bytes, *, idempotency_key: str | None = None) -> Accepted:
    """Record one trajectory, canonical or in a dialect.

    Args:
        data: one JSON object, at most ``max_record_bytes`` long, besides the fields that the server
            adds. The same limit holds for the record as it is stored.
        idempotency_key: determines the id of a body without one, so that a retry is the same
            record.

    Raises:
        InvalidInput: 400; every problem is in ``details``.
        TooLarge: 413.
        Deleted: 409; this host knows that the id was deleted.
        OutboxUnavailable: 503; nothing was stored.
    """
    draft = _draft(store, tenant, data, idempotency_key, 0)
    accepted = _append(store, [draft])[0]
    if accepted is None:
        raise _deleted(draft.id)
    return accepted


def record_many(store: Store, tenant: str, lines: Iterable[bytes], *, idempotency_key: str | None = None) -> list[Line]:
    """Record the trajectories of an NDJSON body.

    Valid lines are stored in one commit. An invalid line fails alone. Blank lines are skipped.

    Raises:
        OutboxUnavailable: 503; nothing was stored.
    """
    drafts: dict[int, Draft] = {}
    outcomes: dict[int, Accepted | TrajectoriesError] = {}
    for index, line in enumerate(lines):
        if line.strip():
            try:
                drafts[index] = _draft(store, tenant, line, idempotency_key, index)
            except (InvalidInput, TooLarge) as error:
                outcomes[index] = error
    for index, accepted in zip(drafts, _append(store, list(drafts.values())), strict=True):
        outcomes[index] = accepted or _deleted(drafts[index].id)
    return [Line(index + 1, _id_of(outcomes[index]), outcomes[index]) for index in sorted(outcomes)]


def _id_of(outcome: Accepted | TrajectoriesError) -> UUID | None:
    return outcome.id if isinstance(outcome, Accepted) else None


def _deleted(id_: UUID) -> Deleted:
    return Deleted(f"The trajectory {id_} was deleted and does not come back.", param="id")


def _draft(store: Store, tenant: str, data: bytes, idempotency_key: str | None, index: int) -> Draft:
    conf = store.conf
    if len(data) > conf.max_record_bytes + SERVER_FIELDS_BYTES:
        raise _too_large(conf, f"got {len(data)}")
    trajectory = dialects.read(data)
    id_ = trajectory.id or _new_id(tenant, idempotency_key, index)
    body = schema.canonical(trajectory.model_copy(update={"id": id_}))
    if conf.redact:
        body = _redacted(body)
    # Numbers such as 1e15 and placeholders of short credentials take more bytes than the client sent.
    if len(body) > conf.max_record_bytes + ID_BYTES:
        raise _too_large(conf, f"the stored form of this one has {len(body)}")
    return Draft(tenant, id_, digest_of(body), body, store.hot_cache.known(tenant, id_))


def _too_large(conf: Settings, found: str) -> TooLarge:
    message = f"A record must not exceed {conf.max_record_bytes} bytes, {found}. Shorten its texts or its metadata."
    return TooLarge(message, code="record_too_large")


def _redacted(body: bytes) -> bytes:
    redacted = redaction.redact(body)
    for kind, count in redacted.found.items():
        metrics.redacted.labels(kind).inc(count)
    return redacted.body


def _new_id(tenant: str, idempotency_key: str | None, index: int) -> UUID:
    if idempotency_key is None:
        return uuid4()
    return uuid5(uuid5(IDEMPOTENCY_NAMESPACE, tenant), f"{index}:{idempotency_key}")


def _append(store: Store, drafts: Sequence[Draft]) -> list[Accepted | None]:
    if not drafts:
        return []
    appended = store.outbox.append(drafts)
    store.hot_cache.take([one.row for one in appended if one])
    return [Accepted(one.row.record, one.is_new) if one else None for one in appended]
