"""The requests that ``costliest`` measures, and the runs of its tenants."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations
from typing import Any, NamedTuple
from uuid import UUID

import orjson

MIB = 2**20
PATH = "/v1/agent/trajectories"
_PROBLEMS = {"request_summary": "x", "phases": [{"phase_name": "x", "attempts": [{}] * 200}] * 200}
NOTHING = {
    "project": "none", "source": "none", "request_type": "none", "outcome": "partial", "phase": "none",
    "model": "none", "selection_method": "none", "agent": "none", "tool": "none", "build_passed": "false",
    "tests_passed": "false", "tag": "none", "since": "2100-01-01", "until": "1980-01-01",
    "started_since": "2100-01-01", "started_until": "1980-01-01", "min_cost_usd": "1e6", "max_cost_usd": "0",
    "policy": "none", "credited": "partial", "fit": "failed", "min_duration_ms": "1e15", "max_duration_ms": "0",
    "q": " ".join(f"nothing{n}" for n in range(32)),
}  # fmt: skip
"""A value of each filter that matches no record, so that a list looks at all of them."""
ALL = {
    "phase": "implement", "tool": "edit", "tag": "nightly", "q": "a", "outcome": "unknown", "until": "2100-01-01",
    "min_cost_usd": "0", "max_duration_ms": "1e15", "build_passed": "true",
}  # fmt: skip
"""A value of some filters that matches many."""
PARTS = {"1": "half", "7": "a third"}
"""Words of which ordinary summaries have a part."""
LEARNING = "/v1/agent/"
MODELS = ["anthropic/claude-sonnet-4", "small", *(f"model {number}" for number in range(18))]
MORE: tuple[dict[str, str], ...] = (
    {"dedupe": "1"},
    {"format": "kto", "reward_outcome": "merged", "dedupe": "1"},
    {"split": "train=0.9,test=0.1", "part": "test"},
    {"split": "train=0.9,test=0.1", "part": "test", "split_by": "project"},
    {"format": "dpo", "pair_by": "type"},
    {"format": "sft", "min_reward": "1"},
    {"format": "kto", "reward_outcome": "merged"},
)
"""Parameters of exports besides a format alone."""
OF_ALIKE: tuple[dict[str, str], ...] = (
    {},
    {"dedupe": "1"},
    {"format": "dpo"},
    {"format": "dpo", "pair_by": "type"},
    {"format": "openai", "kind": "dpo", "pair_by": "type", "dedupe": "1"},
)
MANIFEST = "/manifest"


class Sent(NamedTuple):
    """A request: method, parameters, body, and what it is called in the table."""

    name: str
    method: str
    parameters: dict[str, str]
    body: bytes = b""
    path: str = ""
    """Below PATH, or from the root."""
    times: int = 2
    is_repeatable: bool = True
    """Whether it does the same work each time."""


def ordinary(count: int) -> Iterator[dict[str, Any]]:
    from benchmarks.bodies import run

    for number in range(count):
        yield run(5) | {
            "request_summary": f"Add user authentication to the API, run {number}",
            "project": f"p{number % 20}",
        }


ORDINARY_LINES = Sent("record 1,000 ordinary lines", "POST", {}, b"\n".join(map(orjson.dumps, ordinary(1_000))))
PAGE = Sent("list limit=1000", "GET", {"limit": "1000"})


def alike(count: int) -> Iterator[dict[str, Any]]:
    """Yield runs of one request, each phase with a model of its own, whose phases end differently."""
    from benchmarks.bodies import run

    ends = ("success", "failure", "partial", "unknown", "cancelled", "paused")
    for number in range(count):
        phases = [
            phase | {"phase_name": f"p{at}", "model": f"m{at}", "outcome": ends[number // len(ends) ** at % len(ends)]}
            for at, phase in enumerate(run(6)["phases"])
        ]
        yield run(0) | {"phases": phases, "build_passed": number % 2 == 0}


def varied(models: int) -> Iterator[dict[str, Any]]:
    """Yield runs of 200 phases, each with a model that no other phase has."""
    for number in range(models // 200):
        yield {
            "request_summary": "x",
            "request_type": "feature",
            "phases": [
                {"phase_name": "implement", "model": f"m{number}-{at}", "outcome": "success"} for at in range(200)
            ],
        }


def chosen(count: int) -> Iterator[dict[str, Any]]:
    """Yield runs of 50 types. Two of 20 models attempt each phase, one after the other; the runs of one
    type have each pair in either order. No cost is known, so a recommendation has all plans."""
    pairs = [*permutations(MODELS, 2)]
    candidates = [{"model": model, "probability": 1 / len(MODELS)} for model in MODELS]
    for number in range(count):
        phases = []
        for at in range(5):
            first, second = pairs[(number // 50 * 5 + at) % len(pairs)]
            end = "failure" if number % 3 else "success"
            attempts = [{"model": first, "outcome": "failure"}, {"model": second, "outcome": end}]
            phase = {"phase_name": "implement", "model": second, "candidates": candidates, "outcome": end}
            phases.append(phase | {"attempts": attempts})
        yield {
            "request_summary": f"Add user authentication to the API, run {number}",
            "request_type": f"type {number % 50}" if number % 50 else "feature",
            "project": "p1",
            "phases": phases,
        }


def answering(count: int) -> Iterator[dict[str, Any]]:
    """Yield runs of which every decision reaches the lines of every format."""
    from benchmarks.bodies import run

    # Two attempts of each phase: a pair, and an item that two models worked on. The first one is the
    # decision, which earned 1.
    attempts = [
        {"model": "anthropic/claude-sonnet-4", "outcome": "success"},
        {"model": "small", "outcome": "failure"},
    ]
    for number in range(count):
        body = run(5)
        phases = [phase | {"phase_name": f"p{at}", "attempts": attempts} for at, phase in enumerate(body["phases"])]
        yield body | {"request_summary": f"Add user authentication to the API, run {number}", "phases": phases}


def hostile(count: int) -> Iterator[dict[str, Any]]:
    phase = {"phase_name": "implement"}
    shapes: list[dict[str, Any]] = [
        {"phases": [phase | {"tools_used": [f"t{n:x}" for n in range(10_000)]} for _ in range(8)]},
        {"phases": [phase | {"model": f"m{n}", "phase_name": f"p{n}"} for n in range(200)]},
        {"phases": [phase | {"tools_used": ["a" * 500] * 250} for _ in range(8)]},
        {"request_summary": "a" * (MIB - 5_000)},
        {"request_summary": "ab " * ((MIB - 5_000) // 3)},
        {"tags": [f"{n:03}" * 100 for n in range(200)]},
    ]
    for number in range(count):
        yield {"request_summary": "x", "phases": []} | shapes[number % len(shapes)]


def exports() -> Iterator[Sent]:
    from trajectories.training.formats import DEFAULT, FORMATS

    for name in FORMATS:
        if name != DEFAULT:
            yield Sent(f"export format={name}", "GET", {"format": name}, path="/export", times=1)
    yield export_with({})


def _more_exports() -> Iterator[Sent]:
    yield from map(export_with, MORE)
    for described in ({}, {"format": "dpo"}, {"format": "sft"}):
        name = f"manifest of {described.get('format', 'jsonl')}"
        yield Sent(name, "GET", described, path=f"/export{MANIFEST}", times=1)


def export_with(parameters: dict[str, str]) -> Sent:
    name = " ".join(["export", *[f"{key}={value}" for key, value in parameters.items()]])
    return Sent(name, "GET", parameters, path="/export", times=1)


def format_of(sent: Sent) -> str | None:
    """Return the format of an export, None of another request."""
    from trajectories.training.formats import DEFAULT

    return sent.parameters.get("format", DEFAULT) if sent.path.startswith("/export") else None


def requests(scope: str) -> Iterator[Sent]:
    if scope == "read":
        yield PAGE
        yield Sent("retrieve", "GET", {}, path="/00000000-0000-0000-0000-000000000001")
        yield Sent("readiness", "GET", {}, path="/readiness")
        yield from (Sent(f"stats of {part} by q", "GET", {"q": word}, path="/stats") for word, part in PARTS.items())
        yield from _learning()
    if scope == "export":
        yield from exports()
        yield from _more_exports()
    if scope in ("read", "export", "admin"):
        kinds = {"read": (("list", "GET", ""), ("stats", "GET", "/stats")), "export": (("export", "GET", "/export"),)}
        for name, method, path in kinds.get(scope, (("delete dry_run", "DELETE", ""),)):
            more = {"dry_run": "1"} if scope == "admin" else {}
            times = 1 if name == "export" else 2
            if not more and name != "export":
                yield Sent(name, method, {}, path=path)
            for values in (NOTHING, ALL):
                for filter_, text in values.items():
                    yield Sent(f"{name} {filter_}={text[:8]}", method, more | {filter_: text}, path=path, times=times)
            both = {"tool": "none", "tag": "nightly"}
            yield Sent(f"{name} tool=none tag=nightly", method, more | both, path=path, times=times)
            every = {name: text for name, text in ALL.items() if name != "tool"} | {"tool": "none"}
            yield Sent(f"{name}, every filter", method, more | every, path=path, times=times)
    if scope == "record":
        yield from _bodies()


def of_all_models() -> Iterator[Sent]:
    """Yield the requests whose answers are of all models of a tenant."""
    yield PAGE
    yield Sent("stats", "GET", {}, path="/stats")
    yield Sent("readiness", "GET", {}, path="/readiness")
    yield from _learning()


def _learning() -> Iterator[Sent]:
    asked: dict[str, Any] = {
        "phase": "implement",
        "request_type": "feature",
        "project": "p1",
        "candidates": [{"model": model} for model in MODELS],
        "phases": [{"phase_name": f"p{number}", "outcome": "success"} for number in range(200)],
        "allow_skip": True,
    }
    path = f"{LEARNING}recommendations"
    yield Sent("recommendation among 20 models", "POST", {}, orjson.dumps(asked), path)
    unknown = {"phase": "implement", "candidates": [{"model": f"unknown {number}"} for number in range(20)]}
    yield Sent("recommendation among 20 unknown models", "POST", {}, orjson.dumps(unknown), path)
    yield Sent("best models", "GET", {}, path=path)
    forecast = {"taskType": "feature", "complexity": "high"}
    yield Sent("forecast of costs", "GET", forecast, path="/v1/intelligence/cost-forecast")
    yield Sent("alerts", "GET", {}, path=f"{LEARNING}alerts")
    default = MODELS[0]
    rules = [{"when": {"project": f"p{number}"}, "use": default} for number in range(200)]
    names = [*MODELS, *(f"unknown {number}" for number in range(180))]
    many = {name: 0.0495 if number < 20 else 0.01 / 180 for number, name in enumerate(names)}
    policies = {
        "": {"default": default},
        " by 200 rules": {"rules": rules, "default": default},
        " of a policy of 200 models": {"default": many},
    }
    for name, policy in policies.items():
        for estimand in ("decision", "run"):
            evaluated = {"policy": policy, "max_runs": 1_000, "estimand": estimand}
            body = orjson.dumps(evaluated)
            yield Sent(f"evaluation of 1,000 runs{name}, {estimand}", "POST", {}, body, f"{LEARNING}evaluations")


def _bodies() -> Iterator[Sent]:
    from benchmarks.redaction import SLOW, TOKEN

    for name, piece in SLOW.items():
        text = piece * ((MIB - 200) // len(orjson.dumps(piece)[1:-1]))
        yield Sent(f"record 1 MiB: {name}", "POST", {}, orjson.dumps({"request_summary": text, "phases": []}))
    keys = {f"{TOKEN}{number}": 1 for number in range((MIB - 200) // (len(TOKEN) + 10))}
    yield Sent("record 1 MiB: keys", "POST", {}, orjson.dumps({"request_summary": "x", "phases": [], "metadata": keys}))
    for number, body in enumerate(hostile(6)):
        yield Sent(f"record hostile {number}", "POST", {}, orjson.dumps(body))
    lines = {
        "1,000 lines {}": b"{}\n" * 1_000,
        "10,000 lines of 512 bytes": (orjson.dumps({"request_summary": "x" * 474, "phases": []}) + b"\n") * 9_900,
        "120 lines of 80,000 problems": (orjson.dumps(_PROBLEMS) + b"\n") * 120,
    }
    for name, many in lines.items():
        yield Sent(f"record {name}", "POST", {}, many)
    over = orjson.dumps({"request_summary": "x", "phases": [], "metadata": {"a": [[]] * (MIB // 3 - 100)}})
    yield Sent("record 1 MiB: too many empty lists", "POST", {}, over)
    repeated = b'{"request_summary":"x","phases":[],"metadata":{%b}}' % b",".join([b'"a":1'] * (MIB // 6 - 100))
    yield Sent("record 1 MiB: one key again and again", "POST", {}, repeated)
    bodies: dict[str, dict[str, Any]] = {
        "80,000 problems": _PROBLEMS,
        "unknown keys": {f"{number}": 1 for number in range(MIB // 12)},
        "unknown keys of the dialect": {"request": "x", "phases": []} | {f"{number}": 1 for number in range(MIB // 12)},
        "metadata of empty lists": {"request_summary": "x", "phases": [], "metadata": {"a": [[]] * 49_990}},
        "metadata of objects": {"request_summary": "x", "phases": [], "metadata": {"a": [{"a": 1}] * 49_990}},
        "metadata of numbers": {"request_summary": "x", "phases": [], "metadata": {"a": [0.123] * 99_990}},
    }
    for name, body in bodies.items():
        yield Sent(f"record 1 MiB: {name}", "POST", {}, orjson.dumps(body))
    yield ORDINARY_LINES
    small = orjson.dumps({"request_summary": "x", "phases": []})
    yield Sent("record 1,000 small lines", "POST", {}, (small + b"\n") * 1_000)
    yield from _about_a_large_run()


def _about_a_large_run() -> Iterator[Sent]:
    """Yield small requests about one record of nearly 1 MiB, which they change."""
    for sent in _changes_of_a_large_run():
        yield sent._replace(is_repeatable=False)


def _changes_of_a_large_run() -> Iterator[Sent]:
    id_ = "00000000-0000-0000-0000-00000000ffff"
    run = {"id": id_, "request_summary": "x" * (MIB - 5_000), "phases": [{"phase_name": "x"}]}
    yield Sent("record 1 MiB: one text", "POST", {}, orjson.dumps(run))
    line = orjson.dumps({"id": id_, "request_summary": "x", "phases": []}) + b"\n"
    yield Sent("record 1,000 lines about a large run", "POST", {}, line * 1_000)
    patch = orjson.dumps({"tests_passed": True})
    yield Sent("patch of a large run", "PATCH", {}, patch, path=f"/{id_}", times=1)
    outcome = {"name": "score", "trajectory_id": id_, "evidence": {"log": "x" * 15_000}}
    many = b"".join(orjson.dumps(outcome | {"value": number}) + b"\n" for number in range(90))
    yield Sent("90 long lines of outcomes of a large run", "POST", {}, many, path=f"{LEARNING}outcomes", times=1)
    outcome = {"name": "score", "trajectory_id": id_}
    lines = b"".join(orjson.dumps(outcome | {"value": n}) + b"\n" for n in range(1_000))
    yield Sent("1,000 lines of outcomes of a large run", "POST", {}, lines, path=f"{LEARNING}outcomes", times=1)
    # The first records of each tenant, which are of a mebibyte among the hostile ones.
    of_phase = {"name": "score", "value": 1, "phase_id": "1"}
    others = b"".join(orjson.dumps(of_phase | {"trajectory_id": str(UUID(int=n + 1))}) + b"\n" for n in range(200))
    yield Sent("200 lines of outcomes of 200 runs", "POST", {}, others, path=f"{LEARNING}outcomes", times=1)
