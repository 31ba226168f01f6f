"""A record as answers show it: its bytes, what the server adds, and what follows from them."""

from __future__ import annotations

from typing import Any

import orjson

from trajectories.domain.derived import derived_of
from trajectories.domain.late_outcomes import shown
from trajectories.domain.record import Facets, Record, facets_in, facets_of
from trajectories.domain.warnings import warnings_of


def item(record: Record, facets: Facets | None = None) -> bytes:
    """Return the record as lists and exports show it.

    Args:
        facets: those of its body, where they are known already.
    """
    derived = derived_of(facets or facets_of(record.body))
    return record.json(derived, outcomes=outcomes_of(record)) if record.outcomes else record.json(derived)


def whole(record: Record) -> bytes:
    """Return the record as the answer of a request for it alone, with its warnings if there are
    any."""
    fields = orjson.loads(record.body)
    return record.json(derived_of(facets_in(fields)), warnings_of(fields), shown(record.outcomes, fields))


def outcomes_of(record: Record) -> list[dict[str, Any]]:
    """Return the late outcomes of a record as answers show them."""
    return shown(record.outcomes, orjson.loads(record.body))
