"""Sums of choices, by what they depend on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final, NamedTuple, TypeAlias, TypeVar

from trajectories.domain.choices import choices_of
from trajectories.domain.record import Facets
from trajectories.domain.stats import bucket_start


class Key(NamedTuple):
    """Where a choice counts. ``week``: its start, in microseconds since 1970."""

    kind: str
    request_type: str | None
    project: str | None
    phase: str
    model: str | None
    after: str | None
    week: int
    advice: str | None = None


class Sums(NamedTuple):
    """Sums over choices. ``score`` is twice the reward; ``known`` counts those that have one."""

    choices: int = 0
    known: int = 0
    score: int = 0
    costs: int = 0
    cost_nano_usd: int = 0
    metered: int = 0
    input_tokens: int = 0
    output_tokens: int = 0

    def plus(self, other: Sums, times: int = 1) -> Sums:
        a, b, c, d, e, f, g, h = other
        return Sums(
            self.choices + times * a,
            self.known + times * b,
            self.score + times * c,
            self.costs + times * d,
            self.cost_nano_usd + times * e,
            self.metered + times * f,
            self.input_tokens + times * g,
            self.output_tokens + times * h,
        )


OTHER_PROJECTS: Final = "\uffffother"
"""Instead of a project in sums that are of any."""
Part: TypeAlias = tuple[tuple[Key, Sums], ...]
"""The sums of one version of a record."""


def part_of(facets: Facets, body: bytes, recorded_at_us: int) -> Part:
    """Return the sums of a record.

    Args:
        facets: those of ``body``.
        body: canonical JSON.
    """
    week = bucket_start(recorded_at_us, "week")
    return tuple(_part(facets, body, week))


def _part(facets: Facets, body: bytes, week: int) -> Iterator[tuple[Key, Sums]]:
    for choice in choices_of(facets, body):
        key = Key(
            choice.kind,
            facets.request_type,
            facets.project,
            choice.phase,
            choice.model,
            choice.after,
            week,
            choice.advice,
        )
        score, cost, given, made = choice.score, choice.cost_nano_usd, choice.input_tokens, choice.output_tokens
        # By position, which takes half the time of names.
        of_reward = int(score is not None), score or 0
        of_cost = int(cost is not None), cost or 0
        of_tokens = (0, 0, 0) if given is None or made is None else (1, given, made)
        yield key, Sums(1, *of_reward, *of_cost, *of_tokens)


class Choice(NamedTuple):
    """What sums are kept apart by, whatever the request."""

    kind: str
    model: str | None
    after: str | None
    week: int
    advice: str | None


class Scope(NamedTuple):
    """Where a choice was made."""

    request_type: str | None
    project: str | None


_Cell: TypeAlias = dict[Choice, Sums]
_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


@dataclass(frozen=True)
class PhaseCells:
    """The sums of a phase, with their totals over projects and over types of request.

    A value never changes: ``plus`` returns another one, which shares what is equal. So a reader
    needs no lock, and a change costs what it touches, however many projects and weeks there are.
    """

    phase: str
    total: Mapping[Choice, Sums] = field(default_factory=dict)
    by_type: Mapping[str | None, Mapping[Choice, Sums]] = field(default_factory=dict)
    by_scope: Mapping[Scope, Mapping[Choice, Sums]] = field(default_factory=dict)
    of_models: Mapping[str | None, tuple[Choice, ...]] = field(default_factory=dict, compare=False)
    """The choices of each model in ``total``."""

    @classmethod
    def of_scopes(cls, phase: str, by_scope: Mapping[Scope, Mapping[Choice, Sums]]) -> PhaseCells:
        """Return the cells with these sums, which have a choice each."""
        by_type: dict[str | None, list[Mapping[Choice, Sums]]] = defaultdict(list)
        for scope, cell in by_scope.items():
            by_type[scope.request_type].append(cell)
        totals = {request_type: _total(cells) for request_type, cells in by_type.items()}
        total = _total(totals.values())
        of_models: dict[str | None, list[Choice]] = defaultdict(list)
        for choice in total:
            of_models[choice.model].append(choice)
        return cls(phase, total, totals, by_scope, {model: tuple(found) for model, found in of_models.items()})

    def __bool__(self) -> bool:
        return bool(self.total)

    @cached_property
    def by_week(self) -> Mapping[tuple[str, int], Sums]:
        """The sums of all models by kind and week."""
        found = defaultdict[tuple[str, int], list[Sums]](list)
        for choice, sums in self.total.items():
            found[choice.kind, choice.week].append(sums)
        return {key: _sum(of_key) for key, of_key in found.items()}

    def levels(
        self, request_type: str | None, project: str | None, models: Iterable[str]
    ) -> Iterator[Mapping[Choice, Sums]]:
        """Yield disjoint sums of ``models``, and of choices without a model, from wide to narrow: of
        other types of request; of other projects, of this type; of both.

        None stands for every type or project. A tenant may have chosen hundreds of thousands of
        models, so the others are not looked at.
        """
        wanted = [choice for model in (*models, None) for choice in self.of_models.get(model, ())]
        total = _part_of(self.total, wanted)
        typed = total if request_type is None else _part_of(self.by_type.get(request_type, {}), wanted)
        if project is None:
            own = typed
        elif request_type is None:
            own = dict[Choice, Sums]()
            for scope, cell in self.by_scope.items():
                if scope.project == project:
                    for choice, sums in _part_of(cell, wanted).items():
                        _add(own, choice, sums, 1)
        else:
            own = _part_of(self.by_scope.get(Scope(request_type, project), {}), wanted)
        yield _less(total, typed)
        yield _less(typed, own)
        yield own

    def plus(self, part: Iterable[tuple[Key, Sums]], times: int = 1) -> PhaseCells:
        """Return the sum with ``part``, whose keys are of this phase. Cells without a choice are
        left out."""
        total = dict(self.total)
        by_type, by_scope, of_models = dict(self.by_type), dict(self.by_scope), dict(self.of_models)
        types, scopes, models = dict[str | None, _Cell](), dict[Scope, _Cell](), dict[str | None, dict[Choice, None]]()
        for key, sums in part:
            choice = Choice(key.kind, key.model, key.after, key.week, key.advice)
            scope = Scope(key.request_type, key.project)
            of_type = types.get(key.request_type)
            if of_type is None:
                of_type = types[key.request_type] = dict(by_type.get(key.request_type, {}))
            of_scope = scopes.get(scope)
            if of_scope is None:
                of_scope = scopes[scope] = dict(by_scope.get(scope, {}))
            for cell in (total, of_type, of_scope):
                _add(cell, choice, sums, times)
            if key.model not in models:
                models[key.model] = dict.fromkeys(of_models.get(key.model, ()))
            models[key.model][choice] = None
        _replace(by_type, types)
        _replace(by_scope, scopes)
        _replace(of_models, {name: tuple(one for one in found if one in total) for name, found in models.items()})
        return PhaseCells(self.phase, total, by_type, by_scope, of_models)


def add(cells: dict[str, PhaseCells], part: Iterable[tuple[Key, Sums]], times: int = 1) -> None:
    """Add sums to the cells of their phases."""
    by_phase: dict[str, list[tuple[Key, Sums]]] = {}
    for key, sums in part:
        by_phase.setdefault(key.phase, []).append((key, sums))
    for phase, of_phase in by_phase.items():
        found = cells.get(phase, PhaseCells(phase)).plus(of_phase, times)
        if found:
            cells[phase] = found
        else:
            cells.pop(phase, None)


Cells: TypeAlias = PhaseCells | Mapping[Key, Sums]


def _total(cells: Iterable[Mapping[Choice, Sums]]) -> Mapping[Choice, Sums]:
    by_choice: dict[Choice, list[Sums]] = defaultdict(list)
    for cell in cells:
        for choice, sums in cell.items():
            by_choice[choice].append(sums)
    return {choice: _sum(found) for choice, found in by_choice.items()}


def _sum(found: list[Sums]) -> Sums:
    # A sum in C of each column: a tenant may have tens of thousands.
    return found[0] if len(found) == 1 else Sums._make(map(sum, zip(*found, strict=True)))


def _part_of(cell: Mapping[Choice, Sums], wanted: Iterable[Choice]) -> _Cell:
    return {choice: cell[choice] for choice in wanted if choice in cell}


def _less(cells: Mapping[Choice, Sums], part: Mapping[Choice, Sums]) -> Mapping[Choice, Sums]:
    if cells is part:
        return {}
    left = {choice: sums.plus(part[choice], -1) if choice in part else sums for choice, sums in cells.items()}
    return {choice: sums for choice, sums in left.items() if sums.choices}


def _add(cell: _Cell, choice: Choice, sums: Sums, times: int) -> None:
    found = cell.get(choice, Sums()).plus(sums, times)
    if found.choices:
        cell[choice] = found
    else:
        cell.pop(choice, None)


def _replace(cells: dict[_Key, _Value], changed: Mapping[_Key, _Value]) -> None:
    for key, cell in changed.items():
        if cell:
            cells[key] = cell
        else:
            cells.pop(key, None)
