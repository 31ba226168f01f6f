"""Text output of the commands."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from trajectories_sdk.cli.table import UNKNOWN, Table, duration, moment, number, percent, usd
from trajectories_sdk.cli.text import escaped
from trajectories_sdk.models import (
    MeasureDistribution,
    OtherPhases,
    Phase,
    PhaseModelGroup,
    Rate,
    Readiness,
    Stats,
    StoredTrajectory,
)


def records(found: Iterable[StoredTrajectory]) -> Iterable[str]:
    """Return a line per record."""
    table = Table(("ID", "RECORDED", "OUTCOME", ">PHASES", ">COST USD", ">DURATION", "REQUEST"))
    for record in found:
        table.add(
            str(record.id),
            moment(record.recorded_at),
            record.outcome,
            str(len(record.phases)),
            usd(record.total_cost_usd),
            duration(record.total_duration_ms),
            record.request_summary,
        )
    return table.lines()


def record(one: StoredTrajectory) -> Iterator[str]:
    """Return the fields of a run, then its phases in order."""
    fields = one.model_dump(mode="json", by_alias=True, exclude_none=True, exclude={"phases"})
    names = max(len(name) for name in fields)
    for name, value in fields.items():
        yield f"{escaped(name):{names}}  {escaped(_plain(value))}"
    yield ""
    table = Table(("PHASE", "OUTCOME", "MODEL", "METHOD", ">IN", ">OUT", ">COST USD", ">DURATION", "NOTE"))
    for phase in one.phases:
        table.add(
            phase.phase_name,
            phase.outcome,
            phase.model,
            phase.model_selection_method,
            number(phase.input_tokens),
            number(phase.output_tokens),
            usd(phase.cost_usd),
            duration(phase.duration_ms),
            _note(phase),
        )
    yield from table.lines()


def _note(phase: Phase) -> str:
    notes = {
        "skipped": phase.skip_reason,
        "instead of": phase.requested_model if phase.requested_model != phase.model else None,
        "attempt": None if phase.attempt in (None, 1) else str(phase.attempt),
        "error": phase.error,
    }
    return ", ".join(f"{name}: {value}" for name, value in notes.items() if value is not None) or UNKNOWN


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(_plain(item) for item in value)
    if isinstance(value, dict):
        return ", ".join(f"{name}={_plain(item)}" for name, item in value.items())
    return {True: "true", False: "false"}.get(value, str(value)) if isinstance(value, bool) else str(value)


def results(lines: Iterable[Mapping[str, Any]]) -> Iterable[str]:
    """Return a line per line of NDJSON."""
    table = Table((">LINE", ">STATUS", "ID", "ERROR"))
    for line in lines:
        error = line.get("error") or {}
        table.add(str(line["line"]), str(line["status"]), line.get("id"), error.get("message"))
    return table.lines()


def stats(found: Stats) -> Iterator[str]:
    """Return totals, then a line per phase, model and selection method."""
    yield from _totals(found).lines()
    yield ""
    table = Table(("PHASE", "MODEL", "METHOD", ">N", ">SUCCESS", ">WILSON LOW", ">SKIPPED", ">MEAN USD", ">VALUE/USD"))
    for group in found.by_phase_model:
        table.add(group.phase, group.model, group.selection_method, *_measured(group))
    if (other := found.other.by_phase_model) is not None:
        table.add(f"({other.groups:,} others)", None, None, *_measured(other))
    yield from table.lines()


def readiness(found: Readiness) -> Iterator[str]:
    """Return a line per check, then what to do."""
    table = Table(("CHECK", "RESULT", ">VALUE", ">THRESHOLD"))
    for check in found.checks:
        table.add(
            check.code, "passed" if check.passed else "failed", number(check.value, 3), number(check.threshold, 3)
        )
    yield from table.lines()
    for check in found.checks:
        if check.message is not None:
            yield ""
            yield f"{check.code}: {escaped(check.message)}"


def _measured(group: PhaseModelGroup | OtherPhases) -> tuple[str | None, ...]:
    return (
        number(group.count),
        percent(group.success_rate.rate),
        percent(group.success_rate.low),
        percent(group.skip_rate),
        usd(group.cost_usd.mean),
        number(group.value_per_dollar, 1),
    )


def _totals(found: Stats) -> Table:
    table = Table(("TOTAL", "VALUE"))
    table.add("runs", number(found.count))
    table.add("outcomes", ", ".join(f"{name} {n:,}" for name, n in found.outcomes.model_dump().items() if n))
    for name in ("success_rate", "build_pass_rate", "test_pass_rate"):
        table.add(name.replace("_", " "), _rate(getattr(found, name)))
    for name, shown in (("cost_usd", usd), ("duration_ms", duration), ("tokens", number)):
        table.add(name.partition("_")[0], _distribution(getattr(found, name), shown))
    table.add("phases", f"{found.phases.count:,}, {percent(found.phases.skip_rate) or UNKNOWN} skipped")
    return table


def _rate(rate: Rate) -> str:
    if rate.rate is None:
        return UNKNOWN
    return f"{percent(rate.rate)} of {rate.known:,} known (Wilson {percent(rate.low)} to {percent(rate.high)})"


def _distribution(measure: MeasureDistribution, shown: Any) -> str:
    if not measure.known:
        return UNKNOWN
    named = {name: shown(getattr(measure, name)) for name in ("sum", "mean", "p50", "p95")}
    return ", ".join(f"{name} {text}" for name, text in named.items()) + f" of {measure.known:,} known"
