"""Roll-ups: sums of a tenant's records in the archive, kept in the transaction that changes
records.

A roll-up has the sums of all records that agree in request_type, source, project, policy and
outcome: of all time, and of each UTC day of ``recorded_at``, split by the day at which the runs
started. A *total* has the sums of all records. So an answer reads few rows, however many records
there are. Sums are ``stats.Summary``; they add and subtract exactly.

A *selection* is a total of the runs that have a phase of some name, model, both, or selection
method. A run is in about fifteen of them, so a batch does not pay for them: ``counting.count``
counts new records a page at a time, up to ``Tenant.selected_seq``, and a read scans the few after
that. Only changes of records that are counted already reach the rows
of selections in their transaction.

Reads use the roll-ups of a tenant if they have seen all of its changes (``is_current``). A process
of another release, whose rows have another form, changes records without them, and counts
``last_changed`` up, so that reads scan the records until ``rollup_rebuild`` has repaired the
roll-ups.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from enum import IntEnum
from typing import TypeAlias

from django.db.models import F, Q, QuerySet

from trajectories.conf import read_settings
from trajectories.domain.clock import DAY_US
from trajectories.domain.record import Facets, Record
from trajectories.domain.stats import Summary
from trajectories.models import Tenant, Trajectory
from trajectories.storage import rollup_rows
from trajectories.storage.archived_facets import archived as archived
from trajectories.storage.rollup_rows import ALL_TIME, SELECTED, Names, Place, Selection, mark

_CHUNK = 400
"""Keys in a statement, below SQLite's number of variables."""

COUNT_PAGE = 1_000
"""Records that ``counting.count`` counts in a transaction. A read adds about as many."""

Signature: TypeAlias = frozenset[tuple[str | None, ...]]
"""Phase, model and selection method of each phase of a run: what decides in which selections it
counts."""


class Cut(IntEnum):
    """The part that the roll-ups of a tenant leave out, because it has more than
    ``rollup_max_cells``.

    - ``PROJECTS``: new combinations are counted together, whatever their project.
    - ``ALL``: the tenant has no roll-ups.
    """

    NONE = 0
    PROJECTS = 1
    ALL = 2


class Changes:
    """The changes of records of one tenant in a transaction that holds the lock on its row.

    Make it before the first change, and pass it to ``write`` after the last one, before the
    tenant's row is saved.
    """

    def __init__(self, tenant: Tenant, alias: str, *, is_rebuild: bool = False) -> None:
        self.tenant, self.alias = tenant, alias
        is_whole = is_rebuild or tenant.rolled_seq == tenant.last_seq
        self._is_kept = has_seen_all(tenant) and tenant.rollup_cut != Cut.ALL
        self._last_seq = None if is_whole else tenant.rolled_seq
        self._parts: defaultdict[tuple[int, int, Names], Summary] = defaultdict(Summary)
        self._selected: defaultdict[Signature, Summary] = defaultdict(Summary)
        self.versions: list[tuple[Record, int]] = []
        """Versions of records that the sums of choices have, with -1, and that take their place,
        with 1."""

    def add(self, seq: int, recorded_at_us: int, facets: Facets, *, times: int = 1) -> None:
        """Count a record, or subtract it with ``times=-1``. A rebuild counts later ones itself."""
        if self._is_kept and (self._last_seq is None or seq <= self._last_seq):
            at_us = recorded_at_us if facets.started_at_us is None else facets.started_at_us
            place = recorded_at_us // DAY_US, at_us // DAY_US, (*facets.cell, facets.outcome)
            self._parts[place].add(facets, recorded_at_us, times=times)
            if seq <= self.tenant.selected_seq:
                self.select(recorded_at_us, facets, times=times)

    def select(self, recorded_at_us: int, facets: Facets, *, times: int = 1) -> None:
        """Count a record in the selections alone."""
        signature = frozenset(phase.cell for phase in facets.phases)
        self._selected[signature].add(facets, recorded_at_us, times=times)

    def replace(self, seq: int, old: Record, new: Record | None) -> None:
        """Note a change of a record, or with None its deletion, for the sums of choices."""
        if self._is_kept and seq <= self.tenant.learned_seq:
            self.versions += [(old, -1)] if new is None else [(old, -1), (new, 1)]

    def remove(self, rows: QuerySet[Trajectory]) -> None:
        """Subtract ``rows`` as they are in the database."""
        if self._is_kept:
            for seq, recorded_at_us, facets in archived(rows, self.alias):
                self.add(seq, recorded_at_us, facets, times=-1)

    @property
    def parts(self) -> Mapping[tuple[int, int, Names], Summary]:
        return self._parts

    @property
    def size(self) -> int:
        """Sums in memory."""
        return len(self._parts) + len(self._selected)

    def selections(self) -> Iterator[tuple[Place, Summary]]:
        """Yield the changes of selections, as totals. One selection may come several times."""
        for signature, part in self._selected.items():
            total = rollup_rows.changed(rollup_rows.total_of(part))
            if total is not None:
                for selection in selections_of(signature):
                    yield Place(self.tenant.pk, SELECTED, 0, None, selection=selection), total

    def note(self) -> None:
        """Set what the tenant's row says of its roll-ups, once they are written."""
        if self._is_kept:
            self.tenant.rolled_changed = mark(self.tenant.last_changed)
            if self._last_seq is None:
                self.tenant.rolled_seq = self.tenant.last_seq


TENANT_FIELDS = ("rolled_seq", "rolled_changed", "rolled_cells", "rollup_cut", "selected_seq", "learned_seq")
"""Columns of a tenant that ``write`` and a rebuild set."""


