"""Compare two to four runs: their phases side by side, and what differs from the first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from django.contrib import messages
from django.contrib.admin import ModelAdmin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.http import urlencode
from django.utils.safestring import SafeString

from trajectories.admin import charts, columns, figures, formatting
from trajectories.admin.frame import framed
from trajectories.admin.tenants import actor_of
from trajectories.domain.contract_types import MAX_PHASES
from trajectories.domain.record import NANO_USD
from trajectories.models import AuditEntry, Phase, Trajectory

TEMPLATE = "admin/trajectories/compare_runs.html"
FEWEST, MOST = 2, 4
_SHOWN, _DIFFERENCES = "phases", "different"
"""Name and value of the parameter of the address that leaves out phases without a difference."""

Key = tuple[str, int, int]
"""Group of a phase, its attempt, and how often both occurred before in the run."""


class Value(NamedTuple):
    """A figure of one run, and by how much it differs from the first run's, which is ``was``.

    ``tone`` is the class of a change that is marked.
    """

    name: str
    text: str
    change: str
    was: str
    tone: str = ""


class RunCell(NamedTuple):
    """One phase of one run; ``drawn`` is its share of the longest phase on the page.

    ``was_outcome`` and ``was_model`` are those of the first run where they differ.
    """

    address: str
    outcome: str
    was_outcome: str
    credited: str
    name: str
    model: str
    was_model: str
    reason: str
    values: Sequence[Value]
    drawn: SafeString


class Line(NamedTuple):
    """A phase that one of the runs has, with a cell for each run; None where it lacks the phase."""

    name: str
    cells: Sequence[RunCell | None]

    @property
    def differs(self) -> bool:
        """Return whether a later run lacks the phase, has it alone, or did or ended it otherwise."""
        first, *others = self.cells
        return any((one is None) != (first is None) for one in others) or any(
            one and (one.was_outcome or one.was_model) for one in others
        )


class Head(NamedTuple):
    """One run: what it is, and its totals."""

    text: str
    address: str
    facts: Sequence[tuple[str, SafeString | str]]
    outcome: str
    was_outcome: str
    values: Sequence[Value]


class _Figures(NamedTuple):
    cost_usd: float | None
    duration_ms: float | None
    tokens: int | None


def _tokens(count: float | None) -> str:
    return figures.UNKNOWN if count is None else f"{figures.count(count)} tokens"


_FIGURES: tuple[tuple[str, Callable[[float | None], str]], ...] = (
    ("cost", figures.money),
    ("duration", figures.span),
    ("", _tokens),
)


def redirect_to_comparison(model_admin: Any, request: HttpRequest, rows: QuerySet[Trajectory]) -> HttpResponse | None:
    """Return the redirect of the action of the list, oldest run first; say why if it is not 2 to 4
    runs."""
    pks = list(rows.order_by("recorded_at_us", "pk").values_list("pk", flat=True)[: MOST + 1])
    if not FEWEST <= len(pks) <= MOST:
        model_admin.message_user(request, f"Select {FEWEST} to {MOST} runs to compare.", messages.ERROR)
        return None
    address = reverse("admin:trajectories_trajectory_compare_runs", current_app=model_admin.admin_site.name)
    return HttpResponseRedirect(f"{address}?{urlencode({'run': pks}, doseq=True)}")


def compare_runs_view(model_admin: Any, request: HttpRequest) -> HttpResponse:
    """Return the page that compares the runs whose keys the URL gives as ``run``, the old one
    first.

    Raises:
        PermissionDenied: 403; the user may not view trajectories.
    """
    context = framed(model_admin, request, "Compare runs")
    asked = list(dict.fromkeys(request.GET.getlist("run")))
    rows = _rows(model_admin, request, asked) if FEWEST <= len(asked) <= MOST else []
    if len(rows) < len(asked) or not rows:
        context["problem"] = (
            f"Choose {FEWEST} to {MOST} runs in the list, then the action “Compare”."
            if not FEWEST <= len(asked) <= MOST
            else "A run of this address was deleted, or your groups do not let you see it."
        )
        return TemplateResponse(request, TEMPLATE, context)
    for row in rows:
        AuditEntry.objects.note("view", actor_of(request), {row.tenant_id: 1}, str(row.trajectory_id))
    context |= compared(rows, _phases(rows), model_admin.admin_site.name)
    is_short = request.GET.get(_SHOWN) == _DIFFERENCES
    chosen = {"run": asked} | ({} if is_short else {_SHOWN: _DIFFERENCES})
    context |= {"is_short": is_short, "other_address": f"?{urlencode(chosen, doseq=True)}"}
    return TemplateResponse(request, TEMPLATE, context)


def _rows(model_admin: ModelAdmin[Any], request: HttpRequest, asked: Sequence[str]) -> list[Any]:
    pks = [int(text) for text in asked if text.isascii() and text.isdecimal() and len(text) < 19]
    found = model_admin.listed(model_admin.get_queryset(request).filter(pk__in=pks))  # type: ignore[attr-defined]
    by_pk = {row.pk: row for row in found}
    return [by_pk[pk] for pk in pks if pk in by_pk]


def _phases(rows: Sequence[Trajectory]) -> dict[int, list[Phase]]:
    found: dict[int, list[Phase]] = {row.pk: [] for row in rows}
    for phase in Phase.objects.filter(trajectory__in=found, place__lt=MAX_PHASES).order_by("trajectory", "place"):
        found[phase.trajectory_id].append(phase)
    return found


def compared(rows: Sequence[Any], phases: dict[int, list[Phase]], site_name: str) -> dict[str, Any]:
    """Return the heads of the runs, and a line for each phase that one of them has."""
    keyed = [dict(zip(keys_of(phases[row.pk]), phases[row.pk], strict=True)) for row in rows]
    longest = max((phase.duration_us or 0 for run in keyed for phase in run.values()), default=0)
    heads = [_head(row, rows[0], len(phases[row.pk]), site_name) for row in rows]
    lines = []
    for key in aligned([list(run) for run in keyed]):
        first = keyed[0].get(key)
        cells = [
            _cell(run.get(key), first, longest, heads[at].address, is_first=at == 0) for at, run in enumerate(keyed)
        ]
        name = figures.label(key[0])
        lines.append(Line(name if key[1] + key[2] == 1 else f"{name}, {key[1] + key[2]}", cells))
    return {"heads": heads, "lines": lines, "sentences": list(sentences(heads, lines))}


def sentences(heads: Sequence[Head], lines: Sequence[Line]) -> Iterator[tuple[str, str]]:
    """Yield the name of each later run, and in plain words what differs from the first."""
    for at, head in enumerate(heads[1:], 1):
        parts = [f"{head.outcome}, was {head.was_outcome}" if head.was_outcome else f"{head.outcome} as the first"]
        changed = (one for one in head.values if one.change not in ("", figures.UNCHANGED))
        parts += [f"{one.name} {one.was} → {one.text} ({one.change})".lstrip() for one in changed]
        count = sum(Line(line.name, (line.cells[0], line.cells[at])).differs for line in lines)
        if count:
            parts.append("1 phase differs" if count == 1 else f"{count} phases differ")
        yield head.text, "; ".join(parts) + "."


def keys_of(phases: Iterable[Phase]) -> list[Key]:
    """Return the key of each phase: its name and attempt; the attempt is 1 where the run does not
    say."""
    seen: Counter[tuple[str, int]] = Counter()
    keys = []
    for phase in phases:
        key = (phase.phase, phase.attempt or 1)
        keys.append((*key, seen[key]))
        seen[key] += 1
    return keys


def aligned(runs: Sequence[Sequence[Key]]) -> list[Key]:
    """Return every key once: in the order of the first run, those of later runs after their
    predecessors."""
    order = list(runs[0])
    for run in runs[1:]:
        at = 0
        for key in run:
            if key in order:
                at = order.index(key) + 1
            else:
                order.insert(at, key)
                at += 1
    return order


def _cell(phase: Phase | None, first: Phase | None, longest: int, address: str, *, is_first: bool) -> RunCell | None:
    if phase is None:
        return None
    own, old = _figures_of(phase), _figures_of(first) if first and not is_first else None
    share = (phase.duration_us or 0) / longest if longest else None
    return RunCell(
        f"{address}#phase-{phase.place + 1}",
        phase.outcome,
        _was(first, "outcome", phase),
        phase.credited if phase.credited not in (None, "none", phase.outcome) else "",
        formatting.text(phase.phase_name) or "",
        formatting.text(phase.model) or "",
        _was(first, "model", phase),
        formatting.text(phase.skip_reason) or "",
        _values(own, old),
        charts.bar(share),
    )


def _head(row: Any, first: Any, count: int, site_name: str) -> Head:
    address = reverse("admin:trajectories_trajectory_change", args=[row.pk], current_app=site_name)
    facts = [
        ("Project", figures.label(row.project)),
        ("Policy", figures.label(row.policy)),
        ("Started", formatting.time_tag(row.started_at_us) or figures.UNKNOWN),
        ("Recorded", formatting.time_tag(row.recorded_at_us) or figures.UNKNOWN),
        ("Phases", str(count)),
    ]
    old = None if row is first else _figures_of(first)
    return Head(
        str(columns.summary(row)) or str(row.trajectory_id),
        address,
        facts,
        row.outcome,
        _was(first, "outcome", row),
        _values(_figures_of(row), old),
    )


def _was(first: Any, field: str, row: Any) -> str:
    """Return the field of the first run where it is known and another one; empty otherwise."""
    old, new = getattr(first, field, None), getattr(row, field)
    return "" if old is None or old == new or new is None else formatting.text(old) or ""


def _figures_of(row: Trajectory | Phase) -> _Figures:
    tokens = (
        None
        if row.input_tokens is None and row.output_tokens is None
        else (row.input_tokens or 0) + (row.output_tokens or 0)
    )
    return _Figures(
        None if row.cost_nano_usd is None else row.cost_nano_usd / NANO_USD,
        None if row.duration_us is None else row.duration_us / 1000,
        tokens,
    )


def _values(own: _Figures, old: _Figures | None) -> list[Value]:
    """Return the figures that are known."""
    found = []
    for (name, text), value, was in zip(_FIGURES, own, old or (None, None, None), strict=True):
        if value is not None:
            found.append(Value(name, text(value), figures.change(was, value), text(was), _tone(was, value)))
    return found


def _tone(old: float | None, new: float | None) -> str:
    """Return the class of a change: it is marked from a tenth on."""
    if old is None or new is None or abs(new - old) < 0.1 * abs(old):
        return ""
    return "tj-more" if new > old else "tj-less"
