"""Hosts and their processes within this one, each a ``Store`` of its own."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson
from django.core.signals import setting_changed
from redis import Redis

from tests.examples import body
from trajectories import persistence, relay, tasks
from trajectories.conf import read_settings
from trajectories.domain import answers, clock
from trajectories.domain.clock import SECOND_US
from trajectories.domain.query import Query
from trajectories.domain.record import Position, Record, digest_of
from trajectories.domain.schema import canonical, parse
from trajectories.services import deletion, ingest, outcomes, reads
from trajectories.services.outcomes import AcceptedOutcome
from trajectories.storage import archive_reads
from trajectories.storage.archive_delivery import Version
from trajectories.storage.hot_cache import HotCache
from trajectories.storage.outbox import Outbox
from trajectories.storage.outbox_rows import Appended, Draft, Row
from trajectories.storage.store import Store

TENANT = "alice"
EVERYTHING = Query()


def deliver(message: tasks.Message, sender: str | None) -> None:
    """Run the worker's task with a message that the relay of the store ``sender`` has sent."""
    tasks.persist.apply((message, sender), headers=tasks.signed(tasks.persist, message, sender), throw=True)


class Clock:
    """A clock that advances by a second whenever it is read; for ``Store(conf, now_us=…)``."""

    def __init__(self, start_us: int) -> None:
        self.now_us = start_us

    def __call__(self) -> int:
        self.now_us += SECOND_US
        return self.now_us


QUICK: dict[str, Any] = {"feed_poll_s": 0.0, "archive_retry_s": 0.0, "redis_retry_s": 0.0}
"""Settings of a process that looks at everything at each read."""


class WebProcess:
    """One process of a host, as a ``Store`` with settings of its own.

    Several on one path are the processes of one host; another path is another host.
    """

    def __init__(self, outbox_path: Path, *, now_us: Callable[[], int] = clock.now_us, **settings: Any) -> None:
        changes: dict[str, Any] = {"outbox_path": str(outbox_path), "outbox_synchronous": "NORMAL", **settings}
        self.conf = replace(read_settings(), **changes)
        self._now_us = now_us
        self.restart()
        self.store.verify()
        setting_changed.connect(self._follow_caches)

    @staticmethod
    def new(outbox_path: Path) -> Store:
        """Return the store of a host that has never seen the archive."""
        return Store(replace(read_settings(), outbox_path=str(outbox_path)))

    def _follow_caches(self, *, setting: str, **_: Any) -> None:
        """Connect to the Redis that ``settings.CACHES`` names from now on."""
        if setting == "CACHES":
            self.store._redis_tier = None

    def restart(self) -> None:
        """Drop what a process holds in memory."""
        self.store = Store(self.conf, now_us=self._now_us)

    @property
    def outbox(self) -> Outbox:
        return self.store.outbox

    @property
    def hot(self) -> HotCache:
        return self.store.hot_cache

    # Operations.

    def record(self, tenant: str = TENANT, **fields: Any) -> Record:
        """Record a body, which may replace any other."""
        return ingest.record(self.store, tenant, orjson.dumps(body(**fields)), replace=True).record

    def update(self, id_: UUID, *, if_match: Container[int] | None = None, **changes: Any) -> Record:
        return ingest.update(self.store, TENANT, id_, orjson.dumps(changes), if_match=if_match).record

    def outcome(
        self,
        target: UUID | Mapping[str, str],
        *,
        key: str | None = None,
        source: str | None = None,
        tenant: str = TENANT,
        **fields: Any,
    ) -> AcceptedOutcome:
        """Record a late outcome of a run, or of a reference."""
        given = {"name": "merged", "value": True} | fields
        id_ = target if isinstance(target, UUID) else None
        if id_ is None:
            given["reference"] = target
        return outcomes.record(
            self.store, tenant, orjson.dumps(given), source=source, trajectory_id=id_, idempotency_key=key
        )

    def outcomes(self, id_: UUID) -> builtins.list[str]:
        """Names of the late outcomes of a run, in the order of their acceptance."""
        return [one["name"] for one in outcomes.list_(self.store, TENANT, id_)]

    def list(
        self, query: Query = EVERYTHING, *, tenant: str = TENANT, after: Position | None = None, limit: int = 1_000
    ) -> reads.Page:
        return reads.list_(self.store, tenant, query, after=after, limit=limit)

    def listed(self, query: Query = EVERYTHING, *, tenant: str = TENANT, limit: int = 1_000) -> builtins.list[bytes]:
        """Every page of the list, as the API shows the records."""
        shown: builtins.list[bytes] = []
        after = None
        while True:
            page = self.list(query, tenant=tenant, after=after, limit=limit)
            assert len(page.records) <= limit
            shown += [answers.item(record, page.facets.get(record.id)) for record in page.records]
            after = page.next_position
            if after is None:
                return shown
            assert page.records, "a page that says there is more has something"

    def ids(self, query: Query = EVERYTHING, *, tenant: str = TENANT) -> builtins.list[UUID]:
        return [UUID(orjson.loads(shown)["id"]) for shown in self.listed(query, tenant=tenant)]

    def retrieve(self, id_: UUID, *, tenant: str = TENANT) -> Record:
        return reads.retrieve(self.store, tenant, id_)

    def stats(self, query: Query = EVERYTHING, *, tenant: str = TENANT, **view: str | None) -> dict[str, Any]:
        """Return stats without the window, which has the time and the tiers."""
        shown = reads.stats(self.store, tenant, query, **view)
        return {name: value for name, value in shown.items() if name != "window"}

    def window(self, query: Query = EVERYTHING, *, tenant: str = TENANT) -> dict[str, Any]:
        window: dict[str, Any] = reads.stats(self.store, tenant, query)["window"]
        return window

    def delete(self, id_: UUID, *, tenant: str = TENANT) -> deletion.Removed:
        return deletion.delete_one(self.store, tenant, id_)

    # Relay and worker.

    def waiting(self) -> builtins.list[Row]:
        return self.outbox.waiting(0, 100_000)

    def persist(self, rows: Sequence[Row] | None = None) -> None:
        """Bring Redis and the archive up to these rows (None: all that wait), and settle them."""
        rows = self.waiting() if rows is None else rows
        persistence.persist(self.store, [row.record for row in rows])
        self.settle(rows)

    def settle(self, rows: Sequence[Row]) -> None:
        """Confirm or quarantine what the archive has decided."""
        relay.settle(self.store, {row.n: Version.of(row.record) for row in rows})


