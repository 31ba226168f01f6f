"""The store of one process: its outbox, hot cache and Redis tier, built from one ``Settings``.

``get_store()`` returns the store of this process. Services take a store as their first argument.
Two stores in one process therefore behave like two processes. They behave like one host if they
share an outbox file, and like two hosts otherwise.

The archive is not part of the store. Django owns its connections, and ``archive_reads`` and
``archive_writes`` keep no state. It gives the store its identity.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Protocol, TypeVar

from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed

from trajectories import test_environment
from trajectories.conf import Settings, forget_settings, read_settings
from trajectories.domain import clock
from trajectories.exceptions import ArchiveUnavailable, OutboxUnavailable, StoreMismatch
from trajectories.storage import archive_reads, recent_records, rollup_cache
from trajectories.storage.archive_errors import ArchiveError
from trajectories.storage.hot_cache import HotCache
from trajectories.storage.outbox import Outbox, Rebound
from trajectories.storage.outbox_rows import Appended, Draft
from trajectories.storage.redis_tier import RedisError, RedisTier, connect

_PROBE_EVERY_S = 1.0
T = TypeVar("T")


class IdentityUnknown(RedisError):
    """The Redis tier cannot be used: neither archive nor outbox says which store this is."""


class Background(Protocol):
    """Background work of a process, beside its requests: the relay's thread."""

    def start(self) -> None: ...
    def is_alive(self) -> bool: ...
    def stop(self, timeout_s: float) -> None: ...


