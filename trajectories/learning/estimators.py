"""Off-policy estimators: the value of a policy, from the decisions of another one. Needs numpy.

- ``ips``: inverse propensity score, unbiased (Horvitz and Thompson, JASA 47, 1952).
- ``snips``: self-normalized IPS (Swaminathan and Joachims, NeurIPS 2015); a small bias, and less
  variance where weights differ.
- ``dr``: doubly robust (Dudík, Langford and Li, ICML 2011). Its model of rewards is fitted on
  earlier decisions only, so the estimate stays valid where the logging policy has learned from
  them.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from math import isfinite
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeAlias, TypeVar

from trajectories.exceptions import InvalidInput

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float64]
    Integers: TypeAlias = NDArray[np.intp]

H = TypeVar("H", bound=Hashable)
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


def overlap(decisions: Sequence[Weighted]) -> Overlap | None:
    """Return how far the decisions speak of the policy.

    None: there are none, or a propensity is so near 0 that a weight is no finite number.
    """
    weights = [decision.weight for decision in decisions]
    largest, total = max(weights, default=0.0), sum(weights)
    if not weights or not isfinite(total):
        return None
    # Relative to the largest one, so that no square is too large or too small for a number.
    shares = [weight / largest for weight in weights] if largest else [0.0]
    squares = sum([share * share for share in shares])
    return Overlap(sum(shares) ** 2 / squares if squares else 0.0, total / len(weights), largest)


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

    rewards = np.array([decision.reward for decision in decisions])
    groups, _ = _numbered([decision.group for decision in decisions])
    actions, names = _numbered([decision.taken for decision in decisions])
    in_group = _Earlier(groups)
    once = np.ones_like(rewards)
    means = _drawn(np.cumsum(rewards) - rewards, np.cumsum(once) - once, once / 2)
    of_action, of_both = _Earlier(actions), _Earlier(groups * len(names) + actions)
    taken = _drawn(of_action.sums(rewards), of_action.sums(once), means)
    taken = _drawn(of_both.sums(rewards), of_both.sums(once), taken)

    policies = {id(decision.policy): decision.policy for decision in decisions}
    places, keys = _numbered([id(decision.policy) for decision in decisions])
    direct = means * np.array([sum(policies[key].values()) for key in keys])[places]
    named = set[str]().union(*policies.values())
    for number, name in enumerate(names):
        # Only of actions that are taken: before that, an action has the mean.
        if name in named:
            counts = (actions == number).astype(float)
            earned = counts * rewards
            predicted = _drawn(np.cumsum(earned) - earned, np.cumsum(counts) - counts, means)
            predicted = _drawn(in_group.sums(earned), in_group.sums(counts), predicted)
            chances = np.array([policies[key].get(name, 0.0) for key in keys])
            direct += chances[places] * (predicted - means)
    return direct, taken


def _drawn(sums: Floats, counts: Floats, towards: Floats) -> Floats:
    """Return means of rewards, each drawn towards that of a wider group."""
    return (sums + _SMOOTHING * towards) / (counts + _SMOOTHING)


def _numbered(values: Sequence[H]) -> tuple[Integers, list[H]]:
    """Return the number of each value, and the distinct values in the order of their numbers."""
    import numpy as np

    numbers: dict[H, int] = {}
    found = [numbers.setdefault(value, len(numbers)) for value in values]
    return np.array(found), [*numbers]


class _Earlier:
    """At each decision, the earlier ones that are of the same kind."""

    def __init__(self, kinds: Integers) -> None:
        import numpy as np

        self._order = np.argsort(kinds, kind="stable")
        ordered = kinds[self._order]
        self._first = np.searchsorted(ordered, ordered)

    def sums(self, values: Floats) -> Floats:
        """Return the sum of the values of the earlier ones, at each decision."""
        import numpy as np

        before = np.concatenate(([0.0], np.cumsum(values[self._order])))[:-1]
        found = np.empty_like(values)
        found[self._order] = before - before[self._first]
        return found
