"""Rows of roll-ups: which there are, and the form of their sums in the database."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias, TypeVar

import orjson
from django.db import connections
from django.db.models import QuerySet
from django.db.models.expressions import Combinable

from trajectories.domain.stats import TRAJECTORY_KEY, TRAJECTORY_MEASURES, Cell, Cells, Summary
from trajectories.models import RollUp
from trajectories.storage.rollup_cache import written

VERSION = 2
"""The form of rows and the meaning of each sum. Add one whenever either changes, a width included:
processes of other versions then leave the roll-ups alone, and workers make them anew."""
ALL_TIME = -1
SELECTED = -2
"""Instead of a day: all time, and the selections, which are of all time too."""
NAMES = (*TRAJECTORY_KEY, "outcome")
"""The columns in which the records of a roll-up agree."""
MAX_VALUES = 300
"""Values of a column up to which a total has its marginals. Beyond it, they are read from the other
rows."""
_CHUNK = 400
"""Keys in a statement, below SQLite's number of variables."""

Names: TypeAlias = tuple[str | None, ...]
_Number = TypeVar("_Number", int, Combinable)


class Selection(NamedTuple):
    """The runs with a phase that has all of these values; None: whatever the value."""

    phase: str | None = None
    model: str | None = None
    selection_method: str | None = None


class Place(NamedTuple):
    """The row of a roll-up. ``names`` is None for a total; ``is_other``: of any project.

    With ``selection`` it is a total of these runs.
    """

    tenant: str
    day: int
    start: int
    names: Names | None
    is_other: bool = False
    selection: Selection | None = None

    @property
    def key(self) -> str:
        return _key(self)


@lru_cache(4_000)  # each batch asks for each of its rows twice, and the next batch again
def _key(place: Place) -> str:
    fields = [*place[:-1], *(place.selection or ())]
    return hashlib.blake2b(orjson.dumps(fields), digest_size=16).hexdigest()


def mark(changed: _Number) -> _Number:
    """Return ``Tenant.rolled_changed`` of roll-ups of this version that have seen ``changed``.

    It is negative, so that a process of a release without versions never takes them for its own.
    """
    return changed * -1_000 - VERSION


def total_of(part: Summary) -> Summary:
    """Return ``part`` with marginals in place of its trajectories."""
    return replace(part, trajectories={}, marginals=part.by_column())


def without_marginals(total: Summary) -> Summary:
    """Return a total without the groups of its trajectories."""
    return replace(total, trajectories={(): total.total}, marginals={})


def narrowed(total: Summary) -> Summary:
    """Return a total, without its marginals if they have too many values."""
    is_wide = any(len(cells) > MAX_VALUES for cells in total.marginals.values())
    return without_marginals(total) if is_wide else total


def changed(total: Summary) -> Summary | None:
    """Return a change of a total without what is 0 in it; None if nothing is left."""
    marginals = {column: _nonzero(cells) for column, cells in total.marginals.items()}
    kinds: dict[str, Any] = {name: _nonzero(getattr(total, name)) for name in (*_CELLS, "skip_costs")}
    counts = (any(counts.values()) for counts in total.buckets.values())
    is_nothing = not any(marginals.values()) and not any(kinds.values()) and not any(counts)
    return None if is_nothing else replace(total, marginals=marginals, **kinds)


def _nonzero(cells: Cells) -> Cells:
    return {key: cell for key, cell in cells.items() if any(cell)}


def rows_of(tenant: str, alias: str, *, is_total: bool) -> QuerySet[RollUp]:
    """Return the totals of a tenant, or its other rows."""
    # IN, because Django writes equality as the bare column, which SQLite does not seek in an index.
    return RollUp.objects.using(alias).filter(tenant=tenant, is_total__in=[is_total])


def read(places: Collection[Place], alias: str) -> dict[Place, Summary]:
    """Return the sums of those places that have a row. The caller may change them."""
    by_key, found = {place.key: place for place in places}, {}
    keys = list(by_key)
    with connections[alias].cursor() as cursor:
        for start in range(0, len(keys), _CHUNK):
            chunk = keys[start : start + _CHUNK]
            cursor.execute(f"{_SELECT} ({', '.join(['%s'] * len(chunk))})", chunk)
            for key, cell, details in cursor.fetchall():
                place = by_key[key]
                sums = written.take(key, cell, details)
                found[place] = sums or decoded(place.names[:4] if place.names else (), cell, details)
    return found


