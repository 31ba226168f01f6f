"""The decisions of a run: before each phase, which action was taken, among which, and its reward.

The context of a decision has what was known at that moment and nothing later. An earlier phase
counts as ended, with its outcome and cost in the context, unless the record says that it was still
running: by its times, because the phase names what it waited for (``depends_on``) and that leaves
it out, or because it contains the phase (``parent_phase_id``). Of the run's own fields the context
has those that are known when it starts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from itertools import accumulate
from math import inf
from typing import Any, NamedTuple

from trajectories.domain.credit import CREDITED, NO_CREDIT, RULES, Credit, credit_of
from trajectories.domain.late_outcomes import places_of
from trajectories.domain.outcomes import phase_group, run_outcome
from trajectories.training.run import Run
from trajectories.training.steps import RUN, SKIP, Step

REWARDS: Mapping[str, float] = {"success": 1.0, "partial": 0.5, "failure": 0.0}
DEFAULT_RULE = RULES[0]
OUTCOME_RULE = "outcome:"
"""Beginning of the rule of a reward that is a late outcome; its name follows."""
_DIGITS = 9
"""Digits of sums after the point: those of a nano-USD."""
MAX_ERROR_CHARS = 500
"""Maximum characters of an earlier error in a context."""

Phase = Mapping[str, Any]


class Action(NamedTuple):
    """Run the phase with a model (None: unknown), or skip it.

    ``probability`` is its probability among all actions, ``model_probability`` that of its model
    given that the phase runs; None where unknown.
    """

    action: str
    model: str | None
    probability: float | None = None
    model_probability: float | None = None


class Context(NamedTuple):
    """The facts known before a decision. Sums are over the steps that know them; unknown is None."""

    request_summary: str
    request_type: str | None
    source: str | None
    project: str | None
    planned_phases: list[str] | None
    steps: list[Step]
    sent_back: list[str]
    """Reasons of the feedback loops that earlier phases began."""
    spent_cost_usd: float | None
    spent_duration_ms: float | None


@dataclass(slots=True, eq=False)
class Decision:
    """A decision. ``actions[taken]`` is the action taken: a skip, or a run with ``model``.

    ``propensity`` is the probability of the action taken among all actions; ``model_propensity``
    that of its model, given that the phase runs. ``reward`` is 1 for success, 0.5 for partial, 0
    for failure, None where it is not known; ``reward_source`` says from where it is known.

    Actions and context are put together at first use: many decisions reach no line.
    """

    run: Run
    phase_index: int
    phase: str
    history: History
    is_skip: bool
    model: str | None
    """None of a skip, and where it is not known."""
    reward: float | None
    reward_rule: str
    reward_source: str
    fields: Phase
    """The phase, which has what came of the decision too."""
    run_outcome: str
    outcomes: list[dict[str, Any]]
    """Late outcomes of the phase and of the run, which were known after the decision."""
    _models: dict[str | None, float | None] | None = None
    _actions: list[Action] | None = None

    @property
    def context(self) -> Context:
        """The facts known before the decision."""
        return self.history.context(self.phase_index)

    @property
    def models(self) -> dict[str | None, float | None]:
        """The models that could run the phase, each with its probability given that it runs."""
        if self._models is None:
            self._models = models_of(self.fields, picked_model(self.fields) if self.is_skip else self.model)
        return self._models

    @property
    def model_propensity(self) -> float | None:
        return None if self.model is None else self.models[self.model]

    @property
    def actions(self) -> list[Action]:
        if self._actions is None:
            self._actions = _actions_of(self.fields, self.models, self.run.fields.get("planned_phases"))
        return self._actions

    @property
    def taken(self) -> int:
        return len(self.actions) - 1 if self.is_skip else list(self.models).index(self.model)

    @property
    def action(self) -> Action:
        return self.actions[self.taken]

    @property
    def propensity(self) -> float | None:
        return self.action.probability


def decisions_of(run: Run, rule: str = DEFAULT_RULE, reward_outcome: str | None = None) -> Iterator[Decision]:
    """Yield the decisions of a run, in the order of its phases.

    Args:
        rule: the credit rule of the reward, one of ``credit.RULES``.
        reward_outcome: the name of the late outcome that is the reward instead: the newest one of
            the phase, else of the run. True is 1 and false 0, a number itself; words are no reward.
    """
    late, fields = run.outcomes if run.record.outcomes else [], run.fields
    places = places_of(fields) if late else {}
    phases: Sequence[Phase] = fields["phases"]
    groups = [phase_group(phase["phase_name"]) for phase in phases]
    outcomes = [phase.get("outcome", "unknown") for phase in phases]
    outcome = run_outcome(fields, zip(groups, outcomes, strict=True))
    history = History(fields, groups)
    by = rule if reward_outcome is None else OUTCOME_RULE + reward_outcome
    for at, (phase, credit) in enumerate(zip(phases, credit_of(fields, rule, groups=groups), strict=True)):
        is_skip = outcomes[at] == "skipped"
        known = (
            [one for one in late if one.get("phase_id") is None or places.get(one["phase_id"]) == at] if late else []
        )
        if reward_outcome is None:
            earned, source = _earned_by_skip(outcome) if is_skip else _earned(phase, credit)
            reward = None if earned is None else REWARDS[earned]
        else:
            reward, source = _late_reward(known, reward_outcome)
        model = None if is_skip else picked_model(phase)
        yield Decision(run, at, groups[at], history, is_skip, model, reward, by, source, phase, outcome, known)


def _late_reward(known: Sequence[Mapping[str, Any]], name: str) -> tuple[float | None, str]:
    """Return the value of the newest outcome of this name, of a phase before that of a run, and its
    source."""
    found = [one for one in known if one["name"] == name and not isinstance(one["value"], str)]
    if not found:
        return None, ""
    newest = max(found, key=lambda one: ("phase_id" in one, one["at"], one["id"]))
    return float(newest["value"]), newest.get("source", "")


def picked_model(phase: Phase) -> str | None:
    """Return the model that was picked. Where a fallback answered, it is not ``model``."""
    model: str | None = phase.get("requested_model")
    if not model:
        attempts = phase.get("attempts")
        model = attempts[0]["model"] if attempts else phase.get("model")
    return model


def total_of_run(fields: Mapping[str, Any], given: str, of_phase: str) -> float | None:
    """Return the given total of a run, else the sum over the phases that know it."""
    return fields[given] if given in fields else total(phase.get(of_phase) for phase in fields["phases"])


def total(values: Iterable[float | None]) -> float | None:
    """Return the sum of the known values, None if none is, without the noise of binary fractions."""
    known = [value for value in values if value is not None]
    return round(sum(known), _DIGITS) if known else None


def _earned(phase: Phase, credit: Credit) -> Credit:
    """Return the outcome of the decision to run a phase, as opposed to that of the phase.

    The pick of a model whose attempt failed is a failure, although a fallback may have made a
    success of the phase.
    """
    attempts = phase.get("attempts")
    if attempts and attempts[0]["model"] != attempts[-1]["model"] and attempts[0]["outcome"] in CREDITED:
        return Credit(attempts[0]["outcome"], "attempts")
    return credit


def _earned_by_skip(outcome_of_run: str) -> Credit:
    """Return the outcome of the decision to skip a phase: it has none of its own."""
    return Credit(outcome_of_run, "run_outcome") if outcome_of_run in CREDITED else NO_CREDIT


def models_of(phase: Phase, model: str | None) -> dict[str | None, float | None]:
    """Return the models that could run a phase, each with its probability given that it runs.

    Candidates that a rule excluded are left out.

    Args:
        model: the picked one, None where it is not known.
    """
    models: dict[str | None, float | None] = {
        one["model"]: one.get("probability") for one in phase.get("candidates", ()) if one.get("eligible") is not False
    }
    chosen = phase.get("selection_probability")
    if chosen is None:
        chosen = models.get(model)
    if model is None and chosen is None and not models:
        chosen = 1.0  # no model is chosen here: the only decision is whether to run
    if model is not None or not models or phase.get("outcome") != "skipped":
        models[model] = chosen
    return models


def _actions_of(phase: Phase, models: Mapping[str | None, float | None], planned: Sequence[str] | None) -> list[Action]:
    """Return the actions: to run the phase with each of ``models``, and to skip it.

    Skipping is one if the phase was skipped, has a ``keep_probability``, or is in
    ``planned_phases``: a planned phase is run or skipped.
    """
    keep = phase.get("keep_probability")
    can_skip = phase.get("outcome") == "skipped" or keep is not None or phase["phase_name"] in (planned or ())
    # Without a way to skip, the phase runs with probability 1.
    runs = keep if can_skip else 1.0
    actions = [Action(RUN, name, _product(runs, probability), probability) for name, probability in models.items()]
    if can_skip:
        actions.append(Action(SKIP, None, None if keep is None else 1 - keep))
    return actions


class History:
    """The phases of a run, as contexts show them. A phase that had ended is one step in all
    contexts. Nothing is computed before its first use: many decisions reach no line."""

    def __init__(self, fields: Mapping[str, Any], groups: Sequence[str]) -> None:
        self.fields, self.groups = fields, groups
        self._phases: Sequence[Phase] = fields["phases"]
        self._contexts: dict[int, Context] = {}

    @cached_property
    def _places(self) -> dict[str, int]:
        # The first phase of a repeated id, so that a later one changes no earlier context.
        return places_of(self.fields)

    @cached_property
    def _ended(self) -> list[Step]:
        return [_step(phase, group, has_ended=True) for phase, group in zip(self._phases, self.groups, strict=True)]

    @cached_property
    def _has_overlaps(self) -> bool:
        """Whether a field says that a phase may have begun before an earlier one had ended."""
        return any(
            "started_at" in phase or "depends_on" in phase or "parent_phase_id" in phase for phase in self._phases
        )

    @cached_property
    def _start_times(self) -> list[float | None]:
        return [_time(phase.get("started_at")) for phase in self._phases]

    @cached_property
    def _end_times(self) -> list[float | None]:
        return [_end_time(*one) for one in zip(self._phases, self._start_times, strict=True)]

    @cached_property
    def _last_ends(self) -> list[float]:
        """The latest end of the phases before each, -inf if none of them is known."""
        known = (-inf if time is None else time for time in self._end_times)
        return list(accumulate(known, max, initial=-inf))

    def context(self, at: int) -> Context:
        """Return the context of the decision on the phase at ``at``."""
        if (known := self._contexts.get(at)) is None:
            known = self._contexts[at] = self._context(at)
        return known

    def last(self, at: int) -> tuple[str, str | None] | None:
        """Return the group and the known outcome of the phase before ``at``; None: it is the
        first."""
        if not at:
            return None
        outcome = None if at - 1 in self.running(at) else self._phases[at - 1].get("outcome")
        return self.groups[at - 1], outcome

    def _context(self, at: int) -> Context:
        fields, steps = self.fields, self._ended[:at]
        for before in self.running(at):
            steps[before] = _step(self._phases[before], self.groups[before], has_ended=False)
        return Context(
            fields["request_summary"],
            fields.get("request_type"),
            fields.get("source"),
            fields.get("project"),
            fields.get("planned_phases"),
            steps,
            self._sent_back(at) if "feedback_loops" in fields else [],
            total([step.cost_usd for step in steps]),
            total([step.duration_ms for step in steps]),
        )

    def _sent_back(self, at: int) -> list[str]:
        places = self._places
        return [
            loop["reason"]
            for loop in self.fields["feedback_loops"]
            if loop.get("reason") and places.get(loop.get("from_phase_id"), at) < at
        ]

    def running(self, at: int) -> AbstractSet[int]:
        """Return the earlier phases that had not ended when the phase at ``at`` began."""
        if not self._has_overlaps:
            return frozenset()
        phases = self._phases
        phase, started = phases[at], self._start_times[at]
        running = set(_chain(phases, at, self._places)) if "parent_phase_id" in phase else set()
        awaited = None if phase.get("depends_on") is None else _awaited(phases, at, self._places)
        if awaited is None and (started is None or self._last_ends[at] <= started):
            return running
        for before in range(at):
            ended = self._end_times[before]
            if started is not None and ended is not None:
                if ended > started:
                    running.add(before)
            elif awaited is not None and before not in awaited and phases[before].get("outcome") != "skipped":
                running.add(before)
        return running


def history_of(fields: Mapping[str, Any]) -> History:
    """Return the history of a run by its canonical body, parsed."""
    return History(fields, [phase_group(phase["phase_name"]) for phase in fields["phases"]])


def _step(phase: Phase, group: str, *, has_ended: bool) -> Step:
    is_skipped = phase.get("outcome") == "skipped"
    known: Phase = phase if has_ended else {}
    error = known.get("error")
    return Step(
        group,
        phase["phase_name"],
        SKIP if is_skipped else RUN,
        phase.get("agent"),
        phase.get("model") if has_ended else picked_model(phase),
        known.get("outcome"),
        None if error is None else error[:MAX_ERROR_CHARS],
        phase.get("skip_reason"),
        known.get("cost_usd"),
        known.get("duration_ms"),
    )


def _chain(phases: Sequence[Phase], at: int, places: Mapping[str, int]) -> Iterator[int]:
    """Yield the earlier phases that contain the phase at ``at``, the innermost first."""
    parent = places.get(phases[at].get("parent_phase_id", ""))
    while parent is not None and parent < at:
        yield parent
        at, parent = parent, places.get(phases[parent].get("parent_phase_id", ""))


def _awaited(phases: Sequence[Phase], at: int, places: Mapping[str, int]) -> set[int]:
    """Return the earlier phases that had to end before the phase at ``at``."""
    found: set[int] = set()
    open_ = [at]
    while open_:
        for name in phases[open_.pop()].get("depends_on") or ():
            before = places.get(name)
            if before is not None and before < at and before not in found:
                found.add(before)
                open_.append(before)
    return found


def _end_time(phase: Phase, started: float | None) -> float | None:
    """Return when a phase ended, in seconds since 1970."""
    ended, duration_ms = _time(phase.get("ended_at")), phase.get("duration_ms")
    if ended is None and started is not None and duration_ms is not None:
        ended = started + duration_ms / 1000
    return ended


def _time(text: str | None) -> float | None:
    return None if text is None else datetime.fromisoformat(text).timestamp()


def _product(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one * other
