"""Phases and quarantined records, read-only."""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.db.models.functions import Left, Length
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString

from trajectories import persistence
from trajectories.admin import columns, formatting
from trajectories.admin.changelist import ChoiceFilter, MirrorAdmin, TenantFilter, with_id
from trajectories.domain.contract_types import PHASE_OUTCOMES
from trajectories.models import Phase, Quarantined, Trajectory
from trajectories.storage.archive_errors import ArchiveError
from trajectories.storage.redis_tier import RedisError
from trajectories.storage.store import get_store


class PhaseOutcomeFilter(ChoiceFilter):
    title = "outcome"
    parameter_name = "outcome"
    words = PHASE_OUTCOMES


@admin.register(Phase)
class PhaseAdmin(MirrorAdmin):
    list_display: Any = (
        columns.text("phase_name"),
        "trajectory_short",
        columns.trajectory_owner,
        columns.text("model"),
        columns.picked_by,
        "outcome",
        columns.credited,
        columns.cost,
        columns.duration,
    )
    list_filter = (PhaseOutcomeFilter,)
    tenant_path = "trajectory__tenant"
    ordering = ("-pk",)
    search_fields = ("trajectory__trajectory_id",)
    search_help_text = "The id of a trajectory."
    sections: ClassVar[Any] = {
        None: (
            (columns.text("phase_name"), columns.text("phase")),
            ("trajectory_link", columns.trajectory_owner),
            (columns.place, "attempt"),
            (columns.text("agent"), columns.text("phase_id")),
        ),
        "Model": (
            (columns.text("model"), columns.text("requested_model")),
            (columns.text("selection_method"), "selection_probability"),
        ),
        "Result": (
            ("outcome", columns.credited),
            (columns.text("skip_reason"), "fit"),
            columns.tools,
            (columns.cost, columns.duration),
            (columns.input_tokens, columns.output_tokens),
        ),
    }

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        # The page of a phase names its trajectory too. No page needs the body.
        rows = super().get_queryset(request).select_related("trajectory")
        return rows.defer("trajectory__body", "trajectory__request_summary_folded", "trajectory__tags")

    @admin.display(description="trajectory")
    def trajectory_link(self, phase: Phase) -> SafeString:
        return self.link("trajectory_change", str(phase.trajectory), phase.trajectory_id)

    @admin.display(description="trajectory")
    def trajectory_short(self, phase: Phase) -> SafeString:
        id_ = str(phase.trajectory)
        shown = format_html('<span title="{}">{}…</span>', id_, id_[:8])
        return self.link("trajectory_change", shown, phase.trajectory_id)

    def tenant_of(self, row: Phase) -> str:
        return row.trajectory.tenant_id

    def record_id(self, row: Phase) -> str:
        return str(row.trajectory)

    def found(self, rows: QuerySet[Any], term: str) -> QuerySet[Any]:
        return rows.filter(trajectory__in=with_id(Trajectory.objects.all(), term).values("pk"))


@admin.register(Quarantined)
class QuarantinedAdmin(MirrorAdmin):
    list_display: Any = (
        columns.quarantined,
        "trajectory_id",
        columns.owner,
        columns.error_head,
        "attempts",
        columns.recorded,
        columns.size,
    )
    list_display_links = (columns.quarantined, "trajectory_id")
    list_filter = (TenantFilter,)
    ordering = ("-pk",)
    search_fields = ("trajectory_id",)
    search_help_text = "The id of a trajectory."
    actions = ("replay",)
    sections: ClassVar[Any] = {
        None: (columns.text("error"), "trajectory_id", (columns.owner, columns.quarantined, "attempts")),
        "Version": ((columns.recorded_exactly, columns.revised), (columns.accepted, "digest")),
    }

    def listed(self, rows: QuerySet[Any]) -> QuerySet[Any]:
        lean: QuerySet[Any] = rows.defer("body", "error").annotate(
            head=Left("error", columns.HEAD), body_bytes=Length("body")
        )
        return lean

    def found(self, rows: QuerySet[Any], term: str) -> QuerySet[Any]:
        return with_id(rows, term)

    def shown_below(self, row: Any) -> dict[str, Any]:
        return {"json": formatting.pretty(bytes(row.body))}

    def has_replay_permission(self, request: HttpRequest) -> bool:
        """Return whether the user may replay quarantined records.

        Rows are read-only, so the change permission grants replay alone.
        """
        return request.user.has_perm("trajectories.change_quarantined")

    @admin.action(description="Replay: try selected records again", permissions=["replay"])
    def replay(self, request: HttpRequest, queryset: QuerySet[Quarantined]) -> None:
        try:
            taken = [
                persistence.replay(get_store(), pk) for pk in list(queryset.order_by("pk").values_list("pk", flat=True))
            ]
        except (ArchiveError, RedisError):
            self.message_user(request, "Redis or the archive is unavailable; try again later.", messages.ERROR)
            return
        refused = taken.count(False)
        if taken.count(True):
            self.message_user(request, f"The archive has taken {taken.count(True)} now.", messages.SUCCESS)
        if refused:
            self.message_user(request, f"It still refuses {refused}; each has its new reason.", messages.WARNING)
