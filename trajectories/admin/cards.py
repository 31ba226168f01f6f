"""The cards of the overview: pure functions from answers of stats to pictures and tables."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, NamedTuple

from django.utils.safestring import SafeString

from trajectories.admin import charts, figures
from trajectories.admin.charts import Layer, Point, Step
from trajectories.domain.stats import wilson

Answer = Mapping[str, Any]
Address = Callable[..., str]
"""Takes filters of the API, returns the address of the list of these runs."""

_MAX_STEPS = 400
_MINUTE_MS = 60_000
MAX_ROWS = 12
OUTCOME_TONES = {"success": "tj-success", "partial": "tj-partial", "failure": "tj-failure", "unknown": "tj-unknown"}


class Cell(NamedTuple):
    """A cell of a table: text, or a drawing, or both."""

    text: str
    href: str = ""
    drawn: SafeString | str = ""
    is_number: bool = True
    note: str = ""


@dataclass(frozen=True, slots=True)
class Card:
    """A picture with its numbers, or a table alone. Without rows it says ``empty``."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    note: str = ""
    drawn: SafeString | str = ""
    legend: Sequence[tuple[str, str]] = ()
    empty: str = "Nothing to show in this period."
    is_wide: bool = False

    @property
    def columns(self) -> list[tuple[str, bool]]:
        """Return each name of the head, and whether its column has numbers."""
        first = self.rows[0] if self.rows else ()
        return [(name, at < len(first) and first[at].is_number) for at, name in enumerate(self.head)]


def name_cell(text: str | None, href: str = "") -> Cell:
    return Cell(figures.label(text), href if text else "", is_number=False)


def rate_cell(rate: Answer) -> Cell:
    drawn = charts.interval(rate["rate"], rate["low"], rate["high"])
    return Cell(figures.interval(rate), drawn=drawn, note=f"of {rate['known']:,}" if rate["known"] else "")


# Over time.


class Bucket(NamedTuple):
    """A day or a week of a series; ``figures`` is None where no run started."""

    start: date
    end: date
    figures: Answer | None

    @property
    def label(self) -> str:
        return f"{self.start.day} {self.start:%b}"


def buckets(answer: Answer, bucket: str, start: date | None, end: date | None) -> list[Bucket]:
    """Return the series of ``answer``, with the days or weeks in which no run started.

    Args:
        start, end: of the period; None is where the series starts or ends.
    """
    found = {date.fromisoformat(one["start"]): one for one in answer["series"]}
    if not found:
        return []
    width = timedelta(days=7 if bucket == "week" else 1)
    first, last = min([*found, *([_first(start, bucket)] if start else [])]), max(found)
    steps = ((end or last + width) - first + width - timedelta(days=1)) // width
    starts = sorted(found) if steps > _MAX_STEPS else [first + width * at for at in range(steps)]
    return [Bucket(at, at + width, found.get(at)) for at in starts]


def _first(start: date, bucket: str) -> date:
    return start - timedelta(days=start.weekday()) if bucket == "week" else start


def over_time(series: Sequence[Bucket], runs: Address, bounds: tuple[str, str]) -> list[Card]:
    """Return the cards of runs, success, cost, tokens and duration over time.

    Args:
        bounds: the filters of the API that select the runs from and before a time.
    """
    since, until = bounds
    links = [runs(**{since: one.start.isoformat(), until: one.end.isoformat()}) for one in series]
    steps = [Step(one.label, link if one.figures else "") for one, link in zip(series, links, strict=True)]

    def layer(tone: str, name: str, *path: str) -> Layer:
        return Layer(tone, name, [figures.at(one.figures, *path) for one in series])

    def card(
        title: str,
        drawn: SafeString,
        text: charts.Text,
        layers: Sequence[Layer],
        note: str = "",
        more: Sequence[Layer] = (),
    ) -> Card:
        rows = [
            [Cell(one.start.isoformat(), step.href, is_number=False)]
            + [
                Cell(figures.UNKNOWN if (value := layer.values[at]) is None else text(value))
                for layer in (*layers, *more)
            ]
            for at, (one, step) in enumerate(zip(series, steps, strict=True))
            if one.figures
        ]
        legend = [(layer.tone, layer.name) for layer in layers] if len(layers) > 1 else ()
        return Card(title, ["From", *(layer.name for layer in (*layers, *more))], rows[::-1], note, drawn, legend)

    outcomes = [layer(tone, outcome.capitalize(), "outcomes", outcome) for outcome, tone in OUTCOME_TONES.items()]
    success = [layer("tj-success", "Success", "success_rate", "rate")]
    band = [layer("", "Lower bound", "success_rate", "low"), layer("", "Upper bound", "success_rate", "high")]
    cost = [layer("tj-main", "Cost", "cost_usd", "sum")]
    tokens = [layer("tj-main", "Input", "input_tokens", "sum"), layer("tj-second", "Output", "output_tokens", "sum")]
    each = [layer("tj-second", "Cost per success", "cost_per_success_usd")]
    took = [layer("tj-main", "Median", "duration_ms", "p50"), layer("tj-second", "p95", "duration_ms", "p95")]
    mean = [layer("tj-main", "Mean", "duration_ms", "mean")]
    return [
        card("Runs by outcome", charts.columns(steps, outcomes, figures.count), figures.count, outcomes),
        card(
            "Success rate",
            charts.line(steps, success, figures.percent, band=band),
            figures.percent,
            success,
            "Of runs with a known outcome; the area is the 95 % Wilson interval.",
            more=band,
        ),
        card("Cost", charts.columns(steps, cost, figures.money), figures.money, cost),
        card("Tokens", charts.columns(steps, tokens, figures.count), figures.count, tokens),
        card(
            "Cost per success",
            charts.line(steps, each, figures.money),
            figures.money,
            each,
            "The cost of all runs, divided by the successful ones.",
        ),
        card(
            "Duration",
            charts.line(steps, took, figures.span, unit=_MINUTE_MS),
            figures.span,
            took,
            "Half of the runs took at most the median, 95 % at most p95.",
            more=mean,
        ),
    ]


