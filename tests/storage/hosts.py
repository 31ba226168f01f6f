"""Hosts and their processes within this one: what a process has of its own is put in place while it is at work."""

from __future__ import annotations

import builtins
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson
from redis import Redis

import trajectories.conf
import trajectories.storage.hot_cache
import trajectories.storage.outbox
from tests.examples import body
from trajectories import persistence, relay
from trajectories.conf import read_settings
from trajectories.domain.query import Query
from trajectories.domain.record import Position, Record, digest_of
from trajectories.domain.schema import canonical, parse
from trajectories.services import deletion, ingest, reads
from trajectories.storage.hot_cache import HotCache
from trajectories.storage.outbox import Outbox
from trajectories.storage.outbox_rows import Appended, Draft, Row

TENANT = "alice"
SECOND_US = 1_000_000
EVERYTHING = Query()


class Clock:
    """A clock that goes on by a second whenever it is read; stands in for ``outbox.now_us``."""

    def __init__(self, start_us: int) -> None:
        self.now_us = start_us

    def __call__(self) -> int:
        self.now_us += SECOND_US
        return self.now_us


QUICK: dict[str, Any] = {"feed_poll_s": 0.0, "archive_retry_s": 0.0, "redis_retry_s": 0.0}
"""Settings of a process that looks at everything at each read."""


class WebProcess:
    """One process of a host: its connection to the outbox of that host, its settings, and its hot cache.

    Several on one path are the processes of one host; another path is another host.
    """

    def __init__(self, outbox_path: Path, **settings: Any) -> None:
        self.conf = replace(read_settings(), outbox_path=str(outbox_path), **settings)
        self.outbox = Outbox(self.conf.outbox_path, synchronous="NORMAL", max_bytes=self.conf.outbox_max_bytes)
        self._hot: HotCache | None = None

    @contextmanager
    def at_work(self) -> Iterator[None]:
        modules = trajectories.conf, trajectories.storage.outbox, trajectories.storage.hot_cache
        names = "_settings", "_outbox", "_hot"
        mine = self.conf, self.outbox, self._hot
        before = [getattr(module, name) for module, name in zip(modules, names, strict=True)]
        for module, name, value in zip(modules, names, mine, strict=True):
            setattr(module, name, value)
        try:
            yield
        finally:
            self._hot = trajectories.storage.hot_cache._hot
            for module, name, value in zip(modules, names, before, strict=True):
                setattr(module, name, value)

    @property
    def hot(self) -> HotCache:
        with self.at_work():
            return trajectories.storage.hot_cache.hot()

    def restart(self) -> None:
        """Forget what a process forgets."""
        self.outbox = Outbox(self.conf.outbox_path, synchronous="NORMAL", max_bytes=self.conf.outbox_max_bytes)
        self._hot = None

    # What it does.

    def record(self, tenant: str = TENANT, **fields: Any) -> Record:
        with self.at_work():
            return ingest.record(tenant, orjson.dumps(body(**fields))).record

    def list(
        self, query: Query = EVERYTHING, *, tenant: str = TENANT, after: Position | None = None, limit: int = 1_000
    ) -> reads.Page:
        with self.at_work():
            return reads.list_(tenant, query, after=after, limit=limit)

    def listed(self, query: Query = EVERYTHING, *, tenant: str = TENANT, limit: int = 1_000) -> builtins.list[bytes]:
        """Every page of the list, as the API shows the records."""
        shown: builtins.list[bytes] = []
        after = None
        while True:
            page = self.list(query, tenant=tenant, after=after, limit=limit)
            assert len(page.records) <= limit
            shown += [record.json() for record in page.records]
            after = page.next_position
            if after is None:
                return shown
            assert page.records, "a page that says there is more has something"

    def ids(self, query: Query = EVERYTHING, *, tenant: str = TENANT) -> builtins.list[UUID]:
        return [UUID(orjson.loads(shown)["id"]) for shown in self.listed(query, tenant=tenant)]

    def retrieve(self, id_: UUID, *, tenant: str = TENANT) -> Record:
        with self.at_work():
            return reads.retrieve(tenant, id_)

    def stats(self, query: Query = EVERYTHING, *, tenant: str = TENANT) -> dict[str, Any]:
        """Without the window, which tells the time and the tiers."""
        with self.at_work():
            shown = reads.stats(tenant, query)
        return {name: value for name, value in shown.items() if name != "window"}

    def window(self, query: Query = EVERYTHING, *, tenant: str = TENANT) -> dict[str, Any]:
        with self.at_work():
            window: dict[str, Any] = reads.stats(tenant, query)["window"]
            return window

    def delete(self, id_: UUID, *, tenant: str = TENANT) -> deletion.Removed:
        with self.at_work():
            return deletion.delete_one(tenant, id_)

    # What relay and worker do with what it has taken.

    def waiting(self) -> builtins.list[Row]:
        return self.outbox.waiting(0, 100_000)

    def persist(self, rows: Sequence[Row] | None = None) -> None:
        """Bring Redis and the archive up to these rows (None: all that wait), and settle them."""
        rows = self.waiting() if rows is None else rows
        with self.at_work():
            persistence.persist([row.record for row in rows])
        self.settle(rows)

    def settle(self, rows: Sequence[Row]) -> None:
        """Confirm or quarantine what the archive has decided."""
        with self.at_work():
            relay.settle({row.n: (row.record.tenant, row.record.id, row.record.stamp) for row in rows})


_numbers = count(1)


def taken(appended: Sequence[Appended | None]) -> list[Appended]:
    """What an append returned, all of which was taken."""
    assert None not in appended
    return [one for one in appended if one]


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
