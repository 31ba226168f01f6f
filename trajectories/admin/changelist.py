"""Changelists of growing tables.

Their queries do not count, sort or search without an index or a bound.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar
from uuid import UUID

from django.contrib import admin, messages
from django.contrib.admin.utils import flatten
from django.contrib.admin.views.main import ORDER_VAR, PAGE_VAR, ChangeList
from django.db.models import ForeignKey, Model, QuerySet
from django.forms import ModelChoiceField
from django.http import HttpRequest, HttpResponse
from django.urls import NoReverseMatch, reverse
from django.utils.html import conditional_escape, format_html
from django.utils.http import urlencode
from django.utils.safestring import SafeString
from django.utils.text import capfirst

from trajectories.admin import keyset
from trajectories.admin.frame import SCRIPT
from trajectories.admin.tenants import actor_of, own
from trajectories.domain.clock import DAY_US, now_us
from trajectories.domain.query import search_words
from trajectories.models import AuditEntry, Tenant

if TYPE_CHECKING:  # Django's own classes are not generic at run time
    _ModelAdmin = admin.ModelAdmin[Any]
else:
    _ModelAdmin = admin.ModelAdmin

PAGE_SIZES = (25, 50, 100, 200)
SIZE_VAR = "size"
_LISTED_TENANTS = 100


class BoundedChangeList(ChangeList):
    """A changelist that pages by position, in the order of its admin or the opposite one.

    It reads only the columns that the admin's ``listed`` leaves. The position is in the parameter
    that has the number of the page elsewhere, so every link that drops that one begins anew.
    """

    order: tuple[str, ...] = ()
    place: keyset.Place | None = None
    previous: str | None = None
    """Address of the page before this one."""
    next: str | None = None

    def get_filters_params(self, params: Any = None) -> dict[str, Any]:
        found = super().get_filters_params(params)
        return {name: value for name, value in found.items() if name != SIZE_VAR}

    def get_ordering(self, request: HttpRequest, queryset: QuerySet[Any]) -> list[Any]:
        names = [str(name) for name in self.model_admin.get_ordering(request)]
        if not {"pk", str(self.lookup_opts.pk.name)} & {name.lstrip("-") for name in names}:
            names.append("-pk" if names[0].startswith("-") else "pk")
        self.order = keyset.flipped(names) if self._is_flipped(names[0]) else tuple(names)
        return list(self.order)

    def _is_flipped(self, first: str) -> bool:
        """Return whether the address asks for the opposite order.

        One column may be sorted by, so its number does not matter: it depends on the columns that a
        user sees.
        """
        asked = str(self.params.get(ORDER_VAR, ""))
        is_asked = bool(self.sortable_by) and asked.removeprefix("-").isdecimal()
        return is_asked and asked.startswith("-") != first.startswith("-")

    def get_queryset(self, request: HttpRequest, exclude_parameters: list[str | None] | None = None) -> QuerySet[Any]:
        rows = super().get_queryset(request, exclude_parameters)
        return self.model_admin.listed(rows) if isinstance(self.model_admin, BoundedAdmin) else rows

    @property
    def size(self) -> int:
        asked = str(self.params.get(SIZE_VAR, ""))
        return next((size for size in PAGE_SIZES if str(size) == asked), self.list_per_page)

    @property
    def sizes(self) -> list[tuple[int, str]]:
        """Return each number of rows that a page may have, with its address."""
        return [(size, self.get_query_string({SIZE_VAR: str(size)})) for size in PAGE_SIZES]

    @property
    def first(self) -> str:
        return self.get_query_string()

    @property
    def is_whole(self) -> bool:
        """Return whether this page has every row."""
        return not (self.previous or self.next)

    def get_results(self, request: HttpRequest) -> None:
        asked = request.GET.get(PAGE_VAR, "")
        self.place = keyset.parse(asked, self.model, self.order)
        page = keyset.read(self.queryset, self.order, self.place, self.size)
        self.result_list = page.rows
        if page.previous is None and page.rows:
            self.place = None
        self.previous, self.next = (
            self.get_query_string({PAGE_VAR: str(place)}) if place else None for place in (page.previous, page.next)
        )
        if self.place and not page.rows:
            self.previous = self.first
        # Numbers of this page: Django shows a total, and pages by number, where they differ.
        self.result_count = self.full_result_count = len(page.rows)
        self.show_full_result_count = self.can_show_all = self.multi_page = False
        self.show_admin_actions = True


class BoundedAdmin(_ModelAdmin):
    """Base of every admin here: every view shows rows of the user's tenants only.

    The admin deletes nothing: deleting a tenant would delete its archive, and deleting a key its
    history.
    """

    tenant_path: ClassVar[str] = "tenant"
    """The lookup from a row to its tenant."""

    list_per_page = 50
    list_max_show_all = 0
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    sortable_by: ClassVar[Any] = ()

    class Media:
        css: ClassVar = {"all": ("trajectories/admin.css",)}
        js: ClassVar = (SCRIPT,)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return own(super().get_queryset(request), request, self.tenant_path)

    def formfield_for_foreignkey(
        self, db_field: ForeignKey[Any, Any], request: HttpRequest, **kwargs: Any
    ) -> ModelChoiceField[Any] | None:
        if db_field.related_model is Tenant:
            # Django limits the choices of a field by the ordering of the other admin, not by its
            # rows.
            kwargs["queryset"] = own(Tenant.objects.order_by("pk"), request, "pk")
        return super().formfield_for_foreignkey(db_field, request, **kwargs)

    def link(self, view: str, text: Any, *args: Any, **filters: str) -> SafeString:
        """Return a link to a view of this app on the same admin site.

        Return only the text if a host project has not registered that model there.
        """
        try:
            address = reverse(f"admin:trajectories_{view}", args=args, current_app=self.admin_site.name)
        except NoReverseMatch:
            return conditional_escape(text)
        return format_html('<a href="{}">{}</a>', f"{address}?{urlencode(filters)}" if filters else address, text)

    def listed(self, rows: QuerySet[Any]) -> QuerySet[Any]:
        """Return ``rows`` with only the columns that the changelist needs."""
        return rows

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Search with the bounds of the API's ``q``: each word is a condition in SQL."""
        try:
            search_words(search_term)
        except ValueError as error:
            messages.warning(request, f"The search {error}.", fail_silently=True)
            return queryset.none(), False
        return self.matching(request, queryset, search_term)

    def matching(self, request: HttpRequest, rows: QuerySet[Any], term: str) -> tuple[QuerySet[Any], bool]:
        """Return those of ``rows`` that match ``term``, and whether some may occur twice."""
        return super().get_search_results(request, rows, term)

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return BoundedChangeList

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


