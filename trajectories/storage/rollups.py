"""Roll-ups: sums of a tenant's records in the archive, kept in the transaction that changes records.

A roll-up has the sums of all records that agree in request_type, source, project, policy and
outcome: of all time, and of each UTC day of ``recorded_at``, split by the day at which the runs
started. A *total* has the sums of all records. So an answer reads few rows, however many records
there are. Sums are ``stats.Summary``; they add and subtract exactly.

Reads use the roll-ups of a tenant if they have seen all of its changes (``_is_current``). A process
of an earlier release changes records without them, and counts ``last_changed`` up, so that reads
scan the records until ``rollup_rebuild`` has repaired the roll-ups.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from enum import IntEnum
from typing import Any, NamedTuple, TypeAlias

import orjson
from django.db import connections
from django.db.models import QuerySet

from trajectories.conf import read_settings
from trajectories.domain.clock import DAY_US
from trajectories.domain.late_outcomes import LateFacets
from trajectories.domain.record import Facets, PhaseFacets
from trajectories.domain.stats import TRAJECTORY_MEASURES, Summary
from trajectories.models import Phase, RollUp, RunOutcome, Tenant, Trajectory

ALL_TIME = -1
NAMES = ("request_type", "source", "project", "policy", "outcome")
"""The columns in which the records of a roll-up agree; the first four are ``stats.TRAJECTORY_KEY``."""
_CHUNK = 400
"""Keys in a statement, below SQLite's number of variables."""

Names: TypeAlias = tuple[str | None, ...]


class Cut(IntEnum):
    """The part that the roll-ups of a tenant leave out, because it has more than ``rollup_max_cells``.

    - ``PROJECTS``: new combinations are counted together, whatever their project.
    - ``ALL``: the tenant has no roll-ups.
    """

    NONE = 0
    PROJECTS = 1
    ALL = 2


class _Place(NamedTuple):
    """The row of a roll-up. ``names`` is None for a total; ``is_other``: of any project."""

    tenant: str
    day: int
    start: int
    names: Names | None
    is_other: bool = False

    @property
    def key(self) -> str:
        return hashlib.blake2b(orjson.dumps([*self]), digest_size=16).hexdigest()


class Changes:
    """The changes of records of one tenant in a transaction that holds the lock on its row.

    Make it before the first change, and pass it to ``write`` after the last one, before the tenant's
    row is saved.
    """

    def __init__(self, tenant: Tenant, alias: str, *, is_rebuild: bool = False) -> None:
        self.tenant, self.alias = tenant, alias
        is_whole = is_rebuild or tenant.rolled_seq == tenant.last_seq
        self._is_kept = tenant.rolled_changed == tenant.last_changed and tenant.rollup_cut != Cut.ALL
        self._last_seq = None if is_whole else tenant.rolled_seq
        self._parts: defaultdict[tuple[int, int, Names], Summary] = defaultdict(Summary)

    def add(self, seq: int, recorded_at_us: int, facets: Facets, *, times: int = 1) -> None:
        """Count a record, or subtract it with ``times=-1``. A rebuild counts later ones itself."""
        if self._is_kept and (self._last_seq is None or seq <= self._last_seq):
            at_us = recorded_at_us if facets.started_at_us is None else facets.started_at_us
            place = recorded_at_us // DAY_US, at_us // DAY_US, (*facets.cell, facets.outcome)
            self._parts[place].add(facets, recorded_at_us, times=times)

    def remove(self, rows: QuerySet[Trajectory]) -> None:
        """Subtract ``rows`` as they are in the database."""
        if self._is_kept:
            for seq, recorded_at_us, facets in archived(rows, self.alias):
                self.add(seq, recorded_at_us, facets, times=-1)

    @property
    def parts(self) -> Mapping[tuple[int, int, Names], Summary]:
        return self._parts

    def note(self) -> None:
        """Set what the tenant's row says of its roll-ups, once they are written."""
        if self._is_kept:
            self.tenant.rolled_changed = self.tenant.last_changed
            if self._last_seq is None:
                self.tenant.rolled_seq = self.tenant.last_seq


TENANT_FIELDS = ("rolled_seq", "rolled_changed", "rolled_cells", "rollup_cut")
"""Columns of a tenant that ``Changes.write`` sets."""


