"""The totals of a run: as it was given, as its phases add up to it, and as filters and stats use
it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from trajectories.admin import formatting, waterfall
from trajectories.admin.formatting import dollars, milliseconds

Fields = Mapping[str, Any]


class Total(NamedTuple):
    """A figure of the run as it was given, as the phases add up to it, and as filters and stats use
    it.

    ``difference`` is by how much the first two differ, None where they do not or one is unknown.
    """

    name: str
    given: str | None
    summed: str | None
    used: str | None
    difference: str | None = None


def totals(fields: Fields, drawing: waterfall.Waterfall) -> Iterator[Total]:
    """Yield the figures of the run; ``given`` and ``summed`` are compared where both are known."""
    derived, phases = fields["derived"], fields["phases"]
    cost, in_phases = fields.get("total_cost_usd"), derived["phases_cost_usd"]
    yield _compared("cost", cost, in_phases, derived["total_cost_usd"], dollars)
    durations = [phase["duration_ms"] for phase in phases if "duration_ms" in phase]
    took, summed = fields.get("total_duration_ms"), sum(durations) if durations else None
    yield _compared("duration", took, summed, derived["total_duration_ms"], milliseconds)
    if drawing.timing == "times":
        yield Total("time on the clock", None, formatting.duration(drawing.span_us), None)
    for name in ("input_tokens", "output_tokens", "total_tokens"):
        if derived[name] is not None:
            shown = formatting.number(derived[name])
            yield Total(name.replace("_", " "), None, shown, shown)
    skipped = sum(phase.get("outcome") == "skipped" for phase in phases)
    yield _compared("phases", fields.get("total_phases"), len(phases), len(phases), formatting.number)
    yield _compared("phases skipped", fields.get("phases_skipped"), skipped, skipped, formatting.number)
    yield Total("outcome", fields.get("outcome"), None, derived["outcome"])


def _compared(name: str, given: Any, summed: Any, used: Any, text: Callable[[Any], str | None]) -> Total:
    is_same = None in (given, summed) or abs(given - summed) <= 1e-6 * max(abs(given), abs(summed))
    return Total(name, text(given), text(summed), text(used), None if is_same else text(abs(given - summed)))
