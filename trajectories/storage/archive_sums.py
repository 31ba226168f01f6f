"""Sums over the archive's rows.

Those of runs and their phases are made of packed phases, which lie in the rows of the runs. Those of
late outcomes, which few runs have, are counted by the database.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

from django.db.models import Count, F, Q, QuerySet, Sum

from trajectories.domain.packed_phases import (
    NUMBERS,
    PHASE_WORDS,
    ROW,
    RUN_WORDS,
    TOTALS,
    Shape,
    ShapeKey,
    ShapeSums,
    Words,
    by_shape,
    digest_of,
    digests_in,
    with_known,
)
from trajectories.domain.stats import Cells, Measure, Summary, Tally
from trajectories.models import Phase, Trajectory
from trajectories.storage.archive_rows import plain
from trajectories.storage.archived_facets import archived

_ROWS = 10_000
"""Rows of runs in memory at once."""
_CHUNK = 400
"""Keys in a statement, below SQLite's number of variables."""
_HALF = 2**32
"""Sums are computed in two halves: they stay exact where a database would overflow 64 bits."""


def add_runs(found: Summary, rows: QuerySet[Trajectory], start: Any) -> None:
    """Add ``rows`` and their phases to ``found``: all but late outcomes.

    Args:
        start: the expression for the bucket of the series; None without one.
    """
    sums, words = ShapeSums(has_series=found.bucket is not None), _KnownWords(rows.db)
    columns = rows.order_by().values_list(*ROW, *([] if start is None else [start]))
    found_rows = plain(columns, _ROWS)
    while some := [*islice(found_rows, _ROWS)]:
        shapes, others = by_shape(some)
        for key in words.learn(shapes):
            others += shapes.pop(key).pks
        sums.add(shapes)
        for at in range(0, len(others), _CHUNK):
            of_chunk = Trajectory.objects.using(rows.db).filter(pk__in=others[at : at + _CHUNK])
            for _, recorded_at_us, facets in archived(of_chunk, rows.db):
                found.add(facets._replace(late=()), recorded_at_us)
    sums.add_to(found, words.by_digest)


class _KnownWords:
    """What digests stand for, as far as it was needed."""

    def __init__(self, alias: str) -> None:
        self.by_digest: dict[bytes, Words] = {}
        self._alias = alias

    def learn(self, shapes: Mapping[ShapeKey, Shape]) -> list[ShapeKey]:
        """Learn the words of ``shapes``, each from a run that has them.

        Returns:
            The shapes with words whose run has changed meanwhile.
        """
        known, digests = self.by_digest, {key: digests_in(key[0]) for key in shapes}
        runs, phases = dict[bytes, int](), dict[bytes, int]()
        for key, (run, of_phases) in digests.items():
            pk = shapes[key].pks[0]
            if run not in known:
                runs.setdefault(run, pk)
            for digest in of_phases:
                if digest not in known:
                    phases.setdefault(digest, pk)
        self._learn(Trajectory.objects, "pk__in", runs.values(), RUN_WORDS, TOTALS)
        self._learn(Phase.objects, "trajectory__in", phases.values(), PHASE_WORDS, NUMBERS)
        return [key for key, (run, of_phases) in digests.items() if not known.keys() >= {run, *of_phases}]

    def _learn(self, rows: Any, by: str, pks: Iterable[int], words: Sequence[str], numbers: Sequence[str]) -> None:
        unique = list(dict.fromkeys(pks))
        for at in range(0, len(unique), _CHUNK):
            found = rows.using(self._alias).filter(**{by: unique[at : at + _CHUNK]})
            for values in found.values_list(*words, *numbers):
                both = values[: len(words)], values[len(words) :]
                self.by_digest[digest_of(*both)] = with_known(*both)


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
