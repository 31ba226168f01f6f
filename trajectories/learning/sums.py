"""Sums of choices, and what they are kept by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, TypeAlias


class Key(NamedTuple):
    """Where a choice counts. ``week``: its start, in microseconds since 1970; 0 for records below the hot cache."""

    kind: str
    request_type: str | None
    project: str | None
    phase: str
    model: str | None
    after: str | None
    week: int
    advice: str | None = None


class Sums(NamedTuple):
    """Sums over choices. ``score`` is twice the reward; ``known`` counts those that have one."""

    choices: int = 0
    known: int = 0
    score: int = 0
    costs: int = 0
    cost_nano_usd: int = 0
    metered: int = 0
    input_tokens: int = 0
    output_tokens: int = 0

    def plus(self, other: Sums, times: int = 1) -> Sums:
        return Sums(*(a + times * b for a, b in zip(self, other, strict=True)))


Cells: TypeAlias = Mapping[Key, Sums]
