"""Policies to evaluate: one model always, a table of rules, a Vowpal Wabbit model, or a function."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Protocol, Self, TypeAlias, TypeVar

import orjson
from django.utils.module_loading import import_string
from pydantic import BeforeValidator, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from trajectories.domain.contract_types import MAX_PHASES, Count, Name, Probability, Text, integer
from trajectories.domain.json_values import expect_few_values
from trajectories.domain.query import FILTERS
from trajectories.domain.schema import invalid_input
from trajectories.exceptions import InvalidInput
from trajectories.learning.context import Body
from trajectories.training.decisions import Decision
from trajectories.training.formats.dsjson import Dsjson
from trajectories.training.steps import RUN

DEFAULT_RUNS: Final = 20_000
MAX_RUNS: Final = 1_000_000
MAX_MODELS: Final = 200
"""Models that a rule table names: an estimate is computed for each of them at all decisions."""
Estimand: TypeAlias = Literal["decision", "run"]
CreditRule: TypeAlias = Literal["checks", "phase_outcome", "run_outcome"]
Probabilities: TypeAlias = Mapping[str, float]
"""The probability of each model; they sum to 1. A model that is not in it has probability 0."""
KNOWN: Final[Mapping[str, Callable[[Decision], str | None]]] = {
    "phase": lambda decision: decision.phase,
    "request_type": lambda decision: decision.run.fields.get("request_type"),
    "project": lambda decision: decision.run.fields.get("project"),
    "source": lambda decision: decision.run.fields.get("source"),
    "last_phase": lambda decision: (decision.history.last(decision.phase_index) or (None, None))[0],
    "last_outcome": lambda decision: (decision.history.last(decision.phase_index) or (None, None))[1],
}
"""The features that a rule may compare, all known before the decision."""
FEATURES: Final = tuple(KNOWN)


M = TypeVar("M", bound=Body)


class Policy(Protocol):
    """Gives the probabilities of models at a decision."""

    def probabilities(self, decision: Decision, models: Sequence[str]) -> Probabilities:
        """Return the probabilities; ``models`` are those that could be chosen then."""


Use: TypeAlias = Name | Annotated[dict[Name, Probability], Field(min_length=1, max_length=MAX_PHASES)]


class Rule(Body):
    """Use models where every feature of ``when`` has its value."""

    when: Annotated[dict[Name, Name | None], Field(max_length=len(FEATURES))] = Field(
        description=f"Features and their values: {', '.join(FEATURES)}."
    )
    use: Use = Field(description="A model, or the probability of each.")

    @model_validator(mode="after")
    def _knows_its_features(self) -> Self:
        unknown = next((name for name in self.when if name not in FEATURES), None)
        if unknown is not None:
            raise PydanticCustomError("feature", "Features are {names}", {"names": ", ".join(FEATURES)})
        _check(self.use)
        return self


class RulePolicy(Body):
    """A table of rules, of which the first that matches decides, or one model always."""

    always: Name | None = Field(None, description="This model, whatever the decision.")
    rules: list[Rule] = Field([], max_length=MAX_PHASES, description="The first that matches decides.")
    default: Use | None = Field(None, description="Where no rule matches; required with rules.")

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        if (self.always is None) == (self.default is None):
            raise PydanticCustomError("policy", "Give either always, or default with or without rules")
        if self.default is not None:
            _check(self.default)
        names = set[str]().union(*self._uses)
        if len(names) > MAX_MODELS:
            raise PydanticCustomError(
                "models", f"A policy names at most {MAX_MODELS} models, and this one {len(names)}"
            )
        return self

    def probabilities(self, decision: Decision, models: Sequence[str]) -> Probabilities:
        matching = self._all
        for name, (of_values, of_others) in self._by_feature.items():
            matching &= of_values.get(KNOWN[name](decision), of_others)
        return self._uses[(matching & -matching).bit_length() - 1]

    @cached_property
    def _uses(self) -> list[Probabilities]:
        """What each rule uses, and then what is used where no rule matches."""
        last = self.always if self.always is not None else self.default
        return [_as_probabilities(use) for use in (*(rule.use for rule in self.rules), last or {})]

    @cached_property
    def _all(self) -> int:
        """All rules as bits, the first one lowest, and a bit above them for no rule."""
        return (1 << len(self.rules) + 1) - 1

    @cached_property
    def _by_feature(self) -> dict[str, tuple[dict[str | None, int], int]]:
        """For each feature of a rule: the rules that allow each value, and those that allow any other,
        as bits. So the number of rules costs a decision nothing."""
        found: dict[str, tuple[dict[str | None, int], int]] = {}
        for name in FEATURES:
            named = [(rule.when[name], 1 << place) for place, rule in enumerate(self.rules) if name in rule.when]
            if named:
                of_others = self._all - sum(bit for _, bit in named)
                of_values: dict[str | None, int] = {}
                for value, bit in named:
                    of_values[value] = of_values.get(value, of_others) | bit
                found[name] = of_values, of_others
        return found


class EvaluationRequest(Body):
    """A policy, and the recorded decisions on which it is evaluated."""

    policy: RulePolicy
    estimand: Estimand = Field(
        "decision",
        description="decision: the mean reward of one decision, all others as recorded. run: the mean outcome of runs that it decides.",
    )
    phase: Name | None = Field(
        None, description="The policy chooses at this phase only; null: at each phase that has a model."
    )
    filters: Annotated[dict[Name, Text], Field(max_length=len(FILTERS))] = Field(
        {}, description="Filters of the runs, as parameters of the list: values are texts."
    )
    credit: CreditRule = Field("checks", description="Credit rule of the reward of a decision.")
    max_runs: Annotated[int, Field(ge=1, le=MAX_RUNS), BeforeValidator(integer)] = Field(
        DEFAULT_RUNS,
        description="How many of the newest runs to read at most. A request reads 1,000 runs, 4,000 phases and 3 MiB of bodies at most.",
    )
    seed: Count = Field(0, description="Seed of the bootstrap.")

    @model_validator(mode="after")
    def _knows_its_filters(self) -> Self:
        unknown = next((name for name in self.filters if name not in FILTERS), None)
        if unknown is not None:
            raise PydanticCustomError("filter", "Filters are {names}", {"names": ", ".join(FILTERS)})
        return self


def parse_evaluation(data: bytes) -> EvaluationRequest:
    """Parse the body of a request.

    Raises:
        InvalidInput: 400; ``details`` has every problem.
        TooLarge: 413; it has more than ``json_values.MAX_VALUES`` values.
    """
    expect_few_values(data, name="request")
    return _parsed(EvaluationRequest, data)


def parse_policy(data: bytes) -> RulePolicy:
    """Parse a rule table, JSON.

    Raises:
        InvalidInput: ``details`` has every problem.
    """
    return _parsed(RulePolicy, data)


def _parsed(model: type[M], data: bytes) -> M:
    try:
        return model.model_validate_json(data)
    except ValidationError as error:
        raise invalid_input(error) from None


class FunctionPolicy:
    """A function ``choose(context, models)`` that returns a model, or the probability of each.

    ``context`` has the fields of ``training.decisions.Context``, and ``phase``.

    Raises:
        InvalidInput: the function cannot be imported.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        try:
            self._choose: Callable[[dict[str, Any], Sequence[str]], str | Mapping[str, float]] = import_string(path)
        except ImportError as error:
            raise InvalidInput(f"The policy {path!r} cannot be imported: {error}.", param="policy") from error

    def probabilities(self, decision: Decision, models: Sequence[str]) -> Probabilities:
        """Raises InvalidInput: what the function returns are no probabilities."""
        context = {**decision.context._asdict(), "phase": decision.phase}
        context["steps"] = [step._asdict() for step in decision.context.steps]
        found = dict(_as_probabilities(self._choose(context, models)))
        try:
            _check(found)
        except PydanticCustomError as error:
            raise InvalidInput(f"The policy {self.path!r}: {error.message()}.", param="policy") from None
        return found


