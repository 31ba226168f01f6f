"""Strategies of Hypothesis: trajectories of every shape that the contract accepts, and bodies that
it may not."""

from __future__ import annotations

import json
import os
from datetime import datetime, timedelta, timezone
from typing import Any

from hypothesis import strategies as st

from trajectories.domain.contract_types import MAX_COST_USD, MAX_DURATION_MS, MAX_INT

IN_CI = bool(os.environ.get("CI"))


def examples(number: int) -> int:
    """Return how many examples a test tries: ``number`` in CI, a fifth of it elsewhere, where each
    run tries others."""
    return number if IN_CI else number // 5


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
counts = st.integers(0, MAX_INT)
costs = st.floats(0, MAX_COST_USD) | st.integers(0, MAX_COST_USD)
durations = st.floats(0, MAX_DURATION_MS) | st.integers(0, MAX_DURATION_MS)
probabilities = st.floats(0, 1)
numbers = st.floats(allow_nan=False, allow_infinity=False)
phase_outcomes = st.sampled_from(["success", "failure", "partial", "skipped", "cancelled", "paused", "unknown"])
phase_ids = st.sampled_from(["a", "b"])
"""Few, so that they repeat and refer to each other."""
instants = st.datetimes(
    datetime(2, 1, 1),  # noqa: DTZ001  Hypothesis wants naive bounds
    datetime(9998, 12, 31),  # noqa: DTZ001
    timezones=st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes))),
).map(datetime.isoformat)
free_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-MAX_INT, MAX_INT)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
free_objects = st.dictionaries(texts, free_values, max_size=3)
selection_methods = (
    st.sampled_from(["explicit", "Thompson", "thompson_sampling", "pattern", "PATTERN-recommendation"]) | texts
)


def optional(fields: dict[str, st.SearchStrategy[Any]]) -> dict[str, st.SearchStrategy[Any]]:
    """Null means the same as left out, so either may come."""
    return {name: st.none() | strategy for name, strategy in fields.items()}


candidates = st.fixed_dictionaries(
    {"model": texts},
    optional=optional(
        {
            "score": numbers,
            "probability": probabilities,
            "eligible": st.booleans(),
            "reason": texts,
            "score_parts": st.dictionaries(texts, numbers, max_size=2),
        }
    ),
)
explorations = st.fixed_dictionaries(
    {"strategy": texts}, optional=optional({"samples": counts, "seed": st.integers(-MAX_INT, MAX_INT)})
)
attempts = st.fixed_dictionaries(
    {"model": texts, "outcome": phase_outcomes},
    optional=optional({"error": texts, "cost_usd": costs, "duration_ms": durations, "reason": texts}),
)
phases = st.fixed_dictionaries(
    {"phase_name": texts | st.sampled_from(["spec", "verify", "Code ", "design"])},
    optional=optional(
        {
            "phase_id": phase_ids,
            "parent_phase_id": phase_ids,
            "depends_on": st.lists(phase_ids, max_size=2),
            "agent": texts,
            "model": texts,
            "requested_model": texts,
            "model_selection_method": selection_methods,
            "selection_rule": texts,
            "reasoning_effort": texts,
            "candidates": st.lists(candidates, max_size=2),
            "selection_probability": probabilities,
            "exploration": explorations,
            "keep_probability": probabilities,
            "attempts": st.lists(attempts, max_size=2),
            "tools_used": st.lists(texts, max_size=3),
            "steps_taken": counts,
            "input_tokens": counts,
            "output_tokens": counts,
            "cached_input_tokens": counts,
            "cache_write_input_tokens": counts,
            "reasoning_tokens": counts,
            "cost_usd": costs,
            "duration_ms": durations,
            "outcome": phase_outcomes,
            "status_reason": texts,
            "skip_reason": texts,
            "fit": st.sampled_from(["good_fit", "underpowered", "overprovisioned", "failed"]),
            "evidence": st.dictionaries(texts, texts, max_size=2),
            "attempt": counts,
            "error": texts,
            "started_at": instants,
            "ended_at": instants,
            "metadata": free_objects,
        }
    ),
)
feedback_loops = st.fixed_dictionaries(
    {},
    optional=optional(
        {"from_phase": texts, "to_phase": texts, "from_phase_id": phase_ids, "to_phase_id": phase_ids}
        | {"reason": texts, "at": instants}
    ),
)
trajectories = st.fixed_dictionaries(
    {"request_summary": texts, "phases": st.lists(phases, max_size=4)},
    optional=optional(
        {
            "id": st.uuids().map(str),
            "request_type": texts,
            "source": texts,
            "project": texts,
            "policy": texts,
            "parent_id": st.uuids().map(str),
            "outcome": st.sampled_from(["success", "failure", "partial", "unknown"]),
            "total_cost_usd": costs,
            "total_duration_ms": durations,
            "total_phases": counts,
            "phases_skipped": counts,
            "build_passed": st.booleans(),
            "tests_passed": st.booleans(),
            "review_findings": counts,
            "critical_findings": counts,
            "files_changed": counts,
            "planned_phases": st.lists(texts, max_size=3),
            "feedback_loops": st.lists(feedback_loops, max_size=2),
            "error": texts,
            "started_at": instants,
            "ended_at": instants,
            "session_id": texts,
            "trace_id": texts,
            "tags": st.lists(texts, max_size=3),
            "external_refs": st.dictionaries(texts, texts, max_size=2),
            "metadata": free_objects,
            "recorded_at": instants,
            "revision": counts,
            "derived": free_values,
            "warnings": free_values,
        }
    ),
)
"""Bodies that are accepted."""

