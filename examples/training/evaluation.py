"""Off-policy evaluation: the reward that a policy would have earned on logged decisions.

``value`` is the self-normalised inverse propensity score (SNIPS): decisions in which the policy
takes the logged action count by 1 / propensity, and the others do not count. It is not exact;
``error`` is its standard error.

Source: Swaminathan and Joachims, "The Self-Normalized Estimator for Counterfactual Learning"
(2015).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple


class Logged(NamedTuple):
    """A logged decision.

    ``actions[taken]`` was taken, with probability ``propensity``, and earned ``reward``.
    ``context`` is the input of the policy.
    """

    phase: str
    actions: Sequence[str]
    taken: int
    propensity: float
    reward: float
    context: Any


class Estimate(NamedTuple):
    """``matches`` is the number of decisions in which the policy takes the logged action."""

    value: float
    error: float
    matches: int


def logged_value(decisions: Sequence[Logged]) -> float:
    """Return the mean reward of the actions that were taken."""
    return sum(one.reward for one in decisions) / len(decisions)


def evaluate(decisions: Sequence[Logged], chosen: Iterable[str]) -> Estimate:
    """Estimate the mean reward of a policy. Without a match the value is NaN.

    Args:
        chosen: the action that the policy takes, for each decision.
    """
    matched = [
        (1 / one.propensity, one.reward)
        for one, action in zip(decisions, chosen, strict=True)
        if action == one.actions[one.taken]
    ]
    if not matched:
        return Estimate(math.nan, math.nan, 0)
    total = sum(weight for weight, _ in matched)
    value = sum(weight * reward for weight, reward in matched) / total
    error = math.sqrt(sum((weight * (reward - value)) ** 2 for weight, reward in matched)) / total
    return Estimate(value, error, len(matched))


def best_constant(decisions: Sequence[Logged]) -> str:
    """Return the action that earns most if it is always taken, of those that were ever taken."""
    names = sorted({one.actions[one.taken] for one in decisions})
    return max(names, key=lambda name: evaluate(decisions, [name] * len(decisions)).value)


def report(train: Sequence[Logged], test: Sequence[Logged], chosen: Sequence[str]) -> str:
    """Return a table with a line for each phase: mean rewards on ``test``.

    The columns are the logged policy, the constant action that was best on ``train``, and the
    policy that takes ``chosen``, with the standard error of its estimate.
    """
    lines = [f"{'phase':<12}{'decisions':>10}{'logged':>9}  {'best constant':<22}{'learned':>9}{'error':>8}"]
    for phase in sorted({one.phase for one in test}):
        of_phase = [(one, action) for one, action in zip(test, chosen, strict=True) if one.phase == phase]
        decisions = [one for one, _ in of_phase]
        constant = best_constant([one for one in train if one.phase == phase])
        always = evaluate(decisions, [constant] * len(decisions))
        learned = evaluate(decisions, [action for _, action in of_phase])
        shown = f"{always.value:.3f} {constant}"
        lines.append(
            f"{phase:<12}{len(decisions):>10}{logged_value(decisions):>9.3f}  {shown:<22}"
            f"{learned.value:>9.3f}{learned.error:>8.3f}"
        )
    return "\n".join(lines)
