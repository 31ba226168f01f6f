"""Late outcomes: an outcome in, durable in the outbox of this host, as ``ingest`` does for records."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple
from uuid import UUID

import orjson

from trajectories.domain import answers, late_outcomes
from trajectories.domain.quotes import Quotes
from trajectories.exceptions import TrajectoriesError
from trajectories.services import reads
from trajectories.services.lines import KnownRecords, drafts_of
from trajectories.services.quotas import Quotas
from trajectories.storage.outbox_rows import Appended, Draft
from trajectories.storage.store import Store


class AcceptedOutcome(NamedTuple):
    """A durable outcome, as its JSON object. ``is_new``: this host did not know it."""

    body: bytes
    is_new: bool


class OutcomeLine(NamedTuple):
    """The result of one line, counted from 1."""

    number: int
    result: AcceptedOutcome | TrajectoriesError


def record(
    store: Store,
    tenant: str,
    data: bytes,
    *,
    source: str | None,
    trajectory_id: UUID | None = None,
    idempotency_key: str | None = None,
) -> AcceptedOutcome:
    """Record one late outcome of a run or of a reference. Its run need not have come.

    Args:
        data: one JSON object, at most ``late_outcomes.MAX_OUTCOME_BYTES`` long.
        source: that of the credential.
        trajectory_id: the run of the address; None if the body names its target.
        idempotency_key: the same key for the same target is the same outcome. Without one, outcomes
            that are equal are one.

    Raises:
        InvalidInput: 400; every problem is in ``details``.
        TooLarge: 413.
        Deleted: 409; this host knows that the run was deleted.
        IdempotencyConflict: 409; this host knows another outcome of that key. Where it does not,
            the one that was archived first stays.
        TooManyOutcomes: 409; the target has as many as it may have.
        QuotaExceeded: 403; the tenant has as much as it may have.
        OutboxUnavailable: 503; nothing was stored.
    """
    store.part(Quotas).expect_room(tenant)
    draft = _draft(store, tenant, data, source, trajectory_id, idempotency_key, KnownRecords(store, tenant))
    (result,) = _append(store, [draft])
    if isinstance(result, TrajectoriesError):
        raise result
    return result


def record_many(store: Store, tenant: str, lines: Iterable[bytes], *, source: str | None) -> list[OutcomeLine]:
    """Record the outcomes of an NDJSON body in one commit. An invalid line fails alone; blank ones
    are skipped.

    After many invalid lines, the others are not read (``lines.MAX_PROBLEMS``).

    Raises:
        QuotaExceeded: 403; the tenant has as much as it may have. Nothing was stored.
        OutboxUnavailable: 503; nothing was stored.
    """
    store.part(Quotas).expect_room(tenant)
    known = KnownRecords(store, tenant)
    drafts, refused = drafts_of(
        lines,
        lambda _, line, quotes: _draft(store, tenant, line, source, None, None, known, quotes),
        max_details=1,
    )
    results: dict[int, AcceptedOutcome | TrajectoriesError] = {**refused}
    results |= zip(drafts, _append(store, list(drafts.values())), strict=True)
    return [OutcomeLine(index + 1, results[index]) for index in sorted(results)]


def list_(store: Store, tenant: str, id_: UUID) -> list[dict[str, Any]]:
    """Return the late outcomes of a run, in the order of their acceptance.

    Raises:
        NotFound, ArchiveUnavailable: as ``reads.retrieve``.
    """
    return answers.outcomes_of(reads.retrieve(store, tenant, id_))


def _draft(
    store: Store,
    tenant: str,
    data: bytes,
    source: str | None,
    trajectory_id: UUID | None,
    key: str | None,
    records: KnownRecords,
    quotes: Quotes | None = None,
) -> Draft:
    prepared = late_outcomes.prepare(
        data,
        source=source,
        now_us=store.now_us(),
        trajectory_id=trajectory_id,
        key=key,
        redact=store.conf.redact,
        quotes=quotes,
    )
    body = b"[%b]" % prepared.body
    known = records.target(prepared.target, body)
    return Draft(tenant, prepared.target, prepared.id.hex, body, known, max_outcomes=store.conf.outcomes_per_target)


def _append(store: Store, drafts: list[Draft]) -> list[AcceptedOutcome | TrajectoriesError]:
    if not drafts:
        return []
    results = store.append(drafts)
    store.hot_cache.take([one for one in results if isinstance(one, Appended) and one.is_new])
    return [_outcome(one) for one in results]


def _outcome(result: Appended | Exception) -> AcceptedOutcome | TrajectoriesError:
    match result:
        case Appended():
            (body,) = orjson.loads(result.row.record.body)
            return AcceptedOutcome(orjson.dumps(body), result.is_new)
        case TrajectoriesError():
            return result
    raise result
