"""Changes of recorded runs, versions that lack phases, and the contradictions that answers list."""

from __future__ import annotations

import json
import logging
from typing import Any
from uuid import UUID, uuid4

import pytest
from conftest import flushed_record, send_all, trajectory

from trajectories_sdk import (
    BadRequestError,
    Client,
    ConflictError,
    DroppedPhasesError,
    NotFoundError,
    PreconditionFailedError,
)
from trajectories_sdk.testing import InMemoryServer
from trajectories_sdk.warning_log import WarningLog

ID = "29243fa3-f296-5e3b-9266-7052b77cbfe9"
PHASES = [{"phase_name": "spec", "phase_id": "a"}, {"phase_name": "test", "model": "m"}]
CONTRADICTION = {"outcome": "success", "tests_passed": False}


def test_an_update_changes_fields_and_phases_and_keeps_the_rest(half: Any, server: InMemoryServer) -> None:
    half.record(trajectory(id=ID, error="late", metadata={"a": 1, "b": 2}, phases=PHASES))
    patch = {
        "tests_passed": True,
        "error": None,
        "metadata": {"b": None, "c": 3},
        "phases": [{"phase_id": "a", "fit": "good_fit"}, {"phase_id": "b", "phase_name": "review"}],
    }
    stored = half.update(ID, patch)
    assert (stored.tests_passed, stored.error, stored.metadata) == (True, None, {"a": 1, "c": 3})
    assert [(phase.phase_name, phase.phase_id, phase.fit, phase.model) for phase in stored.phases] == [
        ("spec", "a", "good_fit", None),
        ("test", None, None, "m"),
        ("review", "b", None, None),
    ]
    sent = server.requests[-1]
    assert (sent.method, sent.headers["content-type"]) == ("PATCH", "application/merge-patch+json")
    assert json.loads(sent.body) == patch
    assert "if-match" not in sent.headers
    assert half.retrieve(ID) == stored


def test_an_update_of_another_revision_is_refused(half: Any) -> None:
    first = half.record(trajectory(id=ID))
    second = half.update(ID, {"source": "a"}, if_match=first.revision)
    assert second.revision > first.revision
    with pytest.raises(PreconditionFailedError) as raised:
        half.update(ID, {"source": "b"}, if_match=first.revision)
    assert raised.value.status == 412
    assert half.retrieve(ID).source == "a"


@pytest.mark.parametrize(
    ("patch", "path", "code"),
    [
        ({"request_summary": None}, "request_summary", "required"),
        ({"phases": [{"fit": "good_fit"}]}, "phases[0]", "phase_id_missing"),
        ({"phases": [{"phase_id": "x"}]}, "phases[0].phase_name", "unknown_phase_id"),
        ({"phases": [{"phase_id": "a", "phase_name": None}]}, "phases[0].phase_name", "required"),
        ({"id": str(UUID(int=7))}, "id", "other_id"),
        ({"colour": "red"}, "colour", "unknown_key"),
        ({"total_cost_usd": -1}, "total_cost_usd", "greater_than_equal"),
    ],
    ids=str,
)
def test_an_impossible_update_is_refused(client: Client, patch: Any, path: str, code: str) -> None:
    client.trajectories.record(trajectory(id=ID, phases=PHASES))
    with pytest.raises(BadRequestError) as raised:
        client.trajectories.update(ID, patch)
    assert [(problem.path, problem.code) for problem in raised.value.details] == [(path, code)]


def test_an_update_of_a_run_that_is_unknown_or_deleted_is_refused(half: Any) -> None:
    with pytest.raises(NotFoundError):
        half.update(uuid4(), {})
    with pytest.raises(NotFoundError):
        half.update("stats", {})
    half.record(trajectory(id=ID))
    half.delete(ID)
    with pytest.raises(ConflictError) as raised:
        half.update(ID, {})
    assert type(raised.value) is ConflictError


def test_a_version_that_lacks_phases_needs_replace(half: Any) -> None:
    half.record(trajectory(id=ID, phases=PHASES))
    for phases in ([], PHASES[1:] * 2, [PHASES[0], {"phase_name": "other"}]):
        with pytest.raises(DroppedPhasesError):
            half.record(trajectory(id=ID, phases=phases))
        many = half.record_many([trajectory(id=ID, phases=phases), trajectory()])
        assert [result.status for result in many.results] == [409, 201]
    assert len(half.record(trajectory(id=ID, phases=[*PHASES, PHASES[1]])).phases) == 3
    assert half.record_many([trajectory(id=ID, phases=PHASES)], replace=True).accepted == 1
    assert half.record(trajectory(id=ID, phases=[]), replace=True).phases == []


