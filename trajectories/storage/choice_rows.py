"""Rows of sums of choices in the archive, from which recommendations learn
(``domain.choice_sums``).

A row is a roll-up of the choices of one type of request, project and week of ``recorded_at``.
Writers do not count new records: ``counting.count`` does, a page at a time, up to
``Tenant.learned_seq``. A change of a record that is counted reaches its rows in its own
transaction. They are valid if the tenant's roll-ups are (``rollup_reads.is_current``).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import add
from typing import Final, TypeAlias

from trajectories.domain.choice_sums import OTHER_PROJECTS, Key, Part, Sums, part_of
from trajectories.domain.clock import DAY_US
from trajectories.domain.record import Record, facets_of
from trajectories.models import RollUp, Tenant
from trajectories.storage.archive_rows import alias
from trajectories.storage.rollup_rows import Place, dumps, loads
from trajectories.storage.rollups import Changes

CHOICES: Final = -3
"""Instead of a day: the rows of choices. ``start`` is the first day of their week."""
_CHUNK = 400
"""Keys in a statement, below SQLite's number of variables."""

_Row: TypeAlias = dict[Key, Sums]
_NOTHING: Final = Sums()


def follow(changes: Iterable[Changes]) -> None:
    """Subtract and add versions of counted records that a transaction replaces or deletes."""
    for one in changes:
        if one.versions:
            write(one.tenant, ((_part_of(record), times) for record, times in one.versions))


def _part_of(record: Record) -> Part:
    return part_of(facets_of(record.body, record.outcomes), record.body, record.recorded_at_us)


def write(tenant: Tenant, parts: Iterable[tuple[Part, int]]) -> None:
    """Add the sums of versions of records to their rows, or subtract them with -1."""
    added: dict[Key, Sequence[int]] = {}
    for part, times in parts:
        for key, sums in part:
            counted = sums if times == 1 else _NOTHING.plus(sums, times)
            added[key] = [*map(add, added[key], counted)] if key in added else counted
    wanted: dict[Place, _Row] = defaultdict(dict)
    for key, summed in added.items():
        wanted[_place(tenant, key)][key] = Sums(*summed)
    known = _known(wanted)
    if tenant.rollup_cut:
        # As for other roll-ups, no project gets its first row after a cut.
        for place in [place for place in wanted if place not in known]:
            other = place._replace(names=(*(place.names or ())[:2], OTHER_PROJECTS, None, None), is_other=True)
            _add(
                wanted[other], ((key._replace(project=OTHER_PROJECTS), sums) for key, sums in wanted.pop(place).items())
            )
        known |= _known([place for place in wanted if place.is_other])
    for place, changed in wanted.items():
        _add(known.setdefault(place, {}), changed.items())
    _save(tenant, {place: known[place] for place in wanted})


def _place(tenant: Tenant, key: Key) -> Place:
    return Place(tenant.pk, CHOICES, key.week // DAY_US, (key.request_type, None, key.project, None, None))


def _add(row: _Row, part: Iterable[tuple[Key, Sums]]) -> None:
    for key, sums in part:
        row[key] = row.get(key, Sums()).plus(sums)
        if not any(row[key]):
            del row[key]


def _known(places: Iterable[Place]) -> dict[Place, _Row]:
    by_key, found = {place.key: place for place in places}, {}
    for chunk in _chunks([*by_key]):
        rows = RollUp.objects.using(alias()).filter(pk__in=chunk)
        for key, details in rows.values_list("key", "details"):
            place = by_key[key]
            request_type, _, project, *_ = place.names or ()
            found[place] = dict(_decoded(place.start, request_type, project, details))
    return found


def _save(tenant: Tenant, rows: Mapping[Place, _Row]) -> None:
    gone = [place.key for place, row in rows.items() if not row]
    for chunk in _chunks(gone):
        RollUp.objects.using(alias()).filter(pk__in=chunk).delete()
    kept = [
        RollUp(
            key=place.key,
            tenant_id=tenant.pk,
            day=place.day,
            start=place.start,
            is_total=False,
            request_type=(place.names or ())[0],
            project=(place.names or ())[2],
            cell="[]",
            details=_encoded(row),
        )
        for place, row in rows.items()
        if row
    ]
    RollUp.objects.using(alias()).bulk_create(
        kept, update_conflicts=True, unique_fields=["key"], update_fields=["details"]
    )


def _encoded(row: _Row) -> str:
    cells = [[one.kind, one.phase, one.model, one.after, one.advice, *sums] for one, sums in row.items()]
    return dumps(cells)


def _decoded(start: int, request_type: str | None, project: str | None, details: str) -> Iterator[tuple[Key, Sums]]:
    for kind, phase, model, after, advice, *sums in loads(details):
        yield Key(kind, request_type, project, phase, model, after, start * DAY_US, advice), Sums(*sums)


def _chunks(keys: Sequence[str]) -> Iterator[Sequence[str]]:
    return (keys[start : start + _CHUNK] for start in range(0, len(keys), _CHUNK))
