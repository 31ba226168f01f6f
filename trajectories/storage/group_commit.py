"""Callers that write at the same time share one commit, so they wait for the disk together."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from trajectories.exceptions import OutboxUnavailable, StoreMismatch
from trajectories.storage.outbox_rows import Appended, Draft


@dataclass(slots=True, eq=False)
class Waiter:
    """A caller of ``append``. ``turn`` is released when it is done, or is to commit itself."""

    drafts: Sequence[Draft]
    store: str | None
    turn: threading.Lock
    result: list[Appended | Exception] | None = None
    error: Exception | None = None


class GroupCommit:
    """Commits for the threads of a process: one of them for all that wait. Thread-safe."""

    def __init__(
        self, insert: Callable[[Sequence[Waiter]], list[list[Appended | Exception]]], write_lock: threading.Lock
    ) -> None:
        """Args:
        insert: commit the drafts of these callers in one transaction, and return what became of
            each. It is called with ``write_lock``.
        write_lock: of all writers of the file. Callers that queue while another one has it, share
            the next commit.
        """
        self._insert, self._write_lock = insert, write_lock
        self._lock = threading.Lock()
        self._waiters: list[Waiter] = []
        self._is_committing = False

    def waiting(self) -> int:
        """Return how many callers wait for the next commit."""
        return len(self._waiters)

    def append(self, drafts: Sequence[Draft], store: str | None) -> list[Appended | Exception]:
        """Commit ``drafts``, with those of other callers, and return what became of each.

        Raises:
            OutboxUnavailable, StoreMismatch: as ``insert`` raises them; no draft was accepted.
        """
        waiter = Waiter(drafts, store, threading.Lock())
        try:
            with self._lock:
                self._waiters.append(waiter)
                if self._is_committing:
                    waiter.turn.acquire()
                self._is_committing = True
            with waiter.turn:  # waits for the thread that commits
                pass
            if waiter.result is None and waiter.error is None:
                self._commit()
        except BaseException:  # of a signal, such as a time limit of Celery
            self._leave(waiter)
            raise
        if isinstance(waiter.error, OutboxUnavailable | StoreMismatch):
            # Raise one exception per caller: threads that share one would mix their tracebacks.
            raise type(waiter.error)(waiter.error.message, code=waiter.error.code) from waiter.error
        if waiter.error is not None:
            raise waiter.error
        return waiter.result or []

    def _commit(self) -> None:
        """Commit for all that queued during the previous commit's sync, then let one of those that
        queued since do the same.

        Each thread is woken by itself: with one lock for all, those that were done would wait for
        the next commit.
        """
        together: list[Waiter] = []
        try:
            with self._write_lock:
                with self._lock:
                    together, self._waiters = self._waiters, []
                self._insert_all(together)
        finally:
            with self._lock:
                self._pass_on()
            for waiter in together:
                if waiter.result is None and waiter.error is None:
                    waiter.error = OutboxUnavailable("The commit was interrupted. Send the request again.")
                if waiter.turn.locked():
                    waiter.turn.release()

    def _insert_all(self, waiters: Sequence[Waiter]) -> None:
        try:
            results = self._insert(waiters)
        except Exception as error:
            for waiter in waiters:
                waiter.error = error
        else:
            for waiter, result in zip(waiters, results, strict=True):
                waiter.result = result

    def _pass_on(self) -> None:
        """Let the first that waits commit. The caller holds the lock."""
        following = self._waiters[:1]
        self._is_committing = bool(following)
        for waiter in following:
            if waiter.turn.locked():
                waiter.turn.release()

    def _leave(self, waiter: Waiter) -> None:
        """Give up a turn that an exception has ended; nothing of it is accepted if it still waits."""
        with self._lock:
            if waiter in self._waiters:
                self._waiters.remove(waiter)
                if not waiter.turn.locked():  # it was to commit
                    self._pass_on()
