"""The ways to the store that the scenario goes. Each is one class; ``WAYS`` names them all."""

from __future__ import annotations

import asyncio
import io
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx2
import mcp
from mcp.client.streamable_http import streamable_http_client
from pydantic import BaseModel

from tests.processes import run_python
from tests.sdk.scenario import FILTERS, Access, Json, Seen, Way, canonical, figures, groups
from tests.sdk_ts.conftest import built_package
from trajectories_sdk import AsyncClient, Client, Run, StoredTrajectory

COMMAND = Path(sys.executable).with_name("trajectories")


def _dumped(answer: BaseModel) -> Json:
    return answer.model_dump(mode="json", by_alias=True, exclude_unset=True)


def _summaries(records: Iterable[StoredTrajectory]) -> list[str]:
    return [record.request_summary for record in records]


class Sync:
    """Python, blocking."""

    def __init__(self, access: Access) -> None:
        self._client = Client(access.url, access.key)

    def record(self, runs: Sequence[Json]) -> None:
        for run in runs:
            self._client.trajectories.record(run)  # type: ignore[arg-type]

    def update(self, id_: str, revision: int, changes: Json) -> None:
        self._client.trajectories.update(id_, changes, if_match=revision)  # type: ignore[arg-type]

    def see(self) -> Seen:
        with self._client as client:
            file = io.BytesIO()
            client.trajectories.export_jsonl(file)
            return Seen(
                listed=_summaries(client.trajectories.list(limit=2)),
                found=_summaries(client.trajectories.list(**FILTERS)),
                groups=groups(_dumped(client.trajectories.stats())),
                exported=[canonical(json.loads(line)) for line in file.getvalue().splitlines()],
            )


