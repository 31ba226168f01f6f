"""A recommendation for a phase of a recorded run: asked when the phase begins."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from trajectories_sdk.errors import TrajectoryError
from trajectories_sdk.models import Recommendation

_log = logging.getLogger("trajectories_sdk")
Ask: TypeAlias = "Callable[[str, Sequence[Any], Mapping[str, Any]], Recommendation]"
AskAwaited: TypeAlias = "Callable[[str, Sequence[Any], Mapping[str, Any]], Awaitable[Recommendation]]"


@dataclass(frozen=True, slots=True)
class Adviser:
    """Asks the store, for blocking and for async callers. None: not supported there."""

    blocking: Ask | None = None
    awaited: AskAwaited | None = None


@dataclass(frozen=True, slots=True)
class Question:
    """The recommendation that a phase asks for, and the model to use without an answer."""

    candidates: Sequence[Any]
    fields: Mapping[str, Any]
    default: str

    def ask(self, adviser: Adviser, phase: str, known: Mapping[str, Any]) -> Recommendation | None:
        """Return the answer; None if the store gives none, which is logged."""
        if adviser.blocking is None:
            raise TypeError("An AsyncClient asks for recommendations in the foreground: use `async with`")
        try:
            return adviser.blocking(phase, self.candidates, {**known, **self.fields})
        except TrajectoryError as error:
            self._log(phase, error)
            return None

    async def ask_awaited(self, adviser: Adviser, phase: str, known: Mapping[str, Any]) -> Recommendation | None:
        """Like ``ask``."""
        if adviser.awaited is None:
            return self.ask(adviser, phase, known)
        try:
            return await adviser.awaited(phase, self.candidates, {**known, **self.fields})
        except TrajectoryError as error:
            self._log(phase, error)
            return None

    def fields_of(self, answer: Recommendation | None) -> dict[str, Any]:
        """Return the fields of the phase: those of the answer, or the default and the candidates."""
        if answer is not None and answer.record is not None:
            return dict(answer.record)
        names = [one if isinstance(one, str) else one["model"] for one in self.candidates]
        return {
            "model": self.default,
            "model_selection_method": "explicit",
            "selection_rule": "default",
            "candidates": [{"model": name} for name in dict.fromkeys([*names, self.default])],
        }

    def _log(self, phase: str, error: TrajectoryError) -> None:
        _log.warning("Phase %r goes on with %s, because no recommendation came: %s", phase, self.default, error)


def question_of(
    recommend: bool | Mapping[str, Any], candidates: Sequence[Any] | None, default: str | None
) -> Question | None:
    """Return what to ask; None if nothing is asked.

    Raises:
        TypeError: candidates or the default are missing.
    """
    if recommend is False:
        return None
    if not candidates or default is None:
        raise TypeError("recommend needs candidates, and the default that is used when the store does not answer")
    return Question(candidates, {} if recommend is True else recommend, default)


def known_of(fields: Mapping[str, Any], phases: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what a run knows before a decision, as fields of the request."""
    given = {name: fields[name] for name in ("request_type", "project") if fields.get(name) is not None}
    earlier = [
        {name: phase[name] for name in ("phase_name", "model", "outcome") if phase.get(name) is not None}
        for phase in phases
    ]
    return {**given, "phases": earlier}
