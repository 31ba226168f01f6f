"""Record from code of the host project: views, commands, tasks and shells."""

from __future__ import annotations

import logging
import re
from collections.abc import Container, Mapping
from decimal import Decimal
from typing import Any
from uuid import UUID

import orjson
from django.utils.functional import Promise

from trajectories import relay
from trajectories.exceptions import InvalidInput
from trajectories.models import SLUG_PATTERN
from trajectories.services import ingest
from trajectories.storage.store import get_store

logger = logging.getLogger(__name__)


def record(
    tenant: str, trajectory: Mapping[str, Any] | bytes, *, idempotency_key: str | None = None, replace: bool = False
) -> ingest.Accepted:
    """Record as ``trajectories.record`` documents it, and start the relay of this process."""
    _expect_slug(tenant)
    data = _json(trajectory)
    return _relayed(ingest.record(get_store(), tenant, data, idempotency_key=idempotency_key, replace=replace))


def update(
    tenant: str, id_: UUID, changes: Mapping[str, Any] | bytes, *, if_match: Container[int] | None = None
) -> ingest.Accepted:
    """Update as ``trajectories.update`` documents it, and start the relay of this process."""
    _expect_slug(tenant)
    return _relayed(ingest.update(get_store(), tenant, id_, _json(changes), if_match=if_match))


def _expect_slug(tenant: str) -> None:
    if not (isinstance(tenant, str) and re.match(SLUG_PATTERN, tenant)):
        raise InvalidInput(
            "tenant must be a slug: up to 64 letters, digits, '_', '.' and '-', the first a letter or a digit; "
            f"got {tenant!r}.",
            param="tenant",
        )


def _relayed(accepted: ingest.Accepted) -> ingest.Accepted:
    try:
        relay.start()
    except RuntimeError as error:  # no thread starts while the interpreter ends; the record is durable
        logger.warning("Record %s waits in the outbox for the next process: %s", accepted.id, error)
    return accepted


def _json(trajectory: Mapping[str, Any] | bytes) -> bytes:
    if isinstance(trajectory, bytes):
        return trajectory
    if not isinstance(trajectory, Mapping):
        raise InvalidInput(f"The trajectory must be a dict or JSON as bytes, got {type(trajectory).__name__}.")
    try:
        return orjson.dumps(trajectory, default=_plain)
    except TypeError as error:
        raise InvalidInput(f"The trajectory cannot be written as JSON: {error}.") from error


def _plain(value: Any) -> Any:
    """Return types that Django code often has as types of JSON."""
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, Promise):
        return str(value)
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError  # orjson replaces it by an error that names the type
