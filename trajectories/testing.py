"""Stores for tests of projects that install the app (docs/testing.md).

``isolated_store`` gives a test an outbox in a temporary directory and a hot cache of its own.
Nothing is delivered until the test calls ``deliver()``, which writes to the archive in the test's
own thread and transaction. No Redis, broker, worker or relay is used.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from uuid import UUID

from django.test.utils import TestContextDecorator

from trajectories import persistence, relay
from trajectories.conf import Settings
from trajectories.domain.record import Record
from trajectories.storage.archive_delivery import Version
from trajectories.storage.redis_tier import Change, FeedMark, Fill, Ids, RedisTier, Stamps
from trajectories.storage.store import Store, get_store, made_by

__all__ = ["IsolatedStore", "isolated_store"]

_BATCH = 500
_SERVER = "none"


class IsolatedStore(Store):
    """The store of one test. ``isolated_store`` makes it."""

    is_eager = True

    def __init__(self, directory: str, conf: Settings) -> None:
        # Power loss does not matter here. An export must not wait for a relay that does not exist.
        super().__init__(
            replace(
                conf,
                outbox_path=str(Path(directory, "outbox.sqlite3")),
                outbox_synchronous="NORMAL",
                relay_in_process=False,
                cache_alias="",
                export_wait_s=0.0,
            )
        )
        self._no_redis = _NoRedis()

    @property
    def redis_tier(self) -> RedisTier:
        return self._no_redis

    def deliver(self) -> int:
        """Write every waiting record and deletion to the archive, as relay and worker do.

        Returns:
            The number of records that the archive has accepted. It may refuse some: these are rows
            of ``Quarantined`` afterwards.

        Raises:
            django.db.Error: the archive is unavailable.
        """
        after_n = accepted = 0
        while rows := self.outbox.waiting(after_n, _BATCH):
            persistence.persist(self, [row.record for row in rows])
            versions = {row.n: Version.of(row.record) for row in rows}
            accepted += len(relay.settle(self, versions).confirmed)
            after_n = rows[-1].n
        # The change feed would bring back what the archive has merged. The next read asks it instead.
        get_store().hot_cache.clear()
        return accepted

    def close(self) -> None:
        super().close()
        if self._outbox is not None:
            self._outbox.close()


class isolated_store(TestContextDecorator):  # noqa: N801  named as override_settings is
    """Give a test a store of its own; nothing else in the process or on the machine is used.

    It is a context manager, and a decorator of test methods and of ``unittest.TestCase`` classes::

        @isolated_store(attr_name="trajectories")
        class RecordTests(TestCase):
            def test_a_run_is_archived(self):
                ...
                self.trajectories.deliver()

    It applies to every thread of the process, such as the one of ``LiveServerTestCase``.

    Args:
        attr_name: the attribute of the test case that is the ``IsolatedStore``.
        kwarg_name: the same, as a keyword argument of the test method.
    """

    def __init__(self, attr_name: str | None = None, kwarg_name: str | None = None) -> None:
        super().__init__(attr_name, kwarg_name)
        self._active: list[ExitStack] = []

    def enable(self) -> IsolatedStore:
        with ExitStack() as stack:
            directory = tempfile.mkdtemp(prefix="trajectories-test-")
            stack.callback(shutil.rmtree, directory, ignore_errors=True)
            make: Callable[[Settings], IsolatedStore] = partial(IsolatedStore, directory)
            store = stack.enter_context(made_by(make))
            self._active.append(stack.pop_all())
        return store

    def __enter__(self) -> IsolatedStore:  # type: ignore[override]  # the stubs know what Django's own return
        return self.enable()

    def disable(self) -> None:
        self._active.pop().close()


class _NoRedis(RedisTier):
    """The Redis tier of a store without other hosts: it has nothing, and it misses nothing.

    Reads are therefore complete, and everything that is not in the outbox comes from the archive.
    """

    def __init__(self) -> None:
        """Take no client."""

    def merge(self, records: Sequence[Record], *, from_authority: bool) -> list[Stamps]:
        return [(one.stamp, one.digest, one.revision, one.recorded_at_us) for one in records]

    def under_way(self, tenant: str) -> set[UUID]:
        return set()

    def open_batch(self, ids: Ids) -> str:
        return ""

    def close_batch(self, name: str) -> None:
        pass

    def open_batches(self, older_than_s: float, limit: int) -> dict[str, Ids]:
        return {}

    def withdraw(self, record: Record, *, has_older: bool) -> None:
        pass

    def change_key(self, prefix: str, at_us: int) -> None:
        pass

    def changed_keys(self, after: int) -> dict[str, int]:
        return {}

    def delete(self, tombstones: Sequence[Record]) -> int:
        return 0

    def erase(self, tenant: str, ids: Iterable[UUID]) -> int:
        return 0

    def erase_all(self, tenant: str) -> int:
        return 0

    def find_traces(self, tenant: str, markers: Sequence[bytes]) -> tuple[int, int]:
        return 0, 0

    def rewrite_files(self) -> None:
        pass

    def is_writing_files(self) -> bool:
        return False

    def files(self) -> list[str]:
        return []

    def is_under_way(self, tenant: str) -> bool:
        return False

    def claim(self, work: str, for_s: float) -> bool:
        return False

    def release(self, work: str) -> None:
        pass

    def hold_rebuild(self, for_s: float, *, is_begun: bool) -> bool:
        return True

    def drop_unnamed_keys(self) -> None:
        pass

    def begin_epoch(self, replication_id: str) -> None:
        pass

    def is_trusted(self) -> bool:
        return True

    def server(self) -> tuple[str, str]:
        mark = self.mark("")
        return mark.epoch, mark.replication_id

    def replication_id(self) -> str:
        return _SERVER

    def mark(self, tenant: str) -> FeedMark:
        return FeedMark(f":{_SERVER}", _SERVER, 0)

    def changes(self, tenant: str, after: FeedMark, most: int = 0) -> tuple[FeedMark, list[Change]]:
        return after, []

    def depth_under_way(self, tenant: str) -> int:
        return 0

    def newest(self, tenant: str, limit: int) -> Fill:
        return Fill([], {}, None, has_more=False)

    def changes_for(self, tenant: str, ids: Iterable[UUID]) -> list[Change]:
        return []

    def find(self, tenant: str, id_: UUID) -> Record | None:
        return None

    def find_many(self, tenant: str, ids: Iterable[UUID]) -> list[Record]:
        return []
