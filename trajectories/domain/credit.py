"""Credit: the outcome that each phase earned, as the checks of its run showed it.

A phase that wrote code "succeeds" whenever it returns. Its tests or its review show later whether
the code was right. So a phase's own outcome cannot rank models, and the credited outcome can.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice, pairwise
from typing import Any, NamedTuple

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


def credit_of(fields: Mapping[str, Any], rule: str = "checks") -> list[Credit]:
    """Return the credit of each phase, in the order of the phases.

    - ``phase_outcome``: the phase's own outcome.
    - ``run_outcome``: the outcome of the run, given or derived, for each phase that ran.
    - ``checks``: the verdict of the checks that judged the phase; docs/contract.md has the rules.

    Phases that were skipped, cancelled or paused have no credit under any rule.

    Args:
        fields: a canonical body, parsed.
        rule: one of ``RULES``.
    """
    phases = fields["phases"]
    groups = [phase_group(phase["phase_name"]) for phase in phases]
    outcomes = [phase.get("outcome", "unknown") for phase in phases]
    return _RULES[rule](fields, groups, outcomes)


def _by_phase_outcome(fields: Mapping[str, Any], groups: Sequence[str], outcomes: Sequence[str]) -> list[Credit]:
    return [_known(outcome, "phase_outcome") for outcome in outcomes]


def _by_run_outcome(fields: Mapping[str, Any], groups: Sequence[str], outcomes: Sequence[str]) -> list[Credit]:
    credit = _known(run_outcome(fields, zip(groups, outcomes, strict=True)), "run_outcome")
    return [NO_CREDIT if outcome in NOT_RUN else credit for outcome in outcomes]


def _by_checks(fields: Mapping[str, Any], groups: Sequence[str], outcomes: Sequence[str]) -> list[Credit]:
    order = _Order(groups, outcomes)
    sent_back = set()
    for source, target in _loops(fields, order):
        sent_back.add(target)
        order.refuse(source)
    earned = [NO_CREDIT] * len(groups)
    for at in order.ran:
        phase, outcome, is_check = fields["phases"][at], order.outcomes[at], groups[at] in CHECKS
        attempts = phase.get("attempts")
        last_attempt = _known(attempts[-1]["outcome"] if attempts else None, "attempts")
        if at in sent_back:
            earned[at] = Credit("failure", "feedback_loop")
        elif last_attempt.outcome == "failure" or _is_retried(fields["phases"], at, order.next_run.get(at)):
            earned[at] = Credit("failure", "attempts")
        elif outcome == "failure":
            # A check that failed has done its work: it refused the work of another phase.
            earned[at] = NO_CREDIT if is_check else Credit("failure", "phase_outcome")
        elif found := order.checks_of(at, fields):
            earned[at] = _verdict(found)
        elif not is_check:
            earned[at] = _known(outcome, "phase_outcome") if outcome in CREDITED else last_attempt
    return earned


_RULES: Mapping[str, Callable[[Mapping[str, Any], Sequence[str], Sequence[str]], list[Credit]]] = {
    "checks": _by_checks,
    "phase_outcome": _by_phase_outcome,
    "run_outcome": _by_run_outcome,
}
RULES = tuple(_RULES)


def _known(outcome: str | None, source: str) -> Credit:
    return Credit(outcome, source) if outcome in CREDITED else NO_CREDIT


def _verdict(checks: Mapping[str, str]) -> Credit:
    """Return the worst of the outcomes of ``checks``, which are by source; at least one."""
    worst = min(checks.values(), key=_WORST.index)
    return Credit(worst, "+".join(source for source, found in checks.items() if found == worst))


def _is_retried(phases: Sequence[Mapping[str, Any]], at: int, next_run: int | None) -> bool:
    return next_run is not None and phases[next_run].get("attempt", 0) > phases[at].get("attempt", 0) > 0


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

    def checks_of(self, at: int, fields: Mapping[str, Any]) -> dict[str, str]:
        """Return the outcome of each check that judged the phase at ``at``, by source.

        A check is not judged by its own kind. Checks from before the work was done again are
        answered by that, so the last ones count.
        """
        found: dict[str, str] = {}
        end = self.end[at]
        last_check = None if end == len(self.groups) else _between(self.checks, at, end)
        redone = _between(self.redone, at, end if last_check is None else last_check)
        for check, column in CHECKS.items():
            runs, of_run = self.judged[check], fields.get(column)
            if check == self.groups[at] or (not runs and of_run is None):
                continue
            last = _between(runs, at if redone is None else redone, end)
            outcome = None if last is None else self.outcomes[last]
            if (said := self._of_run(at, check, of_run, outcome)) is not None:
                found[column] = said
            elif outcome is not None:
                found[check] = outcome
        return found

    def _of_run(self, at: int, check: str, value: bool | int | None, found: str | None) -> str | None:
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


def _loops(fields: Mapping[str, Any], order: _Order) -> Iterator[tuple[int | None, int]]:
    """Yield the places of the phase that sent work back, None if unknown, and of the phase sent back.

    A loop names phases by ``phase_id`` or by name. Names repeat: the loops from one name to another
    are taken in their order, each for the next time that the phase ran again after such a check.
    """
    place = {phase["phase_id"]: at for at, phase in enumerate(fields["phases"]) if "phase_id" in phase}
    waiting: dict[tuple[str | None, str], Iterator[tuple[int | None, int]]] = {}
    for loop in fields.get("feedback_loops", ()):
        source, target = place.get(loop.get("from_phase_id")), place.get(loop.get("to_phase_id"))
        to_group = _group(loop.get("to_phase")) if target is None else order.groups[target]
        if target is not None and (source is None or target < source):
            yield source, target
        elif source is not None and to_group is not None:
            # The target may be the phase that ran again, so the one before the source is meant.
            if (before := _between(order.runs.get(to_group, ()), -1, source)) is not None:
                yield source, before
        elif to_group is not None:
            pair = (_group(loop.get("from_phase")), to_group)
            yield from islice(waiting.setdefault(pair, _returns(order, *pair)), 1)


def _returns(order: _Order, from_group: str | None, to_group: str) -> Iterator[tuple[int | None, int]]:
    """Yield the places of ``from_group`` and of the run of ``to_group`` that it sent back, in order.

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
