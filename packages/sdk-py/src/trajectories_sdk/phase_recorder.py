"""Phases of a recorded run, and the attempts of models in them."""

from __future__ import annotations

import difflib
import logging
from collections import Counter
from collections.abc import Mapping
from decimal import Decimal
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Literal, Self, TypeAlias, Unpack

from trajectories_sdk.advice import Question
from trajectories_sdk.models import Recommendation
from trajectories_sdk.params import PhaseFields
from trajectories_sdk.totals import error_text, milliseconds, outcome_of, parse_count, parse_usd
from trajectories_sdk.values import repr_of, text_of

if TYPE_CHECKING:
    from trajectories_sdk.recorder import Run

Fields: TypeAlias = dict[str, Any]
PhaseOutcome: TypeAlias = Literal["success", "failure", "partial", "skipped", "cancelled", "paused", "unknown"]
_TOKENS: Final = (
    "input_tokens",
    "output_tokens",
    "cached_input_tokens",
    "cache_write_input_tokens",
    "reasoning_tokens",
)
_PHASE_FIELDS: Final = frozenset(PhaseFields.__annotations__)

_log = logging.getLogger("trajectories_sdk")


class Phase:
    """One phase of a run, made by ``run.phase``. ``with`` or ``async with`` begins and ends it."""

    def __init__(self, run: Run, name: str, fields: Mapping[str, Any], question: Question | None = None) -> None:
        self.name = text_of(name)
        self.recommendation: Recommendation | None = None
        """The answer of the store, with ``recommend``; None before the phase begins, and without an
        answer."""
        self._question = question
        self._run = run
        self._given = without_none(fields)
        self._set: Fields = {}
        self._tokens: Counter[str] = Counter()
        self._cost_usd: Decimal | None = None
        self._tools: dict[str, None] = {}
        self._steps: int | None = None
        self._attempts: list[Attempt] = []
        self._measured: Fields = {}
        self._began_ns: int | None = None

    @property
    def id(self) -> str:
        """Return the ``phase_id``, which is unique in the run. The record has it once this was
        read.

        Default: the name and the count of the phases of this name, such as ``implement-2``. Passing
        the phase as ``parent``, in ``depends_on`` or to ``feedback`` reads it too.

        Raises:
            RuntimeError: the phase has neither begun nor an id of its own.
        """
        with self._run._lock:
            given = (self._given | self._set).get("phase_id")
            if given is None:
                if "attempt" not in self._measured:
                    raise RuntimeError("A phase gets its id when it begins: use `with run.phase(…) as phase:` first")
                given = self._set["phase_id"] = f"{self.name}-{self._measured['attempt']}"
            return text_of(given)

    @property
    def model(self) -> str | None:
        """Return the model that answers, by what was given, recommended or set so far."""
        with self._run._lock:
            return (self._given | self._set).get("model")

    def usage(
        self,
        *,
        input_tokens: int | None = None,
        output_tokens: int | None = None,
        cached_input_tokens: int | None = None,
        cache_write_input_tokens: int | None = None,
        reasoning_tokens: int | None = None,
        cost_usd: float | Decimal | None = None,
    ) -> None:
        """Add the usage of one model call. None is unknown and adds nothing.

        An invalid number adds nothing either, and is logged.
        """
        counts = (input_tokens, output_tokens, cached_input_tokens, cache_write_input_tokens, reasoning_tokens)
        given = dict(zip(_TOKENS, counts, strict=True))
        with self._run._lock:
            for name, value in without_none(given).items():
                if (number := parse_count(value)) is None:
                    _log.warning(
                        "%s of phase %r must be a whole number of at least 0, got %s", name, self.name, repr_of(value)
                    )
                else:
                    self._tokens[name] += number
            if cost_usd is not None:
                if (amount := parse_usd(cost_usd)) is None:
                    _log.warning(
                        "cost_usd of phase %r must be a number of at least 0, got %s", self.name, repr_of(cost_usd)
                    )
                else:
                    self._cost_usd = (self._cost_usd or Decimal()) + amount

    def tool(self, name: str) -> None:
        """Record that a tool was used. Tools are listed once each, in order of first use."""
        with self._run._lock:
            self._tools[text_of(name)] = None

    def step(self, count: int = 1) -> None:
        """Record that ``count`` steps were taken."""
        with self._run._lock:
            self._steps = (self._steps or 0) + (parse_count(count) or 0)

    def fall_back_to(self, model: str) -> None:
        """Record that another model answers than the one first requested."""
        with self._run._lock:
            now = self._given | self._set
            if now.get("requested_model") is None and now.get("model") is not None:
                self._set["requested_model"] = now["model"]
            self._set["model"] = model

    def attempt(
        self,
        model: str,
        *,
        outcome: PhaseOutcome | None = None,
        error: BaseException | str | None = None,
        cost_usd: float | Decimal | None = None,
        duration_ms: float | None = None,
        reason: str | None = None,
    ) -> Attempt:
        """Record an attempt of a model. A later attempt with another model is a fallback.

        With ``outcome`` the attempt is recorded as it is. Without, ``with`` or ``async with`` times
        it, and an exception that leaves it makes it fail; an attempt that is never entered is not
        recorded. The phase's ``model`` is that of the last attempt, ``requested_model`` the first
        one.

        Args:
            cost_usd: also added to the phase, as by ``usage``.
            reason: the cause of this attempt, such as ``rate_limited``.
        """
        attempt = Attempt(self, model, {"duration_ms": duration_ms, "reason": reason})
        attempt.usage(cost_usd=cost_usd)
        if outcome is not None:
            attempt._begin({"outcome": outcome, "error": None if error is None else error_text(error)})
        return attempt

    def fail(self, error: BaseException | str) -> None:
        """Record that the phase failed, without raising."""
        self.set(outcome="failure", error=error_text(error))

    def set(self, **fields: Unpack[PhaseFields]) -> None:
        """Set fields of the phase. They override measured and computed values.

        Raises:
            TypeError: an unknown field.
        """
        check_names(fields, _PHASE_FIELDS, "phase")
        with self._run._lock:
            self._set |= fields

    def _add(self, attempt: Attempt) -> None:
        """Add an attempt, in the order in which attempts begin. Its model answers from now on."""
        self._attempts.append(attempt)
        if (self._given | self._set).get("model") != attempt.model:
            self.fall_back_to(attempt.model)

    # --- Begin and end

    def __enter__(self) -> Self:
        if self._run._has_progress and self._run._delivery.blocking is None:
            raise TypeError("An AsyncClient records this phase in the foreground: use `async with`")
        if self._question is not None:
            self._follow(self._question, self._question.ask(self._run._adviser, self.name, self._run._known()))
        return self._begin()

    async def __aenter__(self) -> Self:
        if self._question is not None:
            asked = self._question.ask_awaited(self._run._adviser, self.name, self._run._known())
            self._follow(self._question, await asked)
        return self._begin()

    def _follow(self, question: Question, answer: Recommendation | None) -> None:
        """Take the fields of an answer; what was given by the caller stays."""
        with self._run._lock:
            self.recommendation = answer
            advised = question.fields_of(answer)
            own = self._given.get("metadata")
            if isinstance(own, Mapping) and "metadata" in advised:
                advised["metadata"] = {**advised["metadata"], **own}
            self._given = {**advised, **self._given, **{k: advised[k] for k in ("metadata",) if k in advised}}

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._end(error):
            self._run._deliver(error)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._end(error):
            await self._run._deliver_awaited(error)

    def _begin(self) -> Self:
        with self._run._lock:
            if self._began_ns is not None:
                raise RuntimeError("A phase can be entered only once: create another with run.phase(…)")
            self._run._add(self)
            watch = self._run._require_begun()
            self._began_ns = watch.ns()
            attempt = self._run._next_attempt(self.name)
            self._measured = {"started_at": watch.at(self._began_ns), "attempt": attempt}
        return self

    def _end(self, error: BaseException | None) -> bool:
        """Return whether the run must be recorded now because it goes on."""
        with self._run._lock:
            began_ns = self._began_ns or 0
            if self._run._rejects_after_end(f"the end of {self.name}"):
                return False
            self._measured["duration_ms"] = milliseconds(self._run._require_begun().ns() - began_ns)
            self._measured |= _ending(error)
            return self._run._has_progress

    def _record(self) -> Fields:
        """Return the fields as of now. Duration and outcome are unknown until the phase has ended."""
        added = {
            **self._tokens,
            "cost_usd": None if self._cost_usd is None else float(self._cost_usd),
            "tools_used": list(self._tools) or None,
            "steps_taken": self._steps,
            "attempts": [attempt._record() for attempt in self._attempts] or None,
        }
        return {
            "phase_name": self.name,
            **without_none(self._measured),
            **without_none(added),
            **self._given,
            **self._set,
        }


