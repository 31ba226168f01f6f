"""Clusters, and the judgement of their data."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.faults.cluster import HOSTS, Cluster
from tests.faults.faults import Fault
from tests.faults.load import Observer
from tests.processes import PROJECT

MINIMUM = 1_000
PROMISE_BROKEN = "The promise is broken"
"""``.ci/run`` looks for this text and does not repeat such a row."""
_HEAD = ("fault", "proof", "acknowledged", "lost", "doubled", "converged s", "pages seen (incomplete)")


@pytest.fixture
def make_cluster(tmp_path: Path) -> Iterator[Callable[..., Cluster]]:
    made: list[Cluster] = []

    def make(*, checkout: Path = PROJECT, **environment: str) -> Cluster:
        made.append(Cluster(tmp_path / f"cluster{len(made)}", checkout=checkout, **environment))
        return made[-1]

    yield make
    for cluster in made:
        cluster.close()


@pytest.fixture
def cluster(make_cluster: Callable[..., Cluster]) -> Cluster:
    """Two hosts and a worker, running."""
    return make_cluster().start()


@pytest.fixture
def judge(tabulate: Callable[..., None]) -> Callable[..., None]:
    """Cause a fault under load, wait until everything agrees, and add a row to the table."""

    def run(
        name: str,
        cluster: Cluster,
        fault: Fault,
        *,
        on: Sequence[str] = tuple(HOSTS),
        observed: str = "b1",
        may_go: Callable[[dict[str, Any]], bool] = lambda record: False,
        **load: Any,
    ) -> None:
        observer = Observer(cluster.webs[observed].url, cluster.site.api_key, may_go=may_go)
        with cluster.load(*on, **load) as writers, observer:
            writers.more(200)
            proof = fault(cluster, writers)
            writers.until(MINIMUM)
            writers.more(100)
        verdict = cluster.converged()
        observer.settle()
        if cluster.ledger.outcomes:
            proof += f", {sum(map(len, cluster.ledger.outcomes.values()))} late outcomes acknowledged"
        row = (
            *(name, proof, verdict.acknowledged, verdict.lost, verdict.doubled, f"{verdict.converged_s:.1f}"),
            f"{observer.pages} ({observer.incomplete})",
        )
        tabulate("faults", _HEAD, *row)
        is_kept = (verdict.lost, verdict.doubled, verdict.differing, observer.broken) == (0, 0, [], [])
        if not is_kept:
            pytest.fail(
                f"{PROMISE_BROKEN}: {verdict.lost} lost, {verdict.doubled} doubled, {verdict.differing} {observer.broken}"
            )
        assert proof
        assert verdict.acknowledged >= MINIMUM
        assert observer.pages > observer.incomplete

    return run
