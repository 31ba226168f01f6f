"""The value that another policy would have had, from recorded decisions, or why it cannot be known.

There are two values. That of a decision: its mean reward if the policy had made it, with all other
decisions as recorded. That of a run: its mean outcome if the policy had chosen the first model of
each phase. Later decisions of a run were made in contexts to which its earlier choices led, so the
weight of a run is the product of the weights of its decisions.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

from trajectories.domain.outcomes import phase_group
from trajectories.domain.query import Query
from trajectories.learning.estimators import (
    Estimate,
    Logged,
    LoggedRun,
    Overlap,
    estimates,
    overlap,
    require,
    run_estimates,
)
from trajectories.learning.newest_runs import NewestRuns
from trajectories.learning.policies import DEFAULT_RUNS, Estimand, Policy
from trajectories.services.read_shares import ReadShares
from trajectories.storage.store import Store
from trajectories.training.decisions import DEFAULT_RULE, REWARDS, Decision, decisions_of
from trajectories.training.formats.of_decisions import request_key
from trajectories.training.run import Run

REQUEST_RUNS: Final = 1_000
REQUEST_PHASES: Final = 4_000
REQUEST_BYTES: Final = 3 * 1024**2
"""Runs, their phases, and the bytes of their bodies that an answer over HTTP reads. They bound its CPU to
about a tenth of a second, whatever the runs are made of: contexts cost with phases, and decoding with
bytes."""
MIN_DECISIONS: Final = 30
MIN_EFFECTIVE: Final = 30.0
"""Fewer effective decisions than these have no normal approximation."""
MIN_KNOWN: Final = 0.9
"""Least share of decisions with a propensity: those without one may be of another kind."""
MIN_COVERED: Final = 0.95
"""Least share of the policy's choices that the recorded policy could have made."""
MEAN_WEIGHTS: Final = 0.5, 2.0
"""Bounds of the mean weight, which is 1 in expectation where the covered share is. With as many
effective decisions as MIN_EFFECTIVE, its standard error is below a fifth of it."""
NOT_RUN, NO_MODEL, OTHER_PHASE = "phase that was skipped", "decision without a model", "decision of another phase"
NO_REWARD, NO_PROPENSITY = "decision whose reward is not known", "decision without a propensity"
NO_OUTCOME, NO_RUN_PROPENSITY = "run whose outcome is not known", "run with a decision without a propensity"


class Exact(NamedTuple):
    """The value on items that every model of the policy worked on, and the mean cost of a choice."""

    value: float
    cost_usd: float | None
    items: int


class Evaluation(NamedTuple):
    """The result. ``estimates`` is empty if there is a ``refusal``, one sentence.

    ``decisions`` counts runs where the ``estimand`` is ``run``. ``logged``: the mean reward of what
    was done. ``covered``: the share of the policy's choices that the recorded policy could have
    made. ``left_out``: counts by reason. ``runs``: how many were read.
    """

    decisions: int
    left_out: Mapping[str, int]
    logged: float | None
    covered: float | None
    overlap: Overlap | None
    estimates: list[Estimate]
    exact: Exact | None
    refusal: str | None
    is_complete: bool = True
    estimand: Estimand = "decision"
    runs: int = 0


