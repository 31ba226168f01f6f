"""Measures of runs as training data.

Standard library only: packages/sdk-py/generate.py copies this module into the SDK's test server.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from hashlib import blake2b
from itertools import islice
from typing import Any, Generic, NamedTuple, TypeVar

MAX_NAMES = 10_000
"""Most names of projects, request types and models that are counted; later names count as one."""
MAX_KEYS = 20_000
"""Most requests, and most contexts, that are counted. Where there are more, a sample is counted."""
MAX_SHOWN = 10
_MIN_ERROR_CHARS = 20
_MAX_ERRORS = 8
"""Different errors of a run that are looked for in its request: a search takes up to 1.4 ms."""
_MIN_RUNS_OF_TYPE = 30
_CHANCE = 1e-6
"""Probability below which a request type with one outcome is not a coincidence."""
_LATER_NAMES = "\0"
_SKIP = "\0skip"
_KNOWN_OUTCOMES = ("success", "failure", "partial")
_OTHER_BLANKS = "\t\n\v\f\r\x1c\x1d\x1e\x1f"
"""The blanks of ASCII, besides the space, at which ``str.split`` splits."""

V = TypeVar("V")


class Run(NamedTuple):
    """A run: its canonical fields, and the values that the store derives from them.

    ``groups`` has the name of each phase under which stats group it. ``cost`` is None if unknown.
    """

    fields: Mapping[str, Any]
    groups: Sequence[str]
    outcome: str
    cost: float | None
    warnings: Sequence[str] = ()


class Tally:
    """Count cases of which something is known or true. Without cases the share is None."""

    def __init__(self) -> None:
        self.known = 0
        self.of = 0

    def add(self, is_known: bool) -> None:
        self.known += is_known
        self.of += 1

    @property
    def share(self) -> float | None:
        return self.known / self.of if self.of else None

    def as_json(self) -> dict[str, Any]:
        return {"known": self.known, "of": self.of, "share": self.share}


class KeySample(Generic[V]):
    """Values by key in bounded memory.

    Keys are chosen by their hash alone, so a key is held with all of its occurrences or not at all.
    All keys are held until there are more than ``limit``; from then on about half of them, and so
    on.
    """

    def __init__(self, limit: int, make: Callable[[], V]) -> None:
        self._limit = limit
        self._make = make
        self._mask = 0
        self._values: dict[int, V] = {}

    def value_of(self, *key: str) -> V | None:
        """Return the value of the key, a new one the first time; None if the key is not held."""
        return self.value_at(_hash(key))

    def value_at(self, hash_: int) -> V | None:
        """Return ``value_of`` a key by its hash."""
        if hash_ & self._mask:
            return None
        value = self._values.get(hash_)
        if value is None:
            value = self._values[hash_] = self._make()
            while len(self._values) > self._limit:
                self._mask = self._mask * 2 + 1
                self._values = {kept: one for kept, one in self._values.items() if not kept & self._mask}
        return value

    def values(self) -> Iterable[V]:
        return self._values.values()


def _hash(key: tuple[str, ...]) -> int:
    return int.from_bytes(blake2b("\0".join(key).encode("utf-8", "surrogatepass"), digest_size=8).digest())


_hash_of_names = lru_cache(1_024)(_hash)
"""For names, which are short and repeat in every run."""


class _Request:
    """The runs of one request."""

    def __init__(self) -> None:
        self.runs = 0
        self.group: str | None = None
        self.is_shared = False


class _Context:
    """The actions of one context, at most two of each kind: more would not change an answer."""

    def __init__(self) -> None:
        self.taken: set[str] = set()
        self.possible: set[str] = set()


class Measures:
    """Measure a stream of runs in constant memory."""

    def __init__(self) -> None:
        self.runs = 0
        self.usable = 0
        self.by_run = {name: Tally() for name in ("cost", "outcome", "build", "tests")}
        self.by_phase = {name: Tally() for name in ("tools", "model", "method", "propensity")}
        self.projects: Counter[str] = Counter()
        self.request_types: Counter[str] = Counter()
        self.models: Counter[str] = Counter()
        self.skipped = Tally()
        self.explored = Tally()
        self.late = Tally()
        self.revealed = Tally()
        self.warnings: Counter[str] = Counter()
        self._outcomes: dict[str, Counter[str]] = {}
        self._runs_by_content: KeySample[Tally] = KeySample(MAX_KEYS, Tally)
        self._requests: KeySample[_Request] = KeySample(MAX_KEYS, _Request)
        self._contexts: KeySample[_Context] = KeySample(MAX_KEYS, _Context)

    def add(self, run: Run) -> None:
        fields = run.fields
        phases = list(zip(fields["phases"], run.groups, strict=True))
        self.runs += 1
        self.usable += bool(run.cost) and any(phase.get("tools_used") for phase, _ in phases)
        self.by_run["cost"].add(run.cost is not None)
        self.by_run["outcome"].add(run.outcome in _KNOWN_OUTCOMES)
        self.by_run["build"].add(fields.get("build_passed") is not None)
        self.by_run["tests"].add(fields.get("tests_passed") is not None)
        _count(self.projects, fields.get("project"))
        _count(self.request_types, fields.get("request_type"))
        self.warnings.update(set(run.warnings))
        for phase, group in phases:
            self._add_phase(fields, phase, group)
        self._add_request(run)
        self._add_order(fields["phases"])
        self._add_outcome(fields.get("request_type"), run.outcome)

    def _add_phase(self, fields: Mapping[str, Any], phase: Mapping[str, Any], group: str) -> None:
        context = self._contexts.value_at(_hash_of_names((fields.get("request_type") or "", group)))
        possible = set(_possible_actions(phase))
        if phase.get("outcome") == "skipped":
            self.skipped.add(phase.get("skip_reason") is not None)
            action: str | None = _SKIP
        else:
            action = phase.get("model")
            self.by_phase["tools"].add(phase.get("tools_used") is not None)
            self.by_phase["model"].add(action is not None)
            self.by_phase["method"].add(phase.get("model_selection_method") is not None)
            self.by_phase["propensity"].add(phase.get("selection_probability") is not None)
            self.explored.add(len(possible) > 1)
            _count(self.models, action)
        if context is not None:
            _add_up_to_two(context.taken, () if action is None else (action,))
            _add_up_to_two(context.possible, possible)

    def _add_request(self, run: Run) -> None:
        request = _normalized(run.fields["request_summary"])
        content = [f"{phase.get('model')}\0{phase.get('outcome')}" for phase in run.fields["phases"]]
        if (same := self._runs_by_content.value_of(request, *run.groups, *content)) is not None:
            same.add(same.of > 0)
        found = self._requests.value_of(request)
        if found is not None:
            group = run.fields.get("session_id") or run.fields.get("project")
            found.is_shared |= found.runs > 0 and found.group != group
            found.runs, found.group = found.runs + 1, group
        errors = (one.get("error") for one in (run.fields, *run.fields["phases"]))
        distinct = dict.fromkeys(error for error in errors if error)
        said = (error for error in map(_normalized, distinct) if len(error) >= _MIN_ERROR_CHARS)
        self.revealed.add(any(error in request for error in islice(said, _MAX_ERRORS)))

    def _add_order(self, phases: Sequence[Mapping[str, Any]]) -> None:
        ended: datetime | None = None
        for phase in phases:
            started_at, ended_at = phase.get("started_at"), phase.get("ended_at")
            is_lane = "depends_on" in phase or "parent_phase_id" in phase
            if started_at and ended is not None and not is_lane:
                self.late.add(datetime.fromisoformat(started_at) < ended)
            if ended_at and not is_lane:
                at = datetime.fromisoformat(ended_at)
                ended = at if ended is None else max(ended, at)

    def _add_outcome(self, request_type: str | None, outcome: str) -> None:
        if request_type is None or outcome not in _KNOWN_OUTCOMES:
            return
        if request_type in self._outcomes or len(self._outcomes) < MAX_NAMES:
            self._outcomes.setdefault(request_type, Counter())[outcome] += 1

    @property
    def duplicates(self) -> Tally:
        """Count the runs that repeat an earlier run: same request, phases, models and outcomes."""
        return _sum((same.known, same.of) for same in self._runs_by_content.values())

    @property
    def shared_requests(self) -> Tally:
        """Count the runs whose request was also made in another session, or project."""
        return _sum((one.runs if one.is_shared else 0, one.runs) for one in self._requests.values())

    @property
    def overlap(self) -> dict[str, int]:
        """Count contexts (request type and phase), those where several actions were taken, and
        those where several had a recorded probability above zero."""
        contexts = self._contexts.values()
        return {
            "contexts": len(list(contexts)),
            "with_several_actions": sum(len(context.taken) > 1 for context in contexts),
            "with_overlap": sum(len(context.possible) > 1 for context in contexts),
        }

    @property
    def largest_model(self) -> tuple[str, float] | None:
        """Return the model of most phases, and its share of all phases whose model is known."""
        named = [(count, name) for name, count in self.models.items() if name != _LATER_NAMES]
        if not named:
            return None
        count, name = max(named, key=lambda one: (one[0], one[1]))
        return name, count / self.models.total()

    @property
    def one_outcome_types(self) -> list[str]:
        """Return request types of which all runs have the same outcome, which is no coincidence."""
        of_all: Counter[str] = Counter()
        for outcomes in self._outcomes.values():
            of_all.update(outcomes)
        total = of_all.total()
        return sorted(
            name
            for name, outcomes in self._outcomes.items()
            if len(outcomes) == 1
            and outcomes.total() >= _MIN_RUNS_OF_TYPE
            and (of_all[next(iter(outcomes))] / total) ** outcomes.total() < _CHANCE
        )

    def as_json(self) -> dict[str, Any]:
        largest = self.largest_model
        return {
            "runs": self.runs,
            "runs_with_cost_and_tools": self.usable,
            "projects": len(self.projects),
            "request_types": len(self.request_types),
            "shares": {name: tally.as_json() for name, tally in (self.by_run | self.by_phase).items()},
            "skipped_phases": {"count": self.skipped.of, "with_reason": self.skipped.known},
            "overlap": self.overlap | {"explored_phases": self.explored.as_json()},
            "duplicates": self.duplicates.as_json(),
            "models": {
                "count": len(self.models),
                "largest": largest and largest[0],
                "largest_share": largest and largest[1],
            },
            "leaks": {
                "late_phases": self.late.as_json(),
                "requests_with_errors": self.revealed.as_json(),
                "shared_requests": self.shared_requests.as_json(),
                "one_outcome_types": self.one_outcome_types[:MAX_SHOWN],
            },
            "warnings": dict(sorted(self.warnings.items())),
        }


def _possible_actions(phase: Mapping[str, Any]) -> Iterator[str]:
    """Yield the actions of a decision whose recorded probability is above zero."""
    for candidate in phase.get("candidates", ()):
        if candidate.get("probability"):
            yield candidate["model"]
    chosen = phase.get("selection_probability")
    if chosen:
        yield phase.get("requested_model") or phase.get("model") or ""
        if chosen < 1 and "candidates" not in phase:
            yield "\0other"
    keep = phase.get("keep_probability")
    if keep is not None:
        yield from (name for name, probability in (("\0run", keep), (_SKIP, 1 - keep)) if probability > 0)


def _count(names: Counter[str], name: str | None) -> None:
    if name is not None:
        names[name if name in names or len(names) < MAX_NAMES else _LATER_NAMES] += 1


def _add_up_to_two(known: set[str], more: Iterable[str]) -> None:
    if len(known) < 2:
        for one in sorted(more):
            if len(known) < 2:
                known.add(one)


def _sum(pairs: Iterable[tuple[int, int]]) -> Tally:
    total = Tally()
    for known, of in pairs:
        total.known += known
        total.of += of
    return total


def _normalized(text: str) -> str:
    """Return a text without case and repeated blanks."""
    if text.isascii():  # quicker, for texts of up to 1 MiB
        lower = text.lower().strip()
        if "  " not in lower and not any(blank in lower for blank in _OTHER_BLANKS):
            return lower
    return " ".join(text.casefold().split())