_numbers = count(1)


def taken(results: Sequence[Appended | Exception]) -> list[Appended]:
    """Return the result of an append, all of which was accepted."""
    assert all(isinstance(one, Appended) for one in results), results
    return [one for one in results if isinstance(one, Appended)]


def expires_at_s(client: Redis, one: Record) -> int:
    """When the key of a record goes, by the clock of the server, in whole seconds."""
    (key,) = client.keys(f"*record:{one.id}")
    with client.pipeline(transaction=True) as pipe:
        pipe.time()
        pipe.pttl(key)
        (seconds, microseconds), left_ms = pipe.execute()
    ends_at_s: int = round(seconds + microseconds / SECOND_US + left_ms / 1000)
    return ends_at_s


def new_id() -> UUID:
    """Ids of tests go up, so that a failure can be read."""
    return UUID(int=next(_numbers))


def made_body(id_: UUID, **fields: Any) -> bytes:
    """Canonical bytes of the smallest body with ``fields``."""
    return canonical(parse(orjson.dumps(body(id=str(id_), **fields))))


def made(
    id_: UUID,
    stamp: int,
    *,
    tenant: str = TENANT,
    recorded_at_us: int | None = None,
    revision: int | None = None,
    **fields: Any,
) -> Record:
    """A record as an outbox that knew nothing of its id would have stamped it."""
    data = made_body(id_, **fields)
    first = stamp if recorded_at_us is None else recorded_at_us
    return Record(tenant, id_, stamp, digest_of(data), revision or stamp, first, data)


def draft(id_: UUID, *, tenant: str = TENANT, known: Record | None = None, **fields: Any) -> Draft:
    data = made_body(id_, **fields)
    return Draft(tenant, id_, digest_of(data), data, known)


def stored_outcomes(id_: UUID) -> list[str]:
    """Return the names of the late outcomes that the archive shows of a run."""
    found = archive_reads.find(TENANT, id_)
    assert found is not None
    return [one["name"] for one in answers.outcomes_of(found)]