def evaluate(
    store: Store,
    tenant: str,
    query: Query,
    policy: Policy,
    *,
    phase: str | None = None,
    estimand: Estimand = "decision",
    rule: str = DEFAULT_RULE,
    max_runs: int = DEFAULT_RUNS,
    max_phases: int | None = None,
    max_bytes: int | None = None,
    seed: int = 0,
) -> Evaluation:
    """Evaluate ``policy`` on the newest matching runs. It chooses the first model of each phase.

    Args:
        phase: the policy chooses at this phase only; None: at each phase that has a model.
        estimand: ``decision`` for the mean reward of its decisions, ``run`` for the mean outcome of
            runs.
        rule: credit rule of the reward of a decision.
        max_runs: how many runs to read at most.
        max_phases: phases of runs after which no further run is read; None: all.
        max_bytes: bytes of bodies after which no further run is read; None: all.
        seed: of the bootstrap.

    Raises:
        InvalidInput: 400; numpy is not installed.
        ArchiveUnavailable, TooManyReads: as ``reads.list_``.
    """
    require()
    group = None if phase is None else phase_group(phase)
    tally = _Tally(policy, group) if estimand == "decision" else _RunTally(policy, group)
    with store.part(ReadShares).of(tenant) as share:
        read = NewestRuns(store, tenant, query, max_runs=max_runs, max_phases=max_phases, max_bytes=max_bytes)
        for run in read.read(share):
            tally.add_run([*decisions_of(run, rule)])
        tally.reverse()
        result = tally.result(seed)
    return result._replace(runs=read.count, is_complete=read.is_complete)


def evaluate_decisions(decisions: Iterable[Decision], policy: Policy, *, seed: int = 0) -> Evaluation:
    """Evaluate ``policy`` on decisions, in the order in which they were made."""
    require()
    tally = _Tally(policy, None)
    for decision in decisions:
        tally.add(decision)
    return tally.result(seed)


def evaluate_runs(runs: Iterable[Sequence[Decision]], policy: Policy, *, seed: int = 0) -> Evaluation:
    """Evaluate ``policy`` on the decisions of each run, for the mean outcome of a run."""
    require()
    tally = _RunTally(policy, None)
    for decisions in runs:
        tally.add_run(decisions)
    return tally.result(seed)


Observed: TypeAlias = tuple[str, float, float | None]
"""Model, reward and cost of an attempt."""
_Request: TypeAlias = tuple[str, str | None, str | None]
"""A request without case and repeated blanks, its type and its project."""


class _Tally:
    """The parts of a decision that are kept: constant memory for each."""

    def __init__(self, policy: Policy, phase: str | None) -> None:
        self._policy, self._phase = policy, phase
        self._left_out: Counter[str] = Counter()
        self._logged: list[Logged] = []
        self._covered = 0.0
        self._items: dict[tuple[_Request, str], _Item] = {}
        self._run: Run | None = None
        self._request: _Request = "", None, None

    def add_run(self, decisions: Sequence[Decision]) -> None:
        """Add the decisions of a run. Runs come newest first, so they are reversed at the end."""
        for decision in reversed(decisions):
            self.add(decision)

    def add(self, decision: Decision) -> None:
        taken, reward = decision.model, decision.reward
        if taken is None or self._phase not in (None, decision.phase):
            self._left_out[self._reason(decision)] += 1
            return
        models = decision.models
        chosen, propensity = _chosen(self._policy, decision), models[taken]
        if chosen:
            self._add_item(decision, chosen)
        if reward is None:
            self._left_out[NO_REWARD] += 1
        elif not propensity:
            self._left_out[NO_PROPENSITY] += 1
        else:
            self._covered += _covered(models, chosen)
            group = decision.phase, decision.run.fields.get("request_type")
            self._logged.append(Logged(group, taken, propensity, chosen, reward))

    def reverse(self) -> None:
        """Put decisions that were added newest first into the order in which they were made."""
        self._logged.reverse()

    def _reason(self, decision: Decision) -> str:
        if self._phase not in (None, decision.phase):
            return OTHER_PHASE
        return NOT_RUN if decision.is_skip else NO_MODEL

    def _add_item(self, decision: Decision, chosen: Mapping[str, float]) -> None:
        run = decision.run
        if run is not self._run:
            fields = run.fields
            self._run = run
            self._request = request_key(fields["request_summary"]), fields.get("request_type"), fields.get("project")
        key = self._request, decision.phase
        if (item := self._items.get(key)) is None:
            item = self._items[key] = _Item(chosen)
        item.observed += _observed(decision)

    def result(self, seed: int) -> Evaluation:
        logged = self._logged
        size = len(logged)
        found = overlap(logged)
        covered = self._covered / size if size else None
        refusal = why_refused("decisions", size, self._left_out[NO_PROPENSITY], found, covered)
        return Evaluation(
            decisions=size,
            left_out=dict(sorted(self._left_out.items())),
            logged=sum(one.reward for one in logged) / size if size else None,
            covered=covered,
            overlap=found,
            estimates=[] if refusal else estimates(logged, seed=seed),
            exact=self._exact(),
            refusal=refusal,
        )

    def _exact(self) -> Exact | None:
        """Return the exact value if every item has the outcome of every model of the policy."""
        found = []
        for item in self._items.values():
            if item.observed:
                exact = item.exact()
                if exact is None:
                    return None
                found.append(exact)
        if not found:
            return None
        known = [cost for _, cost in found if cost is not None]
        mean_cost = sum(known) / len(known) if len(known) == len(found) else None
        return Exact(sum(value for value, _ in found) / len(found), mean_cost, len(found))


