"""Facts of a run that say, without its body, that a format of exports makes no line of it.

Each fact is an upper bound: a run that lacks it yields no line in a format that needs it, under any
credit rule and any alias of phases.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import orjson

from trajectories.domain.text import fold

SUCCESS, PARTIAL, FAILURE, PHASES, ATTEMPT, OTHER_MODEL, MODELS, ACTIONS, PROPENSITY = (1 << n for n in range(9))
"""A decision may have earned 1, 0.5 or 0. The run has a phase, an attempt whose outcome is known, an
attempt by another model than the one picked, two models, a phase with two actions, a probability."""
LATE, SHARED = 1 << 9, 1 << 10
"""Not stored with the others: the run has a late outcome; another run may have the same request."""
REWARD = SUCCESS | PARTIAL | FAILURE
UNKNOWN = (1 << 11) - 1
"""All facts: those of a row of an earlier release."""
_REWARDS = {"success": SUCCESS, "partial": PARTIAL, "failure": FAILURE}


def request_key(summary: str) -> str:
    """Return a request without case and repeated blanks."""
    return " ".join(fold(summary).split())


def request_digest(folded: str, request_type: str | None) -> int:
    """Return 64 bits, signed, that are the same for runs whose decisions formats compare.

    Args:
        folded: the summary of the request, folded.
    """
    key = orjson.dumps([" ".join(folded.split()), request_type])
    return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), signed=True)


def facts_of(fields: Mapping[str, Any]) -> int:
    """Return the facts of a canonical body, parsed."""
    if not fields["phases"]:
        return 0
    facts, models = PHASES | _REWARDS.get(fields.get("outcome", ""), 0), set[str]()
    planned = fields.get("planned_phases") or ()
    for column in ("build_passed", "tests_passed"):
        if column in fields:
            facts |= SUCCESS if fields[column] else FAILURE
    if "critical_findings" in fields:
        facts |= FAILURE if fields["critical_findings"] else SUCCESS
    if "feedback_loops" in fields:
        facts |= FAILURE
    for phase in fields["phases"]:
        facts |= _of_phase(phase, models)
        if phase["phase_name"] in planned:
            facts |= ACTIONS
    return facts | MODELS if len(models) > 1 else facts


def _of_phase(phase: Mapping[str, Any], models: set[str]) -> int:
    """Return the facts of a phase, and add its models to ``models``."""
    get = phase.get
    outcome, requested, candidates = get("outcome", ""), get("requested_model"), get("candidates", ())
    facts, keep = _REWARDS.get(outcome, 0), get("keep_probability")
    attempts = get("attempts") or ()
    tried = {attempt["model"] for attempt in attempts}
    picked = requested or (attempts[0]["model"] if attempts else get("model"))
    for attempt in attempts:
        facts |= (known := _REWARDS.get(attempt["outcome"], 0)) and known | ATTEMPT
    if tried and (outcome == "skipped" or tried != {picked}):
        facts |= OTHER_MODEL
    models.update(tried)
    if picked is not None:
        models.add(picked)
    if get("attempt", 0) > 1:
        facts |= FAILURE  # an attempt before it was not the last one
    actions = {one["model"] for one in candidates} | {picked}
    if len(actions) > 1 or outcome == "skipped" or keep is not None:
        facts |= ACTIONS
    if keep is not None or get("selection_probability") is not None or any("probability" in one for one in candidates):
        facts |= PROPENSITY
    return facts
