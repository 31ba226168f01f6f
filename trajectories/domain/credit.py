"""Credit: the outcome that each phase earned, as the checks of its run showed it.

A phase that wrote code "succeeds" whenever it returns. Its tests or its review show later whether
the code was right. So a phase's own outcome cannot rank models, and the credited outcome can.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import islice, pairwise
from typing import Any, NamedTuple, TypeAlias

from trajectories.domain.outcomes import NOT_RUN, phase_group, run_outcome

CHECKS: Mapping[str, str] = {"build": "build_passed", "test": "tests_passed", "review": "critical_findings"}
"""Groups of phases that judge the work of others, each with the run's column of the same check."""

CREDITED = ("success", "failure", "partial")
UNCREDITED = "none"
"""The word for no credit in facets and filters."""
_WORST = ("failure", "partial", "success")


class Credit(NamedTuple):
    """The credited outcome of a phase.

    ``outcome`` is success, failure, partial, or None: the phase did not run, or its result is not
    known. ``source`` says where it comes from: ``feedback_loop``, ``attempts``, a check phase
    (``build``, ``test``, ``review``), a column of the run (``build_passed``, ``tests_passed``,
    ``critical_findings``), ``phase_outcome``, ``run_outcome``, or empty. Several checks that agree
    are joined by ``+``.
    """

    outcome: str | None
    source: str


NO_CREDIT = Credit(None, "")


RULES = ("checks", "phase_outcome", "run_outcome")
_REMEMBERED_SHAPES = 2_048
_REMEMBERED_PHASES = 64
"""Bounds of what ``_by_checks`` remembers: the shapes of runs, and the phases of one. Runs of one
orchestrator have few shapes."""

Loop: TypeAlias = tuple[int | None, int | None, str | None, str | None]
"""Places of the phase that sent work back and of its target by id, then their groups by name."""


class _Shape(NamedTuple):
    """What the credit of the phases of a run depends on, with a member for each phase.

    ``verdicts`` has the run's column of each of ``CHECKS``: whether it is set, or None.
    """

    groups: tuple[str, ...]
    outcomes: tuple[str, ...]
    attempts: tuple[int, ...]
    last_attempts: tuple[str | None, ...]
    verdicts: tuple[bool | None, ...]
    loops: tuple[Loop, ...]


def credit_of(fields: Mapping[str, Any], rule: str = "checks", *, groups: Sequence[str] | None = None) -> list[Credit]:
    """Return the credit of each phase, in the order of the phases.

    - ``phase_outcome``: the phase's own outcome.
    - ``run_outcome``: the outcome of the run, given or derived, for each phase that ran.
    - ``checks``: the verdict of the checks that judged the phase; docs/contract.md has the rules.

    Phases that were skipped, cancelled or paused have no credit under any rule.

    Args:
        fields: a canonical body, parsed.
        rule: one of ``RULES``.
        groups: ``phase_group`` of each phase, where it is known already.
    """
    phases = fields["phases"]
    if groups is None:
        groups = [phase_group(phase["phase_name"]) for phase in phases]
    outcomes = [phase.get("outcome", "unknown") for phase in phases]
    if rule not in RULES:
        raise KeyError(rule)
    if rule == "phase_outcome":
        return [_known(outcome, "phase_outcome") for outcome in outcomes]
    if rule == "run_outcome":
        credit = _known(run_outcome(fields, zip(groups, outcomes, strict=True)), "run_outcome")
        return [NO_CREDIT if outcome in NOT_RUN else credit for outcome in outcomes]
    shape = _Shape(
        tuple(groups),
        tuple(outcomes),
        tuple([phase.get("attempt", 0) for phase in phases]),
        tuple([each[-1]["outcome"] if (each := phase.get("attempts")) else None for phase in phases]),
        tuple([None if (said := fields.get(column)) is None else bool(said) for column in CHECKS.values()]),
        _loops_of(fields) if "feedback_loops" in fields else (),
    )
    judge = _by_checks if len(phases) <= _REMEMBERED_PHASES else _by_checks.__wrapped__
    return list(judge(shape))


def _loops_of(fields: Mapping[str, Any]) -> tuple[Loop, ...]:
    place = {phase["phase_id"]: at for at, phase in enumerate(fields["phases"]) if "phase_id" in phase}
    return tuple(
        (
            place.get(loop.get("from_phase_id")),
            place.get(loop.get("to_phase_id")),
            _group(loop.get("from_phase")),
            _group(loop.get("to_phase")),
        )
        for loop in fields["feedback_loops"]
    )


@lru_cache(_REMEMBERED_SHAPES)
def _by_checks(shape: _Shape) -> tuple[Credit, ...]:
    order = _Order(shape.groups, shape.outcomes)
    sent_back = set()
    for source, target in _loops(shape.loops, order):
        sent_back.add(target)
        order.refuse(source)
    earned = [NO_CREDIT] * len(shape.groups)
    for at in order.ran:
        outcome, is_check = order.outcomes[at], shape.groups[at] in CHECKS
        last_attempt = _known(shape.last_attempts[at], "attempts")
        if at in sent_back:
            earned[at] = Credit("failure", "feedback_loop")
        elif last_attempt.outcome == "failure" or _is_retried(shape.attempts, at, order.next_run.get(at)):
            earned[at] = Credit("failure", "attempts")
        elif outcome == "failure":
            # A check that failed has done its work: it refused the work of another phase.
            earned[at] = NO_CREDIT if is_check else Credit("failure", "phase_outcome")
        elif found := order.checks_of(at, shape.verdicts):
            earned[at] = _verdict(found)
        elif not is_check:
            earned[at] = _known(outcome, "phase_outcome") if outcome in CREDITED else last_attempt
    return tuple(earned)


