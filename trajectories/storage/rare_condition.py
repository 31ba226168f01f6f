"""Conditions that few rows may meet, and how a database finds these."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from django.db.models import BooleanField, Func, QuerySet

from trajectories.domain.query import Condition, Query
from trajectories.models import Tenant, Trajectory
from trajectories.storage import search_index

_INDEXED = ("project", "source")
LARGE_BYTES = 16 * 1024
"""Mean size of records that are large. A few of them fill a page of an export."""
_WORDED = ("tags", "policy", "model", "agent", "tools")


def split(query: Query) -> tuple[list[Condition], Query]:
    """Return a condition whose column has an index by position, if there is one, and the others.

    The index has the order of the list, so it serves common values as well as rare ones.
    """
    found = [one for one in query.on_trajectory if one.lookup == "equal" and one.column in _INDEXED][:1]
    return found, replace(query, on_trajectory=tuple(one for one in query.on_trajectory if one not in found))


def narrowed(rows: QuerySet[Trajectory], query: Query, tenant: str | None = None) -> QuerySet[Trajectory]:
    """Return ``rows`` without some that do not match ``query``: those that lack its words.

    Tags, tools, agents, models and policies are words of the search. Without it, a database would
    look at every row to find none of a tag.

    Args:
        tenant: the only one of ``rows``. If its records are large, words that many records of others
            have help too.
    """
    conditions = (*query.on_trajectory, *query.on_phase)
    texts = [one.value for one in conditions if one.lookup in ("equal", "has") and one.column in _WORDED]
    if not texts:
        return rows
    found = search_index.candidates(texts, rows.db)
    if found is not None:
        return rows.filter(pk__in=found)
    entries = search_index.may_have(texts, rows.db)
    if (
        entries is None
        or tenant is None
        or not _has_large_records(tenant, rows.db)
        or search_index.is_more_than(entries, search_index.WALKED)
        or not search_index.is_complete(rows.db)
    ):
        return rows
    return search_index.walked(rows, entries)


def _has_large_records(tenant: str, using: str) -> bool:
    """Return whether to look for a value in the records of a tenant takes longer than to collect the
    entries that have its words."""
    found = Tenant.objects.using(using).filter(pk=tenant).values_list("record_count", "body_bytes").first()
    return found is not None and found[1] > found[0] * LARGE_BYTES


class Rare(Func):
    """A condition of which SQLite assumes that few rows meet it. Elsewhere the condition itself.

    SQLite has no statistics without ANALYZE, and averages with it. It would walk the index of
    positions through all records of the tenant to find none of a project.
    """

    template = "%(expressions)s"
    output_field = BooleanField()

    def as_sqlite(self, compiler: Any, connection: Any, **extra: Any) -> Any:
        return super().as_sql(compiler, connection, template="likelihood(%(expressions)s, 0.0001)", **extra)
