"""A condition whose index a database should use, as if few rows met it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from django.db.models import BooleanField, Func

from trajectories.domain.query import Condition, Query

_INDEXED = ("project", "source")


def split(query: Query) -> tuple[list[Condition], Query]:
    """Return a condition whose column has an index by position, if there is one, and the others.

    The index has the order of the list, so it serves common values as well as rare ones.
    """
    found = [one for one in query.on_trajectory if one.lookup == "equal" and one.column in _INDEXED][:1]
    return found, replace(query, on_trajectory=tuple(one for one in query.on_trajectory if one not in found))


class Rare(Func):
    """A condition of which SQLite assumes that few rows meet it. Elsewhere the condition itself.

    SQLite has no statistics without ANALYZE, and averages with it. It would walk the index of
    positions through all records of the tenant to find none of a project.
    """

    template = "%(expressions)s"
    output_field = BooleanField()

    def as_sqlite(self, compiler: Any, connection: Any, **extra: Any) -> Any:
        return super().as_sql(compiler, connection, template="likelihood(%(expressions)s, 0.0001)", **extra)
