"""Counts of late outcomes, in cells of integers as the other cells of ``stats``.

A run counts once for each of its outcomes. By phase and model, an outcome of a phase counts for
that phase, and one of the run for each phase that ran.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from trajectories.domain.contract_types import FITS
from trajectories.domain.late_outcomes import MICRO, LateFacets
from trajectories.domain.outcomes import NOT_RUN
from trajectories.domain.record import PhaseFacets

LATE_KEY = ("name",)
LATE_PHASE_KEY = ("name", "phase", "model")
LATE_TALLIES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("true", {"is_true": True}),
    ("false", {"is_true": False}),
    *((word, {"fit": word}) for word in FITS),
)
"""Names of the tallies, and the conditions on columns of ``RunOutcome``."""
_MEASURE_AT = 1 + len(LATE_TALLIES)
WIDTH = _MEASURE_AT + 2


def cells_of(
    late: Sequence[LateFacets], phases: Sequence[PhaseFacets]
) -> Iterator[tuple[tuple[str | None, ...], list[int]]]:
    """Yield key and cell of each outcome: by LATE_KEY, and by LATE_PHASE_KEY for each of its
    phases."""
    for one in late:
        cell = _cell(one)
        yield (one.name,), cell
        for place, phase in enumerate(phases):
            if one.place in (None, place) and phase.outcome not in NOT_RUN:
                yield (one.name, phase.phase, phase.model), cell


def _cell(one: LateFacets) -> list[int]:
    words = [one.is_true is True, one.is_true is False, *(one.fit == word for word in FITS)]
    is_number = one.value_micro is not None
    return [1, *map(int, words), int(is_number), one.value_micro or 0]


def figures(cell: Sequence[int], rate: Callable[[int, int], dict[str, Any]]) -> dict[str, Any]:
    """Return the figures of a cell. Unknown is None, never 0.

    Args:
        rate: makes a rate with its interval of successes and known ones.
    """
    true, false, *fits = cell[1:_MEASURE_AT]
    known, micro = cell[_MEASURE_AT:]
    return {
        "count": cell[0],
        "rate": rate(true, true + false),
        "mean": micro / (known * MICRO) if known else None,
        "numbers": known,
        "fits": dict(zip(FITS, fits, strict=True)),
    }
