"""Train the dictionary with which bodies are compressed, on records made here.

    uv run python -m benchmarks.train_dictionary DIRECTORY

Writes ``ID.zdict``. A dictionary that was released stays in ``trajectories/domain/dictionaries``
for ever, since records name it. A new one is added beside it and named in
``domain/compression.py``. The records vary in fields, lengths and words, and none is a real one.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson

SIZE = 32 * 1024
SAMPLES = 3_000


def _words(text: str) -> list[str]:
    return text.split()


_WORDS = _words(
    "add fix the a to of for in with and user api test build service error page search login cache query"
    " index model data file report email order payment config update remove support handle retry slow"
    " parser upload what is how does explain summarize write review design plan refactor migrate document"
    " deploy find list create delete replace rename move split merge extract optimize improve investigate"
    " implement validate convert generate release schedule account admin alert async authentication backend"
    " batch branch button cart chart check client column command comment component connection customer"
    " dashboard database date default dependency endpoint event export feature field filter form format"
    " frontend function header history image import input integration invoice job key language layout limit"
    " link log memory menu message method metrics migration mobile module new notification number object"
    " old option output package parameter password performance permission pipeline process product profile"
    " project property queue rate record reference request response result role route rule schema screen"
    " script security server session settings sort status storage string style sync table tag task template"
    " thread time timeout title token type unit update url validation value version view webhook when not"
    " from on all by as be or it"
)
_PHASES = _words(
    "spec plan design architecture implement code build test review verify research research-plan outline"
    " draft edit judge rank tool-call execute report deploy triage classify answer design-review code-review"
    " security-review lint format release monitor reproduce fix summary plan-review integration-test docs"
)
_MODELS = _words(
    "anthropic/claude-sonnet-4 anthropic/claude-opus-4 claude-haiku-4-5 openai/gpt-5 openai/gpt-5-mini"
    " gpt-4o-mini google/gemini-2.5-pro gemini-2.5-flash mistral-large deepseek/deepseek-r1"
    " meta-llama/llama-3.3-70b-instruct qwen/qwen3-coder openai/gpt-4o openai/gpt-4o-mini openai/o3"
    " anthropic/claude-haiku-4.5 anthropic/claude-3.5-sonnet google/gemini-2.0-flash xai/grok-4"
)
_AGENTS = _words(
    "product-manager architect developer coder tester reviewer planner researcher writer router"
    " software-engineer qa-engineer security-engineer code-reviewer tech-lead analyst assistant orchestrator"
)
_TOOLS = _words(
    "file_read file_write grep bash edit web_search web_fetch python sql browser read write glob search"
    " list_files run_tests git git_diff file_edit view patch fetch think todo"
)
_METHODS = _words("explicit thompson-sampling pattern-recommendation default router rule epsilon-greedy")
_OUTCOMES = ["success"] * 6 + ["failure", "partial", "skipped", "skipped", "cancelled", "paused", "unknown"]
_REASONS = ("rate_limited", "timeout", "escalation", "too simple", "not needed", "below threshold", "no tests")


_USUAL = {
    *("request_summary", "request_type", "source", "project", "phases", "total_cost_usd", "total_duration_ms"),
    *(
        "total_phases",
        "phases_skipped",
        "build_passed",
        "tests_passed",
        "review_findings",
        "phase_name",
        "agent",
        "model",
    ),
    *(
        "model_selection_method",
        "tools_used",
        "steps_taken",
        "input_tokens",
        "output_tokens",
        "cost_usd",
        "duration_ms",
    ),
    "outcome",
}


class _Maker:
    """Makes records of one orchestrator: each leaves out some fields always and others at times."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._absent: set[str] = set()

    def record(self) -> dict[str, Any]:
        r = self._rng
        if r.random() < 0.1:
            self._absent = self._chosen()
        fields = self._run() | {"phases": [self._phase(at) for at in range(r.choice((1, 3, 5, 5, 8, 8, 12)))]}
        return self._kept(fields) | {
            "request_summary": self._text(4, 14),
            "phases": [self._kept(phase) | {"phase_name": phase["phase_name"]} for phase in fields["phases"]],
        }

    def _chosen(self) -> set[str]:
        """Return the fields that an orchestrator never sends: most send few besides the usual ones."""
        share = self._rng.choice((0.3, 0.7, 1, 1, 1))
        names = sorted(self._run() | self._phase(0))
        return {name for name in names if name not in _USUAL and self._rng.random() < share}

    def _kept(self, fields: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in fields.items() if name not in self._absent and self._rng.random() < 0.95}

    def _run(self) -> dict[str, Any]:
        r = self._rng
        return {
            "request_summary": self._text(4, 14),
            "request_type": r.choice(("feature", "bug", "refactor", "question", "simple", "complex", "chore")),
            "source": r.choice(("phase-build", "cli", "router", "agents", "ci")),
            "project": "-".join(r.choices(_WORDS, k=2)),
            "policy": f"{r.choice(('router', 'policy', 'plan'))}@2026-{r.randrange(1, 13):02}-{r.randrange(1, 29):02}",
            "outcome": r.choice(("success", "success", "failure", "partial", "unknown")),
            "total_cost_usd": round(r.random(), r.choice((3, 5, 6))),
            "total_duration_ms": r.randrange(100_000),
            "total_phases": r.randrange(12),
            "phases_skipped": r.randrange(4),
            "build_passed": r.random() < 0.8,
            "tests_passed": r.random() < 0.8,
            "review_findings": r.randrange(5),
            "critical_findings": r.randrange(2),
            "files_changed": r.randrange(20),
            "planned_phases": r.sample(_PHASES, 4),
            "feedback_loops": [{"from_phase": "test", "to_phase": "implement", "reason": self._text(2, 6)}],
            "error": self._text(3, 10),
            "started_at": self._time(),
            "ended_at": self._time(),
            "session_id": str(self._uuid()),
            "trace_id": f"{r.getrandbits(128):032x}",
            "parent_id": str(self._uuid()),
            "tags": r.sample(("nightly", "ci", "prod", "staging", "experiment", "smoke"), 2),
            "external_refs": {"ticket": f"PROJ-{r.randrange(9999)}", "commit": f"{r.getrandbits(160):040x}"},
            "metadata": {"host": "worker-" + str(r.randrange(9)), "branch": "main", "version": "1.4.2"},
        }

    def _phase(self, at: int) -> dict[str, Any]:
        r = self._rng
        outcome = r.choice(_OUTCOMES)
        models = r.sample(_MODELS, 3)
        if outcome == "skipped" and r.random() < 0.7:
            return {"phase_name": r.choice(_PHASES), "outcome": outcome, "skip_reason": r.choice(_REASONS)}
        return {
            "phase_name": _PHASES[at % len(_PHASES)] if r.random() < 0.3 else r.choice(_PHASES),
            "phase_id": f"p{at}",
            "parent_phase_id": f"p{max(0, at - 1)}",
            "depends_on": [f"p{max(0, at - 1)}"],
            "agent": r.choice(_AGENTS),
            "model": models[0],
            "requested_model": models[1],
            "model_selection_method": r.choice(_METHODS),
            "selection_rule": r.choice(("cheapest", "default", "by-type", "best-value")),
            "reasoning_effort": r.choice(("low", "medium", "high")),
            "candidates": [
                {"model": model, "score": round(r.random(), 4), "probability": round(r.random(), 4)} for model in models
            ],
            "selection_probability": round(r.random(), r.choice((2, 4, 16))),
            "exploration": {"strategy": "thompson-sampling", "samples": 1000, "seed": r.randrange(9999)},
            "keep_probability": 1,
            "attempts": [{"model": models[0], "outcome": "success", "duration_ms": r.randrange(9000)}],
            "tools_used": r.sample(_TOOLS, r.randrange(4)),
            "steps_taken": r.randrange(9),
            "input_tokens": r.randrange(20_000),
            "output_tokens": r.randrange(4_000),
            "cached_input_tokens": r.randrange(4_000),
            "cache_write_input_tokens": r.randrange(4_000),
            "reasoning_tokens": r.randrange(4_000),
            "cost_usd": round(r.random() / 10, r.choice((3, 5, 6))),
            "duration_ms": r.randrange(30_000),
            "outcome": outcome,
            "status_reason": self._text(2, 5),
            "skip_reason": r.choice(_REASONS),
            "fit": r.choice(("good_fit", "underpowered", "overprovisioned", "failed")),
            "evidence": {"test": "14 passed", "commit": f"{r.getrandbits(28):07x}"},
            "attempt": r.randrange(1, 3),
            "error": self._text(3, 8),
            "started_at": self._time(),
            "ended_at": self._time(),
            "metadata": {"temperature": 0.2, "step": at, "cache": r.random() < 0.5},
        }

    def _text(self, low: int, high: int) -> str:
        return " ".join(self._rng.choices(_WORDS, k=self._rng.randrange(low, high))).capitalize()

    def _time(self) -> str:
        r = self._rng
        date = f"2026-{r.randrange(1, 13):02}-{r.randrange(1, 29):02}"
        return f"{date}T{r.randrange(24):02}:{r.randrange(60):02}:{r.randrange(60):02}.{r.randrange(10**6):06}Z"

    def _uuid(self) -> UUID:
        return UUID(int=self._rng.getrandbits(128), version=4)


def samples(count: int, seed: int) -> list[bytes]:
    """Return canonical bodies of made records; the same ones for the same seed."""
    from trajectories.domain.schema import canonical, parse

    maker = _Maker(random.Random(seed))
    return [canonical(parse(orjson.dumps(maker.record() | {"id": str(maker._uuid())}))) for _ in range(count)]


def main() -> None:
    from trajectories.zstandard import zstd

    trained = zstd.finalize_dict(zstd.train_dict(samples(SAMPLES, seed=1), SIZE), samples(SAMPLES, seed=1), SIZE, 3)
    path = Path(sys.argv[1]) / f"{trained.dict_id}.zdict"
    path.write_bytes(trained.dict_content)
    print(path)


if __name__ == "__main__":
    main()
