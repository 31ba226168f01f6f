"""The Celery task of a push, so that the admin need not wait for it.

``apps.py`` imports it, because Celery looks for tasks in ``trajectories.tasks`` alone.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from celery import shared_task

from trajectories import tasks
from trajectories.domain.clock import SECOND_US
from trajectories.exceptions import TrajectoriesError
from trajectories.storage.store import get_store
from trajectories.training.encoding import JSONL
from trajectories.training.export import parse_request
from trajectories.training.hub import Target, push

logger = logging.getLogger(__name__)

_EXPIRES_US = 24 * 3600 * SECOND_US
"""A worker that was away for longer does not push."""


@shared_task(name="trajectories.push_to_hub", **tasks.OPTIONS, **tasks.LONG)
def push_to_hub(
    self: Any,
    store: str,
    tenant: str,
    given: dict[str, str],
    file: str,
    target: dict[str, Any],
    actor: str,
    until_us: int = 0,
) -> None:
    """Push an export. ``HF_TOKEN`` is the worker's; it never travels in a message.

    Args:
        until_us: when the message expires, in microseconds since 1970. A message that is
            repeated later would publish later records. Messages of earlier releases lack it, so
            their signature does not match.
    """
    if not tasks.is_signed(self, store, tenant, given, file, target, actor, until_us):
        return
    try:
        here = get_store()
        here.expect(store)
        if here.now_us() > until_us:
            logger.error("A push to %s was not done: its message is too old. Push again.", target["repo_id"])
            return
        done = push(here, tenant, parse_request(given, here.now_us()), Target(**target), file=file, actor=actor)
    except TrajectoriesError as error:
        logger.error("A push to %s failed: %s", target["repo_id"], error.message)
        return
    logger.info("A push to %s is done: %s", target["repo_id"], done.commit or "nothing has changed")


def enqueue(tenant: str, given: Mapping[str, str], target: Target, *, file: str = JSONL, actor: str) -> None:
    """Have a worker push.

    Args:
        given: parameters of ``parse_request``.
        file: jsonl or parquet.

    Raises:
        kombu.exceptions.OperationalError: the broker is unavailable.
    """
    store = get_store()
    until_us = store.now_us() + _EXPIRES_US
    args = store.identity, tenant, dict(given), file, asdict(target), actor, until_us
    tasks.send(push_to_hub, *args, queue=store.queue)