def save(sums: Mapping[Place, Summary], alias: str) -> None:
    """Write these rows, and delete those that count no record any more. The sums must not change
    afterwards."""
    cells = {place: summary.total for place, summary in sums.items()}
    gone = [place.key for place, cell in cells.items() if not cell[0]]
    for start_at in range(0, len(gone), _CHUNK):
        RollUp.objects.using(alias).filter(pk__in=gone[start_at : start_at + _CHUNK]).delete()
    with connections[alias].cursor() as cursor:
        # Without models, which cost as much as the sums.
        cursor.executemany(_UPSERT, [_row(place, cell, sums[place]) for place, cell in cells.items() if cell[0]])


def _row(place: Place, cell: Cell, summary: Summary) -> tuple[Any, ...]:
    """Return the values of ``_COLUMNS``."""
    details: dict[str, Any] = {
        **{name: _pairs(getattr(summary, name)) for name in _CELLS},
        "skip_costs": [[*key, costs] for key, costs in summary.skip_costs.items() if any(costs)],
        # Bucket and count in turns: JSON has no keys but text.
        "buckets": [
            [number for item in counts.items() if item[1] for number in item] for counts in summary.buckets.values()
        ],
    }
    if summary.marginals:
        details["marginals"] = [_pairs(summary.marginals[column]) for column in TRAJECTORY_KEY]
    if place.selection:
        details["selection"] = [*place.selection]
    names = place.names or (None,) * len(NAMES)
    key, texts = place.key, (dumps(cell), dumps(details))
    kept = [*(details[name] for name in _CELLS), *details.get("marginals", ())]
    cells = summary.phases, summary.late, summary.late_phases, *summary.marginals.values()
    if sum(map(len, kept)) == sum(map(len, cells)):
        written.put(key, *texts, summary)  # otherwise it has cells of count 0, which the row lacks
    return key, place.tenant, place.day, place.start, place.names is None, *names, *texts


def _pairs(cells: Cells) -> list[list[Any]]:
    return [[*key, cell] for key, cell in cells.items() if cell[0]]


_CELLS = ("phases", "late", "late_phases")
"""Cells of a summary that a row has by their keys."""
_COLUMNS = ("key", "tenant_id", "day", "start", "is_total", *NAMES, "cell", "details")
_SELECT = f"SELECT key, cell, details FROM {RollUp._meta.db_table} WHERE key IN"
_UPSERT = (
    f"INSERT INTO {RollUp._meta.db_table} ({', '.join(_COLUMNS)}) VALUES ({', '.join(['%s'] * len(_COLUMNS))})"
    " ON CONFLICT (key) DO UPDATE SET cell = excluded.cell, details = excluded.details"
)


def decoded(key: Names, cell: str, details: str) -> Summary:
    """Return a row's sums: those of a total with its marginals, other trajectories under ``key``."""
    fields = loads(details)
    phases, late, late_phases = (_cells(fields[name]) for name in _CELLS)
    marginals = fields.get("marginals")
    return Summary(
        trajectories={key: loads(cell)} if marginals is None else {},
        marginals={} if marginals is None else dict(zip(TRAJECTORY_KEY, map(_cells, marginals), strict=True)),
        phases=phases,
        late=late,
        late_phases=late_phases,
        skip_costs=_cells(fields["skip_costs"]),
        buckets={
            measure.column: defaultdict(int, zip(flat[::2], flat[1::2], strict=True))
            for measure, flat in zip(TRAJECTORY_MEASURES, fields["buckets"], strict=True)
        },
    )


def durations(details: str) -> defaultdict[int, int]:
    """Return the buckets of durations of a row, which a series reads from many rows.

    The name of the field begins after a comma, so no text within a string is the same.
    """
    start = details.find(_BUCKETS)
    if start < 0:  # with blanks, of a sum beyond 64 bits
        return decoded((), "[0]", details).buckets["duration_us"]
    start += len(_BUCKETS)
    for _ in range(_DURATIONS_AT):  # past the lists of other measures, which hold numbers only
        start = details.index("]", start) + 1
    start = details.index("[", start)
    flat = orjson.loads(details[start : details.index("]", start) + 1])
    return defaultdict(int, zip(flat[::2], flat[1::2], strict=True))


_BUCKETS = ',"buckets":['
_DURATIONS_AT = [measure.column for measure in TRAJECTORY_MEASURES].index("duration_us")


def _cells(pairs: list[list[Any]]) -> Cells:
    return {tuple(names): sums for *names, sums in pairs}


def dumps(value: Any) -> str:
    try:
        return orjson.dumps(value).decode()
    except TypeError:  # a sum beyond 64 bits
        return _BIG + json.dumps(value)


def loads(text: str) -> Any:
    """Return the value of a column. orjson would read a sum beyond 64 bits as a float."""
    return json.loads(text) if text.startswith(_BIG) else orjson.loads(text)


_BIG = " "
"""Begins a column that has a sum beyond 64 bits."""