class VowpalWabbitPolicy:
    """A model file of ``vw --cb_explore_adf``, trained on the format ``dsjson``.

    Raises:
        InvalidInput: vowpalwabbit is not installed, or there is no such file.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise InvalidInput(f"There is no model file {path}.", param="policy")
        try:
            from vowpalwabbit import Workspace
        except ImportError:
            raise InvalidInput(
                "A VW model needs vowpalwabbit: install django-trajectories[learning].", param="policy"
            ) from None
        self._workspace = Workspace(f"--dsjson --quiet -t -i {path}")
        self._format = Dsjson()
        self._options = self._format.read_options({"assume_propensity": "1"})

    def probabilities(self, decision: Decision, models: Sequence[str]) -> Probabilities:
        line = self._format.event(decision, self._options)
        if line is None:
            return {models[0]: 1.0} if len(models) == 1 else {}
        examples = self._workspace.parse(orjson.dumps(line).decode())
        found = self._workspace.predict(examples)
        self._workspace.finish_example(examples)
        names = [action.model for action in decision.actions if action.action == RUN]
        chances = {name: chance for name, chance in zip(names, found, strict=False) if name is not None}
        total = sum(chances.values())
        return {name: chance / total for name, chance in chances.items()} if total else {}


def _check(use: str | Mapping[str, float]) -> None:
    if not isinstance(use, str) and abs(sum(use.values()) - 1) > 1e-6:
        raise PydanticCustomError("probabilities", "Probabilities must sum to 1")


def _as_probabilities(use: str | Mapping[str, float]) -> Probabilities:
    return {use: 1.0} if isinstance(use, str) else use
