"""Whose rows somebody of the staff sees: those of the tenants whose groups they are in."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group
from django.contrib.contenttypes.models import ContentType
from django.db.models import Model, QuerySet
from django.http import HttpRequest

from trajectories.models import ApiKey, Tenant

_GROUP = "tenant:"
EVERY = "*"
"""In place of a slug, which can never be this."""

M = TypeVar("M", bound=Model)


def tenants_of(request: HttpRequest) -> frozenset[str] | None:
    """Slugs of the tenants whose rows the user of ``request`` sees; ``None`` for every tenant.

    A superuser sees every tenant. Others see the tenants of their groups: group ``tenant:SLUG`` binds to one, ``tenant:*``
    to all; without such a group they see none. What they may do with the rows is for Django's permissions to say.
    """
    found: frozenset[str] | None
    try:
        found = request._trajectories_tenants  # type: ignore[attr-defined]
    except AttributeError:
        # Kept with the request, since each part of a page asks.
        found = request._trajectories_tenants = _asked(request)  # type: ignore[attr-defined]
    return found


def _asked(request: HttpRequest) -> frozenset[str] | None:
    user = request.user
    if user.is_active and getattr(user, "is_superuser", False):
        return None
    groups = getattr(user, "groups", None)  # a host project's user model need not have them
    if groups is None:
        return frozenset()
    names = groups.filter(name__startswith=_GROUP).values_list("name", flat=True)
    # The prefix again, because LIKE of SQLite does not tell small letters from capitals.
    slugs = frozenset(name.removeprefix(_GROUP) for name in names if name.startswith(_GROUP))
    return None if EVERY in slugs else slugs


def forget(tenant: str, keys: Iterable[ApiKey]) -> int:
    """Delete the tenant's group, and what the admin has logged of the tenant and of these keys; how many rows."""
    names = {Tenant: [tenant], ApiKey: [str(key.pk) for key in keys]}
    types = ContentType.objects.get_for_models(*names)
    logged = [LogEntry.objects.filter(content_type=types[model], object_id__in=pks) for model, pks in names.items()]
    return sum(rows.delete()[0] for rows in (*logged, Group.objects.filter(name=_GROUP + tenant)))


def own(rows: QuerySet[M], request: HttpRequest, path: str) -> QuerySet[M]:
    """Those of ``rows`` whose tenant, along the lookup ``path``, the user of ``request`` sees."""
    tenants = tenants_of(request)
    return rows if tenants is None else rows.filter(**{f"{path}__in": tenants})