class _RunTally:
    """The weight and the outcome of each run."""

    def __init__(self, policy: Policy, phase: str | None) -> None:
        self._policy, self._phase = policy, phase
        self._left_out: Counter[str] = Counter()
        self._logged: list[LoggedRun] = []
        self._covered = 0.0

    def add_run(self, decisions: Sequence[Decision]) -> None:
        """Add a run. One in which the policy has no choice has the weight 1: it would end the same."""
        if not decisions:
            return
        reward = REWARDS.get(decisions[0].run_outcome)
        own = [one for one in decisions if one.model is not None and self._phase in (None, one.phase)]
        if reward is None:
            self._left_out[NO_OUTCOME] += 1
        elif not all(one.model_propensity for one in own):
            self._left_out[NO_RUN_PROPENSITY] += 1
        else:
            weight = covered = 1.0
            for one in own:
                chosen = _chosen(self._policy, one)
                weight *= chosen.get(one.model or "", 0.0) / (one.model_propensity or 1.0)
                covered *= _covered(one.models, chosen)
            self._covered += covered
            self._logged.append(LoggedRun(weight, reward))

    def reverse(self) -> None:
        """Put runs that were added newest first into the order in which they were recorded."""
        self._logged.reverse()

    def result(self, seed: int) -> Evaluation:
        size = len(self._logged)
        found = overlap(self._logged)
        covered = self._covered / size if size else None
        refusal = why_refused("runs", size, self._left_out[NO_RUN_PROPENSITY], found, covered)
        return Evaluation(
            decisions=size,
            left_out=dict(sorted(self._left_out.items())),
            logged=sum(one.reward for one in self._logged) / size if size else None,
            covered=covered,
            overlap=found,
            estimates=[] if refusal else run_estimates(self._logged, seed=seed),
            exact=None,
            refusal=refusal,
            estimand="run",
        )


def _chosen(policy: Policy, decision: Decision) -> Mapping[str, float]:
    return policy.probabilities(decision, [model for model in decision.models if model is not None])


def why_refused(of: str, size: int, missing: int, found: Overlap | None, covered: float | None) -> str | None:
    """Return why a value cannot be estimated, in one sentence, or None.

    Args:
        of: what there are ``size`` of, decisions or runs; ``missing`` more have no propensity.
        found: their overlap with the policy.
        covered: the share of the policy's choices that the recorded policy could have made.
    """
    if size + missing and size / (size + missing) < MIN_KNOWN:
        return (
            f"{missing} of {size + missing} {of} have no propensity, so the value cannot be estimated: record"
            " selection_probability."
        )
    if size < MIN_DECISIONS:
        return f"{size} {of} have a propensity and a reward; at least {MIN_DECISIONS} are needed."
    if found is None:
        return f"A recorded propensity is so near 0 that the weight of one of {size} {of} is no number."
    if covered is None or covered < MIN_COVERED:
        return (
            f"The recorded policy never tries {1 - (covered or 0):.0%} of what this policy chooses, so its value cannot"
            " be known: record choices that explore."
        )
    if found.effective_samples < MIN_EFFECTIVE:
        return (
            f"The recorded choices are worth {found.effective_samples:.0f} {of} of this policy; at least"
            f" {MIN_EFFECTIVE:.0f} are needed."
        )
    low, high = MEAN_WEIGHTS
    if not low <= found.mean_weight <= high:
        return (
            f"The mean weight is {found.mean_weight:.2g} and not near 1: the recorded propensities are not the"
            " probabilities of the choices, or hardly any choice was one of this policy."
        )
    return None


