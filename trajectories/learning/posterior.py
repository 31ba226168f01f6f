"""Beta posteriors of a success rate: evidence of several levels, intervals and draws.

Pure Python, so that a recommendation needs no extra.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from functools import lru_cache
from hashlib import blake2b
from itertools import accumulate, pairwise, repeat
from operator import itemgetter
from typing import NamedTuple

DRAWS = 512
"""Draws of each posterior. The share of draws in which an action is best is its probability."""
PRIOR_STRENGTH = 40.0
"""The most outcomes that those of a wider level count as."""
_CELLS = 32
"""Cells of constant density. 64 would take a quarter more time."""
_DEVIATIONS = 3.8
"""Draws are within this many standard deviations of the middle."""


class Evidence(NamedTuple):
    """Weighted successes and failures; partial outcomes are half of each."""

    successes: float = 0.0
    failures: float = 0.0

    @property
    def known(self) -> float:
        return self.successes + self.failures

    def plus(self, other: Evidence, limit: float = math.inf) -> Evidence:
        """Return the sum with ``other``, which counts as at most ``limit`` outcomes.

        This is a power prior (Ibrahim and Chen, Statistical Science 15, 2000). More successes in
        ``other`` never lower the mean of the sum.
        """
        weight = min(1.0, limit / other.known) if other.known else 0.0
        return Evidence(self.successes + weight * other.successes, self.failures + weight * other.failures)


class Posterior(NamedTuple):
    """Beta(a, b)."""

    a: float
    b: float

    @property
    def mean(self) -> float:
        return self.a / (self.a + self.b)

    def interval(self) -> tuple[float, float]:
        """Return the equal-tailed 95 % interval, exact to a hundredth of the standard deviation."""
        return interval_of(quantiles(self.a, self.b))


class Drawn(NamedTuple):
    """A posterior by which draws are made, under a name of their own."""

    posterior: Posterior
    name: str

    @property
    def draws(self) -> tuple[float, ...]:
        return draws(*self.posterior, self.name)


def posterior(levels: Sequence[Evidence], *, strength: float = PRIOR_STRENGTH) -> Posterior:
    """Return the posterior under a uniform prior.

    Args:
        levels: disjoint evidence, from the widest level to the narrowest. All wider levels together
            count as at most ``strength`` outcomes in the next one.
    """
    total = Evidence()
    for evidence in levels:
        total = evidence.plus(total, strength)
    return Posterior(1.0 + total.successes, 1.0 + total.failures)


@lru_cache(maxsize=1024)  # global because it is a pure function; bounded, 18 MB; needs no reset
def draws(a: float, b: float, name: str) -> tuple[float, ...]:
    """Return DRAWS draws of Beta(a, b). They are the same for the same arguments, and as good as
    independent for different names.

    Each of DRAWS equal parts of the probability has one draw, so shares of draws have less noise
    than those of draws at random (Latin hypercube sampling; McKay, Beckman and Conover,
    Technometrics 21, 1979).
    """
    drawn = quantiles(a, b)
    *shuffles, high, low = blake2b(f"{a!r} {b!r} {name}".encode(), digest_size=5).digest()
    for number in shuffles:
        drawn = _shuffle(number % _SHUFFLES)(drawn)
    start = (high << 8 | low) % DRAWS
    return drawn[start:] + drawn[:start]


_SHUFFLES = 64
"""With three of them and a start there are 134 million orders, in a tenth of the time of
``random.shuffle``. Two names with the same order would not be independent."""


@lru_cache(maxsize=_SHUFFLES)  # global because it is a pure function; bounded, 0.8 MB; needs no reset
def _shuffle(number: int) -> Callable[[tuple[float, ...]], tuple[float, ...]]:
    """Return what puts DRAWS values into a random order."""
    order = list(range(DRAWS))
    random.Random(number).shuffle(order)  # noqa: S311  a simulation
    return itemgetter(*order)


@lru_cache(maxsize=256)  # global because it is a pure function; bounded, 4 MB; needs no reset
def quantiles(a: float, b: float) -> tuple[float, ...]:
    """Return DRAWS quantiles of Beta(a, b), ascending: one in the middle of each equal part of the
    probability. ``a`` and ``b`` are at least 1.

    The density counts as constant within each of some cells, which are equally wide in the arcsine
    of the square root. There each of these distributions has nearly the same width, and its density
    is nowhere steep. Quantiles are exact to 0.002 of probability.
    """
    middle, deviation = math.asin(math.sqrt(a / (a + b))), 0.5 / math.sqrt(a + b)
    low = max(0.0, middle - _DEVIATIONS * deviation)
    width = (min(math.pi / 2, middle + _DEVIATIONS * deviation) - low) / _CELLS
    inside = [math.sin(low + width * (cell + 0.5)) ** 2 for cell in range(_CELLS)]
    logs = [(a - 0.5) * math.log(x) + (b - 0.5) * math.log1p(-x) for x in inside]
    most = max(logs)
    below = list(accumulate([math.exp(log - most) for log in logs], initial=0.0))
    shares = pairwise(DRAWS * one / below[-1] for one in below)
    ends = pairwise(math.sin(low + width * cell) ** 2 for cell in range(_CELLS + 1))
    found: list[float] = []
    for (before, after), (start, end) in zip(shares, ends, strict=True):
        count = math.ceil(after - 0.5) - len(found)
        if count:
            step = (end - start) / (after - before)
            first = start + (len(found) + 0.5 - before) * step
            found += accumulate(repeat(step, count - 1), initial=first)
    return tuple(found)


def interval_of(ordered: Sequence[float]) -> tuple[float, float]:
    """Return the equal-tailed 95 % interval of DRAWS values, ascending."""
    return _at(ordered, 0.025), _at(ordered, 0.975)


def _at(ordered: Sequence[float], probability: float) -> float:
    place = probability * DRAWS - 0.5
    low, high = ordered[math.floor(place)], ordered[math.ceil(place)]
    return low + (place - math.floor(place)) * (high - low)