def archived(rows: QuerySet[Trajectory], alias: str) -> Iterator[tuple[int, int, Facets]]:
    """Yield seq, recorded_at_us and facets of ``rows``, as far as sums need facets.

    They come from the columns, as the sums of a scan do: aliases of phases and the rules of credit
    may have changed since.
    """
    columns = ("pk", "seq", "recorded_at_us", *_TRAJECTORY_FACETS)
    found = list(rows.values_list(*columns))
    phases: dict[int, list[PhaseFacets]] = {pk: [] for pk, *_ in found}
    late: dict[int, list[LateFacets]] = {pk: [] for pk in phases}
    pks = list(phases)
    for start in range(0, len(pks), _CHUNK):
        of_rows = Phase.objects.using(alias).filter(trajectory__in=pks[start : start + _CHUNK])
        # In their order, since an outcome has the place of its phase.
        for pk, *values in of_rows.order_by("trajectory_id", "place").values_list("trajectory_id", *_PHASE_FACETS):
            phases[pk].append(PhaseFacets(agent=None, tools=(), credit_source="", **_named(_PHASE_FACETS, values)))
        outcomes = RunOutcome.objects.using(alias).filter(trajectory__in=pks[start : start + _CHUNK])
        for pk, *values in outcomes.values_list("trajectory_id", *LateFacets._fields):
            late[pk].append(LateFacets._make(values))
    for pk, seq, recorded_at_us, *values in found:
        named = _named(_TRAJECTORY_FACETS, values)
        yield (
            seq,
            recorded_at_us,
            Facets(request_summary_folded="", tags=(), phases=tuple(phases[pk]), late=tuple(late[pk]), **named),
        )


_TRAJECTORY_FACETS = tuple(
    name for name in Facets._fields if name not in ("request_summary_folded", "tags", "phases", "late")
)
_PHASE_FACETS = tuple(name for name in PhaseFacets._fields if name not in ("agent", "tools", "credit_source"))


def _named(names: Iterable[str], values: Sequence[Any]) -> dict[str, Any]:
    return dict(zip(names, values, strict=True))


# Writing.


def write(changes: Sequence[Changes]) -> None:
    """Write the roll-ups of tenants with few statements, and set what the tenants' rows say of them."""
    changed = [one for one in changes if one.parts]
    if changed:
        alias = changed[0].alias
        known = _read({place for one in changed for place in _places(one)}, alias)
        sums: dict[_Place, Summary] = {}
        for one in changed:
            sums |= _summed(one, {place: known[place] for place in _places(one) if place in known})
        _save(sums, alias)
    for one in changes:
        one.note()


def _places(changes: Changes) -> set[_Place]:
    tenant, found = changes.tenant.pk, set[_Place]()
    for day, start, names in changes.parts:
        found |= {_Place(tenant, day, start, names), _Place(tenant, ALL_TIME, 0, names)}
        found |= {_Place(tenant, day, start, None), _Place(tenant, ALL_TIME, 0, None)}
    return found


def _summed(changes: Changes, known: dict[_Place, Summary]) -> dict[_Place, Summary]:
    """Return the new sums of the places of one tenant, and count its cells."""
    tenant, parts = changes.tenant, changes.parts
    all_time = {names: _Place(tenant.pk, ALL_TIME, 0, names) for *_, names in parts}
    days = {(day, start, names): _Place(tenant.pk, day, start, names) for day, start, names in parts}
    new = [place for place in all_time.values() if place not in known]
    if new and not tenant.rollup_cut and tenant.rolled_cells + len(new) > read_settings().rollup_max_cells:
        tenant.rollup_cut = Cut.PROJECTS
    if new and tenant.rollup_cut:
        # A combination has rows of its own at every level, or at none: after a cut none is added.
        others = {place.names: _other(place) for place in new if place.names}
        all_time |= others
        days |= {at: _other(days[at]) for at in days if at[2] in others}
        known |= _read({place for place in (*all_time.values(), *days.values()) if place.is_other}, changes.alias)
    sums = defaultdict(Summary, known)
    for (day, start, names), part in parts.items():
        (cell,) = part.trajectories.values()
        total = replace(part, trajectories={(): cell})
        for place in (all_time[names], days[day, start, names]):
            sums[place].merge(part)
        for place in (_Place(tenant.pk, ALL_TIME, 0, None), _Place(tenant.pk, day, start, None)):
            sums[place].merge(total)
    tenant.rolled_cells += sum(_is_cell(place) for place, one in sums.items() if _count(one) and place not in known)
    tenant.rolled_cells -= sum(_is_cell(place) for place, one in sums.items() if not _count(one) and place in known)
    most = 2 * read_settings().rollup_max_cells
    total = sums[_Place(tenant.pk, ALL_TIME, 0, None)]
    if tenant.rolled_cells > most or len(total.phases) + len(total.late_phases) > most:
        tenant.rollup_cut = Cut.ALL
    return sums


