"""Rows that tests need beside the records: tenants, keys, staff and quarantined rows of no meaning.

Archived records are not made here. Their rows follow from canonical bytes, so ``tests.admin.rows``
has the persist side make them.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from django.contrib.auth.models import Group, User
from model_bakery.recipe import Recipe, foreign_key

from trajectories.domain.clock import epoch_us
from trajectories.domain.record import digest_of
from trajectories.models import SCOPES, ApiKey, Quarantined, Tenant

AT_US = epoch_us(datetime(2026, 1, 5, 23, 58, 46, 123456, UTC))
BODY = b'{"refused":true}'

tenant = Recipe(Tenant, slug="alice", name="")
api_key = Recipe(ApiKey, tenant=foreign_key(tenant), name="laptop", scopes=" ".join(SCOPES))
"""A key whose text is not known; ``ApiKey.objects.issue`` makes one that works."""

staff = Recipe(User, username="charlie", is_staff=True, is_active=True)
admin = staff.extend(username="admin", is_superuser=True)

quarantined = Recipe(
    Quarantined,
    tenant=foreign_key(tenant),
    trajectory_id=uuid4,
    stamp=AT_US,
    revision=AT_US,
    recorded_at_us=AT_US,
    body=BODY,
    digest=digest_of(BODY),
    error="value too long",
)


def staff_of(*tenants: str, **fields: Any) -> User:
    """Make a member of the staff who is bound to these tenants."""
    user: User = staff.make(**fields)
    for slug in tenants:
        user.groups.add(Group.objects.get_or_create(name=f"tenant:{slug}")[0])
    return user
