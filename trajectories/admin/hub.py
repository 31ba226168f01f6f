"""The admin action that pushes a tenant's export to the Hub, and its form."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from kombu.exceptions import OperationalError

from trajectories.admin.tenants import actor_of
from trajectories.domain.clock import now_us
from trajectories.domain.text import counted
from trajectories.exceptions import InvalidInput
from trajectories.models import Tenant
from trajectories.training import formats
from trajectories.training.encoding import JSONL, PARQUET
from trajectories.training.export import parse_request
from trajectories.training.hub import Target
from trajectories.training.tasks import enqueue

_GIVEN = ("format", "split")


class HubForm(forms.Form):
    """Where to push, and what."""

    repository = forms.RegexField(
        r"^[\w.-]{1,96}/[\w.-]{1,96}$",
        help_text="Organization or user, and name: org/name. It is made if it does not exist.",
        error_messages={"invalid": "Use org/name."},
    )
    format = forms.ChoiceField(choices=[(name, name) for name in formats.FORMATS], initial=formats.DEFAULT)
    file = forms.ChoiceField(choices=[(JSONL, "JSON lines"), (PARQUET, "Parquet")], initial=JSONL)
    split = forms.CharField(required=False, help_text="Such as train=0.9,test=0.1.")
    license = forms.CharField(required=False, max_length=64, help_text="As the Hub names it, such as cc-by-4.0.")
    is_public = forms.BooleanField(
        required=False, label="Public", help_text="Everyone can read it; without this, it is private. Needs a license."
    )

    @property
    def given(self) -> dict[str, str]:
        """Return the parameters of the export."""
        return {name: self.cleaned_data[name] for name in _GIVEN if self.cleaned_data[name]}

    @property
    def target(self) -> Target:
        data = self.cleaned_data
        return Target(data["repository"], is_private=not data["is_public"], license=data["license"] or None)

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        if data.get("is_public") and not data.get("license"):
            self.add_error("license", "A public data set needs a license.")
        if not self.errors:
            try:
                parse_request(self.given, now_us())
            except InvalidInput as error:
                self.add_error(error.param if error.param in _GIVEN else None, error.message)
        return data


def push_page(model_admin: Any, request: HttpRequest, rows: QuerySet[Tenant]) -> HttpResponse | None:
    """Return the form; once it is filled in, have a worker push and return to the list."""
    tenants = list(rows[:2])
    if len(tenants) != 1:
        model_admin.message_user(request, "Select one tenant: a data set has the runs of one.", messages.ERROR)
        return None
    (tenant,) = tenants
    form = HubForm(request.POST if "repository" in request.POST else None)
    if form.is_bound and form.is_valid():
        _push(model_admin, request, tenant, form)
        return None
    request.current_app = model_admin.admin_site.name
    context = {
        **model_admin.admin_site.each_context(request),
        "title": f"Push the runs of {tenant.pk} to the Hub",
        "opts": model_admin.opts,
        "media": model_admin.media,
        "tenant": tenant,
        "runs": counted(tenant.record_count, "archived run"),
        "form": form,
    }
    return TemplateResponse(request, "admin/trajectories/tenant/push_to_hub.html", context)


def _push(model_admin: Any, request: HttpRequest, tenant: Tenant, form: HubForm) -> None:
    repository = form.target.repo_id
    try:
        enqueue(tenant.pk, form.given, form.target, file=form.cleaned_data["file"], actor=actor_of(request))
    except OperationalError:
        model_admin.message_user(request, "The broker is unavailable: try again later.", messages.ERROR)
        return
    model_admin.log_change(request, tenant, f"Pushed to {repository}.")
    model_admin.message_user(
        request, f"A worker pushes to {repository}. Its log says when it is done, or why not.", messages.SUCCESS
    )
