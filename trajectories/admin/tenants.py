"""Limit the rows that a staff user sees to the tenants of their groups."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group
from django.contrib.contenttypes.models import ContentType
from django.db.models import Model, QuerySet
from django.http import HttpRequest

from trajectories.models import ApiKey, Tenant
from trajectories.workspace import SavedView

_GROUP = "tenant:"
EVERY = "*"
"""The name that stands for every tenant; a slug can never be ``*``."""

M = TypeVar("M", bound=Model)


def tenants_of(request: HttpRequest) -> frozenset[str] | None:
    """Return the slugs of the tenants whose rows the user of ``request`` sees; None for all.

    A superuser sees every tenant. Other users see the tenants of their groups: group
    ``tenant:SLUG`` grants one, ``tenant:*`` grants all. Without one of these groups they see none.
    Django's permissions decide what users may do with the rows.
    """
    found: frozenset[str] | None
    try:
        found = request._trajectories_tenants  # type: ignore[attr-defined]
    except AttributeError:
        # Cached on the request, because each part of a page asks.
        found = request._trajectories_tenants = _asked(request)  # type: ignore[attr-defined]
    return found


def _asked(request: HttpRequest) -> frozenset[str] | None:
    user = request.user
    if user.is_active and getattr(user, "is_superuser", False):
        return None
    groups = getattr(user, "groups", None)  # a host project's user model may have no groups
    if groups is None:
        return frozenset()
    names = groups.filter(name__startswith=_GROUP).values_list("name", flat=True)
    # Check the prefix again, because LIKE of SQLite ignores case.
    slugs = frozenset(name.removeprefix(_GROUP) for name in names if name.startswith(_GROUP))
    return None if EVERY in slugs else slugs


def actor_of(request: HttpRequest) -> str:
    """Return the user of ``request`` as the audit trail names it."""
    return f"user {request.user.get_username()}"


def forget(tenant: str, keys: Iterable[ApiKey]) -> int:
    """Delete the tenant's group and saved views, and the admin log of the tenant and of these keys.

    Returns:
        The number of rows deleted.
    """
    names = {Tenant: [tenant], ApiKey: [str(key.pk) for key in keys]}
    types = ContentType.objects.get_for_models(*names)
    logged = [LogEntry.objects.filter(content_type=types[model], object_id__in=pks) for model, pks in names.items()]
    views = SavedView.objects.filter(tenant=tenant)
    return sum(rows.delete()[0] for rows in (*logged, views, Group.objects.filter(name=_GROUP + tenant)))


def own(rows: QuerySet[M], request: HttpRequest, path: str) -> QuerySet[M]:
    """Return those of ``rows`` whose tenant, at lookup ``path``, the user of ``request`` sees."""
    tenants = tenants_of(request)
    return rows if tenants is None else rows.filter(**{f"{path}__in": tenants})
