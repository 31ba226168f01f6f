"""A record of an export, parsed at first use."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import orjson

from trajectories.domain.late_outcomes import shown
from trajectories.domain.record import Facets, Record, facets_in


@dataclass(frozen=True)
class Run:
    """A record, its canonical fields and its facets."""

    record: Record

    @cached_property
    def id(self) -> str:
        return str(self.record.id)

    @cached_property
    def fields(self) -> dict[str, Any]:
        fields: dict[str, Any] = orjson.loads(self.record.body)
        return fields

    @cached_property
    def outcomes(self) -> list[dict[str, Any]]:
        """Its late outcomes, as answers show them."""
        return shown(self.record.outcomes, self.fields)

    @cached_property
    def facets(self) -> Facets:
        return facets_in(self.fields, self.record.outcomes)
