"""Find the ten costliest requests that a key of each scope can make, and their CPU.

    uv run python -m benchmarks.costliest [--records 30000] [--hostile 200]

It takes five to fifteen minutes, and exits with 1 if a row is over its aim; ``--models 200000`` adds a
tenant of as many models, whose stats are. With ``--json`` it
exits with 0, as the command that reads the rows judges them.

Each request goes through Django's handler in this process. Figures are CPU of this process. A core
that others share is up to three times slower from one moment to the next, so an empty loop is timed
before, during and after each request, and figures are those of a core that takes 10 ms for a million
steps of it.

One tenant has ordinary records of 5 phases. Another has hostile ones, of nearly 1 MiB each: many
tools, many phases, long summaries, many tags. The newest 10,000 are hot as far as HOT_MAX_BYTES
allows, the rest is in SQLite. Redis is a server of its own. Nothing is answered from memory. Another
tenant has runs of 50 types and 20 models: two of these have attempted each phase. Another has as many
ordinary runs that are much alike: one request, one model for each phase, different outcomes. The hot
cache is whole and the middleware loaded before, as in a process that has run for seconds.

A row is the CPU beyond what the request's size explains. Of an answer, this is the CPU that a list
of 1,000 runs takes for as many bytes. Of an export, this is the CPU for as many bytes of the same
format where all records reach the answer: 1,000 runs of one more tenant, each phase of which two
models have attempted; of records as they are, all those of the same tenant, and of all runs that are
alike, 3,000 of them. So a format that reads many records and answers with few bytes is found. A
manifest is explained by the bytes of the export that it describes. Of a body, this is the CPU that
1,000 ordinary lines take for as many bytes. Reads are sent twice, so that caches are warm; bodies and
exports once.

The difference of two long times has the noise of both. So where a row is over its aim, its request
and those that explain it are sent three more times, and the median of the differences counts. A long
export is read in turn with the one that explains it, as many bytes of either, so that both have the
same noise. The latter is sent again until it has answered enough.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from functools import partial
from itertools import chain, count
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias, TypeVar

import orjson

from benchmarks import report
from benchmarks.costliest_requests import (
    MANIFEST,
    MIB,
    OF_ALIKE,
    ORDINARY_LINES,
    PAGE,
    PATH,
    Sent,
    alike,
    answering,
    chosen,
    export_with,
    exports,
    format_of,
    hostile,
    of_all_models,
    ordinary,
    requests,
    varied,
)
from benchmarks.report import Row, at_most

SCOPES = ("read", "export", "admin", "record")
"""The last one records, so the others find no records that wait for the archive."""
REFERENCE_MS = 10.0
"""CPU of a million steps of an empty loop, of the core that figures are of."""
_SEGMENT_S = 0.2
_BATCH = 500
_SHOWN = 10
_AIM_MS = 100
_AGAIN = 3
_LONG = 8 * MIB
"""An export of more bytes is read in turn with the one that explains it."""
_CHOSEN = 4_000
_FEW = 3_000
"""More than the shapes of runs that a process remembers (``domain.credit``)."""


class Cost(NamedTuple):
    """What a request with this key has taken, and its answer's status and bytes."""

    key: str
    sent: Sent
    cpu_ms: float
    status: int
    size: int


_T = TypeVar("_T")
Explained: TypeAlias = Sequence[tuple[Cost, float]]
"""Requests, and the parts of their CPU that explain that of another one."""


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
        _fill("answering", answering(1_000))
        _finish()
        answers = {format_of(cost.sent): cost for cost in _costs("answering", "export", exports())}
        _fill("posting", ordinary(1))  # a tenant of its own: exports wait for the records of theirs
        (post,) = _costs("posting", "record", [ORDINARY_LINES])
        for tenant, bodies in (("ordinary", ordinary(arguments.records)), ("hostile", hostile(arguments.hostile))):
            _fill(tenant, bodies)
            _finish()
            _warm_up(tenant)
            garbage.collect_rarely()  # as the server's processes do
            for scope in SCOPES:
                found = _costs(tenant, scope, requests(scope))
                if scope == "read":
                    answers[None] = next(cost for cost in found if cost.sent == PAGE)
                lines = next((cost for cost in found if cost.sent == ORDINARY_LINES), post)
                yield from _rows(f"{tenant} records, {scope}", found, _explain(found, answers, lines))
        yield from _learning_rows("chosen", chosen(_CHOSEN), answers, post)
        _fill("few", alike(_FEW))
        _fill("alike", alike(arguments.records))
        _finish()
        (whole,) = _costs("few", "export", [export_with({})])
        found = _costs("alike", "export", map(export_with, OF_ALIKE))
        answers[format_of(whole.sent)] = whole
        yield from _rows("alike records, export", found, _explain(found, answers, post))
        if arguments.models:
            yield from _learning_rows("varied", varied(arguments.models), answers, post)


