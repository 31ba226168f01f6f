"""Columns and fields that admins share.

Each takes a row; ``listed`` of the admin loads the columns that it needs.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeAlias

import orjson
from django.contrib import admin
from django.template.defaultfilters import filesizeformat
from django.utils.text import Truncator

from trajectories.admin import formatting
from trajectories.domain.clock import epoch_us
from trajectories.domain.compression import from_columns
from trajectories.models import AuditEntry, Phase, Quarantined, Trajectory

HEAD = 400
"""Characters of a body or an error that a changelist reads."""
_SHOWN = 100

Column: TypeAlias = Callable[[Any], str | bool]


def _column(description: str, *, ordering: str | None = None) -> Callable[[Callable[[Any], Any]], Column]:
    """Return ``admin.display`` that shows None as a dash; the page of a row would show "None"."""

    def decorate(read: Callable[[Any], Any]) -> Column:
        @admin.display(description=description, ordering=ordering)
        @wraps(read)
        def column(row: Any) -> str | bool:
            value: str | bool | None = read(row)
            return "-" if value is None else value

        return column

    return decorate


def moment(name: str, unknown: str | None = None) -> Column:
    """Return a column of the time ``name``, a datetime, in the reader's zone; ``unknown`` where it
    is None."""

    def read(row: Any) -> str | None:
        at = getattr(row, name)
        return unknown if at is None else formatting.time_tag(epoch_us(at))

    read.__name__ = name
    return _column(name.replace("_", " ").removesuffix(" at"), ordering=name)(read)


def text(name: str) -> Column:
    """Return a column of the field ``name``, which holds text from a client."""

    def read(row: Any) -> str | None:
        return formatting.text(getattr(row, name))

    read.__name__ = name  # the admin names the column and its CSS classes after it
    return _column(name.replace("_", " "))(read)


@_column("recorded", ordering="recorded_at_us")
def recorded(row: Trajectory | Quarantined) -> str | None:
    return formatting.time_tag(row.recorded_at_us)


@_column("recorded")
def recorded_exactly(row: Trajectory | Quarantined) -> str | None:
    return formatting.moment(row.recorded_at_us)


@_column("revised")
def revised(row: Trajectory | Quarantined) -> str | None:
    """Return when this body was first accepted; equals recorded if the record had one body only."""
    return formatting.moment(row.revision)


@_column("last accepted")
def accepted(row: Trajectory | Quarantined) -> str | None:
    """Return the stamp as a time."""
    return formatting.moment(row.stamp)


@_column("started")
def started(row: Trajectory) -> str | None:
    return formatting.moment(row.started_at_us)


@_column("request")
def summary(row: Any) -> str:
    return Truncator(formatting.summary(from_columns(row.head, row.compressed_body).decode())).chars(_SHOWN)


@_column("request")
def request(row: Trajectory) -> str:
    return formatting.summary(row.canonical.decode())


@_column("tenant")
def owner(row: Trajectory | Quarantined) -> str:
    """Return the slug; it is the foreign key, so no tenant is loaded."""
    return row.tenant_id


@_column("tags")
def tags(row: Trajectory) -> str | None:
    return ", ".join(formatting.members(row.tags)) or None


@_column("error")
def run_error(row: Trajectory) -> Any:
    return formatting.text(orjson.loads(row.canonical).get("error"))


@_column("cost")
def cost(row: Trajectory | Phase) -> str | None:
    return formatting.usd(row.cost_nano_usd)


@_column("unattributed cost")
def unattributed_cost(row: Trajectory) -> str | None:
    return formatting.usd(row.unattributed_nano_usd)


@_column("duration")
def duration(row: Trajectory | Phase) -> str | None:
    return formatting.duration(row.duration_us)


@_column("input tokens")
def input_tokens(row: Trajectory | Phase) -> str | None:
    return formatting.number(row.input_tokens)


@_column("output tokens")
def output_tokens(row: Trajectory | Phase) -> str | None:
    return formatting.number(row.output_tokens)


@_column("place")
def place(row: Phase) -> int:
    return row.place + 1


@_column("tools")
def tools(row: Phase) -> str | None:
    return ", ".join(formatting.members(row.tools)) or None


@_column("tenant")
def trajectory_owner(row: Phase) -> str:
    return row.trajectory.tenant_id


@_column("error")
def error_head(row: Any) -> str:
    return Truncator(formatting.text(row.head) or "").chars(_SHOWN)


quarantined = moment("quarantined_at")


@_column("at", ordering="at_us")
def noted(row: AuditEntry) -> str | None:
    return formatting.time_tag(row.at_us)


@_column("tenant")
def audited(row: AuditEntry) -> str:
    return row.tenant


@_column("credited outcome", ordering="credited")
def credited(row: Phase) -> str | None:
    """Return the outcome that the checks of the run gave the phase."""
    return None if row.credited == "none" else row.credited


@_column("picked by")
def picked_by(row: Phase) -> str | None:
    return formatting.text(row.selection_method)


@_column("size")
def size(row: Any) -> str:
    return filesizeformat(row.body_bytes)