class Store:
    """The tiers of one process. Thread-safe; must not be carried over a fork.

    Args:
        conf: the settings; a store reads no others.
        now_us: the clock that stamps accepted records, in microseconds since 1970.
    """

    is_eager = False
    """Tasks run in this process instead of being sent to the broker (``trajectories.testing``)."""

    def __init__(self, conf: Settings, *, now_us: Callable[[], int] = clock.now_us) -> None:
        self.conf = conf
        self.now_us = now_us
        self.inherited_files: set[IO[str]] = set()
        """Files that a forked child must close: a lock lasts until its last copy is closed."""
        self._lock = threading.RLock()
        self._identity: str | None = None
        self._is_verified = False
        self._outbox: Outbox | None = None
        self._hot_cache: HotCache | None = None
        self._redis_tier: RedisTier | None = None
        self._background: Background | None = None
        self._parts: dict[Any, Any] = {}
        self._probed_at, self._write_problem = float("-inf"), ""

    @property
    def outbox(self) -> Outbox:
        """Return the outbox.

        Raises:
            ImproperlyConfigured: the settings name no file for it.
        """
        if self._outbox is None:
            with self._lock:
                if self._outbox is None:
                    self._outbox = self._open_outbox()
        return self._outbox

    @property
    def hot_cache(self) -> HotCache:
        """Return the hot cache."""
        if self._hot_cache is None:
            with self._lock:
                if self._hot_cache is None:
                    self._hot_cache = HotCache(self.conf, self.outbox, lambda: self.redis_tier, self.verify_once)
        return self._hot_cache

    @property
    def redis_tier(self) -> RedisTier:
        """Return this store's Redis tier on the cache alias of the settings.

        Raises:
            IdentityUnknown: the identity is not known yet, and the archive is unavailable.
        """
        tier = self._redis_tier
        if tier is None:
            tier = self._redis_tier = connect(self.conf, self.identity)
        return tier

    @property
    def identity(self) -> str:
        """Return the identity of this store, 12 hexadecimal digits.

        The archive defines it. While the archive is unavailable, the outbox names it.

        Raises:
            IdentityUnknown: a new outbox, and the archive is unavailable.
        """
        known = self._identity
        if known is None:
            try:
                known = archive_reads.identity()
            except ArchiveError as error:
                known = self._identity_of_outbox()
                if known is None:
                    raise IdentityUnknown("The archive is unavailable, and has not named this store yet.") from error
            self._identity = known
        return known

    @property
    def queue(self) -> str | None:
        """Return the Celery queue of the settings, with this store's identity for ``{store}``.

        Raises:
            IdentityUnknown: as for ``identity``.
        """
        queue = self.conf.queue
        return queue.replace("{store}", self.identity) if queue and "{store}" in queue else queue

    def verify(self) -> None:
        """Check that outbox and archive belong to one store; a new outbox is bound to it.

        Raises:
            StoreMismatch: 503; records of another store wait in the outbox.
            ArchiveError: the archive is unavailable.
        """
        found = archive_reads.identity()
        self.outbox.bind(found)
        self._become(found)
        self._is_verified = True

    def verify_once(self) -> None:
        """Do as ``verify`` before the first read, or later if the archive is unavailable now.

        The relay repeats ``verify`` for all processes of the host.
        """
        if not self._is_verified or self.outbox.binding().store != self._identity:
            with suppress(ArchiveError):
                self.verify()

    def append(self, drafts: Sequence[Draft]) -> list[Appended | Exception]:
        """Commit ``drafts`` to the outbox, as ``Outbox.append`` does, if that still belongs to this
        store.

        Two sites with one outbox file would otherwise write into each other's archive. The archive
        is asked only after another process has bound the outbox anew.

        Raises:
            OutboxUnavailable: 503; no draft was accepted.
            StoreMismatch: 503; the outbox has become another store's.
            ArchiveUnavailable: 503; that cannot be decided now.
        """
        try:
            return self.outbox.append(drafts, store=self._identity if self._is_verified else None)
        except Rebound:
            self._verify_for_write()
            return self.outbox.append(drafts, store=self._identity)

    def _verify_for_write(self) -> None:
        try:
            self.verify()
        except ArchiveError as error:
            raise ArchiveUnavailable(
                f"The outbox {self.conf.outbox_path} was bound to another store, and the archive is unavailable."
            ) from error

    def expect(self, identity: str | None) -> None:
        """Refuse a message that the relay of another store has sent.

        Raises:
            StoreMismatch: its store is not this one.
            ArchiveError: the archive is unavailable.
        """
        if identity != self.identity:
            self._become(archive_reads.identity())  # the database may have been replaced
        if identity != self.identity:
            sender = f"the store {identity}" if identity else "a release without store identities"
            raise StoreMismatch(
                f"A worker of the store {self.identity} got a message of {sender}."
                " Give each store a queue or a broker of its own: QUEUE in TRAJECTORIES may contain {store}."
            )

    def _become(self, identity: str) -> None:
        if self._identity not in (None, identity):
            self._redis_tier = None
            if self._hot_cache is not None:
                self._hot_cache.clear()
        self._identity = identity

    def _identity_of_outbox(self) -> str | None:
        is_there = bool(self.conf.outbox_path) and Path(self.conf.outbox_path).exists()
        return self.outbox.binding().store if is_there else None

    def part(self, make: Callable[[Settings], T]) -> T:
        """Return the object that ``make(conf)`` built at the first call: state of a higher layer.

        The store calls its ``close()``, if it has one, when settings change. After a fork the child
        builds its own.
        """
        if make not in self._parts:
            with self._lock:
                if make not in self._parts:
                    self._parts[make] = make(self.conf)
        part: T = self._parts[make]
        return part

    def close(self) -> None:
        """Stop the background work and close the parts. Work of other threads may finish."""
        self.stop_background(timeout_s=0.0)
        for part in self._parts.values():
            if hasattr(part, "close"):
                part.close()

    def write_problem(self) -> str:
        """Return why the outbox refuses a record of the largest size, or "".

        The check writes, so it runs at most once a second.
        """
        with self._lock:
            if time.monotonic() - self._probed_at >= _PROBE_EVERY_S:
                try:
                    self.outbox.expect_bound()
                    self.outbox.expect_room(self.conf.max_record_bytes)
                    self._write_problem = ""
                except (OutboxUnavailable, StoreMismatch) as error:
                    self._write_problem = error.message
                self._probed_at = time.monotonic()
            return self._write_problem

    def run_in_background(self, make: Callable[[Store], Background]) -> None:
        """Start ``make(self)`` unless it already runs."""
        if self._background is not None and self._background.is_alive():
            return
        with self._lock:
            if self._background is None or not self._background.is_alive():
                self._background = make(self)
                self._background.start()

    def stop_background(self, timeout_s: float = 5.0) -> None:
        """Stop the work that ``run_in_background`` started."""
        with self._lock:
            background, self._background = self._background, None
        if background is not None:
            background.stop(timeout_s)

    def _open_outbox(self) -> Outbox:
        if not self.conf.outbox_path:
            # SQLite opens a temporary file for "", and records acknowledged into it would be lost.
            raise ImproperlyConfigured("TRAJECTORIES has no OUTBOX_PATH.")
        return Outbox(
            self.conf.outbox_path,
            synchronous=self.conf.outbox_synchronous,
            max_bytes=self.conf.outbox_max_bytes,
            disk_reserve_bytes=self.conf.outbox_disk_reserve_bytes,
            now_us=self.now_us,
        )

    def _after_fork_in_child(self) -> Store | None:
        """Release the parent's files.

        Returns:
            The store that continues the background work; None if there was none.
        """
        for file in self.inherited_files:
            file.close()
        if self._background is None:
            return None
        fresh = Store(self.conf, now_us=self.now_us)
        fresh.run_in_background(type(self._background))
        return fresh


