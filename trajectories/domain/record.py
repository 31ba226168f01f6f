"""A stored trajectory: its bytes and stamps, and the facets that filters and stats read."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import orjson

from trajectories.domain.clock import epoch_us, rfc3339
from trajectories.domain.credit import UNCREDITED, Credit, credit_of
from trajectories.domain.late_outcomes import LateFacets, facets_of_outcomes, join, join_all
from trajectories.domain.outcomes import phase_group, run_outcome
from trajectories.domain.text import fold
from trajectories.domain.warnings import Contradiction

NANO_USD = 1_000_000_000
LOWEST_ID = UUID(int=0)
ID_BYTES = 44
"""Size of ``id`` in a body."""
SERVER_FIELDS_BYTES = 32 * 1024
"""Maximum size of what the server adds to a body in ``Record.json()``, and of ``id``. A posted
record may have them in addition to ``max_record_bytes``, so that a record at the limit can be
posted back."""


class Position(NamedTuple):
    """Place in the list: the time its id was first accepted, then the id. Revisions keep it."""

    recorded_at_us: int
    id: UUID


@dataclass(frozen=True, slots=True)
class Record:
    """One version of one tenant's trajectory, the same in every tier.

    ``stamp`` orders versions (microseconds since 1970); a repeat of the same body advances only the
    stamp. ``revision`` is the stamp at which this body was first accepted. ``recorded_at_us`` is
    the stamp at which the id was first accepted. ``body`` is canonical JSON without these two;
    ``json()`` includes them. ``digest`` is the hex digest of ``body``.

    ``outcomes`` is a JSON list of late outcomes, apart from the body: it only grows, whichever
    version wins, and changes neither digest nor revision.

    A *tombstone* is a version without a body: the id was deleted permanently. An *addition* has a
    JSON list of late outcomes for a body. It adds them to the record of its id, or waits for one.
    Its id is a target of ``late_outcomes``; its digest is the id of its outcome.
    """

    tenant: str
    id: UUID
    stamp: int
    digest: str
    revision: int
    recorded_at_us: int
    body: bytes
    outcomes: bytes = b""

    @property
    def rank(self) -> tuple[int, str]:
        """Return the key that orders versions: the newer stamp wins, then the greater digest."""
        return self.stamp, self.digest

    @property
    def position(self) -> Position:
        return Position(self.recorded_at_us, self.id)

    @property
    def is_tombstone(self) -> bool:
        return not self.body

    @property
    def is_addition(self) -> bool:
        return self.body[:1] == b"["

    @property
    def is_visible(self) -> bool:
        """Whether there is a trajectory to show, and not only its deletion or its outcomes."""
        return self.body[:1] == b"{"

    def with_outcomes(self, outcomes: bytes) -> Record:
        """Return this version with exactly these outcomes."""
        return self if outcomes == self.outcomes else replace(self, outcomes=outcomes)

    @classmethod
    def from_row(cls, row: Sequence[Any]) -> Record:
        """Make a record from its columns, in the order of its fields, as any tier stores them.

        Args:
            row: id as UUID, text or 16 bytes; numbers as int or digits; digest, body and outcomes
                as text or bytes. Rows on their way to the archive have no outcomes.
        """
        tenant, id_, stamp, digest, revision, recorded_at_us, body, *rest = row
        outcomes = (rest and rest[0]) or b""
        if not isinstance(id_, UUID):
            id_ = UUID(bytes=id_) if isinstance(id_, bytes) else UUID(id_)
        return cls(
            tenant,
            id_,
            int(stamp),
            digest.decode() if isinstance(digest, bytes) else digest,
            int(revision),
            int(recorded_at_us),
            body.encode() if isinstance(body, str) else bytes(body),
            outcomes.encode() if isinstance(outcomes, str) else bytes(outcomes),
        )

    def to_row(self) -> tuple[str, bytes, int, str, int, int, bytes]:
        """Return the columns for a binary row, id as 16 bytes."""
        return self.tenant, self.id.bytes, self.stamp, self.digest, self.revision, self.recorded_at_us, self.body

    def json(
        self,
        derived: Mapping[str, Any],
        warnings: Sequence[Contradiction] = (),
        outcomes: Sequence[Mapping[str, Any]] = (),
    ) -> bytes:
        """Return the body with what the server adds to it in answers; see ``answers``.

        Args:
            derived: ``derived.derived_of`` its facets.
            outcomes: ``late_outcomes.shown`` of its outcomes.
        """
        added: dict[str, Any] = {"derived": derived}
        if outcomes:
            added["outcomes"] = outcomes
        if warnings:
            added["warnings"] = [warning._asdict() for warning in warnings]
        stamps = b'"recorded_at":"%b","revision":%d' % (rfc3339(self.recorded_at_us), self.revision)
        return b"%b,%b,%b" % (self.body[:-1], stamps, orjson.dumps(added)[1:])


def tombstone(tenant: str, id_: UUID, stamp: int) -> Record:
    """Return the version that marks an id as deleted."""
    return Record(tenant, id_, stamp, "", stamp, stamp, b"")


def tenant_digest(tenant: str) -> str:
    """Return a one-way hash of the slug, which identifies an erased tenant.

    A guessed slug can be confirmed by its hash, but the slug cannot be read from the hash.
    """
    return digest_of(b"tenant:" + tenant.encode())


def digest_of(body: bytes) -> str:
    """Return BLAKE2b, 128 bits, in hex: short enough for an index, wide enough not to collide."""
    return hashlib.blake2b(body, digest_size=16).hexdigest()


def merge(known: Record | None, incoming: Record, *, from_authority: bool) -> Record:
    """Return the winner of ``known`` and ``incoming``, by the same rules in every tier.

    A tombstone wins whatever the stamps are. Outcomes are joined, whichever version wins. Body,
    stamp, ``recorded_at_us`` and the set of outcomes do not depend on the order of arrival.
    ``revision`` may depend on it where a body returns after another one (A, B, A). The archive's
    ``revision`` then wins, and is written back to the other tiers.

    Args:
        from_authority: ``incoming`` comes from a tier that has merged it before, so at the same
            rank its ``revision`` wins, and its form of an outcome that two hosts have accepted.
    """
    if known is None:
        return incoming
    if known.is_tombstone or incoming.is_tombstone:
        return known if known.is_tombstone else incoming
    if known.is_addition or incoming.is_addition:
        return _add(known, incoming)
    if known.outcomes or incoming.outcomes:
        # Equal in both, outcomes do not change what follows.
        first, second = (incoming, known) if from_authority else (known, incoming)
        outcomes = join(first.outcomes, second.outcomes)
        known, incoming = known.with_outcomes(outcomes), incoming.with_outcomes(outcomes)
    recorded_at_us = min(known.recorded_at_us, incoming.recorded_at_us)
    if incoming.rank < known.rank:
        return replace(known, recorded_at_us=recorded_at_us)
    if incoming.digest == known.digest and not from_authority:
        return replace(known, stamp=incoming.stamp, recorded_at_us=recorded_at_us)
    return replace(incoming, recorded_at_us=recorded_at_us)


def _add(known: Record, incoming: Record) -> Record:
    """Merge two versions, one of which or both are additions."""
    if known.is_addition and incoming.is_addition:
        return replace(known, body=join(known.body, incoming.body))
    record, addition = (incoming, known) if known.is_addition else (known, incoming)
    return record.with_outcomes(join(record.outcomes, addition.body))


def merge_all(known: Record | None, versions: Sequence[Record]) -> Record:
    """Return the winner of ``known`` and ``versions``, the latter in the order of one outbox.

    At least one version is required.
    """
    for version in added_together(versions):
        known = merge(known, version, from_authority=False)
    if known is None:
        raise ValueError("there is nothing to merge")
    return known


def added_together(versions: Iterable[Record]) -> Iterator[Record]:
    """Yield versions in their order, then one addition for each id with the outcomes of all of its
    additions.

    They merge to the same. Each addition alone would cost as much as the outcomes before it, and
    in the hot cache as the body.
    """
    additions: dict[tuple[str, UUID], list[Record]] = {}
    for version in versions:
        if version.is_addition:
            additions.setdefault((version.tenant, version.id), []).append(version)
        else:
            yield version
    for same in additions.values():
        yield same[0] if len(same) == 1 else replace(same[0], body=join_all([one.body for one in same]))


class PhaseFacets(NamedTuple):
    """Facets of one phase. ``phase`` is its group; unknown is None.

    ``credited`` is the outcome that the checks of the run gave it, ``none`` without credit, and
    ``credit_source`` where that comes from.
    ``presence`` is set in the first phase of each group: ``ran`` if any phase of the group was not
    skipped, else ``skipped``. So a count of it is a count of runs.
    """

    phase: str
    model: str | None
    selection_method: str | None
    agent: str | None
    tools: tuple[str, ...]
    outcome: str
    credited: str
    credit_source: str
    presence: str | None
    fit: str | None
    cost_nano_usd: int | None
    duration_us: int | None
    input_tokens: int | None
    output_tokens: int | None

    @property
    def cell(self) -> tuple[str | None, ...]:
        """Return the key by which stats group phases."""
        return self.phase, self.model, self.selection_method

    @property
    def measures(self) -> tuple[int | None, ...]:
        return self.cost_nano_usd, self.duration_us, self.input_tokens, self.output_tokens


class Facets(NamedTuple):
    """The scalar values of a trajectory that filters and stats need, derived ones included.

    They are a pure function of its body, and ``late`` of its body and outcomes.
    ``unattributed_nano_usd`` is the cost that no phase accounts for; it is negative where the
    phases add up to more than the total.
    """

    request_summary_folded: str
    request_type: str | None
    source: str | None
    project: str | None
    policy: str | None
    outcome: str
    build_passed: bool | None
    tests_passed: bool | None
    tags: tuple[str, ...]
    started_at_us: int | None
    cost_nano_usd: int | None
    unattributed_nano_usd: int | None
    duration_us: int | None
    input_tokens: int | None
    output_tokens: int | None
    tokens: int | None
    phases: tuple[PhaseFacets, ...]
    late: tuple[LateFacets, ...] = ()

    @property
    def cell(self) -> tuple[str | None, ...]:
        """Return the key by which stats group trajectories."""
        return self.request_type, self.source, self.project, self.policy

    @property
    def measures(self) -> tuple[int | None, ...]:
        return self.cost_nano_usd, self.duration_us, self.input_tokens, self.output_tokens, self.tokens

    @property
    def sums(self) -> tuple[int | None, ...]:
        """Return the values that stats add up: the measures, and those without percentiles."""
        return *self.measures, self.unattributed_nano_usd


def facets_of(body: bytes, outcomes: bytes = b"") -> Facets:
    """Return the facets of a canonical body and its late outcomes."""
    return facets_in(orjson.loads(body), outcomes)


def facets_in(fields: Mapping[str, Any], outcomes: bytes = b"") -> Facets:
    """Return the facets of a parsed canonical body and its late outcomes.

    Missing values are derived: cost, duration and tokens are sums over the phases that know them
    (None if no phase does), and ``run_outcome`` derives the outcome. Fractions below a nano-USD or
    a microsecond are rounded half to even.
    """
    groups = [phase_group(phase["phase_name"]) for phase in fields["phases"]]
    earned = credit_of(fields, groups=groups)
    presence = _presence(fields["phases"], groups)
    phases = tuple(map(_phase, fields["phases"], groups, earned, presence))
    input_tokens = _sum(phase.input_tokens for phase in phases)
    output_tokens = _sum(phase.output_tokens for phase in phases)
    phases_cost = _sum(phase.cost_nano_usd for phase in phases)
    cost, duration = _nano_usd(fields.get("total_cost_usd")), _us(fields.get("total_duration_ms"))
    if cost is None:
        cost = phases_cost
    started_at = fields.get("started_at")
    return Facets(
        request_summary_folded=fold(fields["request_summary"]),
        request_type=fields.get("request_type"),
        source=fields.get("source"),
        project=fields.get("project"),
        policy=fields.get("policy"),
        outcome=run_outcome(fields, ((phase.phase, phase.outcome) for phase in phases)),
        build_passed=fields.get("build_passed"),
        tests_passed=fields.get("tests_passed"),
        tags=tuple(fields.get("tags", ())),
        started_at_us=None if started_at is None else epoch_us(datetime.fromisoformat(started_at)),
        cost_nano_usd=cost,
        unattributed_nano_usd=None if cost is None or phases_cost is None else cost - phases_cost,
        duration_us=_sum(phase.duration_us for phase in phases) if duration is None else duration,
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        tokens=_sum((input_tokens, output_tokens)),
        phases=phases,
        late=facets_of_outcomes(outcomes, fields),
    )


def _presence(phases: Sequence[dict[str, Any]], groups: Sequence[str]) -> Iterator[str | None]:
    """Yield for the first phase of each group whether any phase of the group ran; None for others."""
    ran = {group for group, phase in zip(groups, phases, strict=True) if phase.get("outcome") != "skipped"}
    seen = set()
    for group in groups:
        if group in seen:
            yield None
        else:
            seen.add(group)
            yield "ran" if group in ran else "skipped"


def _phase(fields: dict[str, Any], group: str, credit: Credit, presence: str | None) -> PhaseFacets:
    get = fields.get
    return PhaseFacets(  # by position, which takes half the time of names
        group,
        get("model"),
        get("model_selection_method"),
        get("agent"),
        tuple(get("tools_used", ())),
        get("outcome", "unknown"),
        credit.outcome or UNCREDITED,
        credit.source,
        presence,
        get("fit"),
        _nano_usd(get("cost_usd")),
        _us(get("duration_ms")),
        get("input_tokens"),
        get("output_tokens"),
    )


def _sum(values: Iterable[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _nano_usd(usd: float | None) -> int | None:
    return None if usd is None else round(usd * NANO_USD)


def _us(ms: float | None) -> int | None:
    return None if ms is None else round(ms * 1000)