def _learning_rows(
    tenant: str, bodies: Iterator[dict[str, Any]], answers: dict[str | None, Cost], post: Cost
) -> Iterator[Row]:
    """Yield the rows of the requests whose answers are of all models of a tenant."""
    _fill(tenant, bodies)
    _finish()
    _warm_up(tenant)
    found = _costs(tenant, "read", of_all_models())
    yield from _rows(f"{tenant} records, read", found, _explain(found, answers | {None: found[0]}, post))


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


def _costs(tenant: str, scope: str, requests: Iterable[Sent]) -> list[Cost]:
    from trajectories.models import ApiKey, Tenant

    _, key = ApiKey.objects.issue(tenant=Tenant.objects.get(pk=tenant), name="", scopes=[scope])
    return [_least(key, sent) for sent in requests]


def _least(key: str, sent: Sent) -> Cost:
    times = 1 if sent.body and not sent.path else sent.times
    return min((_send(key, sent) for _ in range(times)), key=attrgetter("cpu_ms"))


def _send(key: str, sent: Sent) -> Cost:
    request = _request(key, sent)
    cpu = SteadyCpu()
    answer = request()
    size = sum(map(len, cpu.during(answer)))
    return Cost(key, sent, cpu.ms(), answer.status_code, size)


def _request(key: str, sent: Sent) -> Callable[[], Any]:
    """Return what sends a request and returns its answer, whose parts are yet to be read."""
    from django.test import Client

    client = Client(headers={"Authorization": f"Bearer {key}"}, raise_request_exception=False)
    client.handler.load_middleware()  # it reads the static files, which a process does once
    is_lines = "lines" in sent.name and sent.body.startswith(b"{") and b"}\n{" in sent.body
    kind = "application/x-ndjson" if is_lines else "application/json"
    path = sent.path if sent.path.startswith("/v1") else PATH + sent.path
    _forget()
    if sent.body:
        return partial(client.generic, sent.method, path, sent.body, content_type=kind)
    return partial(client.generic, sent.method, path, query_params=sent.parameters)


def _forget() -> None:
    """Forget the answers and the draws that a process remembers."""
    from trajectories.learning import actions, posterior
    from trajectories.services.remembered import RememberedAnswers
    from trajectories.storage.store import get_store

    get_store()._parts.pop(RememberedAnswers, None)
    for remembered in (posterior.draws, posterior.quantiles, actions._plan):
        remembered.cache_clear()


class SteadyCpu:
    """CPU of this process since this object was made, at the speed of REFERENCE_MS."""

    def __init__(self) -> None:
        self._ms, self._speed_ms = 0.0, _million_steps_ms()
        self._since = time.process_time()

    def during(self, parts: Iterable[_T]) -> Iterator[_T]:
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


def _explain(costs: list[Cost], of_answers: dict[str | None, Cost], post: Cost) -> Callable[[Cost], Explained]:
    """Return what explains each of ``costs``.

    Args:
        of_answers: whose bytes explain an answer, by the format of an export, None of other requests.
        post: whose bytes explain a body.
    """
    exports = {tuple(cost.sent.parameters.items()): cost for cost in costs if cost.sent.path == "/export"}
    whole = exports.get(())

    def explained(cost: Cost) -> Explained:
        # A manifest has the digest of the lines, so it is explained by them.
        described = exports.get(tuple(cost.sent.parameters.items())) if MANIFEST in cost.sent.path else None
        of_format = format_of(cost.sent)
        is_part = whole is not None and cost is not whole and of_format == format_of(whole.sent)
        by = whole if whole is not None and is_part else of_answers[of_format]
        found = [(by, (cost.size + (described.size if described else 0)) / by.size)]
        if cost.sent.body:
            found.append((post, len(cost.sent.body) / len(post.sent.body)))
        return found

    return explained