# Global because a process commits through one connection, follows with one cache and counts once.
# Replaced when settings change and after a fork. The parent's store is kept, unused: SQLite
# connections must not be closed in a child.
_store: Store | None = None
_store_lock = threading.Lock()
_left_behind: list[Store] = []
# How ``get_store()`` makes a store. ``trajectories.testing`` replaces it for a test.
_make: Callable[[Settings], Store] = Store
S = TypeVar("S", bound=Store)
_overrides = 0  # how many ``override_settings(TRAJECTORIES=…)`` are active


def get_store() -> Store:
    """Return the store of this process.

    Raises:
        ImproperlyConfigured: a test has neither a store nor a TRAJECTORIES of its own. The store of
            the project's settings holds records of development.
    """
    global _store
    if _make is Store and not _overrides and test_environment.is_active():
        raise ImproperlyConfigured(
            f"This test would use the outbox {read_settings().outbox_path!r} of the project's settings. Give the test "
            "a store of its own: trajectories.testing.isolated_store, or the pytest fixture trajectories_store "
            "(docs/testing.md)."
        )
    if _store is None:
        with _store_lock:
            if _store is None:
                _store = _make(read_settings())
    return _store


@contextmanager
def using(store: Store) -> Iterator[None]:
    """Make ``get_store()`` return ``store`` in this process inside the block.

    Tests use it to run a command or a request as another host.
    """
    global _store
    before, _store = _store, store
    try:
        yield
    finally:
        _store = before


@contextmanager
def made_by(make: Callable[[Settings], S]) -> Iterator[S]:
    """Make ``get_store()`` return stores of ``make`` in this process inside the block.

    Another store is made when the settings change. ``trajectories.testing`` uses it.
    """
    global _make, _store
    before, _make = _make, make
    _drop()
    _store = made = make(read_settings())
    try:
        yield made
    finally:
        _drop()
        _make = before


def _forget(*, setting: str, enter: bool, **_: Any) -> None:
    global _overrides
    if setting == "TRAJECTORIES":
        _overrides += 1 if enter else -1
    if setting in ("TRAJECTORIES", "CACHES"):
        forget_settings()
        _drop()


def _drop() -> None:
    global _store
    if _store is not None:
        _store.close()
    _store = None


def _after_fork_in_child() -> None:
    global _store, _store_lock
    _store_lock = threading.Lock()
    rollup_cache.written.forget()
    recent_records.written.forget()
    if _store is not None:
        _left_behind.append(_store)
        _store = _store._after_fork_in_child()


setting_changed.connect(_forget, dispatch_uid="trajectories.store")
os.register_at_fork(after_in_child=_after_fork_in_child)