class Async:
    """Python, awaited; the runs go as one batch."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def record(self, runs: Sequence[Json]) -> None:
        asyncio.run(self._record(runs))

    def update(self, id_: str, revision: int, changes: Json) -> None:
        asyncio.run(self._update(id_, revision, changes))

    def see(self) -> Seen:
        return asyncio.run(self._see())

    async def _record(self, runs: Sequence[Json]) -> None:
        async with AsyncClient(self._access.url, self._access.key) as client:
            recorded = await client.trajectories.record_many(runs)  # type: ignore[arg-type]
            assert recorded.refused == 0, recorded

    async def _update(self, id_: str, revision: int, changes: Json) -> None:
        async with AsyncClient(self._access.url, self._access.key) as client:
            await client.trajectories.update(id_, changes, if_match=revision)  # type: ignore[arg-type]

    async def _see(self) -> Seen:
        async with AsyncClient(self._access.url, self._access.key) as client:
            trajectories = client.trajectories
            file = io.BytesIO()
            await trajectories.export_jsonl(file)
            return Seen(
                listed=_summaries([record async for record in trajectories.list(limit=2)]),
                found=_summaries([record async for record in trajectories.list(**FILTERS)]),
                groups=groups(_dumped(await trajectories.stats())),
                exported=[canonical(json.loads(line)) for line in file.getvalue().splitlines()],
            )


class Recorder(Sync):
    """The recorder, in the background. Times are set, everything else is measured, added up and
    counted."""

    def record(self, runs: Sequence[Json]) -> None:
        for run in runs:
            self._observe(run)
        assert self._client.queue.flush(timeout_s=120)

    def _observe(self, body: Json) -> None:
        rest = {name: value for name, value in body.items() if name not in _COMPUTED}
        given = {name: rest.pop(name) for name in _SET_IN_RUN if name in rest}
        phases = rest.pop("phases")
        with self._client.trajectories.run(**rest) as run:
            for phase in phases:
                self._observe_phase(run, phase)
            for loop in body.get("feedback_loops", ()):
                run.feedback(loop["from_phase"], loop["to_phase"], reason=loop["reason"])
            run.set(**given)

    def _observe_phase(self, run: Run, body: Json) -> None:
        if body["outcome"] == "skipped":
            run.skip(body["phase_name"], reason=body["skip_reason"])
            return
        begun = {name: value for name, value in body.items() if name in _PHASE_ARGUMENTS}
        asked = body.get("requested_model", body["model"])
        with suppress(ValueError, TimeoutError), run.phase(**begun, model=asked) as phase:
            if asked != body["model"]:
                phase.fall_back_to(body["model"])
            for tool in body.get("tools_used", ()):
                phase.tool(tool)
            for _ in range(body.get("steps_taken", 0)):
                phase.step()
            phase.usage(**{name: value for name, value in body.items() if name in _USAGE})
            phase.set(**{name: value for name, value in body.items() if name in _SET_IN_PHASE})
            if "error" in body:
                raise _failure(body["error"])


_COMPUTED = ("total_cost_usd", "total_phases", "phases_skipped")
_SET_IN_PHASE = (
    "phase_id",
    "parent_phase_id",
    "depends_on",
    "selection_rule",
    "reasoning_effort",
    "exploration",
    "keep_probability",
    "attempts",
    "cache_write_input_tokens",
    "duration_ms",
    "outcome",
    "status_reason",
    "fit",
    "evidence",
    "started_at",
    "ended_at",
)
_SET_IN_RUN = (
    "policy",
    "parent_id",
    "outcome",
    "started_at",
    "ended_at",
    "total_duration_ms",
    "build_passed",
    "tests_passed",
    "review_findings",
    "feedback_loops",
)
_PHASE_ARGUMENTS = (
    "phase_name",
    "agent",
    "model_selection_method",
    "candidates",
    "selection_probability",
    "metadata",
)
_USAGE = ("input_tokens", "output_tokens", "cached_input_tokens", "reasoning_tokens", "cost_usd")


def _failure(said: str) -> Exception:
    name, _, message = said.partition(": ")
    return {"ValueError": ValueError, "TimeoutError": TimeoutError}[name](message)


class Cli:
    """The console script, fed through a pipe."""

    def __init__(self, access: Access) -> None:
        self._environment = os.environ | {"TRAJSTORE_BASE_URL": access.url, "TRAJSTORE_API_KEY": access.key}

    def record(self, runs: Sequence[Json]) -> None:
        self._run("record", "-", stdin="\n".join(json.dumps(run) for run in runs))

    def update(self, id_: str, revision: int, changes: Json) -> None:
        self._run("update", id_, "-", "--if-match", str(revision), stdin=json.dumps(changes))

    def see(self) -> Seen:
        return Seen(
            listed=self._listed(),
            found=self._listed(*_options(FILTERS)),
            groups=groups(json.loads(self._run("stats", "--json"))),
            exported=[canonical(json.loads(line)) for line in self._run("export", "-o", "-").splitlines()],
        )

    def _listed(self, *options: str) -> list[str]:
        return [json.loads(line)["request_summary"] for line in self._run("list", "--json", *options).splitlines()]

    def _run(self, *arguments: str, stdin: str = "") -> str:
        done = run_python([str(COMMAND), *arguments], self._environment, stdin=stdin)
        assert done.returncode == 0, done.stderr
        return done.stdout


def _options(filters: Mapping[str, Any]) -> list[str]:
    options = []
    for name, value in filters.items():
        written = name.replace("_", "-")
        options += [f"--{'' if value else 'no-'}{written}"] if isinstance(value, bool) else [f"--{written}", str(value)]
    return options


class TypeScript:
    """The built package under Node.js."""

    action = "record"

    def __init__(self, access: Access) -> None:
        module = built_package(access.shared) / "page" / "dist" / "index.js"
        self._given = {"module": module.as_uri(), "url": access.url, "key": access.key, "filters": FILTERS}

    def record(self, runs: Sequence[Json]) -> None:
        self._run(self.action, runs=runs)

    def update(self, id_: str, revision: int, changes: Json) -> None:
        self._run("update", id=id_, revision=revision, changes=changes)

    def see(self) -> Seen:
        seen = self._run("see")
        return Seen(
            listed=seen["listed"],
            found=seen["found"],
            groups=groups(seen["stats"]),
            exported=[canonical(json.loads(line)) for line in seen["exported"].splitlines()],
        )

    def _run(self, action: str, **more: Any) -> Any:
        task = json.dumps({"action": action} | self._given | more)
        script = Path(__file__).with_name("scenario_way.mjs")
        done = subprocess.run(["node", str(script)], input=task, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


class TypeScriptRecorder(TypeScript):
    """The package's recorder, in the background."""

    action = "observe"


