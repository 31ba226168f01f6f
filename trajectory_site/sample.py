"""Sample runs of ``quickstart --sample``: six weeks of an orchestrator, drawn with a fixed seed.

Each run is drawn from the tables below, so that the overview has something to show: two policies,
four models that differ in price and skill, phases that are skipped with a known probability, review
loops, fallbacks, parallel phases and failures.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, NamedTuple
from uuid import UUID

RUNS = 300
DAYS = 42
_SEED = 7
OLD_POLICY, NEW_POLICY = "router@1", "router@2"


class _Model(NamedTuple):
    """Dollars per million tokens, tokens per second, and how often its code passes."""

    input_usd: float
    output_usd: float
    speed: float
    skill: float


MODELS = {
    "anthropic/claude-opus-4": _Model(15.0, 75.0, 38, 0.74),
    "anthropic/claude-sonnet-4": _Model(3.0, 15.0, 62, 0.66),
    "openai/gpt-4.1": _Model(2.0, 8.0, 80, 0.52),
    "anthropic/claude-haiku-3.5": _Model(0.8, 4.0, 120, 0.27),
}
_LARGE, _MEDIUM, _OTHER, _SMALL = MODELS
_SHARES = {
    OLD_POLICY: {_LARGE: 0.25, _MEDIUM: 0.25, _OTHER: 0.25, _SMALL: 0.25},
    NEW_POLICY: {_LARGE: 0.15, _MEDIUM: 0.5, _OTHER: 0.25, _SMALL: 0.1},
}
"""The probability with which a policy picks a model for code."""
_KEEP = {OLD_POLICY: {"architecture": 0.9, "review": 0.85}, NEW_POLICY: {"architecture": 0.55, "review": 0.75}}
"""The probability with which a policy runs a phase rather than skip it."""
_EASE = {"bugfix": 0.1, "documentation": 0.18, "feature": -0.06, "refactor": -0.1}
"""The skill that the type of a request adds to that of a model; a design adds more to the hard
ones."""
_DESIGN_ADDS = {"bugfix": 0.02, "documentation": 0.0, "feature": 0.14, "refactor": 0.12}
_REQUESTS = {
    "storefront": ("the order list", "the checkout page", "product search", "the payment client", "gift cards"),
    "accounts": ("login attempts", "password reset", "the webhook manual", "session storage", "invitations"),
    "importer": ("the nightly import", "CSV parsing", "the retry queue", "duplicate detection", "the status page"),
}
_WORDS = {
    "bugfix": ("Fix a race in {}", "Find out why {} sometimes fails", "Correct the totals of {}"),
    "documentation": ("Describe {}", "Add examples for {}"),
    "feature": ("Add an export to {}", "Limit requests to {}", "Show progress in {}"),
    "refactor": ("Split the module of {}", "Replace the old client of {}"),
}
_TOKENS = {
    "spec": (5_000, 800),
    "architecture": (9_000, 1_500),
    "implementation": (38_000, 6_000),
    "backend": (22_000, 3_500),
    "frontend": (18_000, 3_000),
    "review": (14_000, 1_200),
    "document": (8_000, 1_800),
}
"""Mean input and output tokens of a phase."""
_AGENTS = {
    "spec": "product-manager",
    "architecture": "architect",
    "implementation": "developer",
    "backend": "developer",
    "frontend": "developer",
    "review": "reviewer",
    "document": "writer",
    "test": "tester",
}
_ERRORS = (
    "14 of 61 tests fail: the endpoint answers with another shape",
    "AssertionError: expected 3 rows, found 2",
    "The counter is not shared between processes",
)


def sample_runs(today: date) -> Iterator[dict[str, Any]]:
    """Yield RUNS runs as the API takes them, started in the DAYS days before ``today``, oldest
    first.

    Only their times depend on ``today``, so a later start moves the same runs to the present.
    """
    draw = random.Random(_SEED)  # noqa: S311  sample data, no secrets
    first = datetime.combine(today, time(), UTC) - timedelta(days=DAYS)
    # More runs on later days.
    starts = sorted(DAYS * draw.random() ** 0.8 for _ in range(RUNS))
    for start in starts:
        yield _Run(draw, first + timedelta(minutes=round(start * 24 * 60)), start / DAYS).body()


class _Run:
    """One run while it is drawn. ``_at`` is the time at which its next phase starts."""

    def __init__(self, draw: random.Random, started: datetime, age: float) -> None:
        self._draw = draw
        self._started = self._at = started
        # The new policy replaces the old one over the last two thirds of the time.
        self._policy = NEW_POLICY if draw.random() < 1.4 * age - 0.4 else OLD_POLICY
        self._type = draw.choices(list(_EASE), [4, 2, 5, 2])[0]
        self._phases: list[dict[str, Any]] = []
        self._loops: list[dict[str, Any]] = []

    def body(self) -> dict[str, Any]:
        draw = self._draw
        project = draw.choice(list(_REQUESTS))
        request = draw.choice(_WORDS[self._type]).format(draw.choice(_REQUESTS[project]))
        id_ = UUID(int=draw.getrandbits(128), version=4)
        self._add("spec", _SMALL if self._policy == NEW_POLICY else _OTHER)
        has_design = self._optional("architecture", _MEDIUM)
        passes = self._work(has_design=has_design)
        if self._type != "bugfix" and draw.random() < 0.4:
            self._add("document", _SMALL, depends_on=[self._phases[-1]["phase_id"]])
        self._test(passes=passes)
        cost = sum(phase.get("cost_usd", 0) for phase in self._phases)
        is_cut_off = draw.random() < 0.03
        return {
            "id": str(id_),
            "request_summary": request,
            "request_type": self._type,
            "source": "sample",
            "project": project,
            "policy": self._policy,
            "phases": self._phases,
            **({"feedback_loops": self._loops} if self._loops else {}),
            "outcome": "unknown"
            if is_cut_off
            else "success"
            if passes
            else draw.choice(["failure", "failure", "partial"]),
            # The orchestrator itself costs something too, which no phase accounts for.
            "total_cost_usd": round(cost * draw.uniform(1.01, 1.06), 6),
            "total_duration_ms": round((self._at - self._started).total_seconds() * 1000),
            "total_phases": len(self._phases),
            "build_passed": True,
            **({} if is_cut_off else {"tests_passed": passes}),
            "files_changed": draw.randint(1, 19),
            "started_at": self._started.isoformat(),
            "ended_at": self._at.isoformat(),
            "tags": ["sample"],
        }

    def _work(self, *, has_design: bool) -> bool:
        """Add implementation and review, again after a review that refused; return whether tests
        will pass."""
        draw = self._draw
        adds = _EASE[self._type] + (_DESIGN_ADDS[self._type] if has_design else 0.0)
        for attempt in (1, 2, 3):
            model = self._implement(attempt, is_parallel=self._type == "feature" and draw.random() < 0.5)
            is_good = draw.random() < MODELS[model].skill + adds + 0.06 * (attempt - 1)
            worked = self._phases[-1]
            if not self._optional("review", _LARGE if self._policy == OLD_POLICY else _MEDIUM):
                return is_good
            review = self._phases[-1]
            if is_good or attempt == 3 or draw.random() < 0.5:  # a review does not see everything
                return is_good
            reason = draw.choice(_ERRORS)
            review |= {"outcome": "failure", "error": reason}
            loop = {"from_phase": "review", "to_phase": worked["phase_name"], "reason": reason}
            ids = {"from_phase_id": review["phase_id"], "to_phase_id": worked["phase_id"]}
            self._loops.append({**loop, **ids, "at": self._at.isoformat()})
        raise AssertionError("the third attempt ends the loop")

    def _implement(self, attempt: int, *, is_parallel: bool) -> str:
        """Add the implementation, in two lanes if ``is_parallel``; return the model of its last
        phase."""
        shares = _SHARES[self._policy]
        picked = self._draw.choices(list(shares), list(shares.values()))[0]
        if not is_parallel:
            return self._add("implementation", picked, shares, attempt=attempt)
        whole = f"work-{attempt}"
        before, begun, ends = self._phases[-1].get("phase_id"), self._at, []
        parent = {
            "phase_name": "implementation",
            "phase_id": whole,
            "attempt": attempt,
            "started_at": begun.isoformat(),
        }
        self._phases.append(parent | {"agent": "lead", "outcome": "success"})
        at = len(self._phases) - 1
        for lane in ("frontend", "backend"):
            self._at = begun
            joined = {"parent_phase_id": whole, **({"depends_on": [before]} if before else {})}
            model = self._add(lane, picked, shares, attempt=attempt, **joined)
            ends.append(self._at)
        self._at = max(ends)
        self._phases[at]["ended_at"] = self._at.isoformat()
        return model

    def _optional(self, name: str, model: str) -> bool:
        keep = _KEEP[self._policy][name]
        if self._draw.random() < keep:
            self._add(name, model, keep_probability=keep)
            return True
        reason = {"architecture": "the change is small", "review": "the policy drew to skip it"}[name]
        skipped = {"phase_name": name, "phase_id": f"{name}-{len(self._phases)}", "outcome": "skipped"}
        self._phases.append(skipped | {"skip_reason": reason, "keep_probability": keep})
        return False

    def _test(self, *, passes: bool) -> None:
        took = timedelta(seconds=self._draw.randint(20, 240))
        phase = {
            "phase_name": "test",
            "phase_id": f"test-{len(self._phases)}",
            "agent": _AGENTS["test"],
            "tools_used": ["shell"],
            "duration_ms": round(took.total_seconds() * 1000),
            "started_at": self._at.isoformat(),
            "ended_at": (self._at + took).isoformat(),
            "outcome": "success" if passes else "failure",
        }
        self._phases.append(phase if passes else phase | {"error": self._draw.choice(_ERRORS)})
        self._at += took

    def _add(self, name: str, model: str, shares: Mapping[str, float] | None = None, **fields: Any) -> str:
        """Add a phase that ended with success; return the model that answered, after a fallback
        another one."""
        draw = self._draw
        size = draw.lognormvariate(-0.06, 0.35)  # the mean is 1
        read, written = (round(mean * size) for mean in _TOKENS[name])
        phase: dict[str, Any] = {
            "phase_name": name,
            "phase_id": f"{name}-{len(self._phases)}",
            "agent": _AGENTS[name],
            "tools_used": ["file_read", "file_write", "shell"]
            if name in ("implementation", "backend", "frontend")
            else ["file_read", "grep"],
            "steps_taken": max(1, round(6 * size)),
            **_choice(model, shares),
            **fields,
        }
        answered = model
        if model != _SMALL and draw.random() < 0.05:
            answered = _SMALL
            attempts = [{"model": model, "outcome": "failure", "error": "429 Too Many Requests", "cost_usd": 0}]
            phase |= {
                "requested_model": model,
                "attempts": [*attempts, {"model": answered, "outcome": "success", "reason": "rate_limited"}],
            }
        price = MODELS[answered]
        took = timedelta(seconds=round(written / price.speed + read / 4_000 + 3, 1))
        self._phases.append(
            phase
            | {
                "model": answered,
                "input_tokens": read,
                "output_tokens": written,
                "cached_input_tokens": round(read * 0.4),
                "cost_usd": round((read * price.input_usd + written * price.output_usd) / 1e6, 6),
                "duration_ms": round(took.total_seconds() * 1000),
                "started_at": self._at.isoformat(),
                "ended_at": (self._at + took).isoformat(),
                "outcome": "success",
            }
        )
        self._at += took
        return answered


def _choice(model: str, shares: Mapping[str, float] | None) -> dict[str, Any]:
    """Return how the model was picked: drawn by ``shares``, or fixed."""
    if shares is None:
        return {
            "model_selection_method": "explicit",
            "selection_probability": 1,
            "candidates": [{"model": model, "probability": 1}],
        }
    return {
        "model_selection_method": "thompson-sampling" if shares is _SHARES[NEW_POLICY] else "pattern-recommendation",
        "selection_rule": "code",
        "selection_probability": shares[model],
        "candidates": [
            {"model": name, "score": MODELS[name].skill, "probability": share} for name, share in shares.items()
        ],
    }
