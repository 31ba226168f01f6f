"""What the quick start needs in the database: its tables, a tenant, a key, somebody who may enter the admin."""

from __future__ import annotations

from dataclasses import dataclass

from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.db import connections, transaction
from django.utils import timezone
from rest_framework_api_key.crypto import KeyGenerator

from trajectories.models import SCOPES, ApiKey, Tenant

TENANT = "default"
ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Access:
    """How to get in. ``admin_password`` is ``None`` where somebody else made the admin user."""

    tenant: str
    api_key: str
    admin_user: str
    admin_password: str | None


def provision(*, known_key: str | None, admin_password: str) -> Access:
    """Migrates, and makes what is missing.

    Args:
        known_key: the key of an earlier start, taken again if it is still good: its text cannot be read back.
        admin_password: for an admin user, if one has to be made.
    """
    try:
        call_command("migrate", interactive=False, verbosity=0)
        with transaction.atomic():
            tenant, api_key = _key(known_key)
            admin_user, password = _admin(admin_password)
        return Access(tenant, api_key, admin_user, password)
    finally:
        connections.close_all()


def _key(known_key: str | None) -> tuple[str, str]:
    if known_key and (slug := _tenant_of(known_key)):
        return slug, known_key
    tenant, _ = Tenant.objects.get_or_create(slug=TENANT)
    return tenant.slug, ApiKey.objects.issue(tenant=tenant, name="quickstart", scopes=SCOPES)[1]


def _tenant_of(text: str) -> str | None:
    """The tenant for which ``text`` is a good key with every scope."""
    key = ApiKey.objects.filter(prefix=text.partition(".")[0], is_revoked=False).first()
    if key is None or not KeyGenerator().verify(text, key.hashed_key):
        return None
    has_expired = key.expires_at is not None and key.expires_at <= timezone.now()
    return None if has_expired or set(key.scopes.split()) < set(SCOPES) else key.tenant_id


def _admin(password: str) -> tuple[str, str | None]:
    users = get_user_model()._default_manager
    there = users.filter(is_superuser=True, is_active=True).order_by("pk").first()
    if there is None:
        users.create_superuser(ADMIN, password=password)
        return ADMIN, password
    return there.get_username(), password if there.check_password(password) else None
