"""The list of runs: its filters, its chips, and what each row shows beside its columns."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar, NamedTuple

import orjson
from django.contrib import admin, messages
from django.contrib.admin.views.main import SEARCH_VAR
from django.db.models import Case, Func, QuerySet, TextField, Value, When
from django.db.models.functions import Left
from django.http import HttpRequest
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe
from django.utils.text import Truncator

from trajectories.admin import formatting, keyset
from trajectories.admin.changelist import BoundedChangeList, RecordedFilter, TenantFilter
from trajectories.domain.clock import DAY_US, now_us
from trajectories.domain.compression import from_columns
from trajectories.domain.contract_types import FITS, OUTCOMES
from trajectories.domain.credit import CREDITED, UNCREDITED
from trajectories.domain.query import FILTERS, parse_query
from trajectories.domain.record import Position
from trajectories.domain.text import counted
from trajectories.exceptions import InvalidInput
from trajectories.models import Phase, Tenant, Trajectory
from trajectories.storage import archive_reads
from trajectories.storage.rare_condition import narrowed
from trajectories.workspace import Annotation

MAX_CELLS = 48
"""Phases that the strip of a row draws; a number says how many more there are."""
MAX_REMARKS = 1_000
"""Annotations that a page of the list counts."""
STRIP_WIDTH = 168
_CELL, _STRIP_HEIGHT = 11, 18
_SHOWN_MODELS = 2
_BY_TENANT = {"project", "source", "request_type"}
"""Filters whose index begins with the tenant, so a list of all tenants names them."""
OWN_PARAMETERS = ("strip", "live")
"""Parameters of the list's address that choose how it looks."""
_DAYS, TENANT = str(RecordedFilter.parameter_name), str(TenantFilter.parameter_name)


class FacetFilter(admin.ListFilter):
    """A parameter of the API as one of the list. It is drawn as a chip, and in no side bar.

    ``RunList`` applies all of them at once: one phase must satisfy every condition on phases.
    """

    parameter_name: ClassVar[str]

    def __init__(self, request: HttpRequest, params: dict[str, Any], model: Any, model_admin: Any) -> None:
        super().__init__(request, params, model, model_admin)
        if self.parameter_name in params:
            self.used_parameters[self.parameter_name] = params.pop(self.parameter_name)[-1]

    def has_output(self) -> bool:
        return False

    def expected_parameters(self) -> list[str | None]:
        return [self.parameter_name]

    def choices(self, changelist: Any) -> Iterator[Any]:
        return iter(())

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset


FACETS = tuple(name for name in FILTERS if name != SEARCH_VAR)
"""Filters of the API that the list has; its search box has ``q``, and finds more than the API's."""
LIST_FILTERS: tuple[type[FacetFilter], ...] = tuple(
    type(f"{name}_filter", (FacetFilter,), {"title": name.replace("_", " "), "parameter_name": name})
    for name in (*FACETS, _DAYS, TENANT)
)
_BOOLEANS = ("true", "false")
WORDS = {
    "outcome": OUTCOMES,
    "credited": (*CREDITED, UNCREDITED),
    "fit": FITS,
    "build_passed": _BOOLEANS,
    "tests_passed": _BOOLEANS,
}


class Chip(NamedTuple):
    """A filter that holds, and the address of the list without it; of an outcome, the address that
    changes whether it holds."""

    name: str
    value: str
    without: str


class RunList(BoundedChangeList):
    """The changelist of trajectories."""

    def get_filters_params(self, params: Any = None) -> dict[str, Any]:
        found = super().get_filters_params(params)
        return {name: value for name, value in found.items() if name not in OWN_PARAMETERS}

    def get_queryset(self, request: HttpRequest, exclude_parameters: Any = None) -> QuerySet[Any]:
        rows = super().get_queryset(request, exclude_parameters)
        return filtered(request, rows)

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        _add_phases(self.result_list)
        _add_remarks(self.result_list)
        _add_running(self.result_list)
        for row in self.result_list:
            row.is_strip_by_duration = request.GET.get("strip") == "duration"

    def outcomes(self) -> list[Chip]:
        """Return each outcome with the address of the list of its runs, or of all where it is
        chosen."""
        chosen = self.filter_params.get("outcome", [""])[-1]
        return [
            Chip(
                word,
                "true" if word == chosen else "false",
                self.get_query_string({"outcome": None if word == chosen else word}),
            )
            for word in OUTCOMES
        ]

    def chips(self) -> list[Chip]:
        given = {name: str(values[-1]) for name, values in self.filter_params.items()}
        return [
            Chip(
                "words" if name == SEARCH_VAR else name.replace("_", " "),
                formatting.text(given[name]) or "",
                self.get_query_string({name: None}),
            )
            for name in (SEARCH_VAR, TENANT, _DAYS, *FACETS)
            if given.get(name)
        ]


