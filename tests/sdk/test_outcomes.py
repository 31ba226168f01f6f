"""Late outcomes in the Python SDK, the command line and the MCP tool, against the server in memory."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import mcp
import pytest
from click.testing import CliRunner

from trajectories_mcp.server import make_server
from trajectories_sdk import ConflictError
from trajectories_sdk.cli.commands import trajectory
from trajectories_sdk.testing import InMemoryServer

RUN: Any = {"request_summary": "x", "phases": [{"phase_name": "spec", "phase_id": "1"}], "session_id": "s"}


def names(server: InMemoryServer) -> list[list[tuple[str, Any]]]:
    """Return name and value of the outcomes of each record."""
    return [[(one.name, one.value) for one in record.outcomes or ()] for record in server.records]


def test_an_outcome_is_recorded_and_listed_by_both_clients() -> None:
    with InMemoryServer() as server:
        client = server.client()
        id_ = client.trajectories.record(RUN).id
        first = client.outcomes.record("merged", True, trajectory_id=id_, idempotency_key="k")
        assert client.outcomes.record("merged", True, trajectory_id=id_, idempotency_key="k") == first
        with pytest.raises(ConflictError):
            client.outcomes.record("merged", False, trajectory_id=id_, idempotency_key="k")
        assert client.outcomes.list(id_) == [first]

        async def use() -> Any:
            async with server.async_client() as other:
                await other.outcomes.record("rating", 4, reference={"session_id": "s"})
                return await other.outcomes.list(id_)

        assert [one.name for one in asyncio.run(use())] == ["merged", "rating"]
        with pytest.raises(ValueError, match="either"):
            client.outcomes.record("merged", True)


def test_an_outcome_without_one_target_or_with_an_unknown_field_is_refused_before_it_is_sent() -> None:
    with InMemoryServer() as server, server.client() as client:
        unknown: Any = {"trajectory_id": "x", "evidnce": {}}
        with pytest.raises(TypeError, match="An outcome has no field evidnce; its fields are trajectory_id, reference"):
            client.outcomes.record("merged", True, **unknown)
        with pytest.raises(ValueError, match="Give either trajectory_id or reference"):
            client.outcomes.enqueue("merged", True, trajectory_id=None, phase_id="1")
        assert server.requests == []


def test_an_outcome_of_a_run_waits_in_the_durable_queue_and_is_sent_once(tmp_path: Any) -> None:
    with InMemoryServer() as server:
        client = server.client(spool_dir=tmp_path)
        server.drop_next(times=2)
        with client.trajectories.run("x") as run, run.phase("spec", phase_id="1") as phase:
            pass
        run.outcome("merged", True, evidence={"pr": "12"})
        run.outcome("fit", "underpowered", phase=phase)
        run.outcome("bad", "no word of fit")
        assert client.queue.flush(timeout_s=120)
        assert names(server) == [[("merged", True), ("fit", "underpowered")]]
        assert server.records[0].outcomes is not None
        assert server.records[0].outcomes[1].phase_id == "1"
        assert (client.queue.counters.sent, client.queue.counters.refused) == (3, 1)


def test_the_command_line_records_an_outcome() -> None:
    with InMemoryServer() as server:
        server.client().trajectories.record(RUN)
        given = ["outcome", "rating", "4.5", "--reference", "session_id=s", "--evidence", "by=a review"]
        done = CliRunner().invoke(trajectory, [*given, "--json"], obj=lambda **_: server.client())
        assert done.exit_code == 0, done.output
        assert json.loads(done.stdout)["evidence"] == {"by": "a review"}
        assert names(server) == [[("rating", 4.5)]]
        refused = CliRunner().invoke(trajectory, ["outcome", "a", "true"], obj=lambda **_: server.client())
        assert refused.exit_code == 2


def test_the_tool_records_an_outcome_and_names_missing_arguments() -> None:
    async def use(server: InMemoryServer) -> list[Any]:
        async with server.async_client() as store, mcp.Client(make_server(store)) as client:
            id_ = str((await store.trajectories.record(RUN)).id)
            calls = ({"id": id_, "name": "merged", "value": True}, {"name": "merged", "value": True})
            return [await client.call_tool("br_trajectory_outcome", one) for one in calls]

    with InMemoryServer() as server:
        taken, refused = asyncio.run(use(server))
        assert not taken.is_error
        assert names(server) == [[("merged", True)]]
        assert refused.is_error
        assert "reference" in refused.content[0].text
