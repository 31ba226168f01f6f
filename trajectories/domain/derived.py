"""Values of a record that its sender left out or that follow from others, as every answer shows them."""

from __future__ import annotations

from typing import Any

from trajectories.domain.record import NANO_USD, Facets
from trajectories.domain.stats import in_unit


def derived_of(facets: Facets) -> dict[str, Any]:
    """Return ``derived`` of an answer: outcome, cost in USD, duration in ms, tokens. Unknown is None.

    ``docs/contract.md`` has the rules. Costs are exact to the nano-USD, durations to the microsecond.
    ``unattributed_cost_usd`` is negative where the phases add up to more than the total.
    """
    phases_cost = None
    if facets.cost_nano_usd is not None and facets.unattributed_nano_usd is not None:
        phases_cost = facets.cost_nano_usd - facets.unattributed_nano_usd
    return {
        "outcome": facets.outcome,
        "total_cost_usd": _in(facets.cost_nano_usd, NANO_USD),
        "phases_cost_usd": _in(phases_cost, NANO_USD),
        "unattributed_cost_usd": _in(facets.unattributed_nano_usd, NANO_USD),
        "total_duration_ms": _in(facets.duration_us, 1000),
        "input_tokens": facets.input_tokens,
        "output_tokens": facets.output_tokens,
        "total_tokens": facets.tokens,
    }


def _in(value: int | None, divisor: int) -> float | int | None:
    return None if value is None else in_unit(value, divisor)
