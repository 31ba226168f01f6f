"""The SDK against the store as it runs in life."""

from __future__ import annotations

import io
import json
import os
import signal
from pathlib import Path
from typing import Any
from uuid import uuid4

import anyio
import pytest

from tests.examples import REFERENCE, body
from tests.processes import PROJECT, Site, Web
from tests.sdk.proxy import CuttingProxy
from trajectories_sdk import (
    AsyncClient,
    AuthenticationError,
    BadRequestError,
    Client,
    ConflictError,
    ExportProgress,
    NotFoundError,
    StoredTrajectory,
)


def given(**fields: Any) -> Any:
    """A body that is not written out here, so that the types do not know it."""
    return body(**fields)


def bodies(count: int, **fields: Any) -> list[Any]:
    return [body(id=str(uuid4()), request_summary=f"run {at}", error="e" * 300, **fields) for at in range(count)]


def exported(client: Client, **filters: Any) -> bytes:
    file = io.BytesIO()
    client.trajectories.export_jsonl(file, **filters)
    return file.getvalue()


def test_a_record_is_listed_counted_exported_and_deleted(client: Client) -> None:
    stored = client.trajectories.record(given(**REFERENCE | {"project": "whole path"}))
    many = client.trajectories.record_many([*bodies(30, project="whole path"), given(colour="red")], max_lines=7)
    assert (many.accepted, many.refused) == (30, 1)
    assert client.trajectories.retrieve(stored.id) == stored
    listed = list(client.trajectories.list(project="whole path", limit=10))
    assert [record.id for record in listed] == [result.id for result in reversed(many.results[:30])] + [stored.id]
    assert client.trajectories.stats(project="whole path").count == 31
    assert [record.id for record in client.trajectories.iter_export(project="whole path")] == [
        record.id for record in reversed(listed)
    ]
    assert client.trajectories.delete(stored.id).deleted
    with pytest.raises(NotFoundError):
        client.trajectories.retrieve(stored.id)
    with pytest.raises(ConflictError):
        client.trajectories.record(stored)
    dry = client.trajectories.delete_matching(dry_run=True, project="whole path")
    assert dry.count == 30
    assert client.trajectories.delete_matching(token=dry.token, project="whole path").deleted == 30


def test_the_example_of_the_first_page_records_the_run_that_it_shows(
    client: Client, web: Web, api_key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in (("BASE_URL", web.url), ("API_KEY", api_key), ("SPOOL_DIR", str(tmp_path))):
        monkeypatch.setenv(f"TRAJSTORE_{name}", text)
    readme = (PROJECT / "README.md").read_text()
    exec(readme.partition("## From code")[2].partition("```python\n")[2].partition("```")[0], {})
    record = next(iter(client.trajectories.list(limit=1)))
    assert record.request_summary == "Add user authentication"
    assert [(phase.phase_name, phase.outcome, phase.cost_usd) for phase in record.phases] == [
        ("spec", "success", 0.012),
        ("design", "skipped", None),
    ]


def test_the_awaited_half_does_the_same(web: Web, api_key: str) -> None:
    async def use() -> tuple[StoredTrajectory, list[StoredTrajectory], int, list[StoredTrajectory]]:
        async with AsyncClient(web.url, api_key) as client:
            stored = await client.trajectories.record(given(**REFERENCE | {"project": "awaited"}))
            await client.trajectories.record_many(bodies(3, project="awaited"))
            listed = [record async for record in client.trajectories.list(project="awaited", limit=2)]
            stats = await client.trajectories.stats(project="awaited")
            exported = [record async for record in client.trajectories.iter_export(project="awaited")]
            return stored, listed, stats.count, exported

    stored, listed, count, everything = anyio.run(use)
    assert stored.warnings is not None
    assert listed[-1] == stored.model_copy(update={"warnings": None})
    assert (len(listed), count) == (4, 4)
    assert everything == listed[::-1]


def test_a_cut_export_resumes_behind_its_last_line(
    client: Client, proxy: CuttingProxy, api_key: str, tmp_path: Path
) -> None:
    client.trajectories.record_many(bodies(1_000, project="cut"))
    whole = exported(client, project="cut")
    assert whole.count(b"\n") == 1_000
    proxy.cuts.extend([0, 100, len(whole) // 3, 0, len(whole) // 3])
    told: list[ExportProgress] = []
    with Client(proxy.url, api_key, max_retries=2) as through:
        through._driver.sleep = lambda seconds: None
        done = through.trajectories.export_jsonl(tmp_path / "cut.jsonl", project="cut", progress=told.append)
    assert (tmp_path / "cut.jsonl").read_bytes() == whole
    assert (done.count, proxy.connections) == (1_000, 6)
    assert told[-1].resumed == 3


def test_an_export_resumes_where_its_last_record_was_deleted(client: Client, proxy: CuttingProxy, api_key: str) -> None:
    client.trajectories.record_many(bodies(200, project="deleted"))
    whole = exported(client, project="deleted")
    proxy.cuts.append(len(whole) // 2)
    deleted: list[str] = []

    def delete(seconds: float) -> None:
        for line in file.getvalue().splitlines()[-3:]:
            deleted.append(json.loads(line)["id"])
            client.trajectories.delete(deleted[-1])

    file = io.BytesIO()
    with Client(proxy.url, api_key) as through:
        through._driver.sleep = delete
        through.trajectories.export_jsonl(file, project="deleted")
    assert file.getvalue() == whole
    assert len(deleted) == 3


def test_datasets_streams_an_export_from_its_address(client: Client, web: Web, api_key: str) -> None:
    """As docs/training.md says. The lines of a stream that is not compressed cannot be read by
    fsspec."""
    import datasets

    client.trajectories.record_many(bodies(120, project="streamed", phases=REFERENCE["phases"]))
    rows = datasets.load_dataset(
        "json",
        data_files=f"{web.url}/v1/agent/trajectories/export?format=sft&project=streamed&compression=gzip#.jsonl.gz",
        split="train",
        streaming=True,
        storage_options={
            "headers": {"Authorization": f"Bearer {api_key}"},
            "client_kwargs": {"auto_decompress": False},
        },
    )
    found = [(row["trajectory_id"], row["messages"][-1]["tool_calls"][0]["function"]["name"]) for row in rows]
    assert len(set(found)) == len(found) == 120
    assert {name for _, name in found} == {"run_phase"}


def test_an_error_is_found_in_the_servers_log_by_its_request_id(client: Client, web: Web) -> None:
    with pytest.raises(BadRequestError) as raised:
        list(client.trajectories.list(limit=5_000))
    assert raised.value.param == "limit"
    assert f"[{raised.value.request_id}]" in web.output


def test_an_invalid_key_is_rejected_by_the_server_and_never_quoted(web: Web) -> None:
    with Client(web.url, "no-such-key") as client, pytest.raises(AuthenticationError) as raised:
        client.trajectories.stats()
    assert raised.value.code == "invalid_api_key"
    assert "no-such-key" not in f"{raised.value!r} {raised.value}"


def test_a_server_that_is_killed_and_started_again_gets_the_record_once(site: Site) -> None:
    web = site.web()
    port = int(web.url.rpartition(":")[2])
    waits: list[float] = []

    def start_again(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 2:
            site.web(port=port)

    with Client(web.url, site.api_key) as client:
        client.trajectories.record(given())
        client._driver.sleep = start_again
        os.killpg(web.pid, signal.SIGKILL)
        web.wait()
        stored = client.trajectories.record(given())
        assert next(iter(client.trajectories.list())).id == stored.id
        assert client.trajectories.stats().count == 2
    assert len(waits) == 2
