"""Facts of a run that say, without its body, that an export makes no line of it.

Each fact is an upper bound: a run that lacks it yields no line in a format that needs it, under any
credit rule and any alias of phases. Beside them is the bucket of its session, which decides on the
part of a split by session; the bucket of its project is apart. Keys say which runs have the same
request, content or choices.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any, TypeAlias

import orjson

from trajectories.domain.outcomes import phase_group
from trajectories.domain.text import fold

Choice: TypeAlias = tuple[Any, ...]
"""An action of a run: name of the phase, agent and model; or only the name of a phase that was skipped."""

SUCCESS, PARTIAL, FAILURE, PHASES, ATTEMPT, OTHER_MODEL, MODELS, ACTIONS, PROPENSITY = (1 << n for n in range(9))
"""A decision may have earned 1, 0.5 or 0. The run has a phase, an attempt whose outcome is known, an
attempt by another model than the one picked, two models, a phase with two actions, a probability."""
LATE, SHARED, VARIED = 1 << 9, 1 << 10, 1 << 31
"""Not stored with the others: the run has a late outcome; another run may have the same request; runs
of its type may have earned something else with another action in one of its phases."""
REWARD = SUCCESS | PARTIAL | FAILURE
BUCKETS = 1_000_000
BUCKET_AT, BUCKET_BITS = 11, (1 << 20) - 1
"""The bucket of the session lies above the facts, in the same integer of 32 bits."""
_REWARDS = {"success": SUCCESS, "partial": PARTIAL, "failure": FAILURE}


def request_key(summary: str) -> str:
    """Return a request without case and repeated blanks."""
    return " ".join(fold(summary).split())


def request_digest(folded: str, request_type: str | None) -> int:
    """Return 64 bits, signed, that are the same for runs whose decisions formats compare.

    Args:
        folded: the summary of the request, folded.
    """
    return _key_of([" ".join(folded.split()), request_type])


def content_key(request: int, groups: Iterable[str], phases: Iterable[Mapping[str, Any]]) -> int:
    """Return 64 bits, signed, that are the same for runs of the same request with the same phases.

    Compared are the request without case and repeated blanks, its type, and of each phase its
    group, agent, model and outcome.

    Args:
        request: ``request_digest`` of the run.
        groups: ``phase_group`` of each phase.
    """
    return _key_of(
        [request]
        + [
            (group, phase.get("agent"), phase.get("model"), phase.get("outcome"))
            for group, phase in zip(groups, phases, strict=True)
        ]
    )


def content_key_of(fields: Mapping[str, Any]) -> int:
    """Return the ``content_key`` of a canonical body, parsed, by the aliases of phases as they are now."""
    request = request_digest(fold(fields["request_summary"]), fields.get("request_type"))
    return content_key(request, (phase_group(phase["phase_name"]) for phase in fields["phases"]), fields["phases"])


def choices_of(fields: Mapping[str, Any]) -> list[Choice]:
    """Return the actions of a run that formats compare, each once: those taken, and those attempted."""
    choices: dict[Choice, None] = {}
    _facts_of(fields, choices)
    return list(choices)


def choice_key(fields: Mapping[str, Any]) -> int:
    """Return 64 bits, signed, that differ for runs of different types or ``choices_of``."""
    return facts_and_choice_key(fields)[1]


def rewards_of(facts: int, needed: int) -> int:
    """Return what the actions of a run may have earned, of ``REWARD``.

    Args:
        needed: with ``LATE``, the actions taken earn a late outcome of any value.
    """
    if not needed & LATE:
        return facts & REWARD
    return REWARD if facts & LATE else facts & REWARD if facts & ATTEMPT else 0


class PossiblePairs:
    """Which runs may be in a pair: two actions of which one has earned more, in one group of phases and
    for requests of one type. ``keys`` are the ``choice_key`` of the runs that were added."""

    def __init__(self) -> None:
        # Hashes, since texts may be long. Equal ones of different groups only make more pairs possible.
        self._groups: dict[int, _Group] = defaultdict(_Group)
        self._groups_of: dict[int, set[int]] = {}

    @property
    def keys(self) -> AbstractSet[int]:
        return self._groups_of.keys()

    def add(self, fields: Mapping[str, Any], rewards: int) -> None:
        """Add the runs with the ``choices_of`` of this one.

        Args:
            rewards: ``rewards_of`` all of them.
        """
        of_run = self._groups_of.setdefault(choice_key(fields), set())
        for choice in choices_of(fields):
            group = hash((fields.get("request_type"), phase_group(choice[0])))
            of_run.add(group)
            if rewards:
                self._groups[group].add(hash(choice), rewards)

    def without(self) -> frozenset[int]:
        """Return the keys of the runs that can be in no pair."""
        found = {group for group, earned in self._groups.items() if earned.has_pair}
        return frozenset(key for key, groups in self._groups_of.items() if not groups & found)


@dataclass(slots=True)
class _Group:
    first: int | None = None
    has_several: bool = False
    rewards: int = 0

    def add(self, choice: int, rewards: int) -> None:
        self.has_several |= self.first not in (None, choice)
        self.first, self.rewards = choice, self.rewards | rewards

    @property
    def has_pair(self) -> bool:
        return self.has_several and self.rewards.bit_count() > 1


def _key_of(compared: list[Any]) -> int:
    return int.from_bytes(hashlib.blake2b(orjson.dumps(compared), digest_size=8).digest(), signed=True)


def session_of(fields: Mapping[str, Any]) -> str:
    """Return the key of the runs of a session; else of a run and those that name it as their parent."""
    session = fields.get("session_id")
    return f"run:{fields.get('parent_id') or fields['id']}" if session is None else f"session:{session}"


def project_of(fields: Mapping[str, Any]) -> str:
    """Return the key of the runs of a project; of a run without one, ``session_of``."""
    project = fields.get("project")
    return session_of(fields) if project is None else f"project:{project}"


def bucket_of(key: str) -> int:
    """Return a number below ``BUCKETS``, the same for equal keys."""
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest()) % BUCKETS


def project_bucket(fields: Mapping[str, Any]) -> int:
    """Return the bucket of ``project_of`` a canonical body, parsed."""
    return bucket_of(project_of(fields))


def facts_of(fields: Mapping[str, Any]) -> int:
    """Return the facts of a canonical body, parsed, with the bucket of its session."""
    return facts_and_choice_key(fields)[0]


def facts_and_choice_key(fields: Mapping[str, Any]) -> tuple[int, int]:
    """Return ``facts_of`` and ``choice_key`` of a canonical body, parsed."""
    choices: dict[Choice, None] = {}
    facts = _facts_of(fields, choices) | bucket_of(session_of(fields)) << BUCKET_AT
    return facts, _key_of([fields.get("request_type"), *choices])


def _facts_of(fields: Mapping[str, Any], choices: dict[Choice, None]) -> int:
    """Return the facts of a run, and add its choices to ``choices``."""
    if not fields["phases"]:
        return 0
    facts, models = PHASES | _REWARDS.get(fields.get("outcome", ""), 0), set[str]()
    planned = fields.get("planned_phases") or ()
    for column in ("build_passed", "tests_passed"):
        if column in fields:
            facts |= SUCCESS if fields[column] else FAILURE
    if "critical_findings" in fields:
        facts |= FAILURE if fields["critical_findings"] else SUCCESS
    if "feedback_loops" in fields:
        facts |= FAILURE
    for phase in fields["phases"]:
        facts |= _of_phase(phase, models, choices)
        if phase["phase_name"] in planned:
            facts |= ACTIONS
    return facts | MODELS if len(models) > 1 else facts


def _of_phase(phase: Mapping[str, Any], models: set[str], choices: dict[Choice, None]) -> int:
    """Return the facts of a phase, and add its models to ``models`` and its choices to ``choices``."""
    get, name = phase.get, phase["phase_name"]
    outcome, agent, candidates, keep = get("outcome", ""), get("agent"), get("candidates", ()), get("keep_probability")
    picked, attempts, is_skip = get("requested_model"), get("attempts"), outcome == "skipped"
    facts = _REWARDS.get(outcome, 0)
    if not picked:
        picked = attempts[0]["model"] if attempts else get("model")
    choices[(name,) if is_skip else (name, agent, picked)] = None
    if picked is not None:
        models.add(picked)
    for attempt in attempts or ():
        model = attempt["model"]
        models.add(model)
        choices[name, agent, model] = None
        facts |= (known := _REWARDS.get(attempt["outcome"], 0)) and known | ATTEMPT
        if is_skip or model != picked:
            facts |= OTHER_MODEL
    if get("attempt", 0) > 1:
        facts |= FAILURE  # an attempt before it was not the last one
    if is_skip or keep is not None or any(one["model"] != picked for one in candidates):
        facts |= ACTIONS
    if keep is not None or "selection_probability" in phase or any("probability" in one for one in candidates):
        facts |= PROPENSITY
    return facts
