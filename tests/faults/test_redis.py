"""Faults of Redis, which is tier, change feed and broker at once."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest

from tests.faults import faults
from tests.faults.cluster import OUTAGE_S, Cluster

pytestmark = pytest.mark.faults

Judge = Callable[..., None]


@pytest.mark.smoke
def test_redis_is_killed_without_saving_and_comes_back_empty(cluster: Cluster, judge: Judge) -> None:
    judge("Redis killed, back empty", cluster, faults.wipe_redis, has_outcomes=True)


def test_redis_is_stopped_for_a_minute(cluster: Cluster, judge: Judge) -> None:
    fault = partial(faults.stop_redis, outage_s=OUTAGE_S)
    judge("Redis stopped for a minute", cluster, fault, pause_s=0.1, has_outcomes=True)


def test_redis_hangs(cluster: Cluster, judge: Judge) -> None:
    judge("Redis hangs", cluster, faults.hang_redis, has_outcomes=True)


def test_redis_is_full_and_refuses_writes(cluster: Cluster, judge: Judge) -> None:
    judge("Redis at maxmemory", cluster, faults.fill_redis, has_outcomes=True)


def test_redis_fails_over_to_a_replica_that_lacks_the_last_writes(cluster: Cluster, judge: Judge) -> None:
    judge("Redis fails over", cluster, faults.fail_redis_over, has_outcomes=True)
