"""Runs: the list to find one, and the page of one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar
from urllib.parse import urlencode

import orjson
from django.contrib import admin
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import SuspiciousOperation
from django.db.models import Model, QuerySet
from django.db.models.functions import Left
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse, QueryDict
from django.urls import NoReverseMatch, URLPattern, path, reverse

from trajectories.admin import (
    columns,
    formatting,
    keyset,
    outcomes,
    pages,
    run_annotations,
    run_list,
    run_page,
    saved_views,
)
from trajectories.admin.changelist import MirrorAdmin, with_id
from trajectories.admin.overview import curl
from trajectories.admin.run_actions import RunActions
from trajectories.admin.tenants import tenants_of
from trajectories.domain import answers
from trajectories.domain.clock import now_us
from trajectories.domain.contract_types import MAX_PHASES
from trajectories.domain.query import CURSOR_PATTERN, decode_cursor, encode_cursor
from trajectories.domain.record import LOWEST_ID, Position
from trajectories.exceptions import InvalidInput
from trajectories.models import Phase, Tenant, Trajectory
from trajectories.storage import search_index
from trajectories.storage.archive_writes import record_of

MAX_NEW = 100
"""New runs that the live list counts."""
LIVE_EVERY_S = 5
_FILTERS = "_changelist_filters"


@admin.register(Trajectory)
class TrajectoryAdmin(RunActions, MirrorAdmin):
    list_display: Any = (
        run_list.outcome,
        run_list.request_summary,
        columns.owner,
        run_list.project,
        run_list.phase_strip,
        run_list.models,
        run_list.cost,
        columns.duration,
        run_list.recorded,
    )
    list_display_links = (run_list.request_summary,)
    sortable_by: ClassVar[Any] = (run_list.recorded,)
    list_filter: ClassVar[Any] = run_list.LIST_FILTERS
    ordering = ("-recorded_at_us", "-trajectory_id")
    search_fields = ("trajectory_id", "project", "source")
    search_help_text = "Words of the request, errors, tools, tags, models, agents and names; or an id."
    change_list_template = "admin/trajectories/run_list.html"
    change_form_template = "admin/trajectories/run.html"
    sections: ClassVar[Any] = {
        "Fields": (
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

    class Media:
        css: ClassVar = {"all": ("trajectories/list.css", "trajectories/run.css")}

    def get_urls(self) -> list[URLPattern]:
        name = "trajectories_trajectory"
        own = [
            path("live/", self.admin_site.admin_view(self.live_view), name=f"{name}_live"),
            path("<path:object_id>/annotate/", self.admin_site.admin_view(self.annotate_view), name=f"{name}_annotate"),
        ]
        return [*own, *pages.urls(self), *super().get_urls()]

    def get_fieldsets(self, request: HttpRequest, obj: Model | None = None) -> Any:
        # Folded: the page begins with what they say, in words and pictures.
        return [(name, {**options, "classes": ["collapse"]}) for name, options in super().get_fieldsets(request, obj)]

    # --- The list

    def get_list_display(self, request: HttpRequest) -> Any:
        tenants = tenants_of(request)
        is_one = bool(request.GET.get("tenant")) or (tenants is not None and len(tenants) == 1)
        return [column for column in self.list_display if column is not columns.owner or not is_one]

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return run_list.UnlistedRuns if getattr(request, "is_unlisted", False) else run_list.RunList

    def listed(self, rows: QuerySet[Any]) -> QuerySet[Any]:
        lean: QuerySet[Any] = rows.defer("body", "outcomes", "request_summary_folded", "tags").annotate(
            head=Left("body", columns.HEAD)
        )
        return lean

    def found(self, rows: QuerySet[Any], term: str) -> QuerySet[Any]:
        ids, entries = with_id(Trajectory.objects.all(), term).values("pk"), search_index.matching(term)
        if entries is None or not search_index.is_complete():
            return rows.filter(
                pk__in=self._by_name(term).union(ids, *([] if entries is None else [entries.values("pk")]))
            )
        if (keys := search_index.keys(entries)) is None:
            # Words this common occur among the newest rows, so the ordered walk ends early. Collecting
            # and sorting every match would take longer.
            return search_index.walked(rows, entries)
        return rows.filter(pk__in=[*keys, *ids.values_list("pk", flat=True)])

    def _by_name(self, term: str) -> QuerySet[Any]:
        """Return the keys of rows of this project or source, each found in its own index."""
        mine = Trajectory.objects.filter(tenant__in=Tenant.objects.values("pk"))
        return mine.filter(project=term).values("pk").union(mine.filter(source=term).values("pk"))

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        if (name := request.GET.get("filter")) in run_list.FACETS:
            # The form that adds a filter: it names the parameter in another one.
            given = request.GET.copy()
            value = given.pop("value", [""])[-1].strip()
            del given["filter"]
            given.pop("p", None)
            given[str(name)] = value
            return HttpResponseRedirect(f"?{given.urlencode()}")
        response = super().changelist_view(request, {"title": "Runs"} | (extra_context or {}))
        page = getattr(response, "context_data", None) or {}
        if "cl" in page:
            page |= self._around(request, page["cl"])
        return response

    def _around(self, request: HttpRequest, shown: run_list.RunList) -> dict[str, Any]:
        """Return what the page has around the rows."""
        given = request.GET.copy()
        given.pop("p", None)
        is_live, is_by_duration = given.get("live") == "1", given.get("strip") == "duration"
        is_newest = bool(shown.result_list) and shown.place is None and shown.order[0].startswith("-")
        newest = shown.result_list[0] if is_newest else None
        start = Position(newest.recorded_at_us, newest.trajectory_id) if newest else Position(now_us(), LOWEST_ID)
        filters = QueryDict(given.urlencode(), mutable=True)
        filters.pop("live", None)
        return {
            "chips": shown.chips(),
            "facets": [(name, name.replace("_", " ")) for name in run_list.FACETS],
            "facet_words": sorted({word for words in run_list.WORDS.values() for word in words}),
            "kept": [(name, value) for name, values in given.lists() for value in values],
            "saved_views": saved_views.links(request),
            "save_view_url": self._save_view_url(request, filters),
            "strip_link": _with(given, strip=None if is_by_duration else "duration"),
            "is_strip_by_duration": is_by_duration,
            "live_link": _with(given, live=None if is_live else "1"),
            "live_url": f"{self._url('live')}?{filters.urlencode()}" if is_live else None,
            "live_after": encode_cursor(start),
            "live_every_s": LIVE_EVERY_S,
            "is_search_partial": bool(shown.query) and not search_index.is_complete(),
            "overview_url": self._overview_url(),
            **self._if_empty(request, shown),
        }

    def _if_empty(self, request: HttpRequest, shown: run_list.RunList) -> dict[str, Any]:
        """Return what a list without rows says: how to record the first run, or that no run
        matches."""
        if shown.result_list or shown.place is not None:
            return {}
        given = shown.get_filters_params()
        is_filtered = bool(shown.query) or any(values[-1] for name, values in given.items() if name != run_list.TENANT)
        return {"is_empty": True, "is_unmatched": is_filtered, "curl": curl(request)}

    def _save_view_url(self, request: HttpRequest, filters: QueryDict) -> str | None:
        """Return the form for a new view, None where the user or the admin site has none."""
        if not request.user.has_perm("trajectories.add_savedview"):
            return None
        try:
            address = reverse("admin:trajectories_savedview_add", current_app=self.admin_site.name)
        except NoReverseMatch:
            return None
        return f"{address}?{urlencode({'querystring': filters.urlencode()})}"

    def live_view(self, request: HttpRequest) -> HttpResponse:
        """Answer how many runs of the list's filters are newer than the position ``after``."""
        if not self.has_view_permission(request):
            return JsonResponse({"error": "You may not see runs."}, status=403)
        try:
            after = decode_cursor(request.GET.get("after", ""))
        except InvalidInput:
            return JsonResponse({"error": f"after must match {CURSOR_PATTERN}"}, status=400)
        given = request.GET.copy()
        given.pop("after")
        rows = run_list.newer_than(self._unlisted(request, given)[0], after)
        count = rows.values("pk")[: MAX_NEW + 1].count()
        return JsonResponse({"new": min(count, MAX_NEW), "is_more": count > MAX_NEW})

    def _unlisted(self, request: HttpRequest, given: QueryDict) -> tuple[QuerySet[Any], Sequence[str]]:
        """Return the rows of a list with these parameters, and their order."""
        try:
            shown: Any = self.get_changelist_instance(_Asked(request, given))
        except (IncorrectLookupParameters, SuspiciousOperation):
            return self.get_queryset(request).none(), self.ordering
        return shown.queryset, shown.order

    # --- One run

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        row = context["original"]
        given = request.GET.get("view", "")
        view = given if given in run_page.VIEWS else run_page.VIEWS[0]
        record = record_of(row)
        whole = answers.whole(record)
        filters = request.GET.get(_FILTERS, "")
        context |= {
            "run": run_page.page(orjson.loads(whole), view),
            "json": formatting.pretty(whole),
            "summary": formatting.summary(row.canonical.decode()) or "(empty)",
            "recorded": formatting.time_tag(row.recorded_at_us),
            "tags": [formatting.text(tag) for tag in formatting.members(row.tags)],
            "views": [(name, self._run_url(row.pk, filters, name), name == view) for name in run_page.VIEWS],
            "next_view": self._run_url(row.pk, filters, run_page.VIEWS[(run_page.VIEWS.index(view) + 1) % 3]),
            "list_url": f"{self._url('changelist')}?{filters}" if filters else self._url("changelist"),
            "overview_url": self._overview_url(),
            "row_height": run_page.ROW_HEIGHT,
            **self._neighbours(request, row, filters, given),
            **outcomes.context(record),
            **run_annotations.context(request, row, self._url("annotate", row.pk)),
        }
        return super().render_change_form(request, context, *args, **kwargs)

    def shown_below(self, row: Any) -> dict[str, Any]:
        phases = Phase.objects.filter(trajectory=row).order_by("place")[:MAX_PHASES]
        return {"phases": [_phase_line(phase) for phase in phases]}

    def _neighbours(self, request: HttpRequest, row: Trajectory, filters: str, view: str) -> dict[str, Any]:
        """Return the addresses of the next and the previous run of the list that led here."""
        rows, order = self._unlisted(request, QueryDict(filters, mutable=True))
        found = {}
        for name, way in (("next_run", order), ("previous_run", keyset.flipped(order))):
            beside = keyset.beyond(rows, way, keyset.at(row, way).values).order_by(*way)
            pk = beside.values_list("pk", flat=True).first()
            found[name] = pk and {
                "url": self._run_url(pk, filters, view),
                "text": "Older" if way[0].startswith("-") else "Newer",
            }
        return found

    def annotate_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Add or delete an annotation of a run that the user sees, and return to its page."""
        row = self.get_object(request, object_id)
        if row is None or not self.has_view_permission(request, row):
            return self._get_obj_does_not_exist_redirect(request, self.opts, object_id)  # type: ignore[attr-defined,no-any-return]
        run_annotations.post(self, request, row)
        query = f"?{request.GET.urlencode()}" if request.GET else ""
        return HttpResponseRedirect(f"{self._url('change', row.pk)}{query}#annotations")

    def _run_url(self, pk: int, filters: str, view: str) -> str:
        given = {name: value for name, value in ((_FILTERS, filters), ("view", view)) if value}
        return f"{self._url('change', pk)}{f'?{urlencode(given)}' if given else ''}"

    def _url(self, view: str, *args: Any) -> str:
        return reverse(f"admin:trajectories_trajectory_{view}", args=args, current_app=self.admin_site.name)

    def _overview_url(self) -> str:
        try:
            return reverse("admin:trajectories_trajectory_overview", current_app=self.admin_site.name)
        except NoReverseMatch:
            return reverse("admin:index", current_app=self.admin_site.name)


class _Asked(HttpRequest):
    """A request for the list with other parameters, by the same user."""

    is_unlisted = True

    def __init__(self, request: HttpRequest, given: QueryDict) -> None:
        super().__init__()
        self.__dict__ |= {name: value for name, value in vars(request).items() if name not in ("GET", "_messages")}
        self.GET = given  # type: ignore[assignment]
        self.method = "GET"


def _with(given: QueryDict, **changes: str | None) -> str:
    changed = given.copy()
    for name, value in changes.items():
        changed.pop(name, None)
        if value is not None:
            changed[name] = value
    return f"?{changed.urlencode()}"


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
