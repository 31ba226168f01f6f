"""An in-memory server, and both clients behind one blocking interface, so that each test covers
both."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias
from uuid import UUID

import anyio.from_thread
import httpx2
import pytest

from trajectories_sdk import AsyncClient, BackgroundQueue, Client, Config, StoredTrajectory, background, delivery
from trajectories_sdk.delivery import Sender
from trajectories_sdk.recorder import Delivery, Run
from trajectories_sdk.spool import Spool
from trajectories_sdk.testing import API_KEY, InMemoryServer
from trajectories_sdk.totals import Clock

MakeQueue: TypeAlias = Callable[..., BackgroundQueue]


class Blocking:
    """Blocking wrapper of ``AsyncClient.trajectories``: awaits coroutines, and collects iterators
    in a list."""

    def __init__(self, client: AsyncClient, portal: anyio.from_thread.BlockingPortal) -> None:
        self._client = client
        self._portal = portal

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return lambda *args, **named: self._portal.call(self._resolve, name, args, named)

    async def _resolve(self, name: str, args: tuple[Any, ...], named: dict[str, Any]) -> Any:
        outcome = getattr(self._client.trajectories, name)(*args, **named)
        if isinstance(outcome, Awaitable):
            return await outcome
        return [item async for item in outcome]


@pytest.fixture
def server() -> Iterator[InMemoryServer]:
    with InMemoryServer() as server:
        yield server


@pytest.fixture
def client(server: InMemoryServer) -> Client:
    return server.client()


@pytest.fixture(params=["sync", "asyncio", "trio"])
def make_half(request: pytest.FixtureRequest, server: InMemoryServer) -> Iterator[Callable[..., Any]]:
    """Creates ``trajectories`` of a blocking, an asyncio and a trio client in turn."""
    if request.param == "sync":
        yield lambda **options: server.client(**options).trajectories
        return
    with anyio.from_thread.start_blocking_portal(request.param) as portal:
        yield lambda **options: Blocking(server.async_client(**options), portal)


@pytest.fixture
def half(make_half: Callable[..., Any]) -> Any:
    """``trajectories`` of a blocking, an asyncio and a trio client in turn."""
    return make_half()


def trajectory(**fields: Any) -> Any:
    """The smallest valid body, with ``fields``. Typed as Any, since tests also send invalid values."""
    return {"request_summary": "Add auth", "phases": []} | fields


async def slowly(items: Any) -> AsyncIterator[Any]:
    """Yield ``items`` asynchronously."""
    for item in items:
        yield item


# --- The background queue


@pytest.fixture(scope="module")
def retry_at_once() -> Iterator[None]:
    """A flush retries an unavailable server at once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(delivery, "FLUSH_DELAY_S", 0.005)
        yield


@pytest.fixture(scope="module")
def enqueue_waits() -> Iterator[None]:
    """A record is on disk after ``enqueue``, even if the machine is too busy for that in time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(background, "MAX_WAIT_S", 60)
        yield


@pytest.fixture
def make_queue(server: httpx2.BaseTransport, tmp_path: Path) -> Iterator[MakeQueue]:
    """Creates queues as if in separate processes: they share a directory and nothing else."""
    made: list[BackgroundQueue] = []

    def make(
        *, transport: httpx2.BaseTransport = server, directory: Path | None = tmp_path, **options: Any
    ) -> BackgroundQueue:
        made.append(BackgroundQueue(Sender(Config(api_key=API_KEY), transport), Spool(directory), **options))
        return made[-1]

    yield make
    for queue in made:
        queue.close()


@pytest.fixture
def queue(make_queue: MakeQueue) -> BackgroundQueue:
    return make_queue()


def send_all(queue: BackgroundQueue) -> None:
    """Send all pending records. The time limit is a bound for a slow machine, and no
    expectation."""
    assert queue.flush(120)


def ids(server: InMemoryServer) -> list[UUID]:
    """The ids of the stored records, in order of arrival."""
    return [record.id for record in server.records]


# --- The recorder

SECOND_NS = 1_000_000_000


def flushed_record(client: Client, run: Run) -> StoredTrajectory:
    """Flush, and return the run as the server has it."""
    send_all(client.queue)
    return client.trajectories.retrieve(run.id)


class ManualClock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.time_of_day = datetime(2026, 11, 25, 9, 0, tzinfo=UTC)
        self.ns = 0

    def reader(self) -> Clock:
        return Clock(now=lambda: self.time_of_day, monotonic_ns=lambda: self.ns)


def clocked_run(clock: ManualClock) -> tuple[Run, list[dict[str, Any]]]:
    """A run that uses this clock, and the list of its records."""
    records: list[Any] = []
    run = Run(None, {"request_summary": "Add auth"}, Delivery(records.append), has_progress=False, clock=clock.reader())
    return run, records
