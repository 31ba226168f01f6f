"""A record as answers show it: its bytes, what the server adds, and what follows from them."""

from __future__ import annotations

import orjson

from trajectories.domain.derived import derived_of
from trajectories.domain.record import Facets, Record, facets_of
from trajectories.domain.warnings import warnings_of


def item(record: Record, facets: Facets | None = None) -> bytes:
    """Return the record as lists and exports show it.

    Args:
        facets: those of its body, where they are known already.
    """
    return record.json(derived_of(facets or facets_of(record.body)))


def whole(record: Record) -> bytes:
    """Return the record as the answer of a request for it alone, with its warnings if there are any."""
    return record.json(derived_of(facets_of(record.body)), warnings_of(orjson.loads(record.body)))