class MirrorAdmin(BoundedAdmin):
    """Read-only admin of rows that only the persist side writes."""

    actions: Any = None
    change_form_template = "admin/trajectories/mirror_form.html"
    sections: ClassVar[Mapping[str | None, Sequence[Any]]] = {}
    """Fields of the page of one row, under their headings; a tuple of fields shares a line."""

    def found(self, rows: QuerySet[Any], term: str) -> QuerySet[Any]:
        """Return those of ``rows`` that match ``term``, found through an index."""
        raise NotImplementedError

    def tenant_of(self, row: Any) -> str:
        """Return the slug of the tenant of a row."""
        return str(row.tenant_id)

    def record_id(self, row: Any) -> str:
        """Return the id of the record that the page of ``row`` shows; empty if it shows none."""
        return str(row.trajectory_id)

    def shown_below(self, row: Any) -> dict[str, Any]:
        """Return what the page shows below the fields: ``phases`` and ``json``, if present."""
        return {}

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        row = context["original"]
        if id_ := self.record_id(row):
            AuditEntry.objects.note("view", actor_of(request), {self.tenant_of(row): 1}, id_)
        return super().render_change_form(request, context | self.shown_below(row), *args, **kwargs)

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        response = super().changelist_view(request, extra_context)
        page = getattr(response, "context_data", None) or {}
        rows = [row for row in page["cl"].result_list if self.record_id(row)] if "cl" in page else []
        if rows:
            AuditEntry.objects.note("list", actor_of(request), Counter(self.tenant_of(row) for row in rows))
        return response

    def matching(self, request: HttpRequest, rows: QuerySet[Any], term: str) -> tuple[QuerySet[Any], bool]:
        term = term.strip()
        return self.found(rows, term) if term else rows, False

    def get_fieldsets(self, request: HttpRequest, obj: Model | None = None) -> Any:
        return [(heading, {"fields": lines}) for heading, lines in self.sections.items()]

    def get_readonly_fields(self, request: HttpRequest, obj: Model | None = None) -> Any:
        return flatten([line for lines in self.sections.values() for line in lines])

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


def with_id(rows: QuerySet[Any], term: str) -> QuerySet[Any]:
    """Return rows with this trajectory id, of any tenant.

    The query names tenants because the indexes begin with the tenant.
    """
    try:
        return rows.filter(tenant__in=Tenant.objects.values("pk"), trajectory_id=UUID(term))
    except ValueError:
        return rows.none()


class TenantFilter(admin.SimpleListFilter):
    """Filter by tenant: lists the first tenants by name; the URL accepts any slug."""

    title = "tenant"
    parameter_name = "tenant"

    def lookups(self, request: HttpRequest, model_admin: admin.ModelAdmin[Any]) -> list[tuple[str, str]]:
        tenants = own(Tenant.objects.order_by("pk"), request, "pk")
        slugs = tenants.values_list("pk", flat=True)[:_LISTED_TENANTS]
        return [(slug, slug) for slug in slugs]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(tenant=self.value()) if self.value() else queryset


class RecordedFilter(admin.SimpleListFilter):
    title = "recorded"
    parameter_name = "days"

    def lookups(self, request: HttpRequest, model_admin: admin.ModelAdmin[Any]) -> list[tuple[str, str]]:
        return [("1", "Past 24 hours"), ("7", "Past 7 days"), ("30", "Past 30 days"), ("90", "Past 90 days")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        days = self.value()
        if days not in dict(self.lookup_choices):
            return queryset
        return queryset.filter(recorded_at_us__gte=now_us() - int(str(days)) * DAY_US)


class ChoiceFilter(admin.SimpleListFilter):
    """Filter by known words.

    For a column without choices, Django's own filter reads the distinct values of the whole table.
    """

    words: ClassVar[tuple[str, ...]]

    def lookups(self, request: HttpRequest, model_admin: admin.ModelAdmin[Any]) -> list[tuple[str, str]]:
        return [(word, str(capfirst(word))) for word in self.words]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(**{str(self.parameter_name): self.value()}) if self.value() else queryset
