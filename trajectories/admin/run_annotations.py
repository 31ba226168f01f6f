"""Remarks of people on a run: on its page, and as a mark in the list."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest

from trajectories.admin import formatting
from trajectories.admin.tenants import actor_of
from trajectories.domain import redaction
from trajectories.domain.clock import epoch_us
from trajectories.models import AuditEntry, Trajectory
from trajectories.workspace import AUTHOR_MAX, Annotation

MAX_SHOWN = 200
"""Annotations that the page of a run shows, newest first."""

if TYPE_CHECKING:
    _Form = forms.ModelForm[Annotation]
else:
    _Form = forms.ModelForm


class AnnotationForm(_Form):
    """A note, a tag or a word on the fit; at least one of them. Credentials are replaced, as in
    records."""

    class Meta:
        model = Annotation
        fields = ("note", "tag", "fit")
        widgets = {"note": forms.Textarea(attrs={"rows": 2})}  # noqa: RUF012 as in Django's documentation

    def clean_note(self) -> str:
        return redaction.replace_text(self.cleaned_data["note"])

    def clean_tag(self) -> str:
        return redaction.replace_text(self.cleaned_data["tag"])[:64]

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        if not self.errors and not any(data.values()):
            raise forms.ValidationError("Write a note, or choose a tag or a fit.")
        return data


def context(request: HttpRequest, row: Trajectory, address: str) -> dict[str, Any]:
    """Return what the page of a run shows: its annotations, and the form for one more."""
    query = f"?{request.GET.urlencode()}" if request.GET else ""
    return {
        "annotations": [
            {
                "pk": note.pk,
                "note": formatting.text(note.note),
                "tag": formatting.text(note.tag),
                "fit": note.get_fit_display(),
                "author": formatting.text(note.author),
                "at": formatting.time_tag(epoch_us(note.created_at)),
                "can_delete": _may_delete(request, note),
            }
            for note in _of(row).order_by("-pk")[:MAX_SHOWN]
        ],
        "annotation_form": AnnotationForm() if request.user.has_perm("trajectories.add_annotation") else None,
        "annotate_url": f"{address}{query}",
    }


def post(model_admin: Any, request: HttpRequest, row: Trajectory) -> None:
    """Do what the form asks: delete the annotation that it names, or add one.

    Raises:
        PermissionDenied: 403; the user may not annotate, or not delete this annotation.
    """
    if request.method != "POST":
        return
    if (pk := request.POST.get("delete", "")).isdecimal():
        note = _of(row).filter(pk=int(pk[:18])).first()
        if note is not None:
            if not _may_delete(request, note):
                raise PermissionDenied
            note.delete()
            _audit(request, row)
            model_admin.message_user(request, "The annotation is deleted.", messages.SUCCESS)
        return
    if not request.user.has_perm("trajectories.add_annotation"):
        raise PermissionDenied
    form = AnnotationForm(request.POST)
    if not form.is_valid():
        for errors in form.errors.values():
            model_admin.message_user(request, " ".join(map(str, errors)), messages.ERROR)
        return
    form.instance.tenant_id, form.instance.trajectory_id = row.tenant_id, row.trajectory_id
    form.instance.author = _author(request)
    form.save()
    _audit(request, row)


def _of(row: Trajectory) -> QuerySet[Annotation]:
    return Annotation.objects.filter(tenant=row.tenant_id, trajectory_id=row.trajectory_id)


def _author(request: HttpRequest) -> str:
    return str(request.user.get_username())[:AUTHOR_MAX]


def _may_delete(request: HttpRequest, note: Annotation) -> bool:
    if request.user.has_perm("trajectories.delete_annotation"):
        return True
    return note.author == _author(request) and request.user.has_perm("trajectories.add_annotation")


def _audit(request: HttpRequest, row: Trajectory) -> None:
    AuditEntry.objects.note("annotate", actor_of(request), {row.tenant_id: 1}, str(row.trajectory_id))
