"""Text output of the commands."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from trajectories_sdk.cli.table import UNKNOWN, Table, duration, moment, number, percent, usd
from trajectories_sdk.cli.text import escaped
from trajectories_sdk.models import (
    EscalationPlan,
    MeasureDistribution,
    OtherPhases,
    Phase,
    PhaseCredit,
    PhaseModelGroup,
    PolicyEvaluation,
    Rate,
    Readiness,
    Recommendation,
    RecommendedCandidate,
    RunsByPresence,
    SkipFigures,
    SkipGroup,
    Stats,
    StoredTrajectory,
)


def records(found: Iterable[StoredTrajectory]) -> Iterable[str]:
    """Return a line per record. Outcome, cost and duration are derived ones where none was
    recorded."""
    table = Table(("ID", "RECORDED", "OUTCOME", ">PHASES", ">COST USD", ">DURATION", "REQUEST"))
    for record in found:
        table.add(
            str(record.id),
            moment(record.recorded_at),
            _known(record, "outcome"),
            str(len(record.phases)),
            usd(_known(record, "total_cost_usd")),
            duration(_known(record, "total_duration_ms")),
            record.request_summary,
        )
    return table.lines()


def record(one: StoredTrajectory) -> Iterator[str]:
    """Return the fields of a run, then its phases in order."""
    fields = one.model_dump(mode="json", by_alias=True, exclude_none=True, exclude={"phases", "derived", "warnings"})
    # Values that were recorded are above.
    derived = one.derived.model_dump(exclude_none=True, exclude={"credit"}) if one.derived else {}
    fields |= {f"derived {name}": value for name, value in derived.items() if name not in fields}
    fields |= {f"warning {warning.path}": warning.message for warning in one.warnings or ()}
    names = max(len(name) for name in fields)
    for name, value in fields.items():
        yield f"{escaped(name):{names}}  {escaped(_plain(value))}"
    yield ""
    table = Table(("PHASE", "OUTCOME", "MODEL", "METHOD", ">IN", ">OUT", ">COST USD", ">DURATION", "NOTE"))
    earned: Sequence[PhaseCredit | None] = one.derived.credit.phases if one.derived else [None] * len(one.phases)
    for phase, credit in zip(one.phases, earned, strict=True):
        table.add(
            phase.phase_name,
            phase.outcome,
            phase.model,
            phase.model_selection_method,
            number(phase.input_tokens),
            number(phase.output_tokens),
            usd(phase.cost_usd),
            duration(phase.duration_ms),
            _note(phase, credit),
        )
    yield from table.lines()


def _known(record: StoredTrajectory, name: str) -> Any:
    """Return a value as it was recorded, or else the derived one."""
    given = getattr(record, name)
    return getattr(record.derived, name, None) if given is None else given


def _note(phase: Phase, credit: PhaseCredit | None) -> str:
    is_other = credit is not None and credit.outcome not in (None, phase.outcome)
    notes = {
        "credited": f"{credit.outcome} by {credit.source}" if credit is not None and is_other else None,
        "skipped": phase.skip_reason,
        "instead of": phase.requested_model if phase.requested_model != phase.model else None,
        "attempt": None if phase.attempt in (None, 1) else str(phase.attempt),
        "fit": phase.fit,
        "reason": phase.status_reason,
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
    """Return totals, then a line per phase, model and selection method, the days or weeks, and
    skips."""
    yield from _totals(found).lines()
    yield ""
    table = Table(
        (
            "PHASE",
            "MODEL",
            "METHOD",
            ">N",
            ">CREDITED",
            ">WILSON LOW",
            ">BY PHASE",
            ">SKIPPED",
            ">MEAN USD",
            ">VALUE/USD",
        )
    )
    for group in found.by_phase_model:
        table.add(group.phase, group.model, group.selection_method, *_measured(group))
    if (other := found.other.by_phase_model) is not None:
        table.add(f"({other.groups:,} others)", None, None, *_measured(other))
    yield from table.lines()
    if found.series:
        yield ""
        yield from _series(found).lines()
    skipped = {group.phase for group in found.skips if group.skipped.runs}
    if skipped:
        yield ""
        yield from _skips(group for group in found.skips if group.phase in skipped).lines()


def _series(found: Stats) -> Table:
    table = Table(("START", ">RUNS", ">SUCCESS", ">COST USD", ">USD/SUCCESS"))
    for one in found.series or ():
        of_runs = number(one.count), percent(one.success_rate.rate)
        table.add(one.start.isoformat(), *of_runs, usd(one.cost_usd.sum), usd(one.cost_per_success_usd))
    return table


def _skips(groups: Iterable[SkipGroup]) -> Table:
    """Return how runs ended where a phase ran and where it was skipped, for phases that were
    skipped."""
    table = Table(("PHASE", "TYPE", ">RAN", ">SUCCESS", ">WILSON", ">SKIPPED", ">SUCCESS", ">WILSON"))
    for group in groups:
        sides = [cell for side in (group.ran, group.skipped) for cell in (number(side.runs), *_interval(side))]
        table.add(group.phase, group.request_type, *sides)
    return table


def _interval(side: RunsByPresence) -> tuple[str | None, str | None]:
    rate = side.success_rate
    return percent(rate.rate), None if rate.low is None else f"{percent(rate.low)} to {percent(rate.high)}"


def recommendation(found: Recommendation) -> Iterator[str]:
    """Return the choice, then a line per action."""
    yield escaped(found.reasoning)
    if found.choice is not None:
        yield f"propensity {found.choice.propensity:.3f}, seed {found.seed}"
    yield ""
    table = Table(("ACTION", ">SUCCESS", "95 %", ">SAMPLES", ">USD", ">VALUE", ">PROBABILITY", "NOTE"))
    actions: Iterable[tuple[str, RecommendedCandidate | EscalationPlan | SkipFigures]] = [
        *((one.model, one) for one in found.candidates),
        *((f"{plan.model}, then {plan.escalate_to}", plan) for plan in found.plans),
        *([] if found.skip is None else [("skip", found.skip)]),
    ]
    for name, one in actions:
        success = one.success
        table.add(
            name,
            percent(success.mean),
            f"{percent(success.low)} to {percent(success.high)}",
            number(one.samples),
            usd(one.expected_cost_usd),
            number(one.value, 3),
            number(one.probability, 3),
            one.reason,
        )
    yield from table.lines()


def evaluation(found: PolicyEvaluation) -> Iterator[str]:
    """Return the estimates or the refusal, with what they rest on."""
    if found.refusal is not None:
        yield escaped(found.refusal)
    table = Table(("ESTIMATE", ">VALUE", "NORMAL 95 %", "BOOTSTRAP 95 %"))
    if found.logged_value is not None:
        table.add("logged", number(found.logged_value, 4), None, None)
    if found.exact is not None:
        table.add("exact", number(found.exact.value, 4), None, None)
    for one in found.estimates:
        intervals = (f"{part.low:.4f} to {part.high:.4f}" for part in (one.normal, one.bootstrap))
        table.add(one.method, number(one.value, 4), *intervals)
    yield from table.lines()
    yield ""
    effective = "" if found.overlap is None else f", worth {found.overlap.effective_samples:,.0f} of this policy"
    yield f"{found.decisions:,} {found.estimand}s{effective}"
    for reason, count in found.left_out.items():
        yield f"left out: {count:,} {escaped(reason)}"


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
        percent(group.credited_success_rate.rate),
        percent(group.credited_success_rate.low),
        percent(group.success_rate.rate),
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
    table.add("credit rule", found.credit_rule)
    table.add("cost per success", usd(found.cost_per_success_usd) or UNKNOWN)
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
