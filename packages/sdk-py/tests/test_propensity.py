"""``thompson_propensity``."""

from __future__ import annotations

from math import exp, lgamma, sqrt
from typing import Any

import pytest

from trajectories_sdk import thompson_propensity


def exactly(first: tuple[int, int], second: tuple[int, int]) -> float:
    """Return the probability that a draw of the first arm is greater than one of the second, in
    closed form.

    Source: Miller, Formulas for Bayesian A/B Testing (2015), equation 6.
    """
    (won, lost), (other_won, other_lost) = first, second
    a, b, c, d = won + 1, lost + 1, other_won + 1, other_lost + 1
    terms = (exp(_log_beta(c + i, b + d) - _log_beta(1 + i, b) - _log_beta(c, d)) / (b + i) for i in range(a))
    return sum(terms)


def _log_beta(a: float, b: float) -> float:
    return lgamma(a) + lgamma(b) - lgamma(a + b)


@pytest.mark.parametrize(
    ("first", "second"), [((0, 0), (0, 0)), ((3, 1), (2, 5)), ((40, 60), (45, 55)), ((900, 100), (1, 0))], ids=str
)
def test_two_arms_get_the_probabilities_of_the_closed_form(first: tuple[int, int], second: tuple[int, int]) -> None:
    samples = 4_000
    found = thompson_propensity([first[0], second[0]], [first[1], second[1]], samples=samples, seed=7)
    expected = exactly(first, second)
    assert found == pytest.approx([expected, 1 - expected], abs=4 * sqrt(expected * (1 - expected) / samples))


def test_no_arm_gets_0_and_the_results_add_up_to_1() -> None:
    found = thompson_propensity(
        {"good": 10_000, "bad": 0, "worse": 0}, {"good": 0, "bad": 500, "worse": 900}, samples=8
    )
    assert found == {"good": (8 + 1 / 3) / 9, "bad": (1 / 3) / 9, "worse": (1 / 3) / 9}
    assert sum(found.values()) == pytest.approx(1)


def test_a_seed_gives_the_same_results_again_and_another_seed_gives_others() -> None:
    arms = {"a": 3.5, "b": 2, "c": 4}, {"c": 2, "b": 1, "a": 3}
    one, again, other = (thompson_propensity(*arms, samples=500, seed=seed) for seed in (1, 1, 2))
    assert one == again != other
    as_lists = thompson_propensity([3.5, 2, 4], [3, 1, 2], samples=500, seed=1)
    assert list(one.values()) == as_lists


@pytest.mark.parametrize(
    ("successes", "failures", "options", "message"),
    [
        ([], [], {}, "at least one; got 0 and 0"),
        ({}, {}, {}, "at least one; got 0 and 0"),
        ([1, 2], [1], {}, "got 2 and 1"),
        ({"a": 1}, {"b": 1}, {}, r"got \['a'\] and \['b'\]"),
        ({"a": 1}, [1], {}, "same arms"),
        ([-1], [0], {}, "at least 0, got -1"),
        ([float("nan")], [0], {}, "got nan"),
        ([float("inf")], [0], {}, "got inf"),
        ([1], [1], {"samples": 0}, "samples must be at least 1, got 0"),
    ],
    ids=str,
)
def test_impossible_arguments_are_refused(successes: Any, failures: Any, options: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        thompson_propensity(successes, failures, **options)
