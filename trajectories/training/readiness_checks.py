"""Checks of the measures of runs: which one fails, and what to do.

Like measures.py, it is copied into the SDK's test server.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from trajectories.domain.quotes import in_quotes
from trajectories.training.measures import MAX_SHOWN, Measures

THRESHOLDS: Mapping[str, float] = {
    "runs": 500,
    "projects": 3,
    "request_types": 3,
    "cost": 0.8,
    "tools": 0.8,
    "model": 0.8,
    "method": 0.8,
    "propensity": 0.8,
    "outcome": 0.8,
    "build": 0.8,
    "skipped_phases": 1,
    "overlap": 1,
    "max_duplicates": 0.2,
    "max_model": 0.9,
    "max_leaks": 0.05,
}
"""Threshold of each check: a number of at least 1, or a share from 0 to 1."""


class Check(NamedTuple):
    """A check. ``message`` says what is wrong and what to do; it is None if the check passed."""

    code: str
    passed: bool
    value: float | None
    threshold: float
    message: str | None


def checks(measures: Measures, thresholds: Mapping[str, float], matching: int | None = None) -> list[Check]:
    """Return every check, in the order of docs/training.md.

    Args:
        thresholds: other values for some keys of ``THRESHOLDS``.
        matching: how many runs there are, where ``measures`` are those of a sample. The check of
            their number then is an estimate.
    """
    return list(_checks(measures, {**THRESHOLDS, **thresholds}, matching))


def note(runs: int, matching: int) -> str | None:
    """Say that only ``runs`` of ``matching`` runs are measured; None if all are."""
    if matching == runs:
        return None
    return (
        f"Only the newest {runs:,} of {matching:,} matching runs are measured. manage.py readiness on the server"
        " measures all; the filter until measures older ones."
    )


def _checks(m: Measures, least: Mapping[str, float], matching: int | None) -> Iterator[Check]:
    usable, of = m.usable, f"{m.usable} of {m.runs} runs"
    if m.runs and matching is not None and matching > m.runs:
        usable = m.usable * matching // m.runs
        of = f"About {usable} of {matching} runs, by the {m.runs} that are measured,"
    yield _at_least(
        "runs",
        usable,
        least["runs"],
        f"{of} have both a cost above 0 and tools: record at least {least['runs']:g} runs with cost_usd and tools_used"
        " of their phases.",
    )
    for code, names, field in (
        ("projects", m.projects, "project"),
        ("request_types", m.request_types, "request_type"),
    ):
        yield _at_least(
            code,
            len(names),
            least[code],
            f"The runs name {len(names)} different values of {field}: record runs of at least {least[code]:g}, and"
            f" send {field} with each.",
        )
    for code, tally in (m.by_run | m.by_phase).items():
        if code in _ADVICE:
            unit = "runs" if code in m.by_run else "phases that ran"
            message = (
                f"{tally.known} of {tally.of} {unit} {_ADVICE[code]}; at least {_percent(least[code])} are needed."
            )
            yield _at_least(code, tally.share, least[code], message)
    yield _at_least(
        "skipped_phases",
        m.skipped.of,
        least["skipped_phases"],
        f"{m.skipped.of} skipped phases are recorded: record each phase that a run leaves out as a phase with the outcome"
        " skipped and a skip_reason, else a policy cannot learn to skip.",
    )
    overlap = m.overlap
    yield _at_least(
        "overlap",
        overlap["with_overlap"],
        least["overlap"],
        f"{overlap['with_overlap']} of {overlap['contexts']} contexts (request type and phase) have more than one action with a"
        " probability above 0: let the policy explore, and send candidates with their probability, or"
        " selection_probability.",
    )
    yield from _largest(m, least)


_ADVICE = {
    "cost": "have a cost: send cost_usd with each phase, or total_cost_usd",
    "outcome": "have a known outcome: send outcome with each run, or with each of its phases",
    "build": "have a build result: send build_passed when the build has ended",
    "tools": "say which tools were used: send tools_used with each phase, an empty list where there were none",
    "model": "name their model: send model with each phase",
    "method": "say how their model was chosen: send model_selection_method with each phase",
    "propensity": "have a propensity: send selection_probability, the probability with which the model was picked",
}


def _largest(m: Measures, most: Mapping[str, float]) -> Iterator[Check]:
    duplicates, shared, leaks = m.duplicates, m.shared_requests, most["max_leaks"]
    yield _at_most(
        "duplicates",
        duplicates.share,
        most["max_duplicates"],
        f"{duplicates.known} of {duplicates.of} runs repeat an earlier run (same request, phases, models and outcomes):"
        " export with --dedupe, or record fewer copies.",
    )
    name, share = m.largest_model or ("", None)
    yield _at_most(
        "model_share",
        share,
        most["max_model"],
        f"The model {in_quotes(name, max_chars=60)} ran {_percent(share or 0)} of the phases: give other models a share of the phases,"
        " for example by exploration.",
    )
    yield _at_most(
        "late_phases",
        m.late.share,
        leaks,
        f"{m.late.known} of {m.late.of} phases started before an earlier phase of the list had ended, so their context"
        " has results that were not known yet: send phases in the order in which they ran, and depends_on or"
        " parent_phase_id for phases that ran in parallel.",
    )
    yield _at_most(
        "requests_with_errors",
        m.revealed.share,
        leaks,
        f"The request_summary of {m.revealed.known} of {m.revealed.of} runs has the text of the run's own error: send"
        " the request as it was before the run.",
    )
    yield _at_most(
        "shared_requests",
        shared.share,
        leaks,
        f"The request of {shared.known} of {shared.of} runs was also made in another session or project, so a split can"
        " have it on both sides: export with --dedupe, or send one session_id for runs of the same request.",
    )
    types = m.one_outcome_types
    shown = ", ".join(in_quotes(one, max_chars=60) for one in types[:MAX_SHOWN])
    yield _at_most(
        "one_outcome_types",
        len(types),
        0,
        f"All runs of the request types {shown} have the same outcome: send the request_type that was known before the"
        " run, not one that depends on its result.",
    )


def _at_least(code: str, value: float | None, threshold: float, message: str) -> Check:
    passed = value is not None and value >= threshold
    return Check(code, passed, value, threshold, None if passed else message)


def _at_most(code: str, value: float | None, threshold: float, message: str) -> Check:
    passed = value is None or value <= threshold
    return Check(code, passed, value, threshold, None if passed else message)


def _percent(share: float) -> str:
    return f"{100 * share:.4g} %"