class UnlistedRuns(RunList):
    """The same rows, of which no page is read: for neighbours and for new runs."""

    def get_results(self, request: HttpRequest) -> None:
        self.result_list, self.result_count = [], 0


def filtered(request: HttpRequest, rows: QuerySet[Any]) -> QuerySet[Any]:
    """Return those of ``rows`` that the parameters of the list let through; none if one is invalid."""
    given = {name: request.GET[name] for name in FACETS if request.GET.get(name)}
    if tenant := request.GET.get(TENANT):
        rows = rows.filter(tenant=tenant)
    elif _BY_TENANT & given.keys():
        rows = rows.filter(tenant__in=Tenant.objects.values("pk"))
    if (days := request.GET.get(_DAYS, "")).isdecimal() and len(days) < 6:
        rows = rows.filter(recorded_at_us__gte=now_us() - int(days) * DAY_US)
    try:
        query = parse_query(given, now_us())
    except InvalidInput as error:
        messages.warning(request, f"{error.message}.", fail_silently=True)
        return rows.none()
    return narrowed(archive_reads.matching(rows, query), query)


OLDEST_FIRST = ("recorded_at_us", "trajectory_id")


def newer_than(rows: QuerySet[Any], position: Position) -> QuerySet[Any]:
    return keyset.beyond(rows, OLDEST_FIRST, position)


# --- What a page of rows needs beside the rows: one query each


class Cell(NamedTuple):
    """A phase of the strip. ``run`` counts the phases of its name."""

    name: str
    outcome: str
    model: str | None
    duration_us: int | None
    run: int


def _add_phases(rows: Iterable[Any]) -> None:
    found = Phase.objects.filter(trajectory__in=[row.pk for row in rows], place__lt=MAX_CELLS).order_by("place")
    cells: dict[int, list[Cell]] = defaultdict(list)
    seen: dict[tuple[int, str], int] = defaultdict(int)
    columns = ("trajectory_id", "phase_name", "phase", "outcome", "model", "duration_us")
    for pk, name, group, outcome, model, duration_us in found.values_list(*columns):
        seen[pk, group] += 1
        cells[pk].append(Cell(formatting.text(name) or "", outcome, model, duration_us, seen[pk, group]))
    for row in rows:
        row.cells = cells.get(row.pk, [])


def _add_remarks(rows: Iterable[Any]) -> None:
    tenants, ids = {row.tenant_id for row in rows}, [row.trajectory_id for row in rows]
    found = Annotation.objects.filter(tenant__in=tenants, trajectory_id__in=ids).order_by()
    counts = Counter(found.values_list("tenant_id", "trajectory_id")[:MAX_REMARKS])
    for row in rows:
        row.remark_count = counts[row.tenant_id, row.trajectory_id]


class _EndedAt(Func):
    """``ended_at`` of a plain body. The database reads the body, and the page does not."""

    function = "JSON_EXTRACT"
    template = "%(function)s(%(expressions)s, '$.ended_at')"
    output_field = TextField()

    def as_postgresql(self, compiler: Any, connection: Any, **context: Any) -> Any:
        return self.as_sql(compiler, connection, template="(%(expressions)s)::json ->> 'ended_at'", **context)


def _add_running(rows: Iterable[Any]) -> None:
    unknown = Trajectory.objects.filter(pk__in=[row.pk for row in rows if row.outcome == "unknown"])
    ended = Case(When(head="", then=Value(None)), default=_EndedAt("body"), output_field=TextField())
    running, compressed = set(), []
    for pk, head, at in unknown.annotate(head=Left("body", 1)).annotate(ended=ended).values_list("pk", "head", "ended"):
        if not head:
            compressed.append(pk)
        elif at is None:
            running.add(pk)
    # A body may have a MiB, so few are held at once.
    bodies = unknown.filter(pk__in=compressed).values_list("pk", "compressed_body").iterator(chunk_size=10)
    running |= {pk for pk, body in bodies if "ended_at" not in orjson.loads(from_columns("", body))}
    for row in rows:
        row.is_running = row.pk in running


# --- Columns


@admin.display(description="outcome")
def outcome(row: Any) -> SafeString:
    word = "running" if row.is_running else row.outcome
    title = "No outcome and no end yet" if row.is_running else ""
    return format_html('<span class="tj-outcome tj-outcome-{}" title="{}">{}</span>', word, title, word)


@admin.display(description="request")
def request_summary(row: Any) -> SafeString:
    shown = Truncator(formatting.summary(from_columns(row.head, row.compressed_body).decode())).chars(100) or "(empty)"
    if not row.remark_count:
        return format_html("{}", shown)
    marked = counted(row.remark_count, "note")
    return format_html('{} <span class="tj-notes" title="Annotated by people">{}</span>', shown, marked)


