"""Answers of an existing command line tool: the best model of a type of task, and its cost."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, NamedTuple, TypeAlias

from trajectories.domain.choice_sums import Choice, PhaseCells, Sums
from trajectories.domain.choices import MODEL
from trajectories.domain.outcomes import phase_group
from trajectories.domain.record import NANO_USD
from trajectories.domain.stats import bucket_value
from trajectories.learning.actions import actions_of
from trajectories.learning.cells import learned
from trajectories.learning.context import RecommendationRequest
from trajectories.learning.estimates import PhaseEstimates
from trajectories.learning.posterior import DRAWS
from trajectories.learning.recommend import Valued, value_actions
from trajectories.services.read_shares import ReadShares
from trajectories.storage.store import Store

MAX_TASK_TYPES = 50
MAX_MODELS = 10
"""Models of a type that are compared: those with the most known outcomes."""
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
    with store.part(ReadShares).of(tenant) as share:
        cells = [*_cells(known.by_phase.values(), framework)]
        counts = _counts(share.scan(cells))
        if task_type is None:
            types = Counter({name: of_type.total() for name, of_type in counts.items()}).most_common(MAX_TASK_TYPES)
            wanted = [name for name, count in types if name is not None and count]
        else:
            wanted = [task_type]
            if not any(counts.get(task_type, {}).values()):
                phases = [known.by_phase[group]] if (group := phase_group(task_type)) in known.by_phase else []
                cells = [(task_type, cell) for _, cell in _cells(phases, framework)]
                counts = _counts(share.scan(cells))
        candidates = {name: _most_known(counts[name]) for name in wanted if name in counts}
        choices = _first_choices(share.scan(cells), {model for models in candidates.values() for model in models})
        known_ones = [(name, models) for name, models in candidates.items() if models]
        return [_best(name, models, choices, store.now_us()) for name, models in share.scan(known_ones)]


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


def _best(task_type: str, models: Sequence[str], choices: _FirstChoices, now_us: int) -> dict[str, Any]:
    request = RecommendationRequest.model_validate(
        {
            "phase": task_type,
            "request_type": task_type,
            "candidates": [{"model": name} for name in models],
            "allow_escalation": False,
            "explore": 0.0,
        }
    )
    total = {choice: sums for name in models for choice, sums in choices.by_model[name].items()}
    typed = {choice: sums for choice, sums in choices.by_type[task_type].items() if choice in total}
    of_models: dict[str | None, tuple[Choice, ...]] = {name: tuple(choices.by_model[name]) for name in models}
    cells = PhaseCells(_ANY_PHASE, total, {task_type: typed}, of_models=of_models)
    valued = value_actions(request, actions_of(request, PhaseEstimates(request, cells, now_us)))
    ranked = sorted(valued, key=lambda one: -one.value)
    return _shown(task_type, ranked)


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


class _FirstChoices(NamedTuple):
    """Sums of first choices, whichever phase they were made at: by type of request, and of all types
    by model."""

    by_type: Mapping[str | None, Mapping[Choice, Sums]]
    by_model: Mapping[str | None, Mapping[Choice, Sums]]


_TypedCell: TypeAlias = tuple[str | None, Mapping[Choice, Sums]]
"""A type of request, and sums of its choices at a phase."""


def _cells(phases: Iterable[PhaseCells], project: str | None) -> Iterator[_TypedCell]:
    for phase in phases:
        if project is None:
            yield from phase.by_type.items()
        else:
            yield from ((at.request_type, cell) for at, cell in phase.by_scope.items() if at.project == project)


def _counts(cells: Iterable[_TypedCell]) -> dict[str | None, Counter[str | None]]:
    """Return the known outcomes of first choices, by type of request and model."""
    counts: dict[str | None, Counter[str | None]] = defaultdict(Counter)
    for request_type, cell in cells:
        of_type = counts[request_type]
        for (kind, model, after, _, _), sums in cell.items():
            if kind == MODEL and after is None:
                of_type[model] += sums.known
    return dict(counts)


def _most_known(counts: Counter[str | None]) -> list[str]:
    found = [model for model, count in counts.most_common(MAX_MODELS + 1) if model is not None and count]
    return found[:MAX_MODELS]


def _first_choices(cells: Iterable[_TypedCell], models: AbstractSet[str | None]) -> _FirstChoices:
    """Return the sums of these models: a tenant may have chosen hundreds of thousands."""
    by_type: dict[str | None, dict[Choice, Sums]] = defaultdict(dict)
    by_model: dict[str | None, dict[Choice, Sums]] = defaultdict(dict)
    for request_type, cell in cells:
        of_type = by_type[request_type]
        for choice, sums in cell.items():
            if choice.model in models and choice.kind == MODEL and choice.after is None:
                wide = choice if choice.advice is None else choice._replace(advice=None)
                of_model = by_model[wide.model]
                of_type[wide] = of_type[wide].plus(sums) if wide in of_type else sums
                of_model[wide] = of_model[wide].plus(sums) if wide in of_model else sums
    return _FirstChoices(by_type, by_model)
