"""The archive: which records of an export need no body, by facts that it keeps in columns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple, TypeAlias
from uuid import UUID

import orjson
from django.db import router
from django.db.models import Case, Count, F, Max, Min, Q, QuerySet, Value, When
from django.db.models.expressions import Combinable

from trajectories.domain.export_facts import (
    ATTEMPT,
    BUCKET_AT,
    BUCKET_BITS,
    LATE,
    REWARD,
    SHARED,
    VARIED,
    PossiblePairs,
    choice_key,
    rewards_of,
)
from trajectories.models import Tombstone, Trajectory
from trajectories.storage.archive_errors import archive_errors
from trajectories.storage.archive_reads import Exported, between
from trajectories.storage.archive_rows import EXPORT_COLUMNS, TRAJECTORY_COLUMNS, export_columns_of, plain, record_from
from trajectories.storage.archive_snapshot import mapped

_MOST_SHARED = 100_000
"""Maximum requests in memory."""
_MOST_CHOICES = 256
"""Maximum keys of choices of which an example is read."""
_FEW_CHOICES, _RUNS_OF_A_CHOICE = 16, 16
"""Examples are read if there are few, or one for so many runs: else nearly all would be read twice."""
_BODIES = 20


@archive_errors()
def shared_requests(rows: QuerySet[Trajectory], up_to_seq: int) -> frozenset[int] | None:
    """Return the keys of the requests that several matching records have.

    None if that is not known: a record of an earlier release has no key, or there are too many.
    """
    counted = between(rows, 0, up_to_seq).order_by().values("request_key").annotate(n=Count("pk"))
    found = counted.filter(Q(n__gt=1) | Q(request_key=None)).values_list("request_key", flat=True)
    keys = list(found[: _MOST_SHARED + 1])
    is_known = None not in keys and len(keys) <= _MOST_SHARED
    return frozenset(key for key in keys if key is not None) if is_known else None


@archive_errors()
def without_pairs(rows: QuerySet[Trajectory], up_to_seq: int, needed: int) -> frozenset[int] | None:
    """Return keys of choices whose runs are in no pair of two actions of which one has earned more,
    among matching records of the same type of request.

    None if no run is in a pair. It is empty if that is not known: a record of an earlier release has
    no key, or there are too many.

    Args:
        needed: with ``LATE``, a late outcome is what an action has earned.
    """
    facts = F("export_facts").bitand(REWARD | ATTEMPT)
    outcomes = Case(When(outcome_count__gt=0, then=LATE), default=0) if needed & LATE else Value(0)
    matching = between(rows, 0, up_to_seq).order_by().annotate(facts=facts, late_fact=outcomes)
    counted = matching.values_list("choice_key", "facts", "late_fact").annotate(first=Min("seq"), n=Count("pk"))
    with mapped():
        found = list(counted[: _MOST_CHOICES + 1])
    if len(found) > _FEW_CHOICES + sum(n for *_, n in found) // _RUNS_OF_A_CHOICE or len(found) > _MOST_CHOICES:
        return frozenset()
    examples, earned = dict[int, int](), Counter[int]()
    for key, has, late, seq, _ in found:
        if has is None:
            return frozenset()
        examples.setdefault(key, seq)
        earned[key] |= rewards_of(has | late, needed)
    pairs = PossiblePairs()
    for _, body in _bodies(rows, sorted(examples.values())):
        fields = orjson.loads(body)
        pairs.add(fields, earned[choice_key(fields)])
    if pairs.keys != examples.keys():
        return frozenset()  # some have changed meanwhile
    found_alone = pairs.without()
    return None if len(found_alone) == len(examples) else found_alone


@archive_errors()
def counted(rows: QuerySet[Trajectory], after_seq: int, up_to_seq: int) -> tuple[int, int]:
    """Return how many matching records there are, and the sequence number of the last one, or 0."""
    found = between(rows, after_seq, up_to_seq).order_by().aggregate(count=Count("pk"), last=Max("seq"))
    return found["count"], found["last"] or 0


class Asked(NamedTuple):
    """What decides on a record: some facts, perhaps its content, and the bucket of what a split is by;
    ``shared`` is what ``shared_requests`` returns, ``without_pairs`` what that returns."""

    facts: int = 0
    has_content: bool = False
    split_by: str | None = None
    shared: frozenset[int] | None = frozenset()
    without_pairs: frozenset[int] | None = frozenset()

    @property
    def is_in_index(self) -> bool:
        """Whether an index has all of it."""
        return not (self.facts & LATE or self.has_content or self.without_pairs)


Known: TypeAlias = tuple[int, int, int, int]
"""What is known of a record without its body: sequence number, facts, ``content_key`` and bucket. The
last two are 0 if they were not asked for."""
_BUCKETS: Mapping[str | None, Combinable] = {
    None: Value(0),
    "session": F("export_facts").bitrightshift(BUCKET_AT).bitand(BUCKET_BITS),
    "project": F("project_bucket"),
}


@archive_errors()
def known(rows: QuerySet[Trajectory], after_seq: int, up_to_seq: int, asked: Asked, limit: int) -> list[Known]:
    """Return what is known of the next matching records in export order.

    That of records of an earlier release is computed from their bodies.
    """
    compares = asked.facts & (SHARED | VARIED | LATE)
    columns = [
        F("seq"),
        F("export_facts"),
        F("content_key") if asked.has_content else Value(0),
        _BUCKETS[asked.split_by],
    ]
    if compares:
        columns += [F("request_key"), F("choice_key") if asked.without_pairs else Value(0)]
        columns.append(F("outcome_count") if asked.facts & LATE else Value(0))
    with nullcontext() if asked.is_in_index else mapped():
        found = [*plain(between(rows, after_seq, up_to_seq).values_list(*columns)[:limit])]
    if lacking := [row[0] for row in found if row[1] is None or row[3] is None]:
        computed = {seq: export_columns_of(body) for seq, body in _bodies(rows, lacking)}
        gone = dict.fromkeys(EXPORT_COLUMNS, 0)  # deleted meanwhile
        found = [
            _completed(row, computed.get(row[0], gone), asked) if row[1] is None or row[3] is None else row
            for row in found
        ]
    if not compares:
        return found
    every, shared = SHARED if asked.shared is None else 0, asked.shared or ()
    varied, alone = 0 if asked.without_pairs is None else VARIED, asked.without_pairs or ()
    return [
        (
            seq,
            facts | every | (request in shared and SHARED) | (choice not in alone and varied) | (late and LATE),
            content,
            bucket,
        )
        for seq, facts, content, bucket, request, choice, late in found
    ]


def _completed(row: tuple[Any, ...], columns: Mapping[str, int], asked: Asked) -> tuple[Any, ...]:
    """Return a row of ``known`` with what ``columns`` have."""
    seq, _, _, _, *more = row
    facts = columns["export_facts"]
    bucket = columns["project_bucket"] if asked.split_by == "project" else facts >> BUCKET_AT & BUCKET_BITS
    keys = (columns["request_key"], columns["choice_key"]) if more else ()
    return (seq, facts, columns["content_key"], bucket, *keys, *more[2:])


def _bodies(rows: QuerySet[Trajectory], seqs: Sequence[int]) -> Iterator[tuple[int, bytes]]:
    """Yield sequence numbers and bodies of records, a few at a time: they may be long."""
    for at in range(0, len(seqs), _BODIES):
        for one in exported_of(rows, seqs[at : at + _BODIES]):
            yield one.seq, one.record.body


@archive_errors()
def exported_of(rows: QuerySet[Trajectory], seqs: Sequence[int]) -> list[Exported]:
    """Return those of these records that are still there and match, in export order."""
    wanted = between(rows, seqs[0] - 1, seqs[-1])
    if seqs[-1] - seqs[0] >= len(seqs):
        wanted = wanted.filter(seq__in=seqs)
    return [Exported(seq, record_from(columns)) for seq, *columns in wanted.values_list("seq", *TRAJECTORY_COLUMNS)]


@archive_errors()
def id_at(tenant: str, seq: int) -> UUID | None:
    """Return the id with a sequence number, also of a deleted record."""
    for model in (Trajectory, Tombstone):
        rows: QuerySet[Any] = model._default_manager.using(router.db_for_read(Trajectory))
        found: UUID | None = rows.filter(tenant=tenant, seq=seq).values_list("trajectory_id", flat=True).first()
        if found is not None:
            return found
    return None
