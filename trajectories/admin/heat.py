"""The heat map of models and phases: pure functions from an answer of stats to a table of coloured
cells."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from trajectories.admin import figures
from trajectories.admin.cards import MAX_ROWS, Address, Answer, Cell, name_cell
from trajectories.domain.stats import value_per_dollar, wilson

_FEW = 5
"""Cells of fewer runs are greyed: their rate says little."""
_LEVELS = 10
MEASURES = {"success": "Success", "cost": "Cost", "duration": "Duration", "value": "Value per dollar"}
"""The figures that the cells of the heat map can show."""


@dataclass(slots=True)
class Pair:
    """Sums of the phases of one name that one model ran, over every selection method.

    ``successes`` of ``known`` are credited, ``own_successes`` of ``own_known`` are by the phases'
    own outcomes.
    """

    count: int = 0
    successes: int = 0
    known: int = 0
    own_successes: int = 0
    own_known: int = 0
    totals: dict[str, list[float]] = field(default_factory=lambda: {"cost_usd": [0, 0], "duration_ms": [0, 0]})

    def add(self, group: Answer) -> None:
        rate, own = group["credited_success_rate"], group["success_rate"]
        self.count += group["count"]
        self.known += rate["known"]
        self.successes += round((rate["rate"] or 0) * rate["known"])
        self.own_known += own["known"]
        self.own_successes += round((own["rate"] or 0) * own["known"])
        for name, total in self.totals.items():
            total[0] += group[name]["known"]
            total[1] += group[name]["sum"] or 0

    def mean(self, name: str) -> float | None:
        known, total = self.totals[name]
        return total / known if known else None

    def value(self, measure: str) -> float | None:
        """Return the value of one of MEASURES."""
        bounds = wilson(self.successes, self.known)
        if measure == "success":
            return bounds[0] if bounds else None
        if measure == "value":
            return value_per_dollar(bounds[0] if bounds else None, self.mean("cost_usd"))
        return self.mean({"cost": "cost_usd", "duration": "duration_ms"}[measure])


class HeatCell(NamedTuple):
    """A cell of the heat map; ``level`` from 0 to 10 colours it."""

    text: str
    note: str
    level: int
    href: str
    is_few: bool


@dataclass(frozen=True, slots=True)
class HeatMap:
    """Models by phases. A cell is None where no such phase ran."""

    measure: str
    credit_rule: str
    phases: Sequence[Cell]
    rows: Sequence[tuple[Cell, Sequence[HeatCell | None]]]
    left_out: str


def heat_map(answer: Answer, runs: Address, measure: str) -> HeatMap:
    """Return the map of phases that a model ran, by credited success or another of MEASURES."""
    pairs: dict[tuple[str, str], Pair] = defaultdict(Pair)
    for group in answer["by_phase_model"]:
        if group["model"] is not None:
            pairs[group["model"], group["phase"]].add(group)
    models, phases = _largest(pairs, 0), _largest(pairs, 1)
    shown_models, shown_phases = models[:MAX_ROWS], phases[:MAX_ROWS]
    values = [value for pair in pairs.values() if (value := pair.value(measure)) is not None]
    top = 1.0 if measure == "success" else max(values, default=1.0) or 1.0

    def cell(model: str, phase: str) -> HeatCell | None:
        pair = pairs.get((model, phase))
        if pair is None:
            return None
        value = pair.value(measure)
        level = 0 if value is None else round(_LEVELS * value / top)
        href = runs(phase=phase, model=model)
        number = pair.known if measure in ("success", "value") else pair.count
        note = f"n = {number:,}"
        if measure == "success":
            note = note if value is None else f"≥ {figures.percent(value)}, {note}"
            note += f", own {figures.percent(pair.own_successes / pair.own_known)}" if pair.own_known else ""
        return HeatCell(_heat_text(pair, measure), note, level, href, is_few=number < _FEW)

    hidden = [
        f"{len(names) - MAX_ROWS} more {what}"
        for names, what in ((models, "models"), (phases, "phases"))
        if len(names) > MAX_ROWS
    ]
    return HeatMap(
        measure,
        answer["credit_rule"],
        [name_cell(phase, runs(phase=phase)) for phase in shown_phases],
        [
            (name_cell(model, runs(model=model)), [cell(model, phase) for phase in shown_phases])
            for model in shown_models
        ],
        " and ".join(hidden),
    )


def _largest(pairs: Mapping[tuple[str, str], Pair], at: int) -> list[str]:
    sums: dict[str, int] = defaultdict(int)
    for key, pair in pairs.items():
        sums[key[at]] += pair.count
    return sorted(sums, key=lambda name: (-sums[name], name))


def _heat_text(pair: Pair, measure: str) -> str:
    value = pair.value(measure)
    if measure == "success":
        rate = pair.successes / pair.known if pair.known else None
        return figures.UNKNOWN if value is None else figures.percent(rate)
    if measure == "value":
        return figures.UNKNOWN if value is None else f"{value:,.3g}"
    return figures.money(value) if measure == "cost" else figures.span(value)