# By model.


def cost_by_model(answer: Answer, runs: Address) -> Card:
    groups = [group for group in answer["by_model"] if group["cost_usd"]["sum"] is not None]
    groups.sort(key=lambda group: -group["cost_usd"]["sum"])
    total = sum(group["cost_usd"]["sum"] for group in groups)
    rows = [
        [
            name_cell(group["model"], runs(model=group["model"]) if group["model"] else ""),
            Cell(
                figures.money(group["cost_usd"]["sum"]),
                drawn=charts.bar(group["cost_usd"]["sum"] / total if total else 0),
                note=figures.percent(group["cost_usd"]["sum"] / total) if total else "",
            ),
            Cell(figures.money(group["cost_usd"]["mean"])),
            Cell(figures.count(group["count"])),
        ]
        for group in groups[:MAX_ROWS]
    ]
    return Card(
        "Cost by model", ["Model", "Cost", "Per phase", "Phases"], rows, "The bar is the share of all phases' cost."
    )


def cost_against_success(answer: Answer, runs: Address) -> Card:
    """Return credited success of phases against their mean cost, a point a model."""
    points = []
    for group in answer["by_model"]:
        rate, mean = group["credited_success_rate"], group["cost_usd"]["mean"]
        if group["model"] is None or rate["rate"] is None or mean is None:
            continue
        name = figures.label(group["model"])
        title = f"{name}: {figures.interval(rate)} of {rate['known']:,} phases succeed, {figures.money(mean)} each"
        short = name.rsplit("/", 1)[-1][:24]
        points.append(Point(short, mean, rate["rate"], rate["low"], rate["high"], title, runs(model=group["model"])))
    points = points[:MAX_ROWS]
    best = charts.front(points)
    rows = [
        [
            Cell(point.label, point.href, is_number=False),
            Cell(figures.money(point.x)),
            Cell(f"{figures.percent(point.y)} ({100 * point.low:.0f} to {100 * point.high:.0f})"),
            Cell("yes" if point in best else "no", is_number=False),
        ]
        for point in sorted(points, key=lambda point: point.x)
    ]
    note = "Mean cost of a phase and its credited success. No model on the dashed line is both dearer and worse than another."
    drawn = charts.scatter(points, figures.money, figures.percent) if points else ""
    return Card("Cost against success", ["Model", "Cost of a phase", "Success", "On the front"], rows, note, drawn)


# Decisions.


@dataclass(slots=True)
class Side:
    """Runs in which a phase ran, or those in which it was skipped, over every type of request."""

    runs: int = 0
    known: int = 0
    successes: int = 0
    costed: int = 0
    cost_usd: float = 0

    def add(self, group: Answer) -> None:
        """Add one side of a group of ``skips``."""
        rate, cost = group["success_rate"], group["cost_usd"]
        self.runs += group["runs"]
        self.known += rate["known"]
        self.successes += round((rate["rate"] or 0) * rate["known"])
        self.costed += cost["known"]
        self.cost_usd += cost["sum"] or 0

    @property
    def rate(self) -> dict[str, Any]:
        return rate_of(self.successes, self.known)

    @property
    def cost(self) -> float | None:
        """Return the mean cost of a run."""
        return self.cost_usd / self.costed if self.costed else None


