"""Contradictions within a record. It is accepted all the same, and the answer lists them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import islice
from typing import Any, NamedTuple, TypeAlias

from trajectories.domain.contract_types import SELECTION_METHODS
from trajectories.domain.quotes import in_quotes

MAX_WARNINGS = 20
COST_TOLERANCE = 1e-6
"""Relative; sums of decimal fractions differ by less."""
PROBABILITY_TOLERANCE = 1e-6
SUM_TOLERANCE = 0.001
"""Of candidate probabilities, which senders round to three decimals."""
_MAX_QUOTED = 60
"""Maximum characters of a name in a message, escapes counted. It bounds SERVER_FIELDS_BYTES."""

Fields: TypeAlias = Mapping[str, Any]


class Contradiction(NamedTuple):
    """A contradiction: where it is, its code for programs, and what to do about it."""

    path: str
    code: str
    message: str


def warnings_of(fields: Fields, limit: int = MAX_WARNINGS) -> list[Contradiction]:
    """Return contradictions of a parsed canonical body, at most ``limit``, those of the run first."""
    return list(islice(_all(fields), limit))


def _all(fields: Fields) -> Iterator[Contradiction]:
    phases: Sequence[Fields] = fields["phases"]
    ids = {phase["phase_id"] for phase in phases if "phase_id" in phase}
    yield from _of_run(fields, phases)
    yield from _of_loops(fields.get("feedback_loops", ()), ids)
    seen: set[str] = set()
    # Each answer to a POST asks here, so what most phases do not have is not asked about.
    for index, phase in enumerate(phases):
        path = f"phases[{index}]"
        if not phase.keys().isdisjoint(_IDENTITY):
            yield from _of_identity(path, phase, ids, seen)
        if not phase.keys().isdisjoint(_CHOICE):
            yield from _of_choice(path, phase)
        if phase.get("outcome") == "skipped" or "ended_at" in phase:
            yield from _of_result(path, phase)


def _of_run(fields: Fields, phases: Sequence[Fields]) -> Iterator[Contradiction]:
    request_type = fields.get("request_type", "")
    if request_type != (plain := request_type.strip().lower()):
        yield Contradiction(
            "request_type",
            "request_type_case",
            f"{_q(request_type)} and {_q(plain)} are two request types; send {_q(plain)}.",
        )
    if fields.get("outcome") == "success":
        for check in ("build_passed", "tests_passed"):
            if fields.get(check) is False:
                yield Contradiction(
                    "outcome",
                    "outcome_contradicts_check",
                    f"outcome is success, but {check} is false; send the outcome of the whole run.",
                )
    yield from _of_cost(fields, phases)
    yield from _of_times("", fields)


def _of_cost(fields: Fields, phases: Sequence[Fields]) -> Iterator[Contradiction]:
    total = fields.get("total_cost_usd")
    costs = [phase["cost_usd"] for phase in phases if "cost_usd" in phase]
    if total is None or not costs:
        return
    in_phases = sum(costs)
    # A phase without a cost may account for what the others leave.
    is_whole = all("cost_usd" in phase or phase.get("outcome") == "skipped" for phase in phases)
    rest = total - in_phases
    if abs(rest) > COST_TOLERANCE * max(total, in_phases) and (rest < 0 or is_whole):
        yield Contradiction(
            "total_cost_usd",
            "total_differs",
            f"total_cost_usd is {total:.10g}, but the phases add up to {in_phases:.10g}; the total stands. Send the cost"
            " of each phase, or leave the total out.",
        )


def _of_loops(loops: Iterable[Fields], ids: set[str]) -> Iterator[Contradiction]:
    for index, loop in enumerate(loops):
        for name in ("from_phase_id", "to_phase_id"):
            if name in loop and loop[name] not in ids:
                yield _unknown_id(f"feedback_loops[{index}].{name}", loop[name])


def _of_identity(path: str, phase: Fields, ids: set[str], seen: set[str]) -> Iterator[Contradiction]:
    own = phase.get("phase_id")
    if own is not None and own in seen:
        yield Contradiction(
            f"{path}.phase_id",
            "repeated_phase_id",
            f"An earlier phase has the phase_id {_q(own)} too; give each phase its own.",
        )
    if own is not None:
        seen.add(own)
    parent = phase.get("parent_phase_id")
    if parent is not None and parent not in ids:
        yield _unknown_id(f"{path}.parent_phase_id", parent)
    for index, one in enumerate(phase.get("depends_on", ())):
        if one not in ids:
            yield _unknown_id(f"{path}.depends_on[{index}]", one)


def _unknown_id(path: str, id_: str) -> Contradiction:
    return Contradiction(
        path, "unknown_phase_id", f"No phase of this run has the phase_id {_q(id_)}; send that phase too."
    )


def _of_choice(path: str, phase: Fields) -> Iterator[Contradiction]:
    method = phase.get("model_selection_method")
    if method is not None and method not in _METHODS:
        yield Contradiction(
            f"{path}.model_selection_method",
            "unknown_selection_method",
            f"{_q(method)} is kept as a method of its own; the known ones are {', '.join(_METHODS)}. The name of a rule"
            " goes into selection_rule.",
        )
    chosen = phase.get("requested_model", phase.get("model"))
    if chosen is not None and phase.get("selection_probability") == 0:
        yield Contradiction(
            f"{path}.selection_probability",
            "picked_with_probability_0",
            f"{_q(chosen)} was picked, but its selection_probability is 0; send the probability with which it was picked, or"
            " leave it out.",
        )
    attempts = phase.get("attempts", ())
    if attempts and "model" in phase and attempts[-1]["model"] != phase["model"]:
        yield Contradiction(
            f"{path}.model",
            "last_attempt_differs",
            f"model is {_q(phase['model'])}, but the last attempt was made by {_q(attempts[-1]['model'])}; send the model"
            " that answered, its attempt last.",
        )
    yield from _of_candidates(path, phase)


def _of_candidates(path: str, phase: Fields) -> Iterator[Contradiction]:
    candidates: Sequence[Fields] = phase.get("candidates", ())
    if not candidates:
        return
    # One loop takes half the time of two comprehensions, and each answer to a POST passes here.
    eligible, known, total = 0, 0, 0.0
    for candidate in candidates:
        if candidate.get("eligible", True):
            eligible += 1
            if "probability" in candidate:
                known, total = known + 1, total + candidate["probability"]
    if eligible == known > 0 and abs(total - 1) > SUM_TOLERANCE:
        yield Contradiction(
            f"{path}.candidates",
            "probabilities_do_not_add_up",
            f"The probabilities of the eligible candidates add up to {total:.6g}, not to 1; send every candidate.",
        )
    name = "requested_model" if "requested_model" in phase else "model"
    chosen = phase.get(name)
    if chosen is None:
        return
    picked = next((candidate for candidate in candidates if candidate["model"] == chosen), None)
    if picked is None:
        yield Contradiction(
            f"{path}.{name}",
            "model_not_a_candidate",
            f"{_q(chosen)} is not one of the candidates; send every model that could have been picked.",
        )
        return
    if not picked.get("eligible", True):
        yield Contradiction(
            f"{path}.{name}",
            "model_not_eligible",
            f"{_q(chosen)} was picked, but is not eligible among the candidates; correct one of the two.",
        )
    given, stated = phase.get("selection_probability"), picked.get("probability")
    if given is not None and stated is not None and abs(given - stated) > PROBABILITY_TOLERANCE:
        yield Contradiction(
            f"{path}.selection_probability",
            "selection_probability_differs",
            f"selection_probability is {given:.6g}, but the candidate {_q(chosen)} has the probability {stated:.6g}; send"
            " the probability with which it was picked in both.",
        )


def _of_result(path: str, phase: Fields) -> Iterator[Contradiction]:
    if phase.get("outcome") == "skipped" and phase.get("cost_usd", 0) > 0:
        yield Contradiction(
            f"{path}.cost_usd",
            "skipped_phase_has_cost",
            f"The phase was skipped, but cost {phase['cost_usd']:.10g} USD; a phase that began has another outcome, such"
            " as cancelled.",
        )
    yield from _of_times(f"{path}.", phase)


def _of_times(prefix: str, fields: Fields) -> Iterator[Contradiction]:
    started, ended = fields.get("started_at"), fields.get("ended_at")
    if started is not None and ended is not None and datetime.fromisoformat(ended) < datetime.fromisoformat(started):
        yield Contradiction(
            f"{prefix}ended_at",
            "ended_before_started",
            f"ended_at {ended} is before started_at {started}; send both by one clock.",
        )


def _q(text: str) -> str:
    return f"'{in_quotes(text, max_chars=_MAX_QUOTED)[1:-1][:_MAX_QUOTED]}'"


_IDENTITY = ("phase_id", "parent_phase_id", "depends_on")
_CHOICE = ("model_selection_method", "selection_probability", "attempts", "candidates")
_METHODS = tuple(dict.fromkeys(SELECTION_METHODS.values()))
