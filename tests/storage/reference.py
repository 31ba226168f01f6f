"""Expected list and stats, computed from the bodies alone; and the worlds that Hypothesis draws."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any
from uuid import UUID

import orjson
from hypothesis import strategies as st

from trajectories.domain.credit import RULES, credit_of
from trajectories.domain.record import Record, facets_of
from trajectories.domain.stats import BUCKETS, Summary

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Version:
    """A version of an id. ``revision``: since when it is this body; ``recorded_at_us``: since when
    the id is known."""

    stamp: int
    digest: str
    revision: int
    recorded_at_us: int
    body: bytes

    @classmethod
    def of(cls, record: Record) -> Version:
        return cls(record.stamp, record.digest, record.revision, record.recorded_at_us, record.body)


def met(known: Version | None, new: Version) -> Version:
    """The newer body stands, and keeps its revision if it was there before; the id is as old as the
    oldest says."""
    if known is None:
        return new
    first = min(known.recorded_at_us, new.recorded_at_us)
    if (new.stamp, new.digest) < (known.stamp, known.digest):
        return replace(known, recorded_at_us=first)
    revision = known.revision if new.body == known.body else new.revision
    return replace(new, recorded_at_us=first, revision=revision)


@dataclass
class Reference:
    """The archive's records in order of arrival, and the outbox's waiting rows in order of commit."""

    archived: dict[UUID, Version] = field(default_factory=dict)
    waiting: list[tuple[UUID, Version]] = field(default_factory=list)

    def accept(self, record: Record) -> None:
        self.waiting.append((record.id, Version.of(record)))

    def archive(self, records: Iterable[Record]) -> None:
        # One batch is one merge in the order of stamps, whatever the order within the message.
        for record in sorted(records, key=lambda record: (record.stamp, record.digest)):
            version = Version.of(record)
            self.archived[record.id] = met(self.archived.get(record.id), version)
            if (record.id, version) in self.waiting:
                self.waiting.remove((record.id, version))

    def standing(self) -> dict[UUID, Version]:
        now = dict(self.archived)
        for id_, version in self.waiting:
            now[id_] = met(now.get(id_), version)
        return now

    def listed(self, given: Mapping[str, str]) -> list[bytes]:
        """The whole list, newest first."""
        found = [(v.recorded_at_us, id_, v) for id_, v in self.standing().items() if matches(given, v)]
        return [shown(version) for _, _, version in sorted(found, key=lambda item: item[:2], reverse=True)]

    def stats(
        self, given: Mapping[str, str], *, credit_rule: str = "checks", bucket: str | None = None
    ) -> dict[str, Any]:
        """By the summary of the app, counted in one go; its figures have tests of their own."""
        summary = Summary(bucket)
        for version in self.standing().values():
            if matches(given, version):
                summary.add(facets_of(version.body), version.recorded_at_us)
        return summary.as_json(credit_rule)

    def totals(self, given: Mapping[str, str]) -> dict[str, Any]:
        """Count and sums from the bodies, without the app."""
        bodies = [orjson.loads(v.body) for v in self.standing().values() if matches(given, v)]
        sums = {
            "cost_usd": [_total(fields, "total_cost_usd", "cost_usd") for fields in bodies],
            "duration_ms": [_total(fields, "total_duration_ms", "duration_ms") for fields in bodies],
            "input_tokens": [_total(fields, "", "input_tokens") for fields in bodies],
            "unattributed_cost_usd": [_unattributed(fields) for fields in bodies],
        }
        known = {name: [value for value in values if value is not None] for name, values in sums.items()}
        return {"count": len(bodies)} | {name: float(sum(values)) if values else None for name, values in known.items()}


def shown(version: Version) -> bytes:
    at = (_EPOCH + timedelta(microseconds=version.recorded_at_us)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    derived = orjson.dumps(_derived(orjson.loads(version.body)))
    added = f'"recorded_at":"{at}","revision":{version.revision},"derived":'.encode()
    return b"%b,%b%b}" % (version.body[:-1], added, derived)


def _derived(fields: dict[str, Any]) -> dict[str, Any]:
    tokens = [_total(fields, "", name) for name in ("input_tokens", "output_tokens")]
    known = [value for value in tokens if value is not None]
    values = {
        "total_cost_usd": _total(fields, "total_cost_usd", "cost_usd"),
        "phases_cost_usd": _total(fields, "", "cost_usd"),
        "unattributed_cost_usd": _unattributed(fields),
        "total_duration_ms": _total(fields, "total_duration_ms", "duration_ms"),
        "input_tokens": tokens[0],
        "output_tokens": tokens[1],
        "total_tokens": sum(known, Fraction()) if known else None,
    }
    # Derived too; record's tests say how.
    outcome = facets_of(orjson.dumps(fields)).outcome
    # So do the tests of credit.
    credit = {"rule": "checks", "phases": [one._asdict() for one in credit_of(fields)]}
    return {"outcome": outcome} | {name: _number(value) for name, value in values.items()} | {"credit": credit}


def _number(value: Fraction | None) -> float | int | None:
    return None if value is None else value.numerator if value.denominator == 1 else float(value)


def matches(given: Mapping[str, str], version: Version) -> bool:
    fields = orjson.loads(version.body)
    on_phase = {name: text for name, text in given.items() if name in _ON_PHASE}
    rest = {name: text for name, text in given.items() if name not in _ON_PHASE}
    phases = [
        phase | {"credited": credit.outcome or "none"}
        for phase, credit in zip(fields["phases"], credit_of(fields), strict=True)
    ]
    return all(_matches(name, text, version.recorded_at_us, fields) for name, text in rest.items()) and (
        not on_phase or any(all(_ON_PHASE[name](phase, text) for name, text in on_phase.items()) for phase in phases)
    )


_ON_PHASE: dict[str, Any] = {
    "phase": lambda phase, text: _group(phase["phase_name"]) == _group(text),
    "model": lambda phase, text: phase.get("model") == text,
    "selection_method": lambda phase, text: phase.get("model_selection_method") == text,
    "agent": lambda phase, text: phase.get("agent") == text,
    "credited": lambda phase, text: phase["credited"] == text,  # the tests of credit say how
    "fit": lambda phase, text: phase.get("fit") == text,
    "tool": lambda phase, text: text in phase.get("tools_used", []),
}


def _matches(name: str, text: str, recorded_at_us: int, fields: dict[str, Any]) -> bool:
    if name in ("project", "source", "request_type", "policy"):
        return bool(fields.get(name) == text)
    if name in ("build_passed", "tests_passed"):
        return fields.get(name) is (text == "true")
    if name == "outcome":
        return facets_of(orjson.dumps(fields)).outcome == text  # derived; record's tests say how
    if name == "tag":
        return text in fields.get("tags", [])
    if name == "q":
        return all(word in _folded(fields["request_summary"]) for word in _folded(text).split())
    if name in ("since", "until"):
        at = _EPOCH + timedelta(microseconds=recorded_at_us)
        return at >= _time(text) if name == "since" else at < _time(text)
    if name in ("started_since", "started_until"):
        started = fields.get("started_at")
        return started is not None and (
            _time(started) >= _time(text) if name == "started_since" else _time(started) < _time(text)
        )
    bound, _, measure = name.partition("_")
    value = _total(fields, f"total_{measure}", measure)
    return value is not None and (value >= Fraction(text) if bound == "min" else value <= Fraction(text))


def _total(fields: dict[str, Any], given: str, of_phase: str) -> Fraction | None:
    if fields.get(given) is not None:
        return Fraction(str(fields[given]))
    known = [Fraction(str(phase[of_phase])) for phase in fields["phases"] if phase.get(of_phase) is not None]
    return sum(known, Fraction()) if known else None


def _unattributed(fields: dict[str, Any]) -> Fraction | None:
    total, in_phases = _total(fields, "total_cost_usd", "cost_usd"), _total(fields, "", "cost_usd")
    return None if total is None or in_phases is None else total - in_phases


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _folded(text: str) -> str:
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())


def _group(name: str) -> str:
    return {"code": "implement", "implementation": "implement", "verify": "test"}.get(name.casefold(), name.casefold())


# Few values, so that filters hit, and those that a database could get wrong: case, wildcards, quotes, more than ASCII.
NAMES = ["a", "A", "a%", "a_", 'x"y', "é", ""]
MODELS = ["anthropic/claude-sonnet-4", "openai/gpt_4%", "é"]
METHODS = ["explicit", "thompson-sampling", "own-way"]
PHASES = ["code", "implement", "Verify", "test", "spec"]
TOOLS = ["grep", "grep2", "rep", "a\nb", '"']
SUMMARIES = ["Add login", "ADD LOGOUT", "Stra\u00dfe 100%", "\ufb01x it", "", "add_login \\ 'x'"]
TIMES = ["2026-01-05T23:58:46Z", "2026-01-05T23:58:46.000001Z", "1969-07-20T20:17:40Z"]
COSTS: list[float] = [0, 0.1, 0.000000001, 0.057, 1_000_000]
DURATIONS: list[float] = [0, 0.001, 2500, 17500.5]


def _optional(**fields: st.SearchStrategy[Any]) -> dict[str, st.SearchStrategy[Any]]:
    return dict(fields)


_phases = st.fixed_dictionaries(
    {"phase_name": st.sampled_from(PHASES)},
    optional=_optional(
        model=st.sampled_from(MODELS),
        model_selection_method=st.sampled_from(METHODS),
        agent=st.sampled_from(NAMES),
        tools_used=st.lists(st.sampled_from(TOOLS), max_size=2),
        outcome=st.sampled_from(["success", "failure", "skipped", "cancelled", "paused"]),
        fit=st.sampled_from(["good_fit", "underpowered"]),
        cost_usd=st.sampled_from(COSTS),
        duration_ms=st.sampled_from(DURATIONS),
        input_tokens=st.sampled_from([0, 1500, 2**53 - 1]),
    ),
)
bodies = st.fixed_dictionaries(
    {"request_summary": st.sampled_from(SUMMARIES), "phases": st.lists(_phases, max_size=4)},
    optional=_optional(
        request_type=st.sampled_from(NAMES),
        source=st.sampled_from(NAMES),
        project=st.sampled_from(NAMES),
        policy=st.sampled_from(NAMES),
        outcome=st.sampled_from(["success", "failure", "partial", "unknown"]),
        build_passed=st.booleans(),
        tests_passed=st.booleans(),
        critical_findings=st.integers(0, 1),
        feedback_loops=st.lists(
            st.fixed_dictionaries(
                {"to_phase": st.sampled_from(PHASES)}, optional={"from_phase": st.sampled_from(PHASES)}
            ),
            max_size=2,
        ),
        tags=st.lists(st.sampled_from(NAMES), max_size=2),
        started_at=st.sampled_from(TIMES),
        total_cost_usd=st.sampled_from(COSTS),
        total_duration_ms=st.sampled_from(DURATIONS),
    ),
)

views = st.fixed_dictionaries(
    {}, optional={"credit_rule": st.sampled_from(RULES), "bucket": st.sampled_from(list(BUCKETS))}
)
"""How stats are shown: the credit rule and the buckets of the series."""

_booleans = st.sampled_from(["true", "false"])
FILTER_VALUES: dict[str, st.SearchStrategy[str]] = {
    "project": st.sampled_from(NAMES),
    "source": st.sampled_from(NAMES),
    "request_type": st.sampled_from(NAMES),
    "policy": st.sampled_from(NAMES),
    "outcome": st.sampled_from(["success", "failure", "partial", "unknown"]),
    "phase": st.sampled_from(PHASES),
    "model": st.sampled_from(MODELS),
    "selection_method": st.sampled_from(METHODS),
    "agent": st.sampled_from(NAMES),
    "tool": st.sampled_from(TOOLS),
    "credited": st.sampled_from(["success", "failure", "partial", "none"]),
    "fit": st.sampled_from(["good_fit", "underpowered", "failed"]),
    "build_passed": _booleans,
    "tests_passed": _booleans,
    "tag": st.sampled_from(NAMES),
    "started_since": st.sampled_from(TIMES),
    "started_until": st.sampled_from(TIMES),
    "min_cost_usd": st.sampled_from(COSTS).map(lambda usd: f"{usd:.9f}"),
    "max_cost_usd": st.sampled_from(COSTS).map(lambda usd: f"{usd:.9f}"),
    "min_duration_ms": st.sampled_from(DURATIONS).map(str),
    "max_duration_ms": st.sampled_from(DURATIONS).map(str),
    "q": st.sampled_from(["add", "LOGIN add", "strasse", "fix", "%", "_", "100%", "\\", "'", "  "]),
}
"""Values to try for each parameter. ``since`` and ``until`` are drawn from the recorded times."""


@st.composite
def queries(draw: st.DrawFn, recorded: Iterable[int]) -> dict[str, str]:
    """Parameters of a query: mostly none or one, so that something is found."""
    times = [(_EPOCH + timedelta(microseconds=at)).isoformat() for at in recorded]
    values = FILTER_VALUES | ({"since": st.sampled_from(times), "until": st.sampled_from(times)} if times else {})
    names = draw(st.lists(st.sampled_from(sorted(values)), max_size=2, unique=True))
    return {name: draw(values[name]) for name in names}
