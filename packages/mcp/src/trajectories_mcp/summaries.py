"""Short summaries of the store's answers, for an agent."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final

from trajectories_mcp.results import (
    MAX_ADVICE_CHARS,
    MAX_NAME_CHARS,
    MAX_NAMES,
    MAX_PHASES,
    MAX_TEXT_CHARS,
    Group,
    PhaseSummary,
    Proportion,
    Readiness,
    RunDetail,
    RunSummary,
    SkipSide,
    Stats,
    Totals,
)
from trajectories_sdk import models

GROUPINGS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "phase_model": ("phase", "model", "selection_method"),
        "phase": ("phase",),
        "model": ("model",),
        "selection_method": ("selection_method",),
        "request_type": ("request_type",),
        "source": ("source",),
        "project": ("project",),
        "policy": ("policy",),
        "skips": ("phase", "request_type"),
    }
)
"""Values of ``group_by``, each with the fields that all members of a group share."""
# Controls, and characters that show nothing or reorder text (the store has the same list; the format characters of all
# scripts are added): a model reads them, its user does not. The joiners of scripts and emoji are among them, and are no
# loss in a summary.
_HIDDEN: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\u00ad\u034f\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u115f\u1160\u17b4\u17b5\u180b-\u180f"
    "\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U000110bd\U000110cd"
    "\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]+"
)
_BREAKS: Final = re.compile(r"[\t\n\v\f\r\x1c-\x1e\x85\u2028\u2029]+")
_GROUP_FILTERS: Final = ("phase", "model", "selection_method")


def run_summary(run: models.StoredTrajectory) -> RunSummary:
    return RunSummary(**_head(run))


def run_detail(run: models.StoredTrajectory, phases_from: int) -> RunDetail:
    """Return the run with its phases from the index ``phases_from`` on, counted from 0."""
    shown = run.phases[phases_from : phases_from + MAX_PHASES]
    end = phases_from + len(shown)
    credits_ = run.derived.credit.phases if run.derived is not None else []
    return RunDetail(
        **_head(run),
        error=_text(run.error),
        tags=_names(run.tags),
        policy=_name(run.policy),
        parent_id=run.parent_id,
        revision=run.revision,
        warnings=warnings(run),
        review_findings=run.review_findings,
        critical_findings=run.critical_findings,
        files_changed=run.files_changed,
        started_at=_time(run.started_at),
        ended_at=_time(run.ended_at),
        phases_in_detail=[
            _phase(phase, credits_[at] if at < len(credits_) else None) for at, phase in enumerate(shown, phases_from)
        ],
        next_phases_from=end if end < len(run.phases) else None,
    )


def stats(found: models.Stats, group_by: str, filters: Mapping[str, Any], limit: int) -> Stats:
    """Return the totals and the ``limit`` largest groups.

    The filters select runs, and a selected run also has phases that do not match them. Keep only
    the groups whose phase, model and selection method match the filters. If no group has the given
    name, it is an alias that only the store can resolve: keep all groups. Groups by skips are those of
    phases that some run skipped.
    """
    groups: Sequence[Any] = _skipped(found.skips) if group_by == "skips" else getattr(found, f"by_{group_by}")
    for name in _GROUP_FILTERS:
        if name in GROUPINGS[group_by] and name in filters:
            matching = [group for group in groups if getattr(group, name) == filters[name]]
            groups = matching or groups
    make = _skip_group if group_by == "skips" else _group
    shown = [make(group, GROUPINGS[group_by]) for group in groups[:limit]]
    shown.sort(key=lambda group: (group.phase or "", -((group.success_rate and group.success_rate.low) or 0.0)))
    return Stats(
        totals=_totals(found),
        credit_rule=found.credit_rule,
        group_by=group_by,
        groups=shown,
        groups_left_out=max(0, len(groups) - len(shown)),
    )


def _skipped(groups: Sequence[models.SkipGroup]) -> list[models.SkipGroup]:
    phases = {group.phase for group in groups if group.skipped.runs}
    return [group for group in groups if group.phase in phases]


def readiness(found: models.Readiness) -> Readiness:
    """Return the sentences of the failed checks."""
    advice = [check.message for check in found.checks if check.message is not None]
    return Readiness(
        ready=found.ready,
        runs=found.runs,
        matching=found.matching,
        note=found.note,
        to_do=[cut(plain(text), MAX_ADVICE_CHARS) for text in advice],
        warnings=found.warnings or None,
    )


def cut(text: str, max_chars: int) -> str:
    """Cut ``text`` to at most ``max_chars`` characters of JSON, and mark a cut with an ellipsis."""
    spent = 0
    for at, char in enumerate(text):
        spent += len(json.dumps(char, ensure_ascii=False)) - 2
        if spent > max_chars:
            return f"{text[:at]}…"
    return text


def plain(text: str) -> str:
    """Return ``text`` on one line, without control characters, invisible ones, and ones that
    reorder text."""
    return _HIDDEN.sub("", _BREAKS.sub(" ", text))


def warnings(run: models.StoredTrajectory, *, has_text: bool = True) -> list[str] | None:
    """Return the contradictions of a run, each on a line.

    Args:
        has_text: whether to quote recorded text.
    """
    found = run.warnings or ()
    if has_text:
        return [cut(plain(f"{one.path}: {one.message}"), MAX_TEXT_CHARS) for one in found[:MAX_NAMES]] or None
    return [f"{one.path} ({one.code})" for one in found[:MAX_NAMES]] or None


def _head(run: models.StoredTrajectory) -> dict[str, Any]:
    left_out = len(run.phases) - MAX_NAMES
    return {
        "id": run.id,
        "recorded_at": _time(run.recorded_at),
        "request_summary": _text(run.request_summary),
        "request_type": _name(run.request_type),
        "source": _name(run.source),
        "project": _name(run.project),
        "outcome": _name(_known(run, "outcome")),
        "build_passed": run.build_passed,
        "tests_passed": run.tests_passed,
        "total_cost_usd": _known(run, "total_cost_usd"),
        "total_duration_ms": _known(run, "total_duration_ms"),
        "phases": [_phase_label(phase) for phase in run.phases[:MAX_NAMES]],
        "phases_left_out": left_out if left_out > 0 else None,
    }


def _known(run: models.StoredTrajectory, name: str) -> Any:
    """Return a value as it was recorded, or else the derived one."""
    given = getattr(run, name)
    return getattr(run.derived, name, None) if given is None else given


def _phase_label(phase: models.Phase) -> str:
    known = [text for text in (_name(phase.outcome), _name(phase.model)) if text]
    return f"{_name(phase.phase_name)} ({', '.join(known)})" if known else f"{_name(phase.phase_name)}"


def _phase(phase: models.Phase, credit: models.PhaseCredit | None) -> PhaseSummary:
    return PhaseSummary(
        phase_name=cut(plain(phase.phase_name), MAX_NAME_CHARS),
        phase_id=_name(phase.phase_id),
        outcome=_name(phase.outcome),
        credited=f"{credit.outcome} ({credit.source})" if credit is not None and credit.outcome else None,
        fit=_name(phase.fit),
        model=_name(phase.model),
        requested_model=_name(phase.requested_model),
        model_selection_method=_name(phase.model_selection_method),
        selection_probability=phase.selection_probability,
        agent=_name(phase.agent),
        attempt=phase.attempt,
        tools_used=_names(phase.tools_used),
        input_tokens=phase.input_tokens,
        output_tokens=phase.output_tokens,
        cost_usd=phase.cost_usd,
        duration_ms=phase.duration_ms,
        skip_reason=_text(phase.skip_reason),
        status_reason=_text(phase.status_reason),
        attempts=_names([f"{one.model} ({one.outcome})" for one in phase.attempts] if phase.attempts else None),
        error=_text(phase.error),
    )


def _totals(found: models.Stats) -> Totals:
    return Totals(
        count=found.count,
        success_rate=_proportion(found.success_rate),
        build_pass_rate=_proportion(found.build_pass_rate),
        test_pass_rate=_proportion(found.test_pass_rate),
        phase_skip_rate=found.phases.skip_rate,
        cost_usd=found.cost_usd.sum,
        cost_per_success_usd=found.cost_per_success_usd,
        duration_ms=found.duration_ms.sum,
        tokens=found.tokens.sum,
        mean_cost_usd=found.cost_usd.mean,
        p95_cost_usd=found.cost_usd.p95,
        mean_duration_ms=found.duration_ms.mean,
        p95_duration_ms=found.duration_ms.p95,
    )


def _group(group: Any, shared: Iterable[str]) -> Group:
    credited = getattr(group, "credited_success_rate", None)
    return Group(
        **_shared(group, shared),
        count=group.count,
        success_rate=_proportion(credited or group.success_rate),
        success_rate_by_phase_outcome=_proportion(group.success_rate) if credited else None,
        skip_rate=getattr(group, "skip_rate", None),
        mean_cost_usd=group.cost_usd.mean,
        sum_cost_usd=group.cost_usd.sum,
        cost_per_success_usd=getattr(group, "cost_per_success_usd", None),
        mean_duration_ms=group.duration_ms.mean,
        mean_output_tokens=group.output_tokens.mean,
        value_per_dollar=getattr(group, "value_per_dollar", None),
    )


def _skip_group(group: models.SkipGroup, shared: Iterable[str]) -> Group:
    return Group(
        **_shared(group, shared),
        count=group.ran.runs + group.skipped.runs,
        ran=_skip_side(group.ran),
        skipped=_skip_side(group.skipped),
    )


def _shared(group: Any, names: Iterable[str]) -> dict[str, Any]:
    return {name: _name(getattr(group, name)) for name in names}


def _skip_side(side: models.RunsByPresence) -> SkipSide:
    return SkipSide(runs=side.runs, success_rate=_proportion(side.success_rate), mean_cost_usd=side.cost_usd.mean)


def _proportion(rate: models.Rate) -> Proportion:
    return Proportion(known=rate.known, rate=rate.rate, low=rate.low, high=rate.high)


def _name(text: str | None) -> str | None:
    return None if text is None else cut(plain(text), MAX_NAME_CHARS)


def _text(text: str | None) -> str | None:
    return None if text is None else cut(plain(text), MAX_TEXT_CHARS)


def _names(texts: Sequence[str] | None) -> list[str] | None:
    if texts is None:
        return None
    more = len(texts) - MAX_NAMES
    return [cut(plain(text), MAX_NAME_CHARS) for text in texts[:MAX_NAMES]] + (
        [f"… and {more} more"] if more > 0 else []
    )


def _time(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat().replace("+00:00", "Z")


def as_text(answer: Mapping[str, Any]) -> str:
    """Return compact JSON on one line, which costs a model the fewest tokens."""
    return json.dumps(answer, ensure_ascii=False, separators=(",", ":"))
