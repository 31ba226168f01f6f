"""The recorder: records the run of a pipeline while it happens."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, Unpack, cast
from uuid import UUID, uuid4

import anyio

from trajectories_sdk.advice import Adviser, known_of, question_of
from trajectories_sdk.outcome_recording import OutcomeFields, Value, fields_of
from trajectories_sdk.params import Candidate, Exploration, LateOutcome, RunFields, Trajectory
from trajectories_sdk.phase_recorder import Fields, Phase, check_names, error_of, without_none
from trajectories_sdk.process_lock import ProcessLock
from trajectories_sdk.resuming import RESUMES, Earlier, carried_over
from trajectories_sdk.totals import (
    INTERRUPTED,
    SYSTEM_CLOCK,
    Clock,
    Stopwatch,
    milliseconds,
    outcome_of,
    total_usd,
)
from trajectories_sdk.values import Id, Time

if TYPE_CHECKING:
    from typing_extensions import TypeIs

_RUN_FIELDS: Final = frozenset(RunFields.__annotations__)

_log = logging.getLogger("trajectories_sdk")


@dataclass(frozen=True, slots=True)
class Delivery:
    """Destination of a run's record, for blocking and for async callers. None: not supported there.

    In the background ``blocking`` serves both, since it is quick, and errors are only logged.
    """

    blocking: Callable[[Trajectory], object] | None
    awaited: Callable[[Trajectory], Awaitable[object]] | None = None
    is_background: bool = False
    outcome: Callable[[LateOutcome], object] | None = None
    """Destination of late outcomes; it does not wait for the server."""


class Run:
    """One run. ``with`` or ``async with`` begins and ends it; at its end it is recorded.

    Thread-safe and task-safe: phases may begin and end anywhere. Calls after the end are logged and
    not recorded.
    """

    def __init__(
        self,
        id: Id | None,  # noqa: A002  the name of the field
        fields: Mapping[str, Any],
        delivery: Delivery,
        *,
        has_progress: bool,
        clock: Clock = SYSTEM_CLOCK,
        earlier: Earlier | None = None,
        adviser: Adviser = Adviser(),  # noqa: B008  frozen
    ) -> None:
        self._adviser = adviser
        self.id: UUID = uuid4() if id is None else UUID(str(id))
        self._source = earlier
        self._earlier: Mapping[str, Any] = {}
        self._given = without_none(fields)
        self._delivery = delivery
        self._has_progress = has_progress
        self._clock = clock
        self._lock = ProcessLock(is_reentrant=True)
        self._order = ProcessLock()  # keeps the versions of the record in order
        self._awaited_order = anyio.Lock()
        self._set: Fields = {}
        self._phases: list[Phase | _EarlierPhase] = []
        self._attempts: Counter[str] = Counter()
        self._loops: list[Fields] = []
        self._watch: Stopwatch | None = None
        self._ended_ns: int | None = None
        self._error: str | None = None
        self._ended_by = "success"

    def phase(
        self,
        phase_name: str,
        *,
        agent: str | None = None,
        model: str | None = None,
        requested_model: str | None = None,
        model_selection_method: str | None = None,
        selection_rule: str | None = None,
        reasoning_effort: str | None = None,
        candidates: Sequence[Candidate | str] | None = None,
        selection_probability: float | None = None,
        exploration: Exploration | None = None,
        keep_probability: float | None = None,
        parent: Phase | str | None = None,
        depends_on: Sequence[Phase | str] | None = None,
        phase_id: str | None = None,
        attempt: int | None = None,
        metadata: Mapping[str, Any] | None = None,
        recommend: bool | Mapping[str, Any] = False,
        default: str | None = None,
    ) -> Phase:
        """Return a phase; ``with`` or ``async with`` begins and ends it.

        Args:
            phase_name: a name may repeat.
            model: the model that answers; ``fall_back_to`` changes it.
            model_selection_method: how it was picked: ``explicit``, ``thompson-sampling``,
                ``pattern-recommendation``, or another word.
            selection_rule: the rule or route that picked it.
            candidates: the models that could have been picked, with score, score_parts and
                probability where known; a model that a rule excluded has ``eligible: False`` and
                its reason.
            selection_probability: probability with which the model was picked, 0 to 1;
                ``thompson_propensity`` estimates it.
            exploration: strategy, samples and seed of the choice.
            keep_probability: probability with which the policy would have run this phase rather
                than skip it, 0 to 1.
            parent: the phase that this one is part of, or its ``phase_id``.
            depends_on: the phases that had to end before this one, or their ids.
            phase_id: unique in the run. Default: given when something refers to the phase.
            attempt: default: counted from 1 over the phases of this name.
            recommend: ask the store for the model when the phase begins, and record candidates and
                propensity by its answer, which is in ``phase.recommendation``; ``phase.model`` is
                the model to use. A mapping has more fields of the request, such as ``budget_usd``.
            default: the model to use when the store does not answer; required with ``recommend``.
        """
        question = question_of(recommend, candidates, default)
        fields = {
            "agent": agent,
            "model": model,
            "requested_model": requested_model,
            "model_selection_method": model_selection_method,
            "selection_rule": selection_rule,
            "reasoning_effort": reasoning_effort,
            "candidates": candidates if question is None else None,
            "selection_probability": selection_probability,
            "exploration": exploration,
            "keep_probability": keep_probability,
            "parent_phase_id": _id_of(parent),
            "depends_on": _ids_of(depends_on),
            "phase_id": phase_id,
            "attempt": attempt,
            "metadata": metadata,
        }
        return Phase(self, phase_name, fields, question)

    def skip(
        self,
        phase_name: str,
        *,
        reason: str | None = None,
        agent: str | None = None,
        selection_rule: str | None = None,
        keep_probability: float | None = None,
        parent: Phase | str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        """Record that a phase was skipped, and why. A skip is not an attempt.

        Args:
            keep_probability: probability with which the policy would have run it, 0 to 1.
        """
        fields = {
            "agent": agent,
            "selection_rule": selection_rule,
            "keep_probability": keep_probability,
            "parent_phase_id": _id_of(parent),
            "metadata": metadata,
        }
        phase = Phase(self, phase_name, fields)
        phase._set = {"outcome": "skipped"} | without_none({"skip_reason": reason})
        self._add(phase)

    def feedback(self, from_phase: Phase | str, to_phase: Phase | str, *, reason: str | None = None) -> None:
        """Record that a later phase sends work back to an earlier one, now.

        Args:
            from_phase, to_phase: names, or the phases themselves, whose ids are then recorded too.
        """
        with self._lock:
            watch = self._require_begun()
            loop: Fields = {"reason": reason, "at": watch.at(watch.ns())}
            for name, phase in (("from_phase", from_phase), ("to_phase", to_phase)):
                loop |= {name: phase.name, f"{name}_id": phase.id} if _is_phase(phase) else {name: phase}
            if not self._rejects_after_end("feedback"):
                self._loops.append(without_none(loop))

    def outcome(
        self,
        name: str,
        value: Value,
        *,
        phase: Phase | str | None = None,
        at: Time | None = None,
        evidence: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
    ) -> None:
        """Record a late outcome of this run in the background, also after its end.

        Args:
            name, value, at, evidence, idempotency_key: as for ``client.outcomes.record``.
            phase: the phase that it is about, or its ``phase_id``; else the run.
        """
        if self._delivery.outcome is None:
            raise TypeError("This run has no destination of outcomes")
        given: OutcomeFields = {
            "trajectory_id": self.id,
            "phase_id": _id_of(phase),
            "at": at,
            "evidence": evidence,
            "idempotency_key": idempotency_key,
        }
        self._delivery.outcome(fields_of(name, value, given))

    def set(self, **fields: Unpack[RunFields]) -> None:
        """Set fields of the trajectory. They override measured and computed values.

        Raises:
            TypeError: an unknown field.
        """
        check_names(fields, _RUN_FIELDS, "run")
        with self._lock:
            if not self._rejects_after_end("set"):
                self._set |= fields

    # --- Begin and end

    def __enter__(self) -> Self:
        if self._delivery.blocking is None:
            raise TypeError("An AsyncClient records this run in the foreground: use `async with`")
        self._begin()
        if self._source is not None:
            try:
                self._go_on_from(self._source.find(self.id))
            except Exception as failure:
                self._go_on_as_another(failure)
        return self

    async def __aenter__(self) -> Self:
        self._begin()
        if self._source is not None:
            try:
                self._go_on_from(await self._source.find_awaited(self.id))
            except Exception as failure:
                self._go_on_as_another(failure)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end(error)
        self._deliver(error)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end(error)
        await self._deliver_awaited(error)

    def _begin(self) -> None:
        with self._lock:
            if self._watch is not None:
                raise RuntimeError("A run can be entered only once: create another with client.trajectories.run(…)")
            self._watch = Stopwatch(self._clock)

    def _go_on_from(self, record: Mapping[str, Any] | None) -> None:
        """Continue a run: keep its phases, count on from its attempts, add to its duration."""
        if record is None:
            return
        with self._lock:
            self._earlier = record
            self._loops = list(record.get("feedback_loops") or ())
            for phase in record["phases"]:
                self._phases.append(_EarlierPhase(phase))
                if phase.get("outcome") != "skipped":
                    self._next_attempt(phase["phase_name"])

    def _go_on_as_another(self, failure: Exception) -> None:
        """Record the rest of a run under an id of its own, since its own id would replace the
        start."""
        if not self._delivery.is_background:
            raise failure
        resumed, self.id = self.id, uuid4()
        metadata = self._given.get("metadata")
        own = metadata if isinstance(metadata, Mapping) else {}
        self._given["metadata"] = {**own, RESUMES: str(resumed)}
        _log.warning(
            "Run %s is recorded as %s from here on, because its start cannot be read: %s", resumed, self.id, failure
        )

    def _end(self, error: BaseException | None) -> None:
        with self._lock:
            self._ended_ns = self._require_begun().ns()
            self._error = error_of(error)
            self._ended_by = outcome_of(error)

    # --- For its phases

    def _require_begun(self) -> Stopwatch:
        if self._watch is None:
            raise RuntimeError("The run has not begun: use `with client.trajectories.run(…) as run:`")
        return self._watch

    def _rejects_after_end(self, what: str) -> bool:
        if self._ended_ns is None:
            return False
        _log.warning("Run %s has already ended, so this was not recorded: %s", self.id, what)
        return True

    def _add(self, phase: Phase) -> None:
        """Add a phase, in the order in which phases begin."""
        with self._lock:
            self._require_begun()
            if not self._rejects_after_end(phase.name):
                self._phases.append(phase)

    def _known(self) -> Fields:
        """Return what is known before a decision, as fields of a recommendation's request."""
        with self._lock:
            return known_of({**self._earlier, **self._given, **self._set}, [one._record() for one in self._phases])

    def _next_attempt(self, phase_name: str) -> int:
        self._attempts[phase_name] += 1
        return self._attempts[phase_name]

    # --- The record

    def _record(self) -> Trajectory:
        with self._lock:
            watch = self._require_begun()
            phases = [phase._record() for phase in self._phases]
            started_at = self._earlier.get("started_at") or watch.at(0)
            measured: Fields = {"started_at": started_at, "feedback_loops": list(self._loops) or None}
            if self._ended_ns is None:
                # Without it the server would derive success from the phases so far, even if the run was killed.
                measured["outcome"] = "unknown"
            else:
                measured |= self._ending(watch, self._ended_ns, phases)
            kept = carried_over(self._earlier)
            fields = {
                "id": str(self.id),
                **kept,
                **without_none(measured),
                **self._given,
                "phases": phases,
                **self._set,
            }
            if isinstance(kept.get("metadata"), Mapping) and isinstance(fields["metadata"], Mapping):
                fields["metadata"] = {**kept["metadata"], **fields["metadata"]}
            if self._source is not None and self._ended_ns is not None:
                self._source.remember(fields, self._ended_by in INTERRUPTED)
            return cast(Trajectory, fields)

    def _ending(self, watch: Stopwatch, ended_ns: int, phases: list[Fields]) -> Fields:
        return {
            "ended_at": watch.at(ended_ns),
            "total_duration_ms": (self._earlier.get("total_duration_ms") or 0) + milliseconds(ended_ns),
            "total_cost_usd": total_usd(phase.get("cost_usd") for phase in phases),
            "total_phases": len(phases),
            "phases_skipped": sum(1 for phase in phases if phase.get("outcome") == "skipped"),
            # Neither success nor failure: it was stopped from outside, or goes on later.
            "outcome": {"success": None, "failure": "failure"}.get(self._ended_by, "unknown"),
            "error": self._error,
        }

    def _deliver(self, error: BaseException | None) -> None:
        blocking = self._delivery.blocking
        if blocking is None:
            raise TypeError("An AsyncClient records this run in the foreground: use `async with`")
        try:
            with self._order:
                blocking(self._record())
        except Exception as failure:
            self._report_failure(failure, error)

    async def _deliver_awaited(self, error: BaseException | None) -> None:
        if self._delivery.awaited is None:
            self._deliver(error)
            return
        try:
            async with self._awaited_order:
                await self._delivery.awaited(self._record())
        except Exception as failure:
            self._report_failure(failure, error)

    def _report_failure(self, failure: Exception, error: BaseException | None) -> None:
        """Raise a recording failure, or log it in the background or while an exception propagates."""
        if error is None and not self._delivery.is_background:
            raise failure
        _log.error("Run %s was not recorded: %s: %s", self.id, type(failure).__name__, failure)


@dataclass(frozen=True, slots=True)
class _EarlierPhase:
    """A phase that was recorded before the run was resumed."""

    fields: Mapping[str, Any]

    def _record(self) -> Fields:
        return dict(self.fields)


def _id_of(phase: Phase | str | None) -> str | None:
    return phase.id if _is_phase(phase) else phase


def _ids_of(phases: Sequence[Phase | str] | None) -> Any:
    if not issubclass(type(phases), list | tuple):
        return phases  # None, or a value that the store refuses
    return [_id_of(one) for one in cast(Sequence[Phase | str], phases)]


def _is_phase(value: Phase | str | None) -> TypeIs[Phase]:
    return issubclass(type(value), Phase)  # `isinstance` asks the object
