"""Facts of a run that say, without its body, that an export makes no line of it.

Each fact is an upper bound: a run that lacks it yields no line in a format that needs it, under any
credit rule and any alias of phases. Beside them is the bucket of its session, which decides on the
part of a split.
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
UNKNOWN = -1
"""All facts, and no bucket: those of a row of an earlier release."""
BUCKETS = 1_000_000
_BUCKET_AT = 11
"""The bucket of the session lies above the facts, in the same integer of 32 bits."""
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


def session_of(fields: Mapping[str, Any]) -> str:
    """Return the key of the runs of a session; else of a run and those that name it as their parent."""
    session = fields.get("session_id")
    return f"run:{fields.get('parent_id') or fields['id']}" if session is None else f"session:{session}"


def bucket_of(key: str) -> int:
    """Return a number below ``BUCKETS``, the same for equal keys."""
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest()) % BUCKETS


def bucket_in(facts: int) -> int | None:
    """Return the bucket of the session; None if the facts are unknown."""
    return None if facts < 0 else facts >> _BUCKET_AT


def facts_of(fields: Mapping[str, Any]) -> int:
    """Return the facts of a canonical body, parsed, with the bucket of its session."""
    return _facts_of(fields) | bucket_of(session_of(fields)) << _BUCKET_AT


def _facts_of(fields: Mapping[str, Any]) -> int:
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
