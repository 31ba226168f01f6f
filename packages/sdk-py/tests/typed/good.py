"""Correct code of users and the types of its values: checked by mypy and pyright, never run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import assert_type
from uuid import UUID

import trajectories_sdk as sdk
from trajectories_sdk import models, params
from trajectories_sdk.testing import InMemoryServer


def blocking(client: sdk.Client, read: params.Trajectory, model: models.Trajectory) -> None:
    stored = client.trajectories.record(
        {
            "request_summary": "Add auth",
            "phases": [{"phase_name": "spec", "model": "m", "candidates": [{"model": "m", "probability": 0.7}]}],
            "started_at": datetime.now(UTC),
            "outcome": "success",
        }
    )
    assert_type(stored, sdk.StoredTrajectory)
    assert_type(stored.id, UUID)
    assert_type(stored.phases[0].cost_usd, float | None)
    assert_type(client.trajectories.record(read), sdk.StoredTrajectory)
    assert_type(client.trajectories.record(model), sdk.StoredTrajectory)
    assert_type(client.trajectories.record(stored), sdk.StoredTrajectory)
    assert_type(client.trajectories.record(read, replace=True).derived, models.Derived | None)
    assert_type(stored.warnings, list[models.RecordWarning] | None)
    patch: params.TrajectoryPatch = {
        "tests_passed": True,
        "phases": [{"phase_id": "a", "fit": "good_fit", "error": None}],
    }
    assert_type(client.trajectories.update(stored.id, patch, if_match=stored.revision), sdk.StoredTrajectory)
    many = client.trajectories.record_many([read, stored], max_lines=10)
    assert_type(many.results[0].error, models.ErrorObject | None)
    for record in client.trajectories.list(project="a", since=datetime.now(UTC), build_passed=True, limit=10):
        assert_type(record, sdk.StoredTrajectory)
    assert_type(client.trajectories.list().pages(), Iterator[sdk.TrajectoryPage])
    assert_type(client.trajectories.stats(min_cost_usd=0.5).by_phase_model, list[models.PhaseModelGroup])
    assert_type(client.trajectories.iter_export(tag="x"), Iterator[sdk.StoredTrajectory])
    assert_type(client.trajectories.export_jsonl(Path("x"), progress=print, after=stored.id), sdk.Exported)
    with Path("x").open("wb") as file:
        client.trajectories.export_jsonl(file)
    assert_type(client.trajectories.delete_matching(dry_run=True, project="a"), sdk.MatchingTrajectories)
    assert_type(client.trajectories.delete_matching(token="t", project="a"), sdk.DeletedTrajectories)


async def awaited(client: sdk.AsyncClient, read: params.Trajectory) -> None:
    async with client:
        assert_type(await client.trajectories.record(read), sdk.StoredTrajectory)
        assert_type(await client.trajectories.update("x", {"error": None}), sdk.StoredTrajectory)
        async for record in client.trajectories.list(outcome="failure"):
            assert_type(record, sdk.StoredTrajectory)
        assert_type(client.trajectories.iter_export(), AsyncIterator[sdk.StoredTrajectory])
        assert_type(await client.trajectories.delete_matching(dry_run=True, q="x"), sdk.MatchingTrajectories)


def errors(error: sdk.APIStatusError) -> None:
    assert_type(error.request_id, str | None)
    assert_type(error.retry_after_s, float | None)


def tests() -> None:
    with InMemoryServer() as server:
        assert_type(server.client(max_retries=0), sdk.Client)
        assert_type(server.records, list[sdk.StoredTrajectory])