def has_seen_all(tenant: Tenant) -> bool:
    """Return whether the roll-ups of a tenant are of this version, and have seen all of its
    changes."""
    return tenant.rolled_changed == mark(tenant.last_changed) or tenant.rolled_changed == tenant.last_changed == 0


def seen_all() -> Q:
    """Return ``has_seen_all`` as a condition on tenants."""
    return Q(rolled_changed=mark(F("last_changed"))) | Q(rolled_changed=0, last_changed=0)


def is_due(tenant: Tenant) -> bool:
    """Return whether ``counting.count`` has a page of this tenant to count."""
    after = tenant.learned_seq if tenant.selected_seq < 0 else min(tenant.learned_seq, tenant.selected_seq)
    return tenant.rollup_cut != Cut.ALL and after <= tenant.last_seq - COUNT_PAGE


def due() -> Q:
    """Return ``is_due`` as a condition on tenants."""
    selectable = Q(selected_seq__gte=0, last_seq__gte=F("selected_seq") + COUNT_PAGE)
    is_behind = selectable | Q(last_seq__gte=F("learned_seq") + COUNT_PAGE)
    return is_behind & ~Q(rollup_cut=Cut.ALL)


def selections_of(signature: Signature) -> set[Selection]:
    """Return the selections that runs with these phases are in."""
    found = set[Selection]()
    for phase, model, method in signature:
        found.add(Selection(phase=phase))
        if model is not None:
            found |= {Selection(model=model), Selection(phase, model)}
        if method is not None:
            found.add(Selection(selection_method=method))
    return found


# Writing.


def write(changes: Sequence[Changes]) -> None:
    """Write the roll-ups of tenants with few statements, and set what the tenants' rows say of
    them."""
    selected = [item for one in changes for item in one.selections()]
    places = {one.tenant.pk: _places(one) for one in changes}
    wanted = set[Place]().union(*places.values(), (place for place, _ in selected))
    if wanted:
        alias = changes[0].alias
        known = rollup_rows.read(wanted, alias)
        sums: dict[Place, Summary] = {}
        for one in changes:
            if one.parts:
                sums |= _summed(one, {place: known[place] for place in places[one.tenant.pk] if place in known})
        for place, part in selected:
            _add_total(sums.setdefault(place, known.get(place) or Summary()), part)
        rollup_rows.save({place: rollup_rows.narrowed(one) for place, one in sums.items()}, alias)
    for one in changes:
        one.note()


def _add_total(total: Summary, part: Summary) -> None:
    """Add ``part``, with its marginals unless the row has lost its own."""
    total.merge(rollup_rows.without_marginals(part) if total.trajectories else part)


def _places(changes: Changes) -> set[Place]:
    tenant, found = changes.tenant.pk, set[Place]()
    for day, start, names in changes.parts:
        found |= {Place(tenant, day, start, names), Place(tenant, ALL_TIME, 0, names)}
        found |= {Place(tenant, day, start, None), Place(tenant, ALL_TIME, 0, None)}
    return found


def _summed(changes: Changes, known: dict[Place, Summary]) -> dict[Place, Summary]:
    """Return the new sums of the places of one tenant, and count its cells."""
    tenant, parts = changes.tenant, changes.parts
    all_time = {names: Place(tenant.pk, ALL_TIME, 0, names) for *_, names in parts}
    days = {(day, start, names): Place(tenant.pk, day, start, names) for day, start, names in parts}
    new = [place for place in all_time.values() if place not in known]
    if new and not tenant.rollup_cut and tenant.rolled_cells + len(new) > read_settings().rollup_max_cells:
        tenant.rollup_cut = Cut.PROJECTS
    if new and tenant.rollup_cut:
        # A combination has rows of its own at every level, or at none: after a cut none is added.
        others = {place.names: _other(place) for place in new if place.names}
        all_time |= others
        days |= {at: _other(days[at]) for at in days if at[2] in others}
        known |= rollup_rows.read(
            {place for place in (*all_time.values(), *days.values()) if place.is_other}, changes.alias
        )
    sums = defaultdict(Summary, known)
    of_days: dict[tuple[int, int], list[Summary]] = {}
    for (day, start, names), part in parts.items():
        for place in (all_time[names], days[day, start, names]):
            sums[place].merge(part)
        of_days.setdefault((day, start), []).append(part)
    for (day, start), of_day in of_days.items():
        total = rollup_rows.total_of(_merged(of_day))
        for place in (Place(tenant.pk, ALL_TIME, 0, None), Place(tenant.pk, day, start, None)):
            _add_total(sums[place], total)
    for place, one in sums.items():
        if _is_cell(place):
            tenant.rolled_cells += bool(one.total[0]) - (place in known)
    most = 2 * read_settings().rollup_max_cells
    total = sums[Place(tenant.pk, ALL_TIME, 0, None)]
    if tenant.rolled_cells > most or len(total.phases) + len(total.late_phases) > most:
        tenant.rollup_cut = Cut.ALL
    return sums


def _merged(parts: Sequence[Summary]) -> Summary:
    """Return the sum of parts, one or more; the caller must not change it."""
    if len(parts) == 1:
        return parts[0]
    found = Summary()
    for part in parts:
        found.merge(part)
    return found


def _other(place: Place) -> Place:
    request_type, source, _, policy, outcome = place.names or ()
    return place._replace(names=(request_type, source, None, policy, outcome), is_other=True)


def _is_cell(place: Place) -> bool:
    return place.day == ALL_TIME and place.names is not None
