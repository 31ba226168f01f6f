"""The audit trail, read-only."""

from __future__ import annotations

from typing import Any, ClassVar, get_args

from django.contrib import admin
from django.db.models import QuerySet

from trajectories.admin import columns
from trajectories.admin.changelist import ChoiceFilter, MirrorAdmin, TenantFilter
from trajectories.models import AuditAction, AuditEntry


class ActionFilter(ChoiceFilter):
    title = "action"
    parameter_name = "action"
    words = get_args(AuditAction)


@admin.register(AuditEntry)
class AuditEntryAdmin(MirrorAdmin):
    """Staff see the entries of their tenants. Entries of erasures name no tenant: superusers see
    them."""

    list_display: Any = (columns.noted, "action", columns.text("actor"), columns.audited, "target", "count")
    list_display_links = (columns.noted,)
    list_filter = (ActionFilter, TenantFilter)
    ordering = ("-at_us", "-pk")
    search_fields = ("target",)
    search_help_text = "The id of a trajectory, or the part of an API key before the dot."
    sections: ClassVar[Any] = {
        None: (columns.noted, "action", columns.text("actor"), columns.audited, "target", "count")
    }

    def found(self, rows: QuerySet[Any], term: str) -> QuerySet[Any]:
        return rows.filter(target=term)

    def record_id(self, row: AuditEntry) -> str:
        return ""  # it shows no record, so looking at it is not noted
