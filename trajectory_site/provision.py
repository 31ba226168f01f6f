"""Prepare the database for the quick start: tables, a tenant, a key and an admin user."""

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
    """Credentials. ``admin_password`` is ``None`` if the admin user has another password."""

    tenant: str
    api_key: str
    admin_user: str
    admin_password: str | None


def provision(*, known_key: str | None, admin_password: str) -> Access:
    """Migrate, and create the missing tenant, key and admin user.

    Args:
        known_key: the key of an earlier start, reused if it is still valid. The database holds only
            its hash.
        admin_password: the password of the admin user, if one must be created.
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
    """Return the tenant of ``text`` if it is a valid key with every scope."""
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
