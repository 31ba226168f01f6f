"""What stays of an action: entries of the audit trail, and the digests of erased tenants."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import ClassVar, Literal, TypeAlias

from django.db import Error, models, router, transaction

from trajectories.domain.clock import now_us
from trajectories.domain.record import tenant_digest
from trajectories.domain.text import visible

logger = logging.getLogger(__name__)


class Erasure(models.Model):
    """An erased tenant, by a digest of its slug. The digest identifies late copies of its records.

    ``stamp`` is the time of the erasure, in microseconds since 1970. It grows when an erasure is
    completed, so that hosts read it again.
    """

    digest = models.CharField(max_length=32, primary_key=True)
    stamp = models.BigIntegerField()

    def __str__(self) -> str:
        return self.digest


AuditAction: TypeAlias = Literal[
    "delete", "erase", "import", "export", "view", "list", "annotate", "create_key", "change_key", "revoke_key"
]


class AuditManager(models.Manager["AuditEntry"]):
    def note(self, action: AuditAction, actor: str, tenants: Mapping[str, int], target: str = "") -> None:
        """Add an entry for each tenant, with how many records or keys it is about.

        An entry that cannot be written becomes a log line and no error: what it describes has
        happened, and a deletion succeeds without the database. An entry about an erased tenant
        names its digest.

        Args:
            actor: ``key PREFIX``, ``user NAME``, ``command NAME``, or ``code``.
            target: the id of the one record, the prefix of the one key, or the name of the
                repository.
        """
        database = router.db_for_write(AuditEntry)
        entries = [
            AuditEntry(
                at_us=now_us(),
                action=action,
                actor=actor[:_ACTOR_MAX],
                tenant=slug,
                target=target[:_TARGET_MAX],
                count=count,
            )
            for slug, count in tenants.items()
        ]
        try:
            with transaction.atomic(using=database):
                digests = {slug: tenant_digest(slug) for slug in tenants}
                erased = set(
                    Erasure.objects.using(database).filter(pk__in=digests.values()).values_list("pk", flat=True)
                )
                for entry in entries:
                    if digests[entry.tenant] in erased:
                        entry.tenant, entry.target = digests[entry.tenant], ""
                self.using(database).bulk_create(entries)
        except Error as error:
            for entry in entries:
                logger.warning("The audit trail in the database lacks an entry (%s): %s", type(error).__name__, entry)


_ACTOR_MAX = 200
_TARGET_MAX = 256


class AuditEntry(models.Model):
    """An action on records or keys of a tenant; never their content.

    ``tenant`` is a slug and no foreign key: the entry of an erasure names the digest of the tenant.
    """

    at_us = models.BigIntegerField()
    action = models.CharField(max_length=32)
    actor = models.CharField(max_length=_ACTOR_MAX)
    tenant = models.CharField(max_length=64)
    target = models.CharField(max_length=_TARGET_MAX, blank=True)
    count = models.BigIntegerField()

    objects: ClassVar[AuditManager] = AuditManager()

    class Meta:
        verbose_name_plural = "audit entries"
        indexes: ClassVar = [
            models.Index(fields=["tenant", "-at_us", "-id"], name="trajectories_audit_tenant"),
            models.Index(fields=["-at_us", "-id"], name="trajectories_audit_newest"),
            models.Index(fields=["target"], name="trajectories_audit_target"),
        ]

    def __str__(self) -> str:
        about = f" {self.target}" if self.target else ""
        return visible(f"{self.action}{about} of {self.tenant} by {self.actor}, {self.count}")