class _Item:
    """A phase of a request: what the policy chose, and each model, reward and cost that was observed."""

    __slots__ = ("chosen", "observed")

    def __init__(self, chosen: Mapping[str, float]) -> None:
        self.chosen = chosen
        self.observed: list[Observed] = []

    def exact(self) -> tuple[float, float | None] | None:
        """Return the policy's value and cost, the latter None where it is not known.

        None: not more than what was chosen is known, which is every model of the policy, and at
        least two.
        """
        rewards, costs = defaultdict[str, list[float]](list), defaultdict[str, list[float]](list)
        for model, reward, cost in self.observed:
            rewards[model].append(reward)
            if cost is not None:
                costs[model].append(cost)
        chosen = {model: chance for model, chance in self.chosen.items() if chance > 0}
        if len(rewards) < 2 or not all(model in rewards for model in chosen):
            return None
        return _expected(chosen, rewards), _expected(chosen, costs) if costs.keys() >= chosen.keys() else None


def _observed(decision: Decision) -> Sequence[Observed]:
    """Return model, reward and cost of each attempt, or of the phase where it has one at most."""
    attempts = decision.fields.get("attempts") or ()
    if len(attempts) > 1:
        return [
            (attempt["model"], REWARDS[attempt["outcome"]], attempt.get("cost_usd"))
            for attempt in attempts
            if attempt["outcome"] in REWARDS
        ]
    if decision.reward is None or decision.model is None:
        return ()
    return ((decision.model, decision.reward, decision.fields.get("cost_usd")),)


def _covered(models: Mapping[str | None, float | None], chosen: Mapping[str, float]) -> float:
    """Return the share of the policy's choices that had a probability above 0.

    Models whose probability is not recorded share what the recorded ones leave.
    """
    is_left = 1 - sum([chance for chance in models.values() if chance is not None]) > 1e-9
    # The smaller one is walked: either may have 200 models.
    names = chosen if len(chosen) < len(models) else models
    shared = [model for model in names if model is not None and model in chosen and model in models]
    covered = sum([chosen[one] for one in shared if (is_left if (known := models[one]) is None else known)])
    if len(models) == 1 and is_left:
        # Several models are all that could be chosen; one alone leaves the rest to any other.
        covered += sum(chosen.values()) - sum([chosen[one] for one in shared])
    return covered


def _expected(chosen: Mapping[str, float], values: Mapping[str, Sequence[float]]) -> float:
    return sum(chance * (sum(values[model]) / len(values[model])) for model, chance in chosen.items())


def result_json(found: Evaluation) -> dict[str, Any]:
    """Return the answer of the API (``evaluation_responses.Evaluation``)."""
    return {
        "estimand": found.estimand,
        "runs": found.runs,
        "decisions": found.decisions,
        "left_out": dict(found.left_out),
        "logged_value": found.logged,
        "covered": found.covered,
        "overlap": None if found.overlap is None else found.overlap._asdict(),
        "estimates": [
            one._asdict() | {"normal": one.normal._asdict(), "bootstrap": one.bootstrap._asdict()}
            for one in found.estimates
        ],
        "exact": None if found.exact is None else found.exact._asdict(),
        "refusal": found.refusal,
        "complete": found.is_complete,
    }