_camel_phases = st.fixed_dictionaries(
    {"phase": texts, "success": st.booleans()},
    optional=optional(
        {"agentId": texts, "modelUsed": texts, "toolCalls": st.lists(texts, max_size=2), "inputTokens": counts}
        | {"cost": costs, "duration": durations, "outputLength": counts, "ownKey": free_values}
    ),
)
_camel_outcomes = st.fixed_dictionaries(
    {"success": st.booleans()},
    optional=optional({"phasesTotal": counts, "buildPassed": st.booleans(), "ownKey": free_values}),
)
camel_trajectories = st.fixed_dictionaries(
    {"request": texts, "phases": st.lists(_camel_phases, max_size=3)},
    optional=optional(
        {
            "id": st.text(st.characters(codec="ascii", exclude_characters="\0"), min_size=1, max_size=40)
            | st.uuids().map(str),
            "timestamp": instants | st.integers(0, 4_000_000_000_000),
            "projectPath": texts,
            "projectType": texts,
            "outcome": _camel_outcomes,
            "totalCost": costs,
            "totalDuration": durations,
            "ownKey": free_values,
        }
    ),
)
"""Bodies of the CLI's dialect that are accepted."""

_anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(2**62, 2**70)
    | st.floats()
    | st.text(st.characters(), max_size=5)  # NUL and lone surrogates too
    | st.sampled_from(["2026-01-05T23:58:46Z", "9999-12-31T23:59:59-23:59", "1767657526", 1767657526915]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(), max_size=3), inner, max_size=3)
    ),
    max_leaves=6,
)


@st.composite
def damaged(draw: st.DrawFn, whole: st.SearchStrategy[Any]) -> Any:
    """Something of ``whole`` in which one value, somewhere, is anything."""
    value = draw(whole)
    path: list[tuple[Any, Any]] = []
    at = value
    while isinstance(at, dict | list) and at and draw(st.integers(0, 3)):
        key = draw(st.sampled_from(list(at) if isinstance(at, dict) else list(range(len(at)))))
        path.append((at, key))
        at = at[key]
    if not path:
        return draw(_anything)
    holder, key = path[-1]
    if isinstance(holder, dict) and draw(st.booleans()):
        key = draw(st.text(st.characters(), max_size=5))
    holder[key] = draw(_anything)
    return value


bodies_of_any_kind = (damaged(trajectories) | damaged(camel_trajectories) | _anything).map(
    lambda value: json.dumps(value).encode()
)
"""JSON that may be refused: bytes, with NaN, Infinity and escaped lone surrogates in them as JSON
libraries write them."""
