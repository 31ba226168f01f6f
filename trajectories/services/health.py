"""Health of the store for people: one sentence for each part."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from kombu.exceptions import OperationalError as BrokerError

from trajectories import tasks
from trajectories.domain.clock import SECOND_US
from trajectories.domain.text import counted
from trajectories.exceptions import TrajectoriesError
from trajectories.models import Quarantined
from trajectories.storage import archive_reads
from trajectories.storage.archive_errors import ArchiveError, archive_errors
from trajectories.storage.redis_tier import RedisError
from trajectories.storage.store import Store

GOOD, WARNING, BAD = "good", "warning", "bad"
_LAG_S = 60
_PROBE_S = 1.0
_NEARLY_FULL = 0.8


class Finding(NamedTuple):
    """The state of one part: good, warning or bad, and a sentence that says why."""

    part: str
    state: str
    text: str


def health(store: Store) -> list[Finding]:
    """Return a finding for writes, backlog, outbox file, worker, Redis, archive and quarantine.

    A worker is asked and has a second to answer. No part raises: an unavailable one is a finding.
    """
    return [
        _part("Writes", lambda: _writes(store)),
        _part("Backlog", lambda: _backlog(store)),
        _part("Outbox file", lambda: _outbox(store)),
        _part("Worker", lambda: _worker(store)),
        _part("Redis", lambda: _redis(store)),
        _part("Archive", lambda: _archive(store)),
        _part("Quarantine", _quarantine),
    ]


def _part(name: str, look: Callable[[], tuple[str, str]]) -> Finding:
    try:
        return Finding(name, *look())
    except BrokerError:
        text = f"Celery's broker {tasks.broker_address()} is unavailable. Records wait in the outbox until it is back."
        return Finding(name, BAD, text)
    except RedisError:
        return Finding(name, BAD, "Redis is unavailable. Other hosts see new runs once the archive has them.")
    except ArchiveError:
        text = "The database is unavailable. New runs are accepted and kept in the outbox; older ones cannot be read."
        return Finding(name, BAD, text)
    except TrajectoriesError as error:
        return Finding(name, BAD, error.message)


def _writes(store: Store) -> tuple[str, str]:
    problem = store.write_problem()
    return (BAD, f"New runs are refused: {problem}") if problem else (GOOD, "New runs are accepted.")


def _backlog(store: Store) -> tuple[str, str]:
    counts = store.outbox.counts()
    if counts.oldest_waiting_us is None:
        return GOOD, f"Every run of this host is in the archive: {counts.confirmed:,} so far."
    age_s = max(0, store.now_us() - counts.oldest_waiting_us) // SECOND_US
    waiting = "1 run waits" if counts.waiting == 1 else f"{counts.waiting:,} runs wait"
    state = WARNING if age_s > _LAG_S else GOOD
    return state, f"{waiting} for the archive, the oldest for {age_s:,} s. They are safe in the outbox of this host."


def _outbox(store: Store) -> tuple[str, str]:
    counts = store.outbox.counts()
    share = counts.bytes / counts.max_bytes
    text = f"{counts.bytes / 2**20:,.1f} of {counts.max_bytes / 2**20:,.0f} MiB are used."
    if share < _NEARLY_FULL:
        return GOOD, text
    return WARNING, f"{text} When it is full, new runs are refused. Find out why they do not reach the archive."


def _worker(store: Store) -> tuple[str, str]:
    waiting = tasks.waiting_messages(store.queue)
    messages = "1 message waits" if waiting == 1 else f"{waiting:,} messages wait"
    if tasks.is_consumed(store.queue, _PROBE_S):
        return GOOD, f"A worker answers. {messages} in its queue."
    queue = tasks.queue_name(store.queue)
    return WARNING, f"No worker has answered within a second, and {messages}. Is one running for the queue {queue!r}?"


def _redis(store: Store) -> tuple[str, str]:
    if store.redis_tier.is_trusted():
        return GOOD, "Redis answers, and has the newest runs of every host."
    return (
        WARNING,
        "Redis was restarted or emptied. A worker fills it from the archive; reads use the archive meanwhile.",
    )


def _archive(store: Store) -> tuple[str, str]:
    tenants = archive_reads.tenants()
    records = sum(usage.records for usage in archive_reads.usage(tenants).values())
    held = f"{counted(records, 'run')} of {counted(len(tenants), 'tenant')}"
    return GOOD, f"The database answers. It has {held}; this is store {store.identity}."


@archive_errors()
def _quarantine() -> tuple[str, str]:
    count = Quarantined.objects.count()
    if not count:
        return GOOD, "The archive has refused no run."
    runs = "1 version of a run was" if count == 1 else f"{count:,} versions of runs were"
    return WARNING, f"{runs} refused by the archive, with the reason. Replay them once the reason is mended."