def _rows(name: str, costs: list[Cost], explain: Callable[[Cost], Explained]) -> Iterator[Row]:
    """Yield the costliest."""
    found = [_Excess(cost, sum(by.cpu_ms * part for by, part in explain(cost))) for cost in costs]
    found = [_again(one.cost, explain(one.cost)) if one.ms > _AIM_MS else one for one in found]
    for one in sorted(found, key=attrgetter("ms"), reverse=True)[:_SHOWN]:
        cost = one.cost
        size = f"{len(cost.sent.body):,} bytes sent, " if cost.sent.body else ""
        said = f"{cost.cpu_ms:,.0f} ms in all, {size}{cost.size:,} answered; explained"
        shown = f"{name}: {cost.sent.name} ({cost.status})"
        yield Row(shown, one.ms, "ms", at_most(_AIM_MS), said, one.explained_ms)


class _Excess(NamedTuple):
    cost: Cost
    explained_ms: float

    @property
    def ms(self) -> float:
        return self.cost.cpu_ms - self.explained_ms


def _again(cost: Cost, explained: Explained) -> _Excess:
    """Measure the difference again some times, and return the median one."""
    if not cost.sent.is_repeatable:
        return _Excess(cost, sum(by.cpu_ms * part for by, part in explained))

    def again(by: Cost) -> Cost:
        # Bodies were recorded meanwhile, so a page has other runs.
        return by if by.sent == PAGE else _send(by.key, by.sent)

    def one_after_another() -> _Excess:
        return _Excess(_send(cost.key, cost.sent), sum(again(by).cpu_ms * part for by, part in explained))

    if cost.size > _LONG and format_of(cost.sent) is not None:
        return _interleaved(cost, *explained[0])
    found = sorted((one_after_another() for _ in range(_AGAIN)), key=attrgetter("ms"))
    for one in found:
        _expect(cost, one.cost.status)
    return found[_AGAIN // 2]


def _interleaved(cost: Cost, by: Cost, part: float) -> _Excess:
    """Measure a long export and the one that explains it, of which as many bytes are read in turn.

    The second one to read a record finds what the process remembers of its shape, so each is first
    as often.
    """
    cpu, own_s, explained_s = SteadyCpu(), 0.0, 0.0
    for is_first in (True, False) * 2:
        ahead = 0 if is_first else 2 * MIB
        others = chain.from_iterable(_parts(by) for _ in count())
        size = size_of_others = 0
        for read in cpu.during(_parts(cost)):
            own_s, size = own_s + read.cpu_s, size + read.size
            while size_of_others * cost.size < min(size + ahead, cost.size) * by.size * part:
                other = next(others)
                explained_s, size_of_others = explained_s + other.cpu_s, size_of_others + other.size
    ms = cpu.ms() / (own_s + explained_s) / 4
    return _Excess(cost._replace(cpu_ms=own_s * ms), explained_s * ms)


def _parts(cost: Cost) -> Iterator[_Part]:
    """Send a request again, and yield the parts of its answer."""
    request = _request(cost.key, cost.sent)
    since = time.process_time()
    with closing(request()) as answer:  # it has a share of the tenant's long reads
        _expect(cost, answer.status_code)
        content = iter(answer)
        while (data := next(content, None)) is not None:
            yield _Part(len(data), time.process_time() - since)
            since = time.process_time()
        yield _Part(0, time.process_time() - since)


def _expect(cost: Cost, status: int) -> None:
    if status != cost.status:
        raise RuntimeError(f"{cost.sent.name} had the status {cost.status} once, and {status} now")


class _Part(NamedTuple):
    """Bytes of an answer, and the CPU that they took."""

    size: int
    cpu_s: float


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--records", type=int, default=30_000)
    parser.add_argument("--hostile", type=int, default=200)
    parser.add_argument("--models", type=int, default=0, help="distinct models of one more tenant, 200 a run")


if __name__ == "__main__":
    report.main(__doc__, measure, _arguments, is_judge=True)