def _known(outcome: str | None, source: str) -> Credit:
    return Credit(outcome, source) if outcome in CREDITED else NO_CREDIT


def _verdict(checks: Mapping[str, str]) -> Credit:
    """Return the worst of the outcomes of ``checks``, which are by source; at least one."""
    worst = min(checks.values(), key=_WORST.index)
    return Credit(worst, "+".join(source for source, found in checks.items() if found == worst))


def _is_retried(attempts: Sequence[int], at: int, next_run: int | None) -> bool:
    return next_run is not None and attempts[next_run] > attempts[at] > 0


class _Order:
    """The order of the phases that ran: which checks came after which work.

    Work is done again where its group runs again after a check: that run is judged by the checks
    after it. Without a check between them, two runs of a group are two parts of one work. ``end``
    is the place up to which later checks can judge a phase.
    """

    def __init__(self, groups: Sequence[str], outcomes: Sequence[str]) -> None:
        self.groups = groups
        self.outcomes = list(outcomes)
        self.ran = [at for at, outcome in enumerate(outcomes) if outcome not in NOT_RUN]
        self.runs: dict[str, list[int]] = defaultdict(list)
        for at in self.ran:
            self.runs[groups[at]].append(at)
        self.next_run = {at: after for runs in self.runs.values() for at, after in pairwise(runs)}
        self.checks = [at for at in self.ran if groups[at] in CHECKS]
        self.end = dict.fromkeys(self.ran, len(groups))
        for at in reversed(self.ran):
            after = self.next_run.get(at)
            if after is not None and groups[at] not in CHECKS:
                self.end[at] = self.end[after] if _between(self.checks, at, after) is None else after
        self.redone = sorted({*self.end.values()} - {len(groups)})
        for at in self.checks:
            index = bisect_left(self.redone, at)
            self.end[at] = self.redone[index] if index < len(self.redone) else len(groups)
        self.judged = {check: [at for at in self.runs.get(check, ()) if outcomes[at] in CREDITED] for check in CHECKS}

    def refuse(self, source: int | None) -> None:
        """Count the check at ``source`` as failed: it sent work back, whatever its outcome says."""
        if source is not None and self.groups[source] in CHECKS:
            self.outcomes[source] = "failure"
            insort(self.judged[self.groups[source]], source)

    def checks_of(self, at: int, verdicts: Sequence[bool | None]) -> dict[str, str]:
        """Return the outcome of each check that judged the phase at ``at``, by source.

        A check is not judged by its own kind. Checks from before the work was done again are
        answered by that, so the last ones count.
        """
        found: dict[str, str] = {}
        end = self.end[at]
        last_check = None if end == len(self.groups) else _between(self.checks, at, end)
        redone = _between(self.redone, at, end if last_check is None else last_check)
        for (check, column), of_run in zip(CHECKS.items(), verdicts, strict=True):
            runs = self.judged[check]
            if check == self.groups[at] or (not runs and of_run is None):
                continue
            last = _between(runs, at if redone is None else redone, end)
            outcome = None if last is None else self.outcomes[last]
            if (said := self._of_run(at, check, of_run, outcome)) is not None:
                found[column] = said
            elif outcome is not None:
                found[check] = outcome
        return found

    def _of_run(self, at: int, check: str, value: bool | None, found: str | None) -> str | None:
        """Return what the run's column says of the phase, None if it says nothing of this phase.

        It judges the last work. Work that began after the last check of this kind is not judged.
        """
        runs = self.runs.get(check)
        if value is None or self.end[at] < len(self.groups) or (runs and self.runs[self.groups[at]][0] > runs[-1]):
            return None
        if check != "review":
            return "success" if value else "failure"
        # A review may refuse work without a critical finding.
        return "failure" if value else "success" if found is None else None


def _between(ordered: Sequence[int], low: int, high: int) -> int | None:
    """Return the last of ``ordered`` that is above ``low`` and below ``high``."""
    index = bisect_left(ordered, high) - 1
    return ordered[index] if index >= 0 and ordered[index] > low else None


def _loops(loops: Sequence[Loop], order: _Order) -> Iterator[tuple[int | None, int]]:
    """Yield the places of the phase that sent work back, None if unknown, and of the phase sent
    back.

    A loop names phases by ``phase_id`` or by name. Names repeat: the loops from one name to another
    are taken in their order, each for the next time that the phase ran again after such a check.
    """
    waiting: dict[tuple[str | None, str], Iterator[tuple[int | None, int]]] = {}
    for source, target, from_group, named_group in loops:
        to_group = named_group if target is None else order.groups[target]
        if target is not None and (source is None or target < source):
            yield source, target
        elif source is not None and to_group is not None:
            # The target may be the phase that ran again, so the one before the source is meant.
            if (before := _between(order.runs.get(to_group, ()), -1, source)) is not None:
                yield source, before
        elif to_group is not None:
            pair = (from_group, to_group)
            yield from islice(waiting.setdefault(pair, _returns(order, *pair)), 1)


def _returns(order: _Order, from_group: str | None, to_group: str) -> Iterator[tuple[int | None, int]]:
    """Yield the places of ``from_group`` and of the run of ``to_group`` that it sent back, in
    order.

    Where ``from_group`` did not run, such as a person's answer, any run but the last may be one.
    """
    sources = order.runs.get(from_group, ()) if from_group not in (None, to_group) else ()
    for at in order.runs.get(to_group, ()):
        after = order.next_run.get(at)
        source = _between(sources, at, len(order.groups) if after is None else after)
        if source is not None or (not sources and after is not None):
            yield source, at


def _group(name: str | None) -> str | None:
    return None if name is None else phase_group(name)
