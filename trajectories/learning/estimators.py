"""Off-policy estimators: the value of a policy, from the decisions of another one. Needs numpy.

- ``ips``: inverse propensity score, unbiased (Horvitz and Thompson, JASA 47, 1952).
- ``snips``: self-normalized IPS (Swaminathan and Joachims, NeurIPS 2015); a small bias, and less
  variance where weights differ.
- ``dr``: doubly robust (Dudík, Langford and Li, ICML 2011). Its model of rewards is fitted on
  earlier decisions only, so the estimate stays valid where the logging policy has learned from
  them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeAlias

from trajectories.exceptions import InvalidInput

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float64]

METHODS = ("ips", "snips", "dr")
RUN_METHODS = ("ips", "snips")
REPLICATES = 1_000
_Z = 1.96
_BLOCK = 10_000
"""Places that are resampled at once: few enough for the processor's cache."""
_SMOOTHING = 4.0
"""Decisions that the mean of a wider group counts as in the reward model."""


class Logged(NamedTuple):
    """A decision of the logging policy.

    - ``group``: what the reward model distinguishes besides the action.
    - ``taken``: the action; ``propensity``: its probability, above 0.
    - ``policy``: the evaluated policy's probability of each action.
    - ``reward``: from 0 to 1.
    """

    group: Hashable
    taken: str
    propensity: float
    policy: Mapping[str, float]
    reward: float

    @property
    def weight(self) -> float:
        return self.policy.get(self.taken, 0.0) / self.propensity


class LoggedRun(NamedTuple):
    """A run of the logging policy.

    - ``weight``: the product of the weights of its decisions (Precup, Sutton and Singh, ICML 2000).
    - ``reward``: of the whole run, from 0 to 1.
    """

    weight: float
    reward: float


class Weighted(Protocol):
    """A decision or a run with its importance weight."""

    @property
    def weight(self) -> float: ...


class Interval(NamedTuple):
    low: float
    high: float


class Estimate(NamedTuple):
    """A value with its 95 % intervals: normal approximation, and percentiles of a bootstrap."""

    method: str
    value: float
    normal: Interval
    bootstrap: Interval


class Overlap(NamedTuple):
    """How far the decisions speak of the evaluated policy.

    - ``effective_samples``: (sum of weights)² / sum of squared weights (Kish).
    - ``mean_weight``: 1 in expectation; far from it, propensities are wrong or overlap is absent.
    """

    effective_samples: float
    mean_weight: float
    largest_weight: float


def require() -> None:
    """Check that numpy is installed.

    Raises:
        InvalidInput: 400; it is not. The message names the extra.
    """
    try:
        import numpy  # noqa: F401
    except ImportError:
        raise InvalidInput(
            "Evaluation needs numpy, which is not installed here: install django-trajectories[learning].",
            code="evaluation_unavailable",
        ) from None


def overlap(decisions: Sequence[Weighted]) -> Overlap:
    weights = [decision.weight for decision in decisions]
    total, squares = sum(weights), sum([weight * weight for weight in weights])
    effective = total * total / squares if squares else 0.0
    return Overlap(effective, total / len(weights) if weights else 0.0, max(weights, default=0.0))


def estimates(decisions: Sequence[Logged], *, seed: int, replicates: int = REPLICATES) -> list[Estimate]:
    """Return the estimate of each of METHODS. The same seed gives the same intervals.

    Args:
        decisions: at least two, in the order in which they were made.
        replicates: samples of the bootstrap.
    """
    import numpy as np

    rewards = np.array([decision.reward for decision in decisions])
    weights = np.array([decision.weight for decision in decisions])
    direct, taken = _predictions(decisions)
    corrected = direct + weights * (rewards - taken)
    terms = _weighted(weights, rewards)
    return _of_terms(terms | {"dr": (corrected, terms["ips"][1])}, seed, replicates)


def run_estimates(runs: Sequence[LoggedRun], *, seed: int, replicates: int = REPLICATES) -> list[Estimate]:
    """Return the estimate of each of RUN_METHODS. The same seed gives the same intervals.

    Args:
        runs: at least two.
        replicates: samples of the bootstrap.
    """
    import numpy as np

    weights, rewards = np.array([run.weight for run in runs]), np.array([run.reward for run in runs])
    return _of_terms(_weighted(weights, rewards), seed, replicates)


