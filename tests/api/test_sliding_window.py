"""The window of a limit: strict in any minute, at most a second too long, and the same in Redis as
here."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from redis import Redis

from tests.strategies import examples
from trajectories.api.sliding_window import WINDOW_S, Allowance, Limits, Use, Window
from trajectories.api.throttling import LocalCounts, SharedCounts, _Key
from trajectories.conf import read_settings

START_S = 1_764_000_000
names = count()

amounts = st.builds(Use, st.just(1), st.integers(0, 12), st.integers(0, 3))
arrivals = st.lists(st.tuples(st.integers(0, 25), amounts), max_size=40)
some_limits = st.sampled_from([Limits(4, None), Limits(None, 20), Limits(5, 20), Limits(6, None, 4)])
properties = hypothesis_settings(
    max_examples=examples(150),
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def new_key() -> _Key:
    return _Key("north", str(next(names)))


def taken(counts: LocalCounts, arrivals: list[tuple[int, Use]]) -> list[tuple[int, Use, Allowance]]:
    """Each use with the second in which it came."""
    key, now_s, answers = new_key(), START_S, []
    for gap_s, use in arrivals:
        now_s += gap_s
        answers.append((now_s, use, counts.take(key, use, now_s)))
    return answers


@properties
@given(arrivals=arrivals, limits=some_limits)
def test_no_minute_ever_holds_more_than_the_limits(arrivals: list[Any], limits: Limits) -> None:
    admitted = [(at, use) for at, use, said in taken(LocalCounts(limits), arrivals) if said.retry_after_s is None]
    for start, _ in admitted:
        inside = [use for at, use in admitted if start <= at <= start + WINDOW_S]
        for unit, limit in enumerate(limits):
            assert limit is None or sum(use[unit] for use in inside) <= limit


@properties
@given(arrivals=arrivals, limits=some_limits)
def test_requests_within_the_limit_of_a_minute_are_never_refused(arrivals: list[Any], limits: Limits) -> None:
    before: list[tuple[int, Use]] = []
    for at, use, said in taken(LocalCounts(limits), arrivals):
        recent = [other for second, other in before if second >= at - WINDOW_S]
        fits = all(
            limit is None or not use[unit] or sum(other[unit] for other in recent) + use[unit] <= limit
            for unit, limit in enumerate(limits)
        )
        assert (said.retry_after_s is None) == fits
        if fits:
            before.append((at, use))


@properties
@given(arrivals=arrivals, limits=some_limits)
def test_a_client_is_served_after_retry_after_and_not_a_second_earlier(arrivals: list[Any], limits: Limits) -> None:
    counts, key, now_s = LocalCounts(limits), new_key(), START_S
    for gap_s, use in arrivals:
        now_s += gap_s
        said = counts.take(key, use, now_s)
        if said.retry_after_s is not None:
            assert counts.take(key, use, now_s + said.retry_after_s - 1).retry_after_s == 1
            now_s += said.retry_after_s
            assert counts.take(key, use, now_s).retry_after_s is None


@pytest.mark.usefixtures("named_store")
@properties
@given(arrivals=arrivals, limits=some_limits)
def test_redis_decides_and_tells_as_this_process_does(arrivals: list[Any], limits: Limits, redis_tier: Redis) -> None:
    shared, key = SharedCounts(read_settings(), limits), new_key()
    try:
        for at, use, said in taken(LocalCounts(limits), arrivals):
            assert shared.ask(shared.name_of(key), use, Use(), now_s=at) == said
    finally:
        shared.close()


def test_remaining_grows_when_the_oldest_second_leaves() -> None:
    window, limits = Window([(START_S, Use(2)), (START_S + 10, Use(3))]), Limits(10, None)
    said = window.take(START_S + 20, Use(1), limits)
    assert (said.remaining, said.reset_s) == (4, 41)
    window.forget(START_S + 20 + said.reset_s)
    assert window.take(START_S + 61, Use(), limits).remaining == 6


@pytest.mark.parametrize(
    ("used", "name"),
    [(Use(1, 50), "bytes_per_minute"), (Use(5, 49), "requests_per_minute"), (Use(), "requests_per_minute")],
)
def test_the_limit_closest_to_refusal_is_reported(used: Use, name: str) -> None:
    assert Window().take(START_S, used, Limits(10, 100)).name == name


def test_the_longer_wait_of_two_refusing_limits_is_reported() -> None:
    window = Window([(START_S, Use(9, 10)), (START_S + 30, Use(1, 90))])
    said = window.take(START_S + 30, Use(1, 50), Limits(10, 100))
    assert (said.name, said.remaining, said.retry_after_s) == ("bytes_per_minute", 0, 61)


def test_the_refusing_limit_is_reported_even_if_another_is_almost_used() -> None:
    said = Window([(START_S, Use(9, 60))]).take(START_S, Use(1, 50), Limits(10, 100))
    assert (said.name, said.remaining) == ("bytes_per_minute", 40)


@pytest.mark.usefixtures("named_store")
def test_earlier_use_counts_under_a_new_limit(redis_tier: Redis) -> None:
    shared, key = SharedCounts(read_settings(), Limits(None, 100)), new_key()
    said = [
        shared.ask(shared.name_of(key), Use(1, amount), Use(bytes=spent), now_s=START_S)
        for amount, spent in ((0, 500), (1, 0), (0, 0))
    ]
    assert [one.retry_after_s for one in said] == [None, 61, None]
    shared.close()


def test_a_clock_that_is_set_back_locks_no_client_out() -> None:
    counts, key = LocalCounts(Limits(1, None)), new_key()
    assert counts.take(key, Use(1), START_S + 3600).retry_after_s is None
    assert counts.take(key, Use(1), START_S).retry_after_s is None


def test_keys_that_are_idle_are_forgotten_by_the_process() -> None:
    counts = LocalCounts(Limits(5, None))
    for _ in range(100):
        counts.take(new_key(), Use(1), START_S)
    assert len(counts) == 100
    counts.take(new_key(), Use(1), START_S + 61)
    assert len(counts) == 1


def test_a_process_counts_no_more_keys_than_its_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trajectories.api.throttling._MAX_KEYS", 3)
    counts = LocalCounts(Limits(5, None))
    for _ in range(10):
        counts.take(new_key(), Use(1), START_S)
    assert len(counts) == 3


@pytest.mark.usefixtures("named_store")
def test_redis_forgets_a_key_that_is_idle(redis_tier: Redis) -> None:
    shared = SharedCounts(read_settings(), Limits(5, None))
    shared.ask(shared.name_of(_Key("north", "a")), Use(1), Use())
    shared.close()
    (name,) = redis_tier.keys()
    assert 0 < redis_tier.ttl(name) <= WINDOW_S + 1
