"""Answers of an existing command line tool: the best model of a type of task, and its cost."""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

from trajectories.domain.choice_sums import Cells, Key, Sums
from trajectories.domain.choices import MODEL
from trajectories.domain.outcomes import phase_group
from trajectories.domain.record import NANO_USD
from trajectories.domain.stats import bucket_value
from trajectories.learning.actions import actions_of
from trajectories.learning.cells import Learned, learned
from trajectories.learning.context import MAX_CANDIDATES, RecommendationRequest
from trajectories.learning.estimates import PhaseEstimates
from trajectories.learning.posterior import DRAWS
from trajectories.learning.recommend import Valued, value_actions
from trajectories.storage.store import Store

MAX_TASK_TYPES = 50
_ANY_PHASE = "\x00any"


class CostForecast(NamedTuple):
    """Cost of a run in USD: the median, and the tenth and ninetieth percentile, of ``samples``
    runs."""

    estimate_usd: float | None
    low_usd: float | None
    high_usd: float | None
    samples: int


def best_models(store: Store, tenant: str, task_type: str | None, framework: str | None) -> list[dict[str, Any]]:
    """Return the best model of each type of task, the most frequent type first.

    A type of task is a request type; where no run has it as one, it is a phase. Success and cost
    are those of single phases, whichever phase it is. Types without a known outcome are left out.

    Args:
        task_type: one type; None: all.
        framework: only runs of this project; None: all.

    Raises:
        TooManyReads: 429; as ``cells.learned``.
    """
    known = learned(store, tenant)
    cells = _without_phases(known, None, framework)
    types = Counter[str | None]()
    for key, sums in cells.items():
        types[key.request_type] += sums.known
    if task_type is None:
        wanted = [name for name, count in types.most_common(MAX_TASK_TYPES) if name is not None and count]
        return [found for name in wanted for found in _best(name, cells, store.now_us())]
    if not types[task_type]:
        cells = _without_phases(known, phase_group(task_type), framework)
        cells = _merged(cells, task_type)
    return _best(task_type, cells, store.now_us())


def forecast_cost(store: Store, tenant: str, task_type: str, complexity: str | None) -> CostForecast:
    """Return what a run of this type may cost, by runs of this type whose cost is known.

    Args:
        task_type: a request type.
        complexity: only runs with this tag, or with ``complexity:`` and this; where none has it,
            all of the type. A request type may be the complexity itself.

    Raises:
        TooManyReads: 429; as ``cells.learned``.
    """
    costs = learned(store, tenant).run_costs
    of_type = {key: counts for key, counts in costs.items() if key.request_type == task_type}
    narrow = {
        key: counts
        for key, counts in of_type.items()
        if complexity is not None and {complexity, f"complexity:{complexity}"} & {*key.tags}
    }
    total: Counter[int] = Counter()
    for counts in (narrow or of_type).values():
        total.update(counts)
    low, middle, high = (_percentile(total, share) for share in (0.1, 0.5, 0.9))
    return CostForecast(middle, low, high, total.total())


def _percentile(counts: Counter[int], share: float) -> float | None:
    rank = share * counts.total()
    for bucket in sorted(counts):
        rank -= counts[bucket]
        if rank <= 0:
            return bucket_value(bucket) / NANO_USD
    return None


def _best(task_type: str, cells: Cells, now_us: int) -> list[dict[str, Any]]:
    counts: Counter[str] = Counter()
    for key, sums in cells.items():
        if key.request_type == task_type and key.model is not None and key.after is None:
            counts[key.model] += sums.known
    names = [name for name, count in counts.most_common(MAX_CANDIDATES) if count]
    if not names:
        return []
    request = RecommendationRequest.model_validate(
        {
            "phase": task_type,
            "request_type": task_type,
            "candidates": [{"model": name} for name in names],
            "allow_escalation": False,
            "explore": 0.0,
        }
    )
    valued = value_actions(request, actions_of(request, PhaseEstimates(request, cells, now_us)))
    ranked = sorted(valued, key=lambda one: -one.value)
    return [_shown(task_type, ranked)]


def _shown(task_type: str, ranked: list[Valued]) -> dict[str, Any]:
    best = ranked[0].action
    cost = "unknown cost" if best.cost_usd is None else f"{best.cost_usd:.4g} USD"
    low, high = best.interval
    return {
        "taskType": task_type,
        "recommendedModel": best.model,
        "confidence": ranked[0].probability,
        "reasoning": f"{best.model} succeeds in {best.mean:.0%} ({low:.0%} to {high:.0%}) of {best.estimate.own} known"
        f" outcomes, at {cost} a phase; it has the highest value in {ranked[0].probability:.0%} of {DRAWS} draws.",
        "alternatives": [{"model": one.action.model, "score": max(0.0, min(1.0, one.value))} for one in ranked[1:]],
    }


def _without_phases(known: Learned, phase: str | None, project: str | None) -> dict[Key, Sums]:
    """Return the cells of first choices, added up over phases, or those of one phase."""
    found: dict[Key, Sums] = {}
    for name, cells in known.by_phase.items():
        if phase is not None and name != phase:
            continue
        for key, sums in cells.items():
            if key.kind == MODEL and key.after is None and (project is None or key.project == project):
                wide = key._replace(phase=_ANY_PHASE, advice=None)
                found[wide] = found.get(wide, Sums()).plus(sums)
    return found


def _merged(cells: Cells, task_type: str) -> dict[Key, Sums]:
    found: dict[Key, Sums] = {}
    for key, sums in cells.items():
        of_type = key._replace(request_type=task_type)
        found[of_type] = found.get(of_type, Sums()).plus(sums)
    return found