def _weighted(weights: Floats, rewards: Floats) -> dict[str, tuple[Floats, Floats]]:
    import numpy as np

    earned = weights * rewards
    return {"ips": (earned, np.ones(len(weights))), "snips": (earned, weights)}


def _of_terms(terms: Mapping[str, tuple[Floats, Floats]], seed: int, replicates: int) -> list[Estimate]:
    """Return the estimate of each name: the ratio of the sums of its two terms."""
    import numpy as np

    rng = np.random.default_rng(seed)
    size = len(next(iter(terms.values()))[0])
    # Terms are shared between estimates, so each is resampled once.
    columns = {id(term): term for pair in terms.values() for term in pair}
    # Those of a constant term are right already.
    sums = {key: np.full(replicates, term[0] * size) for key, term in columns.items()}
    columns = {key: term for key, term in columns.items() if (term != term[0]).any()}
    # Places of a resample, a block of replicates at a time. Counts of a multinomial
    # distribution say the same, and take eight times as long.
    block = max(1, _BLOCK // size)
    for start in range(0, replicates, block):
        end = min(start + block, replicates)
        places = rng.integers(0, size, (end - start, size), dtype=np.intp)
        for key, term in columns.items():
            sums[key][start:end] = term.take(places, mode="clip").sum(axis=1)
    return [
        _estimate(name, above, below, sums[id(above)] / np.maximum(sums[id(below)], 1e-12))
        for name, (above, below) in terms.items()
    ]


def _estimate(name: str, above: Floats, below: Floats, resampled: Floats) -> Estimate:
    """Return the ratio of two means with its intervals."""
    import numpy as np

    size = len(above)
    value = float(above.sum() / below.sum()) if below.sum() else 0.0
    # The delta method; for a plain mean it is the sample variance.
    residuals = (above - value * below) / below.mean() if below.sum() else above
    error = _Z * float(np.sqrt((residuals**2).sum() / (size * max(1, size - 1))))
    low, high = np.percentile(resampled, [2.5, 97.5])
    return Estimate(name, value, Interval(value - error, value + error), Interval(float(low), float(high)))


def _predictions(decisions: Sequence[Logged]) -> tuple[Floats, Floats]:
    """Return the predicted reward of the evaluated policy, and of the action taken, at each
    decision.

    The prediction is the mean reward of the action in the group so far, drawn towards that of the
    action in all groups, and this towards that of all decisions.
    """
    import numpy as np

    total = count = 0.0
    of_actions: dict[str, tuple[float, int]] = {}
    of_groups: dict[Hashable, dict[str, tuple[float, int]]] = defaultdict(dict)
    direct, taken = list[float](), list[float]()
    for group, action, _, policy, reward in decisions:
        mean = (total + _SMOOTHING * 0.5) / (count + _SMOOTHING)
        in_group, expected = of_groups[group], mean * sum(policy.values())
        # An action that was never taken has the mean, and a policy may have 200 of these. So only the
        # others are looked at, without calls. The action of this decision is the last one.
        is_short = len(policy) < len(of_actions)
        names = filter(of_actions.__contains__, policy) if is_short else filter(policy.__contains__, of_actions)
        for name, chance in (*[(name, policy[name]) for name in names], (action, 0.0)):
            predicted = mean
            if in_all := of_actions.get(name):
                predicted = (in_all[0] + _SMOOTHING * mean) / (in_all[1] + _SMOOTHING)
                own_total, own_count = in_group.get(name, _NOTHING)
                predicted = (own_total + _SMOOTHING * predicted) / (own_count + _SMOOTHING)
            expected += chance * (predicted - mean)
        direct.append(expected)
        taken.append(predicted)
        total, count = total + reward, count + 1
        for sums in (of_actions, in_group):
            before, times = sums.get(action, _NOTHING)
            sums[action] = before + reward, times + 1
    return np.array(direct), np.array(taken)


_NOTHING = 0.0, 0
