"""Values of a record that its sender left out or that follow from others, as every answer shows
them."""

from __future__ import annotations

from typing import Any

from trajectories.conf import read_settings
from trajectories.domain.credit import UNCREDITED, Credit, credit_of
from trajectories.domain.record import NANO_USD, Facets
from trajectories.domain.stats import in_unit


def derived_of(facets: Facets) -> dict[str, Any]:
    """Return ``derived`` of an answer: outcome, cost in USD, duration in ms, tokens, credit.

    Unknown is None. The setting ``CREDIT_RULE`` is the rule of the credit.

    ``docs/contract.md`` has the rules. Costs are exact to the nano-USD, durations to the
    microsecond. ``unattributed_cost_usd`` is negative where the phases add up to more than the
    total.
    """
    phases_cost, rule = None, read_settings().credit_rule
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
        "credit": {"rule": rule, "phases": [credit._asdict() for credit in credited(facets, rule)]},
    }


def credited(facets: Facets, rule: str) -> list[Credit]:
    """Return the credit of each phase by ``rule``, one of ``credit.RULES``."""
    if rule == "checks":
        return [
            Credit(None if phase.credited == UNCREDITED else phase.credited, phase.credit_source)
            for phase in facets.phases
        ]
    phases = [{"phase_name": phase.phase, "outcome": phase.outcome} for phase in facets.phases]
    return credit_of({"outcome": facets.outcome, "phases": phases}, rule)


def _in(value: int | None, divisor: int) -> float | int | None:
    return None if value is None else in_unit(value, divisor)
