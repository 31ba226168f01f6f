"""The decisions of a run: before each phase, which action was taken, among which, and its reward.

The context of a decision has what was known at that moment and nothing later. An earlier phase
counts as ended, with its outcome and cost in the context, unless the record says that it was still
running: by its times, because the phase names what it waited for (``depends_on``) and that leaves
it out, or because it contains the phase (``parent_phase_id``). Of the run's own fields the context
has those that are known when it starts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import cached_property
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


class Decision(NamedTuple):
    """A decision. ``actions[taken]`` is the action taken.

    ``propensity`` is the probability of the action taken among all actions; ``model_propensity``
    that of its model, given that the phase runs. ``reward`` is 1 for success, 0.5 for partial, 0
    for failure, None where it is not known; ``reward_source`` says from where it is known.
    """

    run: Run
    phase_index: int
    phase: str
    history: History
    actions: list[Action]
    taken: int
    propensity: float | None
    model_propensity: float | None
    reward: float | None
    reward_rule: str
    reward_source: str
    fields: Phase
    """The phase, which has what came of the decision too."""
    run_outcome: str
    outcomes: list[dict[str, Any]]
    """Late outcomes of the phase and of the run, which were known after the decision."""

    @property
    def context(self) -> Context:
        """The facts known before the decision, which are put together at first use."""
        return self.history.context(self.phase_index)

    @property
    def action(self) -> Action:
        return self.actions[self.taken]


def decisions_of(run: Run, rule: str = DEFAULT_RULE, reward_outcome: str | None = None) -> Iterator[Decision]:
    """Yield the decisions of a run, in the order of its phases.

    Args:
        rule: the credit rule of the reward, one of ``credit.RULES``.
        reward_outcome: the name of the late outcome that is the reward instead: the newest one of
            the phase, else of the run. True is 1 and false 0, a number itself; words are no reward.
    """
    late, fields = run.outcomes, run.fields
    places = places_of(fields) if late else {}
    phases: Sequence[Phase] = fields["phases"]
    groups = [phase_group(phase["phase_name"]) for phase in phases]
    outcome = run_outcome(fields, zip(groups, (phase.get("outcome", "unknown") for phase in phases), strict=True))
    history = History(fields, groups)
    for at, (phase, credit) in enumerate(zip(phases, credit_of(fields, rule, groups=groups), strict=True)):
        actions, taken, model_propensity = _actions(phase, fields)
        earned = _earned(phase, credit, outcome)
        reward, source, by = None if earned.outcome is None else REWARDS[earned.outcome], earned.source, rule
        known = [one for one in late if one.get("phase_id") is None or places.get(one["phase_id"]) == at]
        if reward_outcome is not None:
            (reward, source), by = _late_reward(known, reward_outcome), OUTCOME_RULE + reward_outcome
        yield Decision(
            run=run,
            phase_index=at,
            phase=groups[at],
            history=history,
            actions=actions,
            taken=taken,
            propensity=actions[taken].probability,
            model_propensity=model_propensity,
            reward=reward,
            reward_rule=by,
            reward_source=source,
            fields=phase,
            run_outcome=outcome,
            outcomes=known,
        )


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
    attempts = phase.get("attempts")
    model: str | None = phase.get("requested_model") or (attempts[0]["model"] if attempts else phase.get("model"))
    return model


def total_of_run(fields: Mapping[str, Any], given: str, of_phase: str) -> float | None:
    """Return the given total of a run, else the sum over the phases that know it."""
    return fields[given] if given in fields else total(phase.get(of_phase) for phase in fields["phases"])


def total(values: Iterable[float | None]) -> float | None:
    """Return the sum of the known values, None if none is, without the noise of binary fractions."""
    known = [value for value in values if value is not None]
    return round(sum(known), _DIGITS) if known else None


def _earned(phase: Phase, credit: Credit, outcome_of_run: str) -> Credit:
    """Return the outcome of the decision, as opposed to that of the phase.

    A skip has no outcome of its own, so the run's outcome is taken. The pick of a model whose
    attempt failed is a failure, although a fallback may have made a success of the phase.
    """
    if phase.get("outcome") == "skipped":
        return Credit(outcome_of_run, "run_outcome") if outcome_of_run in CREDITED else NO_CREDIT
    attempts = phase.get("attempts") or []
    if len(attempts) > 1 and attempts[0]["model"] != attempts[-1]["model"] and attempts[0]["outcome"] in CREDITED:
        return Credit(attempts[0]["outcome"], "attempts")
    return credit


def _actions(phase: Phase, fields: Mapping[str, Any]) -> tuple[list[Action], int, float | None]:
    """Return the actions, the place of the one taken, and the probability of its model.

    Candidates that a rule excluded are no actions. Skipping is one if the phase was skipped, has a
    ``keep_probability``, or is in ``planned_phases``: a planned phase is run or skipped.
    """
    is_skipped = phase.get("outcome") == "skipped"
    model = picked_model(phase)
    keep = phase.get("keep_probability")
    models: dict[str | None, float | None] = {
        one["model"]: one.get("probability") for one in phase.get("candidates", ()) if one.get("eligible") is not False
    }
    chosen = models.get(model) if phase.get("selection_probability") is None else phase["selection_probability"]
    if not models and chosen is None and model is None:
        chosen = 1.0  # no model is chosen here: the only decision is whether to run
    if not is_skipped or model is not None or not models:
        models[model] = chosen
    can_skip = is_skipped or keep is not None or phase["phase_name"] in (fields.get("planned_phases") or ())
    # Without a way to skip, the phase runs with probability 1.
    runs = keep if can_skip else 1.0
    actions = [Action(RUN, name, _product(runs, probability), probability) for name, probability in models.items()]
    if can_skip:
        actions.append(Action(SKIP, None, None if keep is None else 1 - keep))
    taken = len(actions) - 1 if is_skipped else list(models).index(model)
    return actions, taken, None if is_skipped or model is None else chosen


class History:
    """The phases of a run, as contexts show them. A phase that had ended is one step in all
    contexts. Nothing is computed before the first context: many decisions reach no line."""

    def __init__(self, fields: Mapping[str, Any], groups: Sequence[str]) -> None:
        phases: Sequence[Phase] = fields["phases"]
        self._fields, self._phases, self._groups = fields, phases, groups
        self._contexts: dict[int, Context] = {}

    @cached_property
    def _places(self) -> dict[str, int]:
        # The first phase of a repeated id, so that a later one changes no earlier context.
        phases = self._phases
        return {phases[at]["phase_id"]: at for at in range(len(phases) - 1, -1, -1) if "phase_id" in phases[at]}

    @cached_property
    def _ended(self) -> list[Step]:
        return [_step(phase, group, has_ended=True) for phase, group in zip(self._phases, self._groups, strict=True)]

    @cached_property
    def _end_times(self) -> list[float | None]:
        return [_end_time(phase) for phase in self._phases]

    def context(self, at: int) -> Context:
        """Return the context of the decision on the phase at ``at``."""
        if (known := self._contexts.get(at)) is None:
            known = self._contexts[at] = self._context(at)
        return known

    def _context(self, at: int) -> Context:
        fields, places = self._fields, self._places
        steps = self._ended[:at]
        for before in self._running(at):
            steps[before] = _step(self._phases[before], self._groups[before], has_ended=False)
        loops = (
            loop
            for loop in fields.get("feedback_loops", ())
            if loop.get("from_phase_id") in places and places[loop["from_phase_id"]] < at
        )
        return Context(
            request_summary=fields["request_summary"],
            request_type=fields.get("request_type"),
            source=fields.get("source"),
            project=fields.get("project"),
            planned_phases=fields.get("planned_phases"),
            steps=steps,
            sent_back=[loop["reason"] for loop in loops if loop.get("reason")],
            spent_cost_usd=total([step.cost_usd for step in steps]),
            spent_duration_ms=total([step.duration_ms for step in steps]),
        )

    def _running(self, at: int) -> set[int]:
        """Return the earlier phases that had not ended when the phase at ``at`` began."""
        phases = self._phases
        phase = phases[at]
        started = _time(phase.get("started_at"))
        running = set(_chain(phases, at, self._places))
        awaited = None if phase.get("depends_on") is None else _awaited(phases, at, self._places)
        if started is None and awaited is None:
            return running
        for before in range(at):
            ended = self._end_times[before]
            if started is not None and ended is not None:
                if ended > started:
                    running.add(before)
            elif awaited is not None and before not in awaited and phases[before].get("outcome") != "skipped":
                running.add(before)
        return running


def _step(phase: Phase, group: str, *, has_ended: bool) -> Step:
    is_skipped = phase.get("outcome") == "skipped"
    known: Phase = phase if has_ended else {}
    error = known.get("error")
    return Step(
        phase=group,
        phase_name=phase["phase_name"],
        action=SKIP if is_skipped else RUN,
        agent=phase.get("agent"),
        model=phase.get("model") if has_ended else picked_model(phase),
        outcome=known.get("outcome"),
        error=None if error is None else error[:MAX_ERROR_CHARS],
        skip_reason=phase.get("skip_reason"),
        cost_usd=known.get("cost_usd"),
        duration_ms=known.get("duration_ms"),
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


def _end_time(phase: Phase) -> float | None:
    """Return when a phase ended, in seconds since 1970."""
    ended = _time(phase.get("ended_at"))
    started, duration_ms = _time(phase.get("started_at")), phase.get("duration_ms")
    if ended is None and started is not None and duration_ms is not None:
        ended = started + duration_ms / 1000
    return ended


def _time(text: str | None) -> float | None:
    return None if text is None else datetime.fromisoformat(text).timestamp()


def _product(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one * other
