"""The lock on the rows of tenants, which each transaction that changes trajectories takes first."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.db import connections


def lock_tenants(trajectories: Any, slugs: Iterable[str], using: str) -> list[Any]:
    """Lock the rows of these tenants against other writers, in the order of their slugs, and return
    them.

    In another order, two transactions that change trajectories of the same tenants would deadlock.

    Args:
        trajectories: the model, or its form in a migration.
    """
    model = trajectories._meta.get_field("tenant").related_model
    features = connections[using].features
    rows = model.objects.using(using).filter(pk__in=sorted(set(slugs))).order_by("pk")
    if features.has_select_for_update:
        return list(rows.select_for_update(no_key=features.has_select_for_no_key_update))
    _take_write_lock(model, using)
    return list(rows)


def _take_write_lock(model: Any, using: str) -> None:
    """Take SQLite's write lock, which is that of the whole database and needs no row."""
    table = connections[using].ops.quote_name(model._meta.db_table)
    with connections[using].cursor() as cursor:
        cursor.execute(f"UPDATE {table} SET last_seq = last_seq WHERE slug = ''")  # noqa: S608
