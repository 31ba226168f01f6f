"""Additions of staff beside the records: notes on runs, and views of the list that they have saved.

The authors are names and no foreign keys: the archive may be in another database than the users.
"""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.utils import timezone

from trajectories.domain.contract_types import FITS
from trajectories.domain.text import visible

AUTHOR_MAX = 200


class Annotation(models.Model):
    """A remark of a person on a run.

    ``trajectory_id`` is no foreign key, so that a new version of the record keeps its remarks. They
    are deleted with the record and erased with the tenant.
    """

    tenant = models.ForeignKey("trajectories.Tenant", on_delete=models.CASCADE, related_name="+", db_index=False)
    trajectory_id = models.UUIDField()
    note = models.TextField(blank=True, max_length=10_000)
    tag = models.CharField(max_length=64, blank=True)
    fit = models.CharField(
        max_length=16,
        blank=True,
        choices=[(word, word.replace("_", " ")) for word in FITS],
        help_text="How the models suited the run.",
    )
    author = models.CharField(max_length=AUTHOR_MAX, editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        indexes: ClassVar = [
            models.Index(fields=["tenant", "trajectory_id"], name="trajectories_annotated"),
        ]

    def __str__(self) -> str:
        return visible(self.tag or self.fit or self.note[:60])


class SavedView(models.Model):
    """A filter of the list of runs, with a name.

    ``tenant`` is the tenant that it is about; empty for all tenants.
    """

    name = models.CharField(max_length=100)
    note = models.CharField(max_length=500, blank=True)
    querystring = models.CharField(
        max_length=2_000, blank=True, help_text="The part of the list's address after the question mark."
    )
    is_shared = models.BooleanField("shared", default=False, help_text="Other staff who may see the runs see it too.")
    owner = models.CharField(max_length=AUTHOR_MAX, editable=False)
    tenant = models.CharField(max_length=64, blank=True, editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        verbose_name = "saved view"
        indexes: ClassVar = [
            models.Index(fields=["owner", "name"], name="trajectories_view_owner"),
        ]

    def __str__(self) -> str:
        return visible(self.name)
