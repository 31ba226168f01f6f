"""The process pool of the site's Celery worker, which ends at SIGTERM while tasks arrive.

The pool of Celery 5.7 has two faults at a warm shutdown:

- A pipe takes 64 KiB, so a larger batch is sent to a child in parts. If the pool is closed between
  two parts, it drops the rest: the child waits for that, and the worker for the child, without a
  limit. ``AsynPool.flush`` sends the rest after a lost connection, but does nothing once the pool
  is closed. The symptom is that of https://github.com/celery/celery/issues/1770.
- ``flush`` also forgets each task whose start a child has not reported yet. The child does the
  work, and then waits 30 s for the receipt of its result.
"""

from __future__ import annotations

from typing import Any

from celery.concurrency import prefork
from celery.concurrency.asynpool import AsynPool
from celery.concurrency.prefork import CLOSE, RUN  # type: ignore[attr-defined]  # billiard.pool has them


class _Pool(AsynPool):
    _cache: dict[int, Any]
    _state: int
    outbound_buffer: Any

    def close(self) -> None:
        """Send the rest of each task that a child has in part; each is in the cache until ``flush``."""
        if self._state == RUN:
            for job in tuple(self._cache.values()):
                if writer := _writer_of(job):
                    self._flush_writer(job._write_to, writer)  # type: ignore[attr-defined]
            # Drop a child that was killed meanwhile: its pipe may be full, and the pool writes to each at the end.
            self._join_exited_workers()  # type: ignore[attr-defined]
        super().close()

    def flush(self) -> None:
        """Forget the tasks that are not sent; at a shutdown, only those."""
        if self._state != CLOSE:
            super().flush()
            return
        self.outbound_buffer.clear()
        for job in tuple(self._cache.values()):
            if not job._accepted and not _is_with_child(job):
                job.discard()


class TaskPool(prefork.TaskPool):
    Pool = _Pool


def _writer_of(job: Any) -> Any:
    """Return the generator that sends the task, if it is not done."""
    reference = getattr(job, "_writer", None)
    return reference and reference()


def _is_with_child(job: Any) -> bool:
    child = job._write_to
    return child is not None and child._is_alive()
