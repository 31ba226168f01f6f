"""Record sample runs of an orchestrator that explores, for trying the training on.

    python -m examples.training.sample_runs --runs 2000 --seed 1

Each run is drawn from the tables below. The policy draws whether to run the design phase, and the
model of the implementation; it records the probabilities. Whether the tests pass depends on the
type of the request, the model and the design, so there is something to learn. The same seed gives
the same runs with the same ids, so a second call changes nothing in the store.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterator
from typing import Any
from uuid import UUID

from trajectories_sdk import Client

POLICY = "sample-explorer@1"
PROJECTS = ("api", "cli", "mobile", "web")
KEEP_DESIGN = 0.5
RUNS_PER_SESSION = 5
CANDIDATES = {"small": 0.3, "medium": 0.4, "large": 0.3}
COST_USD = {"small": 0.02, "medium": 0.12, "large": 0.45}
"""Mean cost of an implementation."""
TESTS_PASS = {
    "bugfix": {"small": 0.85, "medium": 0.88, "large": 0.90},
    "docs": {"small": 0.95, "medium": 0.96, "large": 0.96},
    "feature": {"small": 0.10, "medium": 0.35, "large": 0.80},
    "refactor": {"small": 0.20, "medium": 0.45, "large": 0.80},
}
"""Probability that the tests pass after an implementation without a design."""
DESIGN_ADDS = {"bugfix": 0.0, "docs": 0.0, "feature": 0.19, "refactor": 0.19}


def sample_runs(count: int, seed: int) -> Iterator[Any]:
    """Yield ``count`` runs as the API takes them."""
    draw = random.Random(seed)
    for number in range(count):
        request_type = draw.choice(sorted(TESTS_PASS))
        project = draw.choice(PROJECTS)
        has_design = draw.random() < KEEP_DESIGN
        model = draw.choices(list(CANDIDATES), list(CANDIDATES.values()))[0]
        passes = TESTS_PASS[request_type][model] + (DESIGN_ADDS[request_type] if has_design else 0.0)
        is_passed = draw.random() < passes
        yield {
            "id": str(UUID(int=draw.getrandbits(128), version=4)),
            "request_summary": f"Sample {seed}-{number}: {request_type} in {project}",
            "request_type": request_type,
            "source": "sample-runs",
            "project": project,
            "policy": POLICY,
            "session_id": f"sample-{seed}-{number // RUNS_PER_SESSION}",
            "phases": [
                _phase("spec", "small", 0.01, draw, tools_used=["read_file"]),
                _design(draw, is_run=has_design),
                _phase(
                    "implement",
                    model,
                    COST_USD[model],
                    draw,
                    selection_probability=CANDIDATES[model],
                    candidates=[{"model": name, "probability": share} for name, share in CANDIDATES.items()],
                    selection_rule="fixed-shares",
                    tools_used=["read_file", "write_file"],
                ),
                _phase("test", "small", 0.01, draw, tools_used=["run_tests"])
                | {"outcome": "success" if is_passed else "failure"},
            ],
            "outcome": "success" if is_passed else "failure",
            "build_passed": True,
            "tests_passed": is_passed,
        }


def _design(draw: random.Random, *, is_run: bool) -> dict[str, Any]:
    choice = {"candidates": [{"model": "medium", "probability": 1.0}], "keep_probability": KEEP_DESIGN}
    if is_run:
        return _phase("design", "medium", 0.05, draw, tools_used=["read_file"]) | choice
    return {"phase_name": "design", "outcome": "skipped", "skip_reason": "drawn by the exploration"} | choice


def _phase(name: str, model: str, cost_usd: float, draw: random.Random, **fields: Any) -> dict[str, Any]:
    """Return a phase that ended, with a cost and a duration around their means."""
    size = draw.lognormvariate(-0.08, 0.4)  # the mean is 1
    return {
        "phase_name": name,
        "model": model,
        "model_selection_method": "explicit",
        "selection_probability": 1.0,
        "cost_usd": round(cost_usd * size, 6),
        "duration_ms": round(60_000 * size),
        "outcome": "success",
    } | fields


def main() -> None:
    parser = argparse.ArgumentParser(description="Record sample runs in the store that TRAJSTORE_BASE_URL names.")
    parser.add_argument("--runs", type=int, default=2000, help="how many (default: 2000)")
    parser.add_argument("--seed", type=int, default=1, help="the same seed gives the same runs (default: 1)")
    arguments = parser.parse_args()
    with Client() as client:
        recorded = client.trajectories.record_many(sample_runs(arguments.runs, arguments.seed))
    print(f"{recorded.accepted} runs recorded.")
    if recorded.refused:
        parser.exit(1, f"{recorded.refused} runs were refused.\n")


if __name__ == "__main__":
    main()
