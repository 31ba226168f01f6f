"""Saved views: named filters of the list of runs, of one person or shared."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.db.models import Model, Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, QueryDict
from django.urls import NoReverseMatch, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from trajectories.admin import columns, formatting, run_list
from trajectories.admin.changelist import SIZE_VAR, BoundedAdmin
from trajectories.admin.tenants import tenants_of
from trajectories.domain.clock import now_us
from trajectories.domain.query import parse_query
from trajectories.exceptions import InvalidInput
from trajectories.workspace import AUTHOR_MAX, SavedView

if TYPE_CHECKING:
    _Form = forms.ModelForm[SavedView]
else:
    _Form = forms.ModelForm

MAX_LINKS = 30
"""Views above the list of runs; the list of views has all."""
_KEPT = ("q", "tenant", "days", "o", SIZE_VAR, *run_list.FACETS, *run_list.OWN_PARAMETERS)


def visible_to(request: HttpRequest) -> QuerySet[SavedView]:
    """Return the views of the user of ``request``, and those that others share with them.

    A shared view of a tenant is for staff who see that tenant; a shared view of all tenants is for
    staff who see all. Users see only views of their own tenants.
    """
    views, tenants = SavedView.objects.order_by("name", "pk"), tenants_of(request)
    mine = Q(owner=_user(request))
    if tenants is None:
        return views.filter(mine | Q(is_shared=True))
    return views.filter((mine & Q(tenant__in=["", *tenants])) | Q(is_shared=True, tenant__in=tenants))


def links(request: HttpRequest) -> list[dict[str, Any]]:
    """Return the first views, as the list of runs shows them."""
    return [
        {
            "name": formatting.text(view.name),
            "note": formatting.text(view.note),
            "querystring": view.querystring,
            "is_shared": view.is_shared,
        }
        for view in visible_to(request)[:MAX_LINKS]
    ]


def _user(request: HttpRequest) -> str:
    return str(request.user.get_username())[:AUTHOR_MAX]


class SavedViewForm(_Form):
    request: HttpRequest

    def clean_querystring(self) -> str:
        return cleaned(self.cleaned_data["querystring"], self.request)


@admin.register(SavedView)
class SavedViewAdmin(BoundedAdmin):
    list_display: Any = (
        columns.text("name"),
        "runs",
        columns.text("note"),
        "about",
        columns.text("owner"),
        "is_shared",
    )
    fields = ("name", "note", "querystring", "is_shared")
    ordering = ("name", "pk")
    search_fields = ("name", "note")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return visible_to(request)

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return super().has_change_permission(request, obj) and _is_own(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        is_allowed = request.user.has_perm("trajectories.delete_savedview")
        # Without a row, Django asks for the action on many, which would take those of others too.
        return is_allowed and obj is not None and _is_own(request, obj)

    def get_form(self, request: HttpRequest, obj: Model | None = None, change: bool = False, **kwargs: Any) -> Any:
        asking = type("AskedForm", (SavedViewForm,), {"request": request})
        return super().get_form(request, obj, change=change, form=asking, **kwargs)

    def save_model(self, request: HttpRequest, obj: SavedView, form: Any, change: bool) -> None:
        if not change:
            obj.owner = _user(request)
        obj.tenant = _tenant_of(obj.querystring, request)
        super().save_model(request, obj, form, change)

    def response_add(self, request: HttpRequest, obj: SavedView, post_url_continue: str | None = None) -> HttpResponse:
        response = super().response_add(request, obj, post_url_continue)
        address = self._address(obj)
        is_plain = "_addanother" not in request.POST and "_continue" not in request.POST
        return HttpResponseRedirect(address) if is_plain and address else response

    @admin.display(description="runs")
    def runs(self, view: SavedView) -> SafeString | str:
        address = self._address(view)
        return format_html('<a href="{}">open</a>', address) if address else "-"

    @admin.display(description="tenant")
    def about(self, view: SavedView) -> str:
        return view.tenant or "-"

    def _address(self, view: SavedView) -> str | None:
        try:
            runs = reverse("admin:trajectories_trajectory_changelist", current_app=self.admin_site.name)
        except NoReverseMatch:
            return None
        return f"{runs}?{view.querystring}"


def _is_own(request: HttpRequest, obj: Any) -> bool:
    return obj is None or obj.owner == _user(request) or bool(getattr(request.user, "is_superuser", False))


def cleaned(querystring: str, request: HttpRequest) -> str:
    """Return the parameters of the list in ``querystring``.

    Raises:
        ValidationError: one is unknown, or has an invalid value.
    """
    given = QueryDict(querystring.rpartition("?")[2], mutable=True)
    given.pop("p", None)
    given.pop("e", None)
    unknown = [name for name in given if name not in _KEPT]
    if unknown:
        raise ValidationError(f"The list has no filter {unknown[0][:60]!r}; it has {', '.join(_KEPT)}.")
    try:
        parse_query({name: str(given[name]) for name in run_list.FACETS if name in given}, now_us())
    except InvalidInput as error:
        raise ValidationError(f"{error.message}.") from error
    tenants = tenants_of(request)
    if tenants is not None and given.get("tenant") and given["tenant"] not in tenants:
        raise ValidationError(f"You see no tenant {given['tenant'][:64]!r}.")
    return given.urlencode()


def _tenant_of(querystring: str, request: HttpRequest) -> str:
    """Return the tenant that a view is about: the one it filters by, else the only one of its
    owner."""
    if tenant := QueryDict(querystring).get("tenant"):
        return tenant[:64]
    tenants = tenants_of(request)
    return next(iter(tenants)) if tenants is not None and len(tenants) == 1 else ""
