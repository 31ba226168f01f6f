"""Long reads of one tenant need shares of the process; short reads and other tenants do not wait
for them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.examples import phase
from tests.processes import wait_until
from tests.storage.hosts import QUICK, WebProcess
from trajectories.conf import Settings
from trajectories.domain.query import Query, parse_query
from trajectories.exceptions import TooManyReads
from trajectories.learning.cells import learned
from trajectories.learning.context import RecommendationRequest
from trajectories.learning.evaluate import evaluate
from trajectories.learning.forecast import best_models
from trajectories.learning.policies import RulePolicy
from trajectories.learning.recommend import recommend
from trajectories.services import deletion, exports, read_shares
from trajectories.services.read_shares import ReadShares, Share
from trajectories.training.readiness import readiness


@pytest.fixture
def shares(monkeypatch: pytest.MonkeyPatch) -> ReadShares:
    monkeypatch.setattr(read_shares, "WAIT_S", 0.0)
    return ReadShares(Settings(long_reads_per_tenant=2))


@pytest.fixture
def two_of_alice(shares: ReadShares) -> Iterator[list[Share]]:
    with ExitStack() as running:
        held = [running.enter_context(shares.of("alice")) for _ in range(2)]
        for share in held:
            share.take()
        yield held


def test_a_third_long_read_of_a_tenant_is_refused(shares: ReadShares, two_of_alice: list[Share]) -> None:
    with shares.of("alice") as share, pytest.raises(TooManyReads) as refused:
        share.take()
    assert (refused.value.status, refused.value.code, refused.value.retry_after_s) == (429, "too_many_reads", 1)


def test_another_tenant_has_shares_of_its_own(shares: ReadShares, two_of_alice: list[Share]) -> None:
    with shares.of("bob") as share:
        share.take()


def test_a_scan_pauses_so_that_short_reads_go_first(shares: ReadShares, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read_shares, "PAUSE_EVERY_S", 0.0)
    pauses: list[float] = []
    monkeypatch.setattr("time.sleep", pauses.append)
    with shares.of("alice") as share:
        assert list(share.scan(range(100))) == list(range(100))
    assert pauses == [read_shares._PAUSE_S] * 100


def test_a_short_read_needs_no_share(shares: ReadShares, two_of_alice: list[Share]) -> None:
    with shares.of("alice") as share:
        assert list(share.scan(range(100))) == list(range(100))


def test_a_read_that_becomes_long_needs_a_share(
    shares: ReadShares, two_of_alice: list[Share], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read_shares, "SHORT_CPU_S", 0.0)
    monkeypatch.setattr(read_shares, "PAUSE_EVERY_S", 0.0)
    with shares.of("alice") as share, pytest.raises(TooManyReads):
        list(share.scan(range(100)))


def test_a_share_is_free_again_after_the_read(shares: ReadShares, two_of_alice: list[Share]) -> None:
    two_of_alice[0].give_back()
    with shares.of("alice") as share:
        share.take()
        share.take()  # a read takes one, however often it asks


def test_one_read_waits_for_a_share_and_a_second_is_refused_at_once(
    shares: ReadShares, two_of_alice: list[Share], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read_shares, "WAIT_S", 60.0)
    taken = threading.Event()

    def take() -> None:
        with shares.of("alice") as share:
            share.take()
            taken.set()

    waiting = threading.Thread(target=take)
    waiting.start()
    wait_until(lambda: shares._waiting == {"alice"})
    with shares.of("alice") as second, pytest.raises(TooManyReads):
        second.take()
    assert not taken.is_set()
    two_of_alice[0].give_back()
    waiting.join(60)
    assert taken.is_set()


def test_a_read_that_waits_long_for_another_one_of_its_tenant_needs_a_share(
    shares: ReadShares, two_of_alice: list[Share], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read_shares, "LOCK_S", 0.0)
    lock = threading.Lock()
    with lock:
        with pytest.raises(TooManyReads), shares.of("alice") as share, share.lock(lock):
            pytest.fail("the lock was held twice")
        assert lock.locked()
    with shares.of("alice") as share, share.lock(lock):
        assert lock.locked()
    assert not lock.locked()


def test_without_a_limit_nothing_is_counted() -> None:
    shares = ReadShares(Settings(long_reads_per_tenant=0))
    for _ in range(10):
        shares.take("alice")
    assert not shares._held


# In the reads.


@pytest.fixture
def busy(db: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WebProcess]:
    """A process with older records in the archive, whose shares of alice are all taken."""
    monkeypatch.setattr(read_shares, "WAIT_S", 0.0)
    process = WebProcess(tmp_path / "outbox", hot_max_records=1, long_reads_per_tenant=1, **QUICK)
    for tenant in ("alice", "bob"):
        for project in ("a", "b", "a"):
            process.record(tenant, project=project)
    with process.store.part(ReadShares).of("alice") as share:
        share.take()
        yield process


def test_long_reads_are_refused_while_all_shares_are_in_use(busy: WebProcess) -> None:
    for read in (busy.stats, lambda **of: busy.list(parse_query({"project": "c"}, 0), **of)):
        with pytest.raises(TooManyReads):
            read(tenant="alice")
        read(tenant="bob")


def test_a_dry_run_of_a_deletion_is_a_long_read(busy: WebProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deletion, "wait_until_archived", lambda *_: None)
    with pytest.raises(TooManyReads):
        deletion.matching(busy.store, "alice", {"project": "a"})
    assert deletion.matching(busy.store, "bob", {"project": "a"}).count == 0  # nothing is archived here


def test_readiness_and_an_evaluation_are_long_reads(busy: WebProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read_shares, "SHORT_CPU_S", 0.0)
    monkeypatch.setattr(read_shares, "PAUSE_EVERY_S", 0.0)
    asked: list[Callable[[str], object]] = [
        lambda tenant: readiness(busy.store, tenant, Query()),
        lambda tenant: evaluate(busy.store, tenant, Query(), RulePolicy(always="a", rules=[], default=None)),
    ]
    for ask in asked:
        with pytest.raises(TooManyReads):
            ask("alice")
        ask("bob")  # has one share, which its pages use too
    assert dict(busy.store.part(ReadShares)._held) == {"alice": 1}


def test_a_refused_read_of_choices_leaves_none_of_them_out(
    db: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = WebProcess(tmp_path / "outbox", long_reads_per_tenant=1, **QUICK)
    for _ in range(3):
        process.record("alice", phases=[phase(model="m", outcome="success")], total_cost_usd=1.0)
    with monkeypatch.context() as every_read_is_long, process.store.part(ReadShares).of("alice") as share:
        every_read_is_long.setattr(read_shares, "WAIT_S", 0.0)
        every_read_is_long.setattr(read_shares, "SHORT_CPU_S", 0.0)
        every_read_is_long.setattr(read_shares, "PAUSE_EVERY_S", 0.0)
        share.take()
        with pytest.raises(TooManyReads):
            learned(process.store, "alice")
    found = learned(process.store, "alice")
    assert found.runs == 3
    assert (
        sum(sums.choices for cells in found.by_phase.values() for choice, sums in cells.total.items() if choice.model)
        == 3
    )
    assert sum(costs.total() for costs in found.run_costs.values()) == 3


def test_the_plans_of_a_recommendation_and_best_models_are_a_long_read(
    db: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = WebProcess(tmp_path / "outbox", long_reads_per_tenant=1, **QUICK)
    process.record("alice", phases=[phase(phase_name="spec", model="m", outcome="success")])
    asked = RecommendationRequest.model_validate({"phase": "spec", "candidates": [{"model": "m"}, {"model": "n"}]})
    reads: list[Callable[[], object]] = [
        lambda: recommend(process.store, "alice", asked),
        lambda: best_models(process.store, "alice", None, None),
    ]
    learned(process.store, "alice")
    monkeypatch.setattr(read_shares, "WAIT_S", 0.0)
    monkeypatch.setattr(read_shares, "SHORT_CPU_S", 0.0)
    monkeypatch.setattr(read_shares, "PAUSE_EVERY_S", 0.0)
    for read in reads:
        with process.store.part(ReadShares).of("alice") as share:
            share.take()
            with pytest.raises(TooManyReads):
                read()
        read()
    assert not process.store.part(ReadShares)._held


def test_a_list_without_filters_and_a_single_record_are_read_meanwhile(busy: WebProcess) -> None:
    (newest, *_) = busy.ids(tenant="alice")
    assert busy.retrieve(newest, tenant="alice").id == newest


def test_reads_give_their_shares_back(busy: WebProcess) -> None:
    shares = busy.store.part(ReadShares)
    for _ in range(3):
        assert busy.stats(tenant="bob")["count"] == 3
        assert len(busy.listed(parse_query({"project": "a"}, 0), tenant="bob")) == 2
    assert dict(shares._held) == {"alice": 1}


@pytest.mark.parametrize("count", [0, 1, 3])
def test_an_export_has_a_share_until_its_stream_ends_or_is_dropped(
    busy: WebProcess, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    monkeypatch.setattr(exports, "wait_until_archived", lambda *_: None)
    shares = busy.store.part(ReadShares)
    found = exports.export_pages(busy.store, "bob", parse_query({}, 0))
    with pytest.raises(TooManyReads):
        exports.export_pages(busy.store, "bob", parse_query({}, 0))
    for _ in range(count):
        next(found.pages, None)
    del found
    assert dict(shares._held) == {"alice": 1}
