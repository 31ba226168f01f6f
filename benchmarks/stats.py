"""Measure stats of an archive: from roll-ups, by a scan, and beside an indexed count of the same
rows.

    uv run python -m benchmarks.stats [--records 100000] [--repeats 5] [--database postgres] [--all]

``benchmarks.seeding`` has the records, or DATABASE_URL names a Postgres that has them. Rows are
medians of the archive's part, of one process without HTTP and without the hot cache: from roll-ups
where these cover the filters, otherwise by a scan. Each answer follows a new record, as no process
has an answer for it, and spans such as 7d begin at another moment each time. ``first`` is what a
process takes that has kept nothing yet. With ``--all`` each question is scanned too, and compared
with the answer from roll-ups. Then the CPU of the mirror for a record, with roll-ups and
without. Linux only.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from itertools import cycle, islice, product
from typing import Any
from uuid import uuid4

import orjson

from benchmarks import report, seeding
from benchmarks.report import Row, at_most
from tests.postgres import throwaway_postgres

_TENANT = "bench"
_NO_TIMED_SCANS_ABOVE = 200_000
"""More records than that are scanned once, not ``--repeats`` times."""
_STEP = 100_000
"""Records whose roll-ups are made in a step, if those of a given database lack some."""
_LATER = 500
"""Records that come after the rebuild, as in a store that is in use."""
_COUNT = "an indexed count of the same rows"
_ROLLED = at_most(50)
_SCANNED = at_most(300)
_MISSED = at_most(30)


def measure(arguments: argparse.Namespace) -> Iterator[Row]:
    with ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory())
        url = f"sqlite:///{directory}/db.sqlite3"
        if arguments.database == "postgres":
            url = stack.enter_context(throwaway_postgres())
        os.environ |= {
            "DATABASE_URL": url,
            "SECRET_KEY": "of a benchmark",
            "DATA_DIR": directory,
            "DJANGO_SETTINGS_MODULE": "trajectory_site.settings",
        }
        import django

        django.setup()
        from django.core.management import call_command

        call_command("migrate", verbosity=0)
        from trajectories.models import Tenant
        from trajectories.storage import rollup_rebuild

        if Tenant.objects.filter(pk=_TENANT).exists():
            while rollup_rebuild.catch_up(_TENANT, _STEP) < _STEP:
                pass
            yield from _questions(arguments)
            return
        seeding.seed([_TENANT], arguments.records)
        yield from _rebuild(arguments.records)
        yield from _questions(arguments)
        yield from _mirror()


def _rebuild(records: int) -> Iterator[Row]:
    from trajectories.storage.archive_writes import mirror

    before = time.process_time()
    seeding.roll_up(_TENANT)
    cpu_us = (time.process_time() - before) / records * 1e6
    later = list(islice(seeding.kinds(_TENANT), _LATER))
    for start in range(0, len(later), 100):
        mirror(later[start : start + 100])
    yield Row("roll-ups made anew, CPU in Python a record", cpu_us, "µs")


def _questions(arguments: argparse.Namespace) -> Iterator[Row]:
    from trajectories.conf import read_settings
    from trajectories.domain.query import parse_query
    from trajectories.storage import archive_reads, rollup_reads
    from trajectories.storage.archive_writes import mirror
    from trajectories.storage.rollup_sums import KeptSums
    from trajectories.storage.rollup_tails import Tails

    def kept_of_a_process() -> tuple[KeptSums, Tails]:
        return KeptSums(read_settings()), Tails(read_settings())

    of_process = kept_of_a_process()
    new = cycle(seeding.kinds(_TENANT))

    def record() -> None:
        mirror([replace(next(new), id=uuid4())])

    now_us = int(time.time() * 1_000_000)
    week = {"since": _date(now_us - 7 * seeding.DAY_US), "until": _date(now_us)}
    questions: dict[str, tuple[dict[str, str], str | None]] = {
        "everything": ({}, None),
        "everything, by day": ({}, "day"),
        "a project": ({"project": "project 7"}, None),
        "a project and a request type": ({"project": "project 7", "request_type": "bug"}, None),
        "a request type": ({"request_type": "bug"}, None),
        "an outcome": ({"outcome": "failure"}, None),
        "the last seven whole days": (week, None),
        "7d, from within a day": ({"since": "7d"}, None),
        "30d of a project": ({"since": "30d", "project": "project 7"}, None),
        "a phase": ({"phase": "test"}, None),
        "a selection method": ({"selection_method": "explicit"}, None),
        "a model": ({"model": "small"}, None),
        "a model and a phase": ({"model": "small", "phase": "test"}, None),
        "a request type without a hit": ({"request_type": "none"}, None),
        "a model without a hit": ({"model": "none"}, None),
        "words without a hit": ({"q": "nothing"}, None),
    }
    where = f"{arguments.database}, {arguments.records:,} records"
    repeats = arguments.repeats if arguments.records <= _NO_TIMED_SCANS_ABOVE else 1
    for name, (given, bucket) in questions.items():
        query = parse_query(given, now_us)

        def rolled(
            sums: tuple[KeptSums, Tails] = of_process,
            now_us: int | None = None,
            given: dict[str, str] = given,
            bucket: str | None = bucket,
        ) -> bytes | None:
            query = parse_query(given, now_us or int(time.time() * 1_000_000))
            if not rollup_reads.covers(query):
                return None  # as the store decides where few records match
            found = sums[0].summary(_TENANT, query, bucket=bucket, tails=sums[1])
            return None if found is None else orjson.dumps(found.as_json())

        def scan(query: Any = query, bucket: str | None = bucket) -> bytes:
            return orjson.dumps(archive_reads.summary(_TENANT, query, None, bucket=bucket).as_json())

        answer = rolled()
        counted_ms = _median_ms(archive_reads._matching(_TENANT, query, None).count, arguments.repeats)
        bound = at_most(10) if not given else _MISSED if "without" in name else _SCANNED if answer is None else _ROLLED
        if answer is not None:
            ms = _median_ms(rolled, arguments.repeats, before=record)
            first_ms = _median_ms(lambda: rolled(sums=kept_of_a_process()), arguments.repeats)
            yield Row(f"stats of {name}, from roll-ups; {where}", ms, "ms", bound, _COUNT, counted_ms)
            yield Row(f"stats of {name}, from roll-ups, first; {where}", first_ms, "ms")
        if answer is None or arguments.all:
            assert answer is None or rolled(now_us=now_us) == scan(), name
            aim = bound if answer is None else None
            yield Row(f"stats of {name}, by a scan; {where}", _median_ms(scan, repeats), "ms", aim, _COUNT, counted_ms)


def _date(at_us: int) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(at_us / 1_000_000))


def _median_ms(work: Callable[[], object], repeats: int, before: Callable[[], object] = lambda: None) -> float:
    times = []
    for _ in range(repeats):
        before()
        started = time.perf_counter()
        work()
        times.append((time.perf_counter() - started) * 1000)
    return statistics.median(times)


def _mirror() -> Iterator[Row]:
    """Mirror records in batches of 100 with and without roll-ups, in turns.

    ``mixed``: each record of a batch is another combination. ``few``: batches of 10 combinations.
    """
    from trajectories.models import Tenant
    from trajectories.storage.archive_writes import mirror

    costs: dict[tuple[str, bool], list[float]] = {}
    for turn, kind, is_kept in product(range(3), ("few", "mixed"), (True, False)):
        tenant = f"mirror-{turn}-{kind}-{is_kept}".lower()
        Tenant.objects.create(slug=tenant, rolled_changed=0 if is_kept else -1)
        records = list(seeding.kinds(tenant))
        if kind == "few":
            bodies = [orjson.loads(record.body) for record in records[:10]]
            records = [record for _ in range(8) for record in _again(tenant, bodies)]
        for start in range(0, len(records), 100):
            batch = records[start : start + 100]
            began = time.process_time()
            mirror(batch)
            costs.setdefault((kind, is_kept), []).append((time.process_time() - began) / len(batch) * 1e6)
    for kind, combinations in (("few", 10), ("mixed", 100)):
        kept_us, plain_us = (statistics.median(costs[kind, is_kept]) for is_kept in (True, False))
        name = f"archiving a record, {combinations} combinations in a batch of 100, CPU in Python"
        yield Row(name, kept_us, "µs", None, "without roll-ups", plain_us)


def _again(tenant: str, bodies: list[dict[str, Any]]) -> Iterator[Any]:
    """Yield ten records of each body, with new ids."""
    from trajectories.domain.record import Record, digest_of
    from trajectories.domain.schema import canonical, parse

    for fields in bodies * 10:
        data = canonical(parse(orjson.dumps(fields | {"id": str(uuid4())})))
        id_, stamp = parse(data).id, int(time.time() * 1_000_000)
        assert id_ is not None
        yield Record(tenant, id_, stamp, digest_of(data), stamp, stamp, data)


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--database", choices=["postgres", "sqlite"], default="postgres")
    parser.add_argument("--all", action="store_true", help="scan also what roll-ups answer, and compare")


if __name__ == "__main__":
    report.main(__doc__, measure, _arguments)
