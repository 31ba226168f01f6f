"""Tenants and their API keys."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin, messages
from django.db.models import Count, Model, OuterRef, Q, QuerySet, Subquery
from django.http import HttpRequest, HttpResponse
from django.template.defaultfilters import filesizeformat
from django.template.response import TemplateResponse
from django.urls import URLPattern
from django.utils import timezone
from django.utils.safestring import SafeString
from django.views.decorators.debug import sensitive_variables

from trajectories.admin import columns, formatting, health, scope, tenant_pages
from trajectories.admin.changelist import BoundedAdmin, TenantFilter
from trajectories.admin.hub import push_page
from trajectories.admin.overview import curl
from trajectories.admin.tenants import actor_of, tenants_of
from trajectories.api.authentication import changed, revoke
from trajectories.domain.text import counted
from trajectories.models import SCOPES, ApiKey, Tenant, Trajectory

if TYPE_CHECKING:
    _KeyForm = forms.ModelForm[ApiKey]
else:
    _KeyForm = forms.ModelForm


@admin.register(Tenant)
class TenantAdmin(BoundedAdmin):
    list_display: Any = ("slug", columns.text("name"), "records", "stored", "last_recorded", "good_keys", "keys")
    ordering = ("slug",)
    search_fields = ("slug", "name")
    fields = ("slug", "name")
    tenant_path = "pk"
    actions = ("push_to_hub",)
    change_form_template = "admin/trajectories/tenant/change_form.html"
    change_list_template = "admin/trajectories/tenant/change_list.html"

    def get_urls(self) -> list[URLPattern]:
        return [*health.urls(self), *tenant_pages.urls(self), *super().get_urls()]

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        if isinstance(tenant := context.get("original"), Tenant):
            context |= {"pages": tenant_pages.links(self, request, tenant)}
        return super().render_change_form(request, context, *args, **kwargs)

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        return super().changelist_view(request, (extra_context or {}) | {"sees_all": tenants_of(request) is None})

    def listed(self, rows: QuerySet[Any]) -> QuerySet[Any]:
        newest = Trajectory.objects.filter(tenant=OuterRef("pk")).order_by("-recorded_at_us")
        counted: QuerySet[Any] = rows.annotate(
            newest_us=Subquery(newest.values("recorded_at_us")[:1]),
            key_count=Count("api_keys"),
            good_key_count=Count("api_keys", filter=_is_good("api_keys__")),
        )
        return counted

    def get_readonly_fields(self, request: HttpRequest, obj: Model | None = None) -> tuple[str, ...]:
        # The slug is the primary key: changing it would create another tenant.
        return ("slug",) if obj else ()

    def has_add_permission(self, request: HttpRequest) -> bool:
        # A user who is limited to some tenants would not see the new one. The slug error would also
        # reveal to them which slugs are taken.
        return tenants_of(request) is None and super().has_add_permission(request)

    def has_push_permission(self, request: HttpRequest) -> bool:
        # A push publishes records, so changing the tenant's name is not enough.
        return self.has_change_permission(request) and request.user.has_perm("trajectories.view_trajectory")

    @admin.action(description="Push the runs of the selected tenant to the Hub", permissions=["push"])
    def push_to_hub(self, request: HttpRequest, queryset: QuerySet[Tenant]) -> HttpResponse | None:
        return push_page(self, request, queryset)

    @admin.display(description="archived records")
    def records(self, tenant: Tenant) -> SafeString:
        """Return the count that the archive writer maintains, so that this page counts no rows."""
        return self.link("trajectory_changelist", formatting.number(tenant.record_count), tenant=tenant.pk)

    @admin.display(description="bytes of JSON")
    def stored(self, tenant: Tenant) -> str:
        return filesizeformat(tenant.body_bytes)

    @admin.display(description="last recorded")
    def last_recorded(self, tenant: Any) -> str | None:
        return formatting.time_tag(tenant.newest_us)

    @admin.display(description="good API keys")
    def good_keys(self, tenant: Any) -> int:
        return int(tenant.good_key_count)

    @admin.display(description="API keys")
    def keys(self, tenant: Any) -> SafeString:
        return self.link("apikey_changelist", tenant.key_count, tenant=tenant.pk)


def _is_good(prefix: str) -> Q:
    is_alive = Q(**{f"{prefix}expires_at": None}) | Q(**{f"{prefix}expires_at__gt": timezone.now()})
    return is_alive & Q(**{f"{prefix}is_revoked": False})


_ALLOWED = {
    "record": "add and change runs, and their late outcomes",
    "read": "list and read runs, stats and recommendations",
    "export": "read every run as a file",
    "admin": "delete runs",
}


_EXPIRES_IN_DAYS = [
    ("", "never, or at the time below"),
    ("30", "in 30 days"),
    ("90", "in 90 days"),
    ("365", "in a year"),
]
_SOON = timedelta(days=14)


class ApiKeyForm(_KeyForm):
    scopes = forms.MultipleChoiceField(
        choices=[(scope, f"{scope}: {_ALLOWED[scope]}") for scope in SCOPES], widget=forms.CheckboxSelectMultiple
    )
    expires_in_days = forms.ChoiceField(choices=_EXPIRES_IN_DAYS, required=False, label="Expires")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance.pk:
            self.initial["scopes"] = self.instance.scopes.split()
        if "expires_at" in self.fields:  # who may only look has no fields
            for part, widget in zip(("date", "time"), self.fields["expires_at"].widget.widgets, strict=True):
                widget.attrs["aria-label"] = f"Expires at, {part}"

    def clean_scopes(self) -> str:
        return " ".join(scope for scope in SCOPES if scope in self.cleaned_data["scopes"])

    def clean_expires_at(self) -> datetime | None:
        at: datetime | None = self.cleaned_data["expires_at"]
        if at is not None and at <= timezone.now() and not self.instance.pk:
            raise forms.ValidationError("A key with this end has expired already.")
        return at

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        if days := data.get("expires_in_days"):
            if data.get("expires_at"):
                self.add_error("expires_in_days", "Choose one: a number of days, or the time below.")
            data["expires_at"] = timezone.now() + timedelta(days=int(days))
        return data


class StateFilter(admin.SimpleListFilter):
    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: admin.ModelAdmin[Any]) -> list[tuple[str, str]]:
        return [("good", "Good"), ("other", "Revoked or expired")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if self.value() == "good":
            return queryset.filter(_is_good(""))
        return queryset.exclude(_is_good("")) if self.value() == "other" else queryset


_created, _last_used = columns.moment("created_at"), columns.moment("last_used_at", unknown="never")


@admin.register(ApiKey)
class ApiKeyAdmin(BoundedAdmin):
    form = ApiKeyForm
    list_display: Any = (
        "prefix",
        columns.text("name"),
        "owner",
        "scopes",
        "state",
        _created,
        _last_used,
        columns.moment("expires_at", unknown="never"),
    )
    list_filter = (StateFilter, TenantFilter)
    ordering = ("-pk",)
    search_fields = ("prefix__startswith", "name", "tenant__slug__startswith")
    search_help_text = "The beginning of a key or of its tenant, or a part of its name."
    autocomplete_fields = ("tenant",)
    actions = ("revoke",)
    change_form_template = "admin/trajectories/apikey/change_form.html"

    def get_fields(self, request: HttpRequest, obj: Model | None = None) -> tuple[Any, ...]:
        if obj is None:
            return ("tenant", "name", "scopes", "source", "expires_in_days", "expires_at")
        return ("tenant", "name", "scopes", "source", "expires_at", "prefix", _created, _last_used, "state")

    def get_readonly_fields(self, request: HttpRequest, obj: Model | None = None) -> tuple[Any, ...]:
        return ("tenant", "prefix", _created, _last_used, "state") if obj else ()

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        # Who sees one tenant has nothing to choose.
        listed = scope.tenants(request)
        only = {"tenant": listed[0]} if len(listed) == 1 else {}
        return only | dict(super().get_changeform_initial_data(request))

    @sensitive_variables()
    def save_model(self, request: HttpRequest, obj: ApiKey, form: Any, change: bool) -> None:
        if change:
            obj.save(update_fields=form.changed_data)
            changed(obj, actor=actor_of(request))
            return
        issued, text = ApiKey.objects.issue(
            tenant=obj.tenant,
            name=obj.name,
            scopes=obj.scopes.split(),
            source=obj.source,
            expires_at=obj.expires_at,
            actor=actor_of(request),
        )
        obj.pk, obj.prefix, obj.issued_text = issued.pk, issued.prefix, text  # type: ignore[attr-defined]

    @sensitive_variables()
    def response_add(self, request: HttpRequest, obj: ApiKey, post_url_continue: str | None = None) -> HttpResponse:
        """Return the only page that shows the key.

        A redirect with a message is not used: messages are stored in a cookie or in the database.
        """
        request.current_app = self.admin_site.name  # for the links of the page
        context = {
            **self.admin_site.each_context(request),
            "title": "API key made",
            "opts": self.opts,
            "key": obj,
            "scopes": ", ".join(obj.scopes.split()),
            "text": obj.issued_text,  # type: ignore[attr-defined]
            "curl": curl(request, obj.issued_text) if "record" in obj.scopes.split() else "",  # type: ignore[attr-defined]
        }
        return TemplateResponse(request, "admin/trajectories/apikey/issued.html", context)

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        if kwargs.get("add"):
            # Every save button leads to the page with the key, so the other buttons are hidden.
            context |= {"show_save_and_continue": False, "show_save_and_add_another": False}
        key = context.get("original")
        context |= {"can_revoke": key and not key.is_revoked and self.has_change_permission(request, key)}
        return super().render_change_form(request, context, *args, **kwargs)

    @admin.action(description="Revoke selected API keys", permissions=["change"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> None:
        keys = list(queryset.filter(is_revoked=False))
        for key in keys:
            revoke(key, actor=actor_of(request))
            self.log_change(request, key, "Revoked.")
        self.message_user(request, f"{counted(len(keys), 'API key')} revoked.", messages.SUCCESS)

    @admin.display(description="tenant")
    def owner(self, key: ApiKey) -> str:
        return key.tenant_id

    @admin.display(description="state")
    def state(self, key: ApiKey) -> str:
        if key.is_revoked:
            return "revoked"
        left = key.expires_at - timezone.now() if key.expires_at else None
        if left is None or left > _SOON:
            return "good"
        if left <= timedelta(0):
            return "expired"
        return f"good, expires in {left.days} days" if left.days > 1 else "good, expires soon"
