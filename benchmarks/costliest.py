"""Find the ten costliest requests that a key of each scope can make, and their CPU.

    uv run python -m benchmarks.costliest [--records 30000] [--hostile 200]

It takes three to seven minutes, and exits with 1 if a row is over its aim. With ``--json`` it
exits with 0, as the command that reads the rows judges them.

Each request goes through Django's handler in this process. Figures are CPU of this process. A core
that others share is up to three times slower from one moment to the next, so an empty loop is timed
before, during and after each request, and figures are those of a core that takes 10 ms for a million
steps of it.

One tenant has ordinary records of 5 phases. Another has hostile ones, of nearly 1 MiB each: many
tools, many phases, long summaries, many tags. The newest 10,000 are hot as far as HOT_MAX_BYTES
allows, the rest is in SQLite. Redis is a server of its own. Nothing is answered from memory. A last
tenant has as many ordinary runs that are much alike: one request, one model for each phase,
different outcomes. The hot cache is whole and the middleware loaded before, as in a process that has
run for seconds.

A row is the CPU beyond what the request's size explains. Of an answer, this is the CPU that a list
of 1,000 runs takes for as many bytes. Of an export, this is the CPU for as many bytes of the same
format where all records reach the answer: 1,000 runs of a third tenant, each phase of which two
models have attempted; of records as they are, all those of the same tenant. So a format that reads
many records and answers with few bytes is found. A manifest is explained by the bytes of the export
that it describes. Of a body, this is the CPU that 1,000 ordinary lines take for as many bytes. Reads
are sent twice, so that caches are warm; bodies and exports in other formats once.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from benchmarks import report
from benchmarks.report import Row, at_most

MIB = 2**20
SCOPES = ("read", "export", "admin", "record")
"""The last one records, so the others find no records that wait for the archive."""
PATH = "/v1/agent/trajectories"
REFERENCE_MS = 10.0
"""CPU of a million steps of an empty loop, of the core that figures are of."""
_SEGMENT_S = 0.2
_BATCH = 500
_SHOWN = 10
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


class Cost(NamedTuple):
    sent: Sent
    status: int
    cpu_ms: float
    size: int


def measure(arguments: argparse.Namespace) -> Iterator[Row]:
    from trajectory_site import garbage, servers

    with ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory())
        (Path(directory) / "redis").mkdir()
        redis = stack.enter_context(servers.own_redis(Path(directory) / "redis", password="benchmark"))
        os.environ |= {
            "DJANGO_SETTINGS_MODULE": "trajectory_site.settings",
            "SECRET_KEY": "only for a benchmark",
            "DATA_DIR": directory,
            "REDIS_URL": redis.url,
            "ALLOWED_HOSTS": "testserver",
            "LOG_LEVEL": "CRITICAL",
            "TRAJECTORIES_RELAY_IN_PROCESS": "false",
            "TRAJECTORIES_EXPORT_WAIT_S": "0.1",
        }
        import django
        from django.core.management import call_command

        django.setup()
        call_command("migrate", verbosity=0)
        _fill("answering", _answering(1_000))
        _finish()
        formats = {_format(cost.sent): cost.cpu_ms / cost.size for cost in _costs("answering", "export", _exports())}
        for tenant, bodies in (("ordinary", _ordinary(arguments.records)), ("hostile", _hostile(arguments.hostile))):
            _fill(tenant, bodies)
            _finish()
            _warm_up(tenant)
            garbage.collect_rarely()  # as the server's processes do
            costs = {scope: _costs(tenant, scope, _requests(scope)) for scope in SCOPES}
            by_name = {cost.sent.name: cost for found in costs.values() for cost in found}
            page, post = (by_name[name] for name in ("list limit=1000", "record 1,000 ordinary lines"))
            sent = post.cpu_ms / len(post.sent.body)
            for scope, found in costs.items():
                yield from _rows(tenant, scope, found, formats | {None: page.cpu_ms / page.size}, sent)
        _fill("alike", _alike(arguments.records))
        _finish()
        yield from _rows("alike", "export", _costs("alike", "export", map(_with, OF_ALIKE)), formats, 0)


def _ordinary(count: int) -> Iterator[dict[str, Any]]:
    from benchmarks.bodies import run

    for number in range(count):
        yield run(5) | {
            "request_summary": f"Add user authentication to the API, run {number}",
            "project": f"p{number % 20}",
        }


def _alike(count: int) -> Iterator[dict[str, Any]]:
    """Yield runs of one request, each phase with a model of its own, whose phases end differently."""
    from benchmarks.bodies import run

    ends = ("success", "failure", "partial", "unknown", "cancelled", "paused")
    for number in range(count):
        phases = [
            phase | {"phase_name": f"p{at}", "model": f"m{at}", "outcome": ends[number // len(ends) ** at % len(ends)]}
            for at, phase in enumerate(run(6)["phases"])
        ]
        yield run(0) | {"phases": phases, "build_passed": number % 2 == 0}


def _answering(count: int) -> Iterator[dict[str, Any]]:
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


def _hostile(count: int) -> Iterator[dict[str, Any]]:
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


def _fill(tenant: str, bodies: Iterator[dict[str, Any]]) -> None:
    from uuid import UUID

    from trajectories.domain.record import Record, digest_of
    from trajectories.domain.schema import canonical, parse
    from trajectories.storage.archive_writes import mirror

    batch, now_us = [], time.time_ns() // 1_000
    for number, body in enumerate(bodies):
        id_ = UUID(int=number + 1)
        data = canonical(parse(orjson.dumps(body | {"id": str(id_)})))
        stamp = now_us - 10**9 + number
        batch.append(Record(tenant, id_, stamp, digest_of(data), stamp, stamp, data))
        if len(batch) == _BATCH or sum(len(one.body) for one in batch) > 32 * MIB:
            mirror(batch)
            batch = []
    if batch:
        mirror(batch)


def _finish() -> None:
    """Do what a worker does later: fill Redis, and complete the roll-ups."""
    from trajectories import persistence
    from trajectories.storage.store import get_store

    persistence.rebuild(get_store())
    persistence.roll_up(1_000_000)


def _warm_up(tenant: str) -> None:
    """Do what a thread would do during the first requests: its CPU would count as theirs."""
    from trajectories.storage.store import get_store

    cache = get_store().hot_cache
    cache.snapshot(tenant)
    cache.grow(tenant)


def _costs(tenant: str, scope: str, requests: Iterator[Sent]) -> list[Cost]:
    from trajectories.models import ApiKey, Tenant

    _, key = ApiKey.objects.issue(tenant=Tenant.objects.get(pk=tenant), name="", scopes=[scope])
    return [_cost(key, sent) for sent in requests]


def _exports() -> Iterator[Sent]:
    from trajectories.training.formats import DEFAULT, FORMATS

    for name in FORMATS:
        if name != DEFAULT:
            yield Sent(f"export format={name}", "GET", {"format": name}, path="/export", times=1)
    yield Sent("export", "GET", {}, path="/export")


def _more_exports() -> Iterator[Sent]:
    yield from map(_with, MORE)
    for described in ({}, {"format": "dpo"}, {"format": "sft"}):
        name = f"manifest of {described.get('format', 'jsonl')}"
        yield Sent(name, "GET", described, path=f"/export{MANIFEST}")


def _with(parameters: dict[str, str]) -> Sent:
    name = " ".join(["export", *[f"{key}={value}" for key, value in parameters.items()]])
    return Sent(name, "GET", parameters, path="/export")


def _format(sent: Sent) -> str | None:
    """Return the format of an export, None of another request."""
    from trajectories.training.formats import DEFAULT

    return sent.parameters.get("format", DEFAULT) if sent.path.startswith("/export") else None


def _requests(scope: str) -> Iterator[Sent]:
    if scope == "read":
        yield Sent("list limit=1000", "GET", {"limit": "1000"})
        yield Sent("retrieve", "GET", {}, path="/00000000-0000-0000-0000-000000000001")
        yield Sent("readiness", "GET", {}, path="/readiness")
        yield from (Sent(f"stats of {part} by q", "GET", {"q": word}, path="/stats") for word, part in PARTS.items())
        yield from _learning()
    if scope == "export":
        yield from _exports()
        yield from _more_exports()
    if scope in ("read", "export", "admin"):
        kinds = {"read": (("list", "GET", ""), ("stats", "GET", "/stats")), "export": (("export", "GET", "/export"),)}
        for name, method, path in kinds.get(scope, (("delete dry_run", "DELETE", ""),)):
            more = {"dry_run": "1"} if scope == "admin" else {}
            if not more and name != "export":
                yield Sent(name, method, {}, path=path)
            for values in (NOTHING, ALL):
                for filter_, text in values.items():
                    yield Sent(f"{name} {filter_}={text[:8]}", method, more | {filter_: text}, path=path)
            both = {"tool": "none", "tag": "nightly"}
            yield Sent(f"{name} tool=none tag=nightly", method, more | both, path=path)
            every = {name: text for name, text in ALL.items() if name != "tool"} | {"tool": "none"}
            yield Sent(f"{name}, every filter", method, more | every, path=path)
    if scope == "record":
        yield from _bodies()


def _learning() -> Iterator[Sent]:
    models = ["anthropic/claude-sonnet-4", "small", *(f"model {number}" for number in range(18))]
    asked: dict[str, Any] = {
        "phase": "implement",
        "request_type": "feature",
        "project": "p1",
        "candidates": [{"model": model, "cost_usd": 0.1} for model in models],
        "phases": [{"phase_name": f"p{number}", "outcome": "success"} for number in range(200)],
        "allow_skip": True,
    }
    path = f"{LEARNING}recommendations"
    yield Sent("recommendation among 20 models", "POST", {}, orjson.dumps(asked), path)
    yield Sent("best models", "GET", {}, path=path)
    forecast = {"taskType": "feature", "complexity": "high"}
    yield Sent("forecast of costs", "GET", forecast, path="/v1/intelligence/cost-forecast")
    yield Sent("alerts", "GET", {}, path=f"{LEARNING}alerts")
    rules = [{"when": {"project": f"p{number}"}, "use": models[0]} for number in range(200)]
    for name, policy in {"": {"default": models[0]}, " by 200 rules": {"rules": rules, "default": models[0]}}.items():
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
    for number, body in enumerate(_hostile(6)):
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
    ordinary = b"\n".join(map(orjson.dumps, _ordinary(1_000)))
    yield Sent("record 1,000 ordinary lines", "POST", {}, ordinary)
    small = orjson.dumps({"request_summary": "x", "phases": []})
    yield Sent("record 1,000 small lines", "POST", {}, (small + b"\n") * 1_000)
    yield from _about_a_large_run()


def _about_a_large_run() -> Iterator[Sent]:
    """Yield small requests about one record of nearly 1 MiB."""
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


def _cost(key: str, sent: Sent) -> Cost:
    from django.test import Client

    from trajectories.services.remembered import RememberedAnswers
    from trajectories.storage.store import get_store

    client = Client(headers={"Authorization": f"Bearer {key}"}, raise_request_exception=False)
    client.handler.load_middleware()  # it reads the static files, which a process does once
    is_lines = "lines" in sent.name and sent.body.startswith(b"{") and b"}\n{" in sent.body
    kind = "application/x-ndjson" if is_lines else "application/json"
    spent, size, status = list[float](), 0, 0
    path = sent.path if sent.path.startswith("/v1") else PATH + sent.path
    for _ in range(1 if path == PATH and sent.body else sent.times):
        get_store()._parts.pop(RememberedAnswers, None)
        cpu = SteadyCpu()
        if sent.body:
            answer: Any = client.generic(sent.method, path, sent.body, content_type=kind)
        else:
            answer = client.generic(sent.method, path, query_params=sent.parameters)
        content = b"".join(cpu.during(answer)) if answer.streaming else answer.content
        spent.append(cpu.ms())
        size, status = len(content), answer.status_code
    return Cost(sent, status, min(spent), size)


class SteadyCpu:
    """CPU of this process since this object was made, at the speed of REFERENCE_MS."""

    def __init__(self) -> None:
        self._ms, self._speed_ms = 0.0, _million_steps_ms()
        self._since = time.process_time()

    def during(self, parts: Iterable[bytes]) -> Iterator[bytes]:
        """Yield ``parts``, and time the core now and then."""
        for part in parts:
            yield part
            if time.process_time() - self._since > _SEGMENT_S:
                self.ms()

    def ms(self) -> float:
        """Return the milliseconds so far. A segment counts with the speed before and after it."""
        segment_ms, before_ms = (time.process_time() - self._since) * 1_000, self._speed_ms
        self._speed_ms = _million_steps_ms()
        self._ms += segment_ms * REFERENCE_MS * 2 / (before_ms + self._speed_ms)
        self._since = time.process_time()
        return self._ms


def _million_steps_ms() -> float:
    since, steps = time.process_time(), 200_000
    for _ in range(steps):
        pass
    return (time.process_time() - since) * 1_000 * 1_000_000 / steps


def _rows(tenant: str, scope: str, costs: list[Cost], answered: dict[str | None, float], sent: float) -> Iterator[Row]:
    """Yield the costliest.

    Args:
        answered: by format of an export, None of other requests: the CPU that a byte of an answer
            explains.
        sent: the CPU that a byte of a body explains.
    """

    exports = {tuple(cost.sent.parameters.items()): cost for cost in costs if cost.sent.path == "/export"}
    whole = exports.get(())

    def explained(cost: Cost) -> float:
        # A manifest has the digest of the lines, so it is explained by them.
        described = exports.get(tuple(cost.sent.parameters.items())) if MANIFEST in cost.sent.path else None
        size, of_format = cost.size + (described.size if described else 0), _format(cost.sent)
        if whole and cost is not whole and of_format == _format(whole.sent):
            return whole.cpu_ms / whole.size * size
        return answered[of_format] * size + sent * len(cost.sent.body)

    for cost in sorted(costs, key=lambda cost: cost.cpu_ms - explained(cost), reverse=True)[:_SHOWN]:
        name = f"{tenant} records, {scope}: {cost.sent.name} ({cost.status})"
        size = f"{len(cost.sent.body):,} bytes sent, " if cost.sent.body else ""
        said = f"{cost.cpu_ms:,.0f} ms in all, {size}{cost.size:,} answered; explained"
        yield Row(name, cost.cpu_ms - explained(cost), "ms", at_most(100), said, explained(cost))


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--records", type=int, default=30_000)
    parser.add_argument("--hostile", type=int, default=200)


if __name__ == "__main__":
    report.main(__doc__, measure, _arguments, is_judge=True)