def test_in_the_background_such_a_version_is_refused_once(
    client: Client, server: InMemoryServer, caplog: pytest.LogCaptureFixture
) -> None:
    client.trajectories.record(trajectory(id=ID, phases=PHASES))
    client.trajectories.enqueue(trajectory(id=ID))
    send_all(client.queue)
    assert (client.queue.counters.refused, client.queue.counters.waiting) == (1, 0)
    assert len(server.requests) == 2
    assert "The server refused 1 records" in caplog.text
    assert len(server.records[0].phases) == 2


def test_contradictions_are_in_the_result_and_logged_once_a_run_and_code(
    half: Any, caplog: pytest.LogCaptureFixture
) -> None:
    stored = half.record(trajectory(id=ID, **CONTRADICTION))
    assert [warning.code for warning in stored.warnings] == ["outcome_contradicts_check"]
    half.record(trajectory(id=ID, source="again", **CONTRADICTION))
    half.update(ID, {"build_passed": False})
    (result, clean) = half.record_many([trajectory(**CONTRADICTION), trajectory()]).results
    assert [warning.path for warning in result.warnings] == ["outcome"]
    assert clean.warnings is None
    assert half.record(trajectory()).warnings is None
    assert [record.message.split()[1] for record in caplog.records] == [ID, str(result.id)]
    assert {(record.name, record.levelno) for record in caplog.records} == {("trajectories_sdk", logging.WARNING)}
    assert "contradicts itself at outcome (outcome_contradicts_check): outcome is success" in caplog.text


def test_contradictions_of_many_runs_are_one_line_a_code(half: Any, caplog: pytest.LogCaptureFixture) -> None:
    runs = [trajectory(**CONTRADICTION) for _ in range(5)] + [trajectory(request_type="Bugfix"), trajectory()]
    results = half.record_many(runs, max_lines=2).results
    checks, case = (record.message for record in caplog.records)
    assert checks.startswith(f"Trajectory {results[0].id} contradicts itself at outcome (outcome_contradicts_check): ")
    assert checks.endswith(" So do 4 more trajectories.")
    assert case.startswith(f"Trajectory {results[5].id} contradicts itself at request_type (request_type_case): ")
    assert "more" not in case


def test_contradictions_of_background_runs_are_logged_once(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    with client.trajectories.run("Add auth", progress=True) as run:
        run.set(outcome="success", tests_passed=False)
        for _ in range(3):
            with run.phase("spec"):
                pass
            send_all(client.queue)
    stored = flushed_record(client, run)
    assert stored.warnings
    assert [record.message.split()[1] for record in caplog.records] == [str(run.id)]


def test_the_memory_of_logged_contradictions_is_bounded(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, client: Client
) -> None:
    monkeypatch.setattr("trajectories_sdk.warning_log.MAX_REMEMBERED", 2)
    warnings = client.trajectories.record(trajectory(**CONTRADICTION)).warnings
    caplog.clear()
    log = WarningLog()
    for number in (1, 2, 3, 3, 2, 1):
        log.note(UUID(int=number), warnings)
    assert [record.message.split()[1] for record in caplog.records] == [str(UUID(int=n)) for n in (1, 2, 3, 1)]


def test_derived_values_are_in_a_member_of_their_own(client: Client) -> None:
    phases = [{"phase_name": "spec", "outcome": "success", "cost_usd": 0.5, "input_tokens": 3}]
    stored = client.trajectories.record(trajectory(phases=phases, total_cost_usd=2))
    assert stored.outcome is None
    assert stored.derived
    assert stored.derived.model_dump() == {
        "outcome": "success",
        "total_cost_usd": 2,
        "phases_cost_usd": 0.5,
        "unattributed_cost_usd": 1.5,
        "total_duration_ms": None,
        "input_tokens": 3,
        "output_tokens": None,
        "total_tokens": 3,
        "credit": {"rule": "checks", "phases": [{"outcome": "success", "source": "phase_outcome"}]},
    }
    (listed,) = client.trajectories.list()
    assert listed.derived == stored.derived
    assert client.trajectories.record(listed).revision == stored.revision
