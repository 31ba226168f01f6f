"""Two hundred runs of a pipeline in which the implement phase always reports success.

Four nodes: spec, implement, test, review. Tests that fail send the work back to implement once.
Three models implement, and their quality shows in the tests alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any
from uuid import UUID

QUALITY = {"careful": 0.93, "steady": 0.90, "hasty": 0.60}
COST_USD = {"careful": 0.012, "steady": 0.013, "hasty": 0.011}
RUNS = 200


def runs() -> Iterator[dict[str, Any]]:
    """Yield the runs. They are the same each time: of every hundred attempts, a model passes its
    quality."""
    attempts: Counter[tuple[str, str]] = Counter()
    for number in range(RUNS):
        model, request_type = list(QUALITY)[number % 3], ("bugfix", "bugfix", "bugfix", "feature")[number // 3 % 4]
        key = model, request_type
        attempts[key] += 1
        is_passed = [_passes(QUALITY[model], attempts[key])]
        if not is_passed[0]:
            attempts[key] += 1
            is_passed.append(_passes(QUALITY[model], attempts[key]))
        yield _run(number, model, request_type, is_passed)


def by_hand(found: list[dict[str, Any]], request_type: str) -> dict[str, float]:
    """Return the success rate of each model: the run's tests to its last implement, 0 to one that
    was sent back."""
    good, all_ = Counter[str](), Counter[str]()
    for run in found:
        if run["request_type"] == request_type:
            implements = [phase for phase in run["phases"] if phase["phase_name"] == "implement"]
            all_[implements[0]["model"]] += len(implements)
            good[implements[0]["model"]] += run["tests_passed"]
    return {model: good[model] / all_[model] for model in all_}


def _passes(quality: float, attempt: int) -> bool:
    percent = round(quality * 100)
    return attempt * percent // 100 > (attempt - 1) * percent // 100


def _run(number: int, model: str, request_type: str, is_passed: list[bool]) -> dict[str, Any]:
    phases = [_phase("spec", "planner", 0.002)]
    for passed in is_passed:
        phases.append(_phase("implement", model, COST_USD[model]))
        phases.append(_phase("test", None, None, "success" if passed else "failure"))
    phases.append(_phase("review", "reviewer", 0.003) if number % 5 else {"phase_name": "review", "outcome": "skipped"})
    loops = [{"from_phase": "test", "to_phase": "implement", "reason": "tests failed"}] * (len(is_passed) - 1)
    return {
        "id": str(UUID(int=number + 1)),
        "request_summary": f"ticket {number}",
        "request_type": request_type,
        "started_at": f"2026-03-{number // 20 + 1:02}T09:00:00Z",
        "phases": phases,
        "tests_passed": is_passed[-1],
        "feedback_loops": loops,
    }


def _phase(name: str, model: str | None, cost_usd: float | None, outcome: str = "success") -> dict[str, Any]:
    return {"phase_name": name, "model": model, "cost_usd": cost_usd, "outcome": outcome}
