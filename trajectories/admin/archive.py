"""Trajectories, their phases and quarantined records, read-only."""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib import admin, messages
from django.db.models import Q, QuerySet
from django.db.models.functions import Left, Length
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.utils.html import format_html
from django.utils.safestring import SafeString

from trajectories import persistence
from trajectories.admin import columns, formatting, pages
from trajectories.admin.changelist import (
    COUNTED,
    ChoiceFilter,
    MirrorAdmin,
    RecordedFilter,
    TenantFilter,
    bounded_count,
    with_id,
)
from trajectories.admin.compare_runs import redirect_to_comparison
from trajectories.admin.run_actions import delete_runs, export_runs
from trajectories.admin.tenant_pages import DELETE, SEE, may
from trajectories.domain import answers
from trajectories.domain.contract_types import MAX_PHASES, OUTCOMES, PHASE_OUTCOMES
from trajectories.models import Phase, Quarantined, Tenant, Trajectory
from trajectories.storage.archive_errors import ArchiveError
from trajectories.storage.archive_writes import record_of
from trajectories.storage.redis_tier import RedisError
from trajectories.storage.store import get_store


class OutcomeFilter(ChoiceFilter):
    title = "outcome"
    parameter_name = "outcome"
    words = OUTCOMES


class PhaseOutcomeFilter(OutcomeFilter):
    words = PHASE_OUTCOMES


@admin.register(Trajectory)
class TrajectoryAdmin(MirrorAdmin):
    list_display: Any = (
        columns.recorded,
        columns.summary,
        columns.owner,
        columns.text("project"),
        columns.text("source"),
        "outcome",
        columns.cost,
        columns.duration,
    )
    list_display_links = (columns.recorded, columns.summary)
    sortable_by: ClassVar[Any] = (columns.recorded,)
    list_filter = (RecordedFilter, OutcomeFilter, TenantFilter)
    ordering = ("-recorded_at_us", "-trajectory_id")
    search_fields = ("trajectory_id", "project", "source")
    search_help_text = "An id, or the exact name of a project or a source."
    actions = ("compare", "export_runs", "delete_runs")
    sections: ClassVar[Any] = {
        None: (
            columns.request,
            "trajectory_id",
            (columns.owner, columns.text("project")),
            (columns.text("source"), columns.text("request_type")),
            (columns.text("policy"), "parent_id"),
            (columns.started, columns.tags),
        ),
        "Result": (
            ("outcome", columns.run_error),
            ("build_passed", "tests_passed"),
            (columns.cost, columns.duration),
            (columns.input_tokens, columns.output_tokens),
            columns.unattributed_cost,
        ),
        "Stored": (
            (columns.recorded_exactly, columns.revised),
            (columns.accepted, "digest"),
            ("seq", "changed"),
        ),
    }

    def has_export_permission(self, request: HttpRequest) -> bool:
        return may(request, SEE)

    def has_runs_delete_permission(self, request: HttpRequest) -> bool:
        return may(request, DELETE)

    @admin.action(description="Export selected runs as a file", permissions=["export"])
    def export_runs(self, request: HttpRequest, queryset: QuerySet[Trajectory]) -> HttpResponseBase | None:
        return export_runs(self, request, queryset)

    @admin.action(description="Delete selected runs", permissions=["runs_delete"])
    def delete_runs(self, request: HttpRequest, queryset: QuerySet[Trajectory]) -> HttpResponseBase | None:
        return delete_runs(self, request, queryset)

    def get_urls(self) -> list[Any]:
        return [*pages.urls(self), *super().get_urls()]

    @admin.action(description="Compare selected runs", permissions=["view"])
    def compare(self, request: HttpRequest, queryset: QuerySet[Trajectory]) -> HttpResponse | None:
        return redirect_to_comparison(self, request, queryset)

    def listed(self, rows: QuerySet[Any]) -> QuerySet[Any]:
        lean: QuerySet[Any] = rows.defer("body", "request_summary_folded", "tags").annotate(
            head=Left("body", columns.HEAD)
        )
        return lean

    def found(self, rows: QuerySet[Any], term: str) -> QuerySet[Any]:
        mine = Trajectory.objects.filter(tenant__in=Tenant.objects.values("pk"))
        project, source = mine.filter(project=term), mine.filter(source=term)
        if max(bounded_count(project), bounded_count(source)) > COUNTED:
            # A term this common occurs among the newest rows, so the ordered walk ends early.
            # Collecting and sorting every match would take longer.
            return rows.filter(Q(project=term) | Q(source=term))
        ids = with_id(Trajectory.objects.all(), term).values("pk")
        # Each part seeks in its own index; an OR over the columns would scan the table.
        return rows.filter(pk__in=project.values("pk").union(source.values("pk"), ids))

    def shown_below(self, row: Any) -> dict[str, Any]:
        phases = Phase.objects.filter(trajectory=row).order_by("place")[:MAX_PHASES]
        return {
            "phases": [_phase_line(phase) for phase in phases],
            "json": formatting.pretty(answers.whole(record_of(row))),
        }


_PHASE_TEXTS = ("phase_name", "agent", "model", "requested_model", "selection_method", "skip_reason", "phase_id")


def _phase_line(phase: Phase) -> dict[str, Any]:
    """Return one line of the table of phases."""
    return {
        "phase": phase,
        **{name: formatting.text(getattr(phase, name)) for name in _PHASE_TEXTS},
        "place": columns.place(phase),
        "tools": columns.tools(phase),
        "input_tokens": columns.input_tokens(phase),
        "output_tokens": columns.output_tokens(phase),
        "cost": columns.cost(phase),
        "duration": columns.duration(phase),
    }


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