@admin.display(description="project, type")
def project(row: Any) -> SafeString:
    name, kind = formatting.text(row.project), formatting.text(row.request_type)
    if kind is None:
        return format_html("{}", name or "-")
    return format_html('{}<div class="tj-quiet">{}</div>', name or "-", kind)


@admin.display(description="phases")
def phase_strip(row: Any) -> SafeString:
    """Return a cell for each phase: hatched where it was skipped, doubled where its name repeats."""
    places = list(_durations(row.cells) if row.is_strip_by_duration else _even(row.cells))
    width = round(places[-1][0] + places[-1][1]) if places else 1
    cells = format_html_join("", "{}", ((_cell(cell, *at),) for cell, at in zip(row.cells, places, strict=True)))
    more = row.phase_count - len(row.cells)
    rest = format_html(' <span class="tj-quiet">+{}</span>', more) if more > 0 else ""
    label = f"{row.phase_count} phases" if row.phase_count != 1 else "1 phase"
    return format_html(
        '<span class="tj-strip"><svg width="{}" height="{}" role="img" aria-label="{}">{}</svg>{}</span>',
        width,
        _STRIP_HEIGHT,
        label,
        cells,
        rest,
    )


def _even(cells: list[Cell]) -> Iterator[tuple[float, float]]:
    step = min(_CELL, STRIP_WIDTH / max(1, len(cells)))
    gap = 2 if step == _CELL else 1
    return ((round(number * step, 1), round(step - gap, 1)) for number in range(len(cells)))


def _durations(cells: list[Cell]) -> Iterator[tuple[float, float]]:
    """Yield places and widths; a phase too short to see, or of unknown duration, is a thin line."""
    total = sum(cell.duration_us or 0 for cell in cells) or 1
    thinnest, at = 2.0, 0.0
    room = max(0.0, STRIP_WIDTH - len(cells) * (thinnest + 1))
    for cell in cells:
        width = round(thinnest + room * (cell.duration_us or 0) / total, 1)
        yield round(at, 1), width
        at += width + 1


def _cell(cell: Cell, x: float, width: float) -> SafeString:
    again = f", run {cell.run}" if cell.run > 1 else ""
    took = formatting.duration(cell.duration_us)
    title = f"{cell.name}: {cell.outcome}{again}{f', {took}' if took else ''}"
    kind = cell.outcome
    half = (_STRIP_HEIGHT - 6) / 2
    # A failure is taller, so that it is seen without its colour; a repetition has two halves.
    y, height = (0, _STRIP_HEIGHT) if kind == "failure" else (2, _STRIP_HEIGHT - 4)
    parts = ((x, 2, width, half), (x, 4 + half, width, half)) if cell.run > 1 else ((x, y, width, height),)
    shapes = format_html_join(
        "",
        '<rect class="tj-fill-{}" x="{}" y="{}" width="{}" height="{}" rx="1"></rect>',
        ((kind, *part) for part in parts),
    )
    if kind == "skipped":
        shapes = format_html(
            '{}<rect fill="url(#tj-hatch)" x="{}" y="2" width="{}" height="{}"></rect>',
            shapes,
            x,
            width,
            _STRIP_HEIGHT - 4,
        )
    return format_html("<g><title>{}</title>{}</g>", title, shapes)


@admin.display(description="models")
def models(row: Any) -> SafeString:
    """Return the models of the phases, without the names of their providers."""
    names = list(dict.fromkeys(cell.model for cell in row.cells if cell.model))
    if not names:
        return mark_safe("-")
    shown = [(formatting.text(name), formatting.text(name.rpartition("/")[2] or name)) for name in names]
    listed = format_html_join(" ", '<span title="{}">{}</span>', shown[:_SHOWN_MODELS])
    if len(names) <= _SHOWN_MODELS:
        return format_html('<span class="tj-models">{}</span>', listed)
    rest = ", ".join(name or "" for name, _ in shown[_SHOWN_MODELS:])
    more = format_html('<span class="tj-quiet" title="{}">+{}</span>', rest, len(names) - _SHOWN_MODELS)
    return format_html('<span class="tj-models">{}\N{NO-BREAK SPACE}{}</span>', listed, more)


@admin.display(description="cost")
def cost(row: Any) -> SafeString | str:
    if row.cost_nano_usd is None:
        return "-"
    exact, short = formatting.usd(row.cost_nano_usd), formatting.short_usd(row.cost_nano_usd)
    return format_html('<span title="{}">{}</span>', exact, short)


@admin.display(description="recorded", ordering="recorded_at_us")
def recorded(row: Any) -> SafeString | None:
    return formatting.time_tag(row.recorded_at_us)
