"""Bodies that tests post."""

from __future__ import annotations

from typing import Any

# The reference body of the contract. Its totals disagree with its one phase, and are kept as sent.
REFERENCE: dict[str, Any] = {
    "request_summary": "Add user authentication to the API",
    "request_type": "feature",
    "source": "phase-build",
    "project": "my-project",
    "phases": [
        {
            "phase_name": "spec",
            "agent": "product-manager",
            "model": "anthropic/claude-sonnet-4",
            "model_selection_method": "thompson-sampling",
            "tools_used": ["file_read", "grep"],
            "steps_taken": 3,
            "input_tokens": 1500,
            "output_tokens": 800,
            "cost_usd": 0.012,
            "duration_ms": 2500,
            "outcome": "success",
        }
    ],
    "total_cost_usd": 0.057,
    "total_duration_ms": 17500,
    "total_phases": 2,
    "phases_skipped": 0,
    "build_passed": True,
    "tests_passed": True,
    "review_findings": 0,
}

# A body of the existing CLI: one phase that ran, one that failed, and two of four that are absent.
CAMEL: dict[str, Any] = {
    "id": "traj-1767657526915-k3x9",
    "timestamp": "2026-01-05T23:58:46.916Z",
    "request": "Add user authentication to the API",
    "projectPath": "/srv/my-project",
    "projectType": "node",
    "phases": [
        {
            "phase": "spec",
            "agentId": "product-manager",
            "modelUsed": "anthropic/claude-sonnet-4",
            "subagentType": "planner",
            "toolCalls": ["file_read", "grep"],
            "inputTokens": 1500,
            "outputTokens": 800,
            "cost": 0.012,
            "duration": 2500,
            "success": True,
            "skipped": False,
            "outputLength": 4200,
        },
        {
            "phase": "implementation",
            "agentId": "developer",
            "subagentType": "coder",
            "toolCalls": [],
            "inputTokens": 0,
            "outputTokens": 0,
            "cost": 0,
            "duration": 0,
            "success": False,
            "skipped": False,
            "error": "timeout",
            "outputLength": 0,
        },
    ],
    "outcome": {
        "success": False,
        "phasesCompleted": 1,
        "phasesTotal": 4,
        "buildPassed": False,
        "reviewFindings": 2,
        "criticalFindings": 1,
    },
    "totalCost": 0.012,
    "totalDuration": 2600,
    "feedbackLoops": [{"from": "review", "to": "implementation", "reason": "two findings", "timestamp": 1767657526915}],
}


def phase(**fields: Any) -> dict[str, Any]:
    """The smallest phase, with ``fields``."""
    return {"phase_name": "spec"} | fields


def body(**fields: Any) -> dict[str, Any]:
    """The smallest body, with ``fields``."""
    return {"request_summary": "x", "phases": []} | fields


def camel(**fields: Any) -> dict[str, Any]:
    """The smallest body of the CLI's dialect, with ``fields``."""
    return {"request": "x", "phases": []} | fields


def in_phase(**fields: Any) -> dict[str, Any]:
    """The smallest body, with one phase that has ``fields``."""
    return body(phases=[phase(**fields)])


def nested(depth: int) -> Any:
    """``depth`` nested objects."""
    value: Any = 1
    for _ in range(depth):
        value = {"a": value}
    return value