class Attempt:
    """One attempt of a phase, made by ``phase.attempt``. ``with`` or ``async with`` begins and ends
    it."""

    def __init__(self, phase: Phase, model: str, fields: Mapping[str, Any]) -> None:
        self.model = model
        self._phase = phase
        self._given = without_none(fields)
        self._measured: Fields = {"outcome": "unknown"}
        self._set: Fields = {}
        self._cost_usd: Decimal | None = None
        self._began_ns: int | None = None

    def usage(
        self,
        *,
        input_tokens: int | None = None,
        output_tokens: int | None = None,
        cached_input_tokens: int | None = None,
        cache_write_input_tokens: int | None = None,
        reasoning_tokens: int | None = None,
        cost_usd: float | Decimal | None = None,
    ) -> None:
        """Add the usage of one model call to the phase, and its cost to this attempt too."""
        self._phase.usage(
            input_tokens=input_tokens,
            output_tokens=output_tokens,
            cached_input_tokens=cached_input_tokens,
            cache_write_input_tokens=cache_write_input_tokens,
            reasoning_tokens=reasoning_tokens,
            cost_usd=cost_usd,
        )
        with self._phase._run._lock:
            if (amount := parse_usd(cost_usd)) is not None:
                self._cost_usd = (self._cost_usd or Decimal()) + amount

    def fail(self, error: BaseException | str) -> None:
        """Record that the attempt failed, without raising."""
        with self._phase._run._lock:
            self._set = {"outcome": "failure", "error": error_text(error)}

    def __enter__(self) -> Self:
        return self._begin({})

    async def __aenter__(self) -> Self:
        return self._begin({})

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end(error)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end(error)

    def _begin(self, fields: Fields) -> Self:
        run = self._phase._run
        with run._lock:
            if self._began_ns is not None:
                raise RuntimeError("An attempt is recorded only once: create another with phase.attempt(…)")
            self._began_ns = run._require_begun().ns()
            self._set = fields
            if not run._rejects_after_end(f"an attempt of {self._phase.name}"):
                self._phase._add(self)
        return self

    def _end(self, error: BaseException | None) -> None:
        run = self._phase._run
        with run._lock:
            self._measured |= {"duration_ms": milliseconds(run._require_begun().ns() - (self._began_ns or 0))}
            self._measured |= {"outcome": outcome_of(error), "error": error_of(error)}

    def _record(self) -> Fields:
        cost_usd = None if self._cost_usd is None else float(self._cost_usd)
        fields = {**self._measured, "cost_usd": cost_usd, **self._given, **self._set}
        return {"model": self.model, **without_none(fields)}


def _ending(error: BaseException | None) -> Fields:
    """Return outcome, error and reason of a phase that an exception left, or that ended without
    one."""
    outcome = outcome_of(error)
    waits_for = error_text(error) if error is not None and outcome == "paused" else None
    return {"outcome": outcome, "error": error_of(error), "status_reason": waits_for}


def error_of(error: BaseException | None) -> str | None:
    """Return the text of an exception, or None if it is no error but waits or jumps."""
    is_error = error is not None and outcome_of(error) in ("failure", "cancelled")
    return error_text(error) if error is not None and is_error else None


def without_none(fields: Mapping[str, Any]) -> Fields:
    return {name: value for name, value in fields.items() if value is not None}


def check_names(fields: Mapping[str, Any], known: frozenset[str], kind: str) -> None:
    for name in fields:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise TypeError(f"A {kind} has no field {name!r}{hint} Put your own data into 'metadata'.")
