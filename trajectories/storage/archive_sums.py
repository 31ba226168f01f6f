"""Sums over the archive's rows, counted by the database in few statements.

A statement over the phases of a tenant costs most for the words that it compares. So one statement
groups by all words that any tally asks for, and the tallies are counted from its groups.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson
from django.db import connections
from django.db.models import Count, F, Func, Q, QuerySet, Sum, TextField

from trajectories.domain.record import NANO_USD
from trajectories.domain.stats import (
    MEASURES,
    PHASE_KEY,
    PHASE_MEASURES_AT,
    PHASE_WIDTH,
    PRESENCES,
    TRAJECTORY_MEASURES,
    Cells,
    Measure,
    Summary,
    Tally,
    phase_tallies,
)
from trajectories.models import Trajectory

_HALF = 2**32
"""Sums are computed in two halves: they stay exact where a database would overflow 64 bits."""
_PHASE_KEY = tuple(name if name == "request_type" else f"phases__{name}" for name in PHASE_KEY)
_PHASE_WORDS = ("phases__outcome", "phases__credited", "phases__presence", "phases__fit", "outcome")
"""The arguments of ``phase_tallies``."""
_PHASE_SUMS = (
    *(measure._replace(column=f"phases__{measure.column}") for measure in MEASURES),
    Measure("run_cost_usd", "cost_nano_usd", NANO_USD),
)


def add_phases(found: Summary, rows: QuerySet[Trajectory]) -> None:
    """Add the phases of ``rows`` to ``found.phases`` and ``found.skip_costs``.

    The statement begins with the runs. One that begins with the phases looks for each run twice.
    """
    each = len(_PHASE_KEY)
    phases = rows.filter(phases__isnull=False)
    names: tuple[str, ...] = (*_PHASE_KEY, *_PHASE_WORDS)
    is_sqlite = connections[rows.db].vendor == "sqlite"
    if is_sqlite:  # it sorts to group, and compares one text faster than nine
        phases, names = phases.annotate(words=Func(*names, function="JSON_ARRAY", output_field=TextField())), ("words",)
    for row, counts in cells(phases, names, (), _PHASE_SUMS).items():
        row = tuple(orjson.loads(str(row[0]))) if is_sqlite else row
        key, words = row[:each], row[each:]
        count, *sums = counts
        cell = found.phases.setdefault(key, [0] * PHASE_WIDTH)
        cell[0] += count
        for at in phase_tallies(*words):  # credited is None in rows of earlier releases
            cell[at] += count
        _add(cell, PHASE_MEASURES_AT, sums[:-2])
        presence = words[2]
        if presence in PRESENCES and sums[-2]:
            costs = found.skip_costs.setdefault((key[0], key[-1]), [0] * 4)
            _add(costs, 2 * PRESENCES.index(presence), sums[-2:])


def _add(cell: list[int], at: int, values: Sequence[int]) -> None:
    for offset, value in enumerate(values):
        cell[at + offset] += value


def bucket_counts(rows: QuerySet[Trajectory]) -> Mapping[str, Mapping[int, int]]:
    """Return how many of ``rows`` are in each bucket, by the column of the measure."""
    columns = {f"{measure.column}_bucket": measure.column for measure in TRAJECTORY_MEASURES}
    # SQLite looks at the records once a statement, and its groups cost less than that. A server
    # counts by itself, and its groups would have to be sent.
    asked = [[*columns]] if connections[rows.db].vendor == "sqlite" else [[name] for name in columns]
    counts: dict[str, defaultdict[int, int]] = {column: defaultdict(int) for column in columns.values()}
    for names in asked:
        into = [counts[columns[name]] for name in names]
        for *buckets, count in rows.order_by().values_list(*names).annotate(n=Count("pk")).iterator(2_000):
            for number, counted in zip(buckets, into, strict=True):
                if number is not None:
                    counted[number] += count
    return counts


def cells(rows: QuerySet[Any], key: Iterable[str], tallies: Sequence[Tally], measures: Sequence[Measure]) -> Cells:
    """Return the cells of ``rows``, counted by the database; columns as in stats.Cell."""
    counted: dict[str, Any] = {"n": Count("pk")}
    for tally in tallies:
        counted[f"tally_{tally.name}"] = Count("pk", filter=Q(**tally.where))
    for measure in measures:
        column = F(measure.column)
        counted[f"known_{measure.name}"] = Count(measure.column)
        counted[f"high_{measure.name}"] = Sum(column / _HALF)
        counted[f"low_{measure.name}"] = Sum(column % _HALF)
    names = tuple(key)
    grouped = rows.order_by().values(*names).annotate(**counted).values_list(*names, *counted)
    return {row[: len(names)]: _cell(row[len(names) :], len(tallies)) for row in grouped}


def _cell(columns: Sequence[Any], tallies: int) -> list[int]:
    cell = [int(value) for value in columns[: 1 + tallies]]
    for at in range(1 + tallies, len(columns), 3):
        known, high, low = columns[at : at + 3]
        cell += [int(known), int(high or 0) * _HALF + int(low or 0)]
    return cell
