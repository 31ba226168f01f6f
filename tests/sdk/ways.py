"""The ways to the store that the scenario goes. Each is one class; ``WAYS`` names them all."""

from __future__ import annotations

import asyncio
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from tests.sdk.scenario import FILTERS, Json, Seen, Way, canonical, groups
from trajectory_sdk import AsyncClient, Client, StoredTrajectory

COMMAND = Path(sys.executable).with_name("trajectory")


def _dumped(answer: BaseModel) -> Json:
    return answer.model_dump(mode="json", by_alias=True, exclude_unset=True)


def _summaries(records: Iterable[StoredTrajectory]) -> list[str]:
    return [record.request_summary for record in records]


class Sync:
    """Python, blocking."""

    def __init__(self, url: str, key: str) -> None:
        self._client = Client(url, key)

    def record(self, runs: Sequence[Json]) -> None:
        for run in runs:
            self._client.trajectories.record(run)  # type: ignore[arg-type]

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

    def __init__(self, url: str, key: str) -> None:
        self._url, self._key = url, key

    def record(self, runs: Sequence[Json]) -> None:
        asyncio.run(self._record(runs))

    def see(self) -> Seen:
        return asyncio.run(self._see())

    async def _record(self, runs: Sequence[Json]) -> None:
        async with AsyncClient(self._url, self._key) as client:
            recorded = await client.trajectories.record_many(runs)  # type: ignore[arg-type]
            assert recorded.refused == 0, recorded

    async def _see(self) -> Seen:
        async with AsyncClient(self._url, self._key) as client:
            trajectories = client.trajectories
            file = io.BytesIO()
            await trajectories.export_jsonl(file)
            return Seen(
                listed=_summaries([record async for record in trajectories.list(limit=2)]),
                found=_summaries([record async for record in trajectories.list(**FILTERS)]),
                groups=groups(_dumped(await trajectories.stats())),
                exported=[canonical(json.loads(line)) for line in file.getvalue().splitlines()],
            )


class Cli:
    """The console script, fed through a pipe."""

    def __init__(self, url: str, key: str) -> None:
        self._environment = os.environ | {"TRAJECTORY_BASE_URL": url, "TRAJECTORY_API_KEY": key}

    def record(self, runs: Sequence[Json]) -> None:
        self._run("record", "-", stdin="\n".join(json.dumps(run) for run in runs))

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
        done = subprocess.run(
            [COMMAND, *arguments], input=stdin, env=self._environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


def _options(filters: Mapping[str, Any]) -> list[str]:
    options = []
    for name, value in filters.items():
        written = name.replace("_", "-")
        options += [f"--{'' if value else 'no-'}{written}"] if isinstance(value, bool) else [f"--{written}", str(value)]
    return options


WAYS: Mapping[str, Callable[[str, str], Way]] = {
    "Python, blocking": Sync,
    "Python, awaited": Async,
    "command line": Cli,
}
"""A way is made with the URL of the store and the key of a tenant of its own."""
