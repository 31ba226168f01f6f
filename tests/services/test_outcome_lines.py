"""Lines of late outcomes: what a request reads of their targets is bounded."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from tests.storage.hosts import TENANT, WebProcess
from trajectories.domain import late_outcomes
from trajectories.domain.compression import decompress
from trajectories.domain.record import Record
from trajectories.exceptions import (
    NotRead,
)
from trajectories.services import lines, outcomes
from trajectories.services.outcomes import AcceptedOutcome
from trajectories.storage import tenant_cache


def test_outcomes_of_one_target_read_the_known_ones_once_a_request(
    db: None, own: WebProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    id_ = own.record().id
    for number in range(3):
        own.outcome(id_, name=f"n{number}", evidence={"log": "x" * 10_000})
    own.list()
    read, read_row = list[Any](), Record.from_row

    def noted(row: Any) -> Record:
        read.append(row)
        return read_row(row)

    scanned, scan = list[int](), late_outcomes.depend_on_run

    def noted_scan(outcomes: bytes) -> bool:
        scanned.append(len(outcomes))
        return scan(outcomes)

    monkeypatch.setattr(Record, "from_row", noted)
    monkeypatch.setattr(late_outcomes, "depend_on_run", noted_scan)
    given = [orjson.dumps({"name": f"m{number}", "value": 1, "trajectory_id": str(id_)}) for number in range(50)]
    taken = outcomes.record_many(own.store, TENANT, [*given, given[0]], source=None)
    assert len(read) < 10, "each line read the known outcomes"
    assert sum(scanned) < 50_000, "each line scanned the known outcomes"
    assert [line.result.is_new for line in taken if isinstance(line.result, AcceptedOutcome)] == [True] * 50 + [False]
    assert len(own.outcomes(id_)) == 53


def test_outcomes_of_one_request_read_the_body_of_each_run_once(
    db: None, own: WebProcess, beside: WebProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [own.record().id, own.record().id]
    for process in (own, beside):
        process.list()
    read, read_body = list[bytes](), decompress

    def noted(data: bytes) -> bytes:
        read.append(data)
        return read_body(data)

    monkeypatch.setattr(tenant_cache, "decompress", noted)
    given = [{"name": f"m{number}", "value": 1, "trajectory_id": str(ids[number % 2])} for number in range(60)]
    outcomes.record_many(own.store, TENANT, map(orjson.dumps, given), source=None)
    beside.hot.snapshot(TENANT)
    assert not read, "a process read a body for outcomes of the run"
    of_phases = [one | {"phase_id": "1", "value": 2} for one in given[:10]]
    outcomes.record_many(own.store, TENANT, map(orjson.dumps, of_phases), source=None)
    assert len(read) == 2, "a process read a body for each outcome"
    beside.hot.snapshot(TENANT)
    assert len(read) == 4, "another process did, which follows the outbox"
    monkeypatch.undo()
    assert [len(process.outcomes(id_)) for process in (own, beside) for id_ in ids] == [35] * 4


@pytest.mark.parametrize("more", [{"phase_id": "1"}, {}], ids=["large runs", "large outcomes"])
def test_lines_about_too_many_large_runs_are_left_for_another_request(
    db: None, own: WebProcess, monkeypatch: pytest.MonkeyPatch, more: dict[str, Any]
) -> None:
    ids = [own.record(request_summary="x" * 10_000).id for _ in range(5)]
    for id_ in ids:
        own.outcome(id_, evidence={"log": "x" * 10_000})
    own.list()
    monkeypatch.setattr(lines, "MAX_KNOWN_BYTES", 50_000 if more else 25_000)
    given = [{"name": "score", "value": at, "trajectory_id": str(id_)} | more for id_ in ids for at in range(2)]
    found = outcomes.record_many(own.store, TENANT, map(orjson.dumps, given), source=None)
    assert [isinstance(one.result, AcceptedOutcome) for one in found] == [True] * 6 + [False] * 4
    assert {type(one.result) for one in found[6:]} == {NotRead}
    again = outcomes.record_many(own.store, TENANT, map(orjson.dumps, given[6:]), source=None)
    assert all(isinstance(one.result, AcceptedOutcome) for one in again)