def skips(answer: Answer, runs: Address) -> Card:
    """Return how runs ended, and what they cost, where a phase ran and where it was skipped."""
    sides: dict[str, dict[str, Side]] = defaultdict(lambda: {"ran": Side(), "skipped": Side()})
    for group in answer["skips"]:
        for presence, side in sides[group["phase"]].items():
            side.add(group[presence])
    costs = {group["phase"]: group["cost_usd"]["mean"] for group in answer["by_phase"]}
    rows = []
    for phase, by_presence in sorted(sides.items(), key=lambda item: (-item[1]["skipped"].runs, item[0])):
        ran, skipped = by_presence["ran"], by_presence["skipped"]
        if not skipped.runs:
            continue
        rows.append(
            [
                name_cell(phase, runs(phase=phase)),
                Cell(f"{ran.runs:,} / {skipped.runs:,}"),
                rate_cell(ran.rate),
                rate_cell(skipped.rate),
                Cell(figures.verdict(ran.rate, skipped.rate), is_number=False),
                Cell(figures.money(ran.cost)),
                Cell(figures.money(skipped.cost), note=figures.change(ran.cost, skipped.cost)),
                Cell(figures.money(costs.get(phase))),
            ]
        )
    head = [
        "Phase",
        "Runs: ran / skipped",
        "Success, ran",
        "Success, skipped",
        "Where skipped, success is",
        "Cost of a run, ran",
        "Cost of a run, skipped",
        "Cost of the phase",
    ]
    note = (
        "Runs are not matched: choose a type above to compare like with like. Costs are means: of the runs with a known"
        " cost, and of a phase that ran."
    )
    return Card(
        "Skipped phases", head, rows[:MAX_ROWS], note, empty="No phase was skipped in this period.", is_wide=True
    )


def rate_of(successes: int, known: int) -> dict[str, Any]:
    """Return a rate as stats have it."""
    low, high = wilson(successes, known) or (None, None)
    return {"known": known, "rate": successes / known if known else None, "low": low, "high": high}


def policies(answer: Answer, runs: Address) -> Card:
    return _runs_by(answer, "policy", "Policies", runs, "No run names its policy.")


def projects(answer: Answer, runs: Address) -> Card:
    return _runs_by(answer, "project", "Projects", runs, "No run names its project.")


def _runs_by(answer: Answer, column: str, title: str, runs: Address, empty: str) -> Card:
    rows = [
        [
            name_cell(group[column], runs(**{column: group[column]}) if group[column] else ""),
            Cell(figures.count(group["count"])),
            rate_cell(group["success_rate"]),
            Cell(figures.money(group["cost_usd"]["mean"])),
            Cell(figures.money(group["cost_per_success_usd"])),
            Cell(figures.span(group["duration_ms"]["mean"])),
        ]
        for group in answer[f"by_{column}"]
    ]
    has_names = any(group[column] for group in answer[f"by_{column}"])
    head = [column.capitalize(), "Runs", "Success", "Cost of a run", "Cost per success", "Duration"]
    return Card(title, head, rows[:MAX_ROWS] if has_names else (), empty=empty, is_wide=True)


def selection_methods(answer: Answer, runs: Address) -> Card:
    rows = [
        [
            name_cell(group["selection_method"], runs(selection_method=group["selection_method"])),
            Cell(figures.count(group["count"])),
            rate_cell(group["credited_success_rate"]),
            rate_cell(group["success_rate"]),
            Cell(figures.money(group["cost_usd"]["mean"])),
            Cell(figures.UNKNOWN if group["value_per_dollar"] is None else f"{group['value_per_dollar']:,.3g}"),
        ]
        for group in answer["by_selection_method"]
        if group["selection_method"] is not None
    ]
    head = ["Method", "Phases", "Credited success", "By own outcome", "Cost of a phase", "Value per dollar"]
    empty = "No phase says how its model was chosen."
    return Card("How models were chosen", head, rows[:MAX_ROWS], empty=empty, is_wide=True)


def unattributed(answer: Answer, runs: Address) -> Card:
    """Return the money of runs that none of their phases accounts for."""
    groups = [group for group in answer["by_project"] if group["unattributed_cost_usd"]["sum"]]
    groups.sort(key=lambda group: -abs(group["unattributed_cost_usd"]["sum"]))
    rows = [
        [
            name_cell(group["project"], runs(project=group["project"]) if group["project"] else ""),
            Cell(figures.money(group["unattributed_cost_usd"]["sum"]), drawn=charts.bar(_share(group))),
            Cell(figures.percent(_share(group))),
        ]
        for group in groups[:MAX_ROWS]
    ]
    total = figures.money(answer["unattributed_cost_usd"]["sum"])
    note = f"{total} of the totals of runs is in none of their phases. A negative amount: the phases add up to more."
    empty = "The phases account for the whole cost of their runs."
    return Card(
        "Unattributed money", ["Project", "Unattributed", "Of its cost"], rows, note if rows else "", empty=empty
    )


def _share(group: Answer) -> float | None:
    total = group["cost_usd"]["sum"]
    return group["unattributed_cost_usd"]["sum"] / total if total else None


def options(answer: Answer, columns: Iterable[str]) -> dict[str, list[str]]:
    """Return the values that runs have in each of ``columns``, the most frequent first."""
    return {column: [group[column] for group in answer[f"by_{column}"] if group[column]] for column in columns}