def _save(sums: Mapping[_Place, Summary], alias: str) -> None:
    gone = [place for place, summary in sums.items() if not _count(summary)]
    for start_at in range(0, len(gone), _CHUNK):
        RollUp.objects.using(alias).filter(pk__in=[place.key for place in gone[start_at : start_at + _CHUNK]]).delete()
    with connections[alias].cursor() as cursor:
        # Without models, which cost as much as the sums.
        cursor.executemany(_UPSERT, [_row(place, summary) for place, summary in sums.items() if _count(summary)])


def _other(place: _Place) -> _Place:
    request_type, source, _, policy, outcome = place.names or ()
    return place._replace(names=(request_type, source, None, policy, outcome), is_other=True)


def _is_cell(place: _Place) -> bool:
    return place.day == ALL_TIME and place.names is not None


def _count(summary: Summary) -> int:
    return sum(cell[0] for cell in summary.trajectories.values())


def _read(places: set[_Place], alias: str) -> dict[_Place, Summary]:
    by_key, found = {place.key: place for place in places}, {}
    keys = list(by_key)
    for start in range(0, len(keys), _CHUNK):
        rows = RollUp.objects.using(alias).filter(pk__in=keys[start : start + _CHUNK])
        for key, cell, details in rows.values_list("key", "cell", "details"):
            place = by_key[key]
            found[place] = decoded(place.names[:4] if place.names else (), cell, details)
    return found


def _row(place: _Place, summary: Summary) -> tuple[Any, ...]:
    """Return the values of ``_COLUMNS``."""
    cell = [sum(column) for column in zip(*summary.trajectories.values(), strict=True)]
    details: dict[str, Any] = {
        **{name: [[*key, cell] for key, cell in getattr(summary, name).items() if cell[0]] for name in _CELLS},
        # Bucket and count in turns: JSON has no keys but text.
        "buckets": [
            [number for item in counts.items() if item[1] for number in item] for counts in summary.buckets.values()
        ],
    }
    if summary.skip_costs is not None:
        details["skip_costs"] = [[*key, costs] for key, costs in summary.skip_costs.items() if any(costs)]
    names = place.names or (None,) * len(NAMES)
    return place.key, place.tenant, place.day, place.start, place.names is None, *names, _dumps(cell), _dumps(details)


_CELLS = ("phases", "late", "late_phases")
"""Cells of a summary that a row has by their keys."""
_COLUMNS = ("key", "tenant_id", "day", "start", "is_total", *NAMES, "cell", "details")
_UPSERT = (
    f"INSERT INTO {RollUp._meta.db_table} ({', '.join(_COLUMNS)}) VALUES ({', '.join(['%s'] * len(_COLUMNS))})"
    " ON CONFLICT (key) DO UPDATE SET cell = excluded.cell, details = excluded.details"
)


# The form in the database.


def decoded(key: Names, cell: str, details: str) -> Summary:
    """Return a row's sums, its trajectories under ``key``."""
    fields = loads(details)
    phases, late, late_phases, skip_costs = (
        {tuple(names): sums for *names, sums in fields.get(name, ())} for name in (*_CELLS, "skip_costs")
    )
    return Summary(
        trajectories={key: loads(cell)},
        phases=phases,
        late=late,
        late_phases=late_phases,
        # A row of an earlier release, or one that it has changed since, does not know them.
        skip_costs=skip_costs if "skip_costs" in fields else None,
        buckets={
            measure.column: defaultdict(int, zip(flat[::2], flat[1::2], strict=True))
            for measure, flat in zip(TRAJECTORY_MEASURES, fields["buckets"], strict=True)
        },
    )


def _dumps(value: Any) -> str:
    try:
        return orjson.dumps(value).decode()
    except TypeError:  # a sum beyond 64 bits
        return _BIG + json.dumps(value)


def loads(text: str) -> Any:
    """Return the value of a column. orjson would read a sum beyond 64 bits as a float."""
    return json.loads(text) if text.startswith(_BIG) else orjson.loads(text)


_BIG = " "
"""Begins a column that has a sum beyond 64 bits."""