class Mcp:
    """The tools, called by a real MCP client. Their answers are briefs, so of a run they show what
    is in one."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def record(self, runs: Sequence[Json]) -> None:
        asyncio.run(self._record(runs))

    def update(self, id_: str, revision: int, changes: Json) -> None:
        asyncio.run(self._update(id_, revision, changes))

    def see(self) -> Seen:
        return asyncio.run(self._see())

    def connect(self) -> AbstractAsyncContextManager[mcp.Client]:
        """A client that is connected."""
        raise NotImplementedError

    async def _record(self, runs: Sequence[Json]) -> None:
        async with self.connect() as client:
            for run in runs:
                await _call(client, "br_trajectory_record", run)

    async def _update(self, id_: str, revision: int, changes: Json) -> None:
        async with self.connect() as client:
            await _call(client, "br_trajectory_update", {"id": id_, "revision": revision, "changes": changes})

    async def _see(self) -> Seen:
        async with self.connect() as client:
            stats = await _call(client, "br_trajectory_query", {"show": "stats"})
            return Seen(
                listed=await self._listed(client, {"limit": 2}),
                found=await self._listed(client, FILTERS),
                groups={_cell(group): _figures(group) for group in stats["untrusted_data"]["stats"]["groups"]},
                exported=None,
            )

    async def _listed(self, client: mcp.Client, query: Json) -> list[str]:
        found: list[str] = []
        cursor: str | None = None
        while True:
            page = await _call(client, "br_trajectory_query", query | ({"cursor": cursor} if cursor else {}))
            found += [run["request_summary"] for run in page["untrusted_data"]["runs"]]
            cursor = page.get("next_cursor")
            if cursor is None:
                return found


def _cell(group: Json) -> tuple[str | None, ...]:
    return tuple(group.get(name) for name in ("phase", "model", "selection_method"))


def _figures(group: Json) -> tuple[float | None, ...]:
    credited, own = group["success_rate"], group["success_rate_by_phase_outcome"]
    of_group = (group.get(name) for name in ("mean_cost_usd", "value_per_dollar"))
    return figures(group["count"], credited.get("rate"), credited.get("low"), own.get("rate"), *of_group)


async def _call(client: mcp.Client, tool: str, arguments: Json) -> Json:
    answer = await client.call_tool(tool, arguments)
    assert not answer.is_error, answer.content
    assert answer.structured_content is not None
    return dict(answer.structured_content)


class McpStdio(Mcp):
    """Over standard input and output of the program that agents start."""

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[mcp.Client]:
        access = {"TRAJSTORE_BASE_URL": self._access.url, "TRAJSTORE_API_KEY": self._access.key}
        program = str(COMMAND.with_name("trajectories-mcp"))
        async with mcp.Client(mcp.StdioServerParameters(command=program, env=os.environ | access)) as client:
            yield client


class McpHttp(Mcp):
    """Over streamable HTTP, at the address that the site offers."""

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[mcp.Client]:
        headers = {"Authorization": f"Bearer {self._access.key}"}
        async with httpx2.AsyncClient(headers=headers, timeout=30, trust_env=False) as http:
            transport = streamable_http_client(f"{self._access.url}/v1/mcp/connect", http_client=http)
            async with mcp.Client(transport) as client:
                yield client


WAYS: Mapping[str, Callable[[Access], Way]] = {
    "Python, blocking": Sync,
    "Python, awaited": Async,
    "Python recorder": Recorder,
    "MCP over stdio": McpStdio,
    "MCP over HTTP": McpHttp,
    "command line": Cli,
    "TypeScript": TypeScript,
    "TypeScript recorder": TypeScriptRecorder,
}
