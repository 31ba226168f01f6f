"""An earlier phase in the context of a decision, as a row and as text.

The contexts of a run share their steps, so both forms are made once a step.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, NamedTuple

RUN, SKIP = "run", "skip"


class _Fields(NamedTuple):
    phase: str
    phase_name: str
    action: str
    agent: str | None
    model: str | None
    outcome: str | None
    error: str | None
    skip_reason: str | None
    cost_usd: float | None
    duration_ms: float | None


class Step(_Fields):
    """An earlier phase in a context. Without an outcome and figures, it had not ended."""

    @cached_property
    def row(self) -> dict[str, Any]:
        """The step by its fields. Callers must not change it."""
        return self._asdict()

    @cached_property
    def text(self) -> str:
        """The step as the line of a conversation."""
        if self.action == SKIP:
            return f"{self.phase_name}: skipped" + (f", {self.skip_reason}" if self.skip_reason else "")
        by = f" by {self.agent}" if self.agent else ""
        on = f" with {self.model}" if self.model else ""
        spent = amounts(self.cost_usd, self.duration_ms)
        ended = f"{self.outcome or 'not known'}" + (f" ({spent})" if spent else "")
        return f"{self.phase_name}{by}{on}: {ended}" + (f", {self.error}" if self.error else "")


def amounts(cost_usd: float | None, duration_ms: float | None) -> str:
    """Return a cost and a duration as text, without those that are not known."""
    cost = "" if cost_usd is None else f"{cost_usd:.6g} USD"
    duration = "" if duration_ms is None else f"{duration_ms / 1000:.6g} s"
    return f"{cost}, {duration}" if cost and duration else cost or duration
