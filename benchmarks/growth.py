"""Measure how reads and writes change with records, with tenants and with web processes.

    uv run python -m benchmarks.growth [--records 1000 10000 100000] [--tenants 1 100 1000] [--processes 1 2 4]

Records: of one tenant. Tenants: 100 records each, of which ten tenants are asked. Each size has an
archive of its own, one web process, one worker, and one client that sends one request at a time;
figures are medians of wall time, beside a view that does nothing. Stats are those after a new
record, so that no answer is remembered. Web processes: runs acknowledged for eight connections.
Linux only.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx2
import orjson

from benchmarks import report, seeding, usage
from benchmarks.bodies import SMALL, encoded, run
from benchmarks.load import Target, send
from benchmarks.report import Aim, Row, at_most
from benchmarks.seeding import Seeded
from benchmarks.sides import PATH, SHORT, Side, anchors
from tests.postgres import throwaway_postgres
from tests.processes import Site, Web, wait_until

_ANCHOR = "a view that does nothing"
_OF_A_TENANT = 100
_ASKED = 10
_FLAT = ("retrieve the oldest", "list of 50", "stats after a new record", "POST")
_MISSES: dict[str, tuple[dict[str, str], Aim]] = {
    "list of a project without a hit": ({"project": "none"}, at_most(10)),
    "list by words without a hit": ({"q": "nothing"}, at_most(30)),
    "list by request type without a hit": ({"request_type": "none"}, at_most(30)),
    "list by model without a hit": ({"model": "none"}, at_most(30)),
}


class Asker:
    """A client of one web process, for several tenants in turn."""

    def __init__(self, web: Web, seeded: Sequence[Seeded], requests: int) -> None:
        self._web, self._requests = web, requests
        self._keys, self._ids = zip(*seeded, strict=True)
        for key in self._keys:
            # A worker fills Redis from the archive first; the hot cache grows in the background.
            wait_until(lambda: self.get(key, f"{PATH}/stats")["window"]["complete"], 600, "Redis is filled")  # noqa: B023  called at once

    def get(self, key: str, path: str, parameters: dict[str, str] | None = None) -> Any:
        return self._answer(self._web.http.get(path, params=parameters, headers=_bearer(key)))

    def post(self, key: str) -> None:
        headers = _bearer(key) | {"Content-Type": "application/json"}
        self._answer(self._web.http.post(PATH, content=orjson.dumps(run(SMALL)), headers=headers))

    def row(self, name: str, size: str, **more: Any) -> Row:
        """Measure one of ``_FLAT`` or ``_MISSES``, in turns with the anchor."""
        works: dict[str, Callable[[int], object]] = {
            "retrieve the oldest": lambda at: self.get(self._keys[at], f"{PATH}/{self._ids[at]}"),
            "list of 50": lambda at: self.get(self._keys[at], PATH, {"limit": "50"}),
            "stats after a new record": lambda at: self.get(self._keys[at], f"{PATH}/stats"),
            "POST": lambda at: self.post(self._keys[at]),
        }
        misses = {name: parameters | {"limit": "50"} for name, (parameters, _) in _MISSES.items()}
        work = works.get(name) or (lambda at: self.get(self._keys[at], PATH, misses[name]))
        times_ms, anchor_ms = [], []
        for number in range(self._requests):
            at = number % len(self._keys)
            if name.startswith("stats"):
                self.post(self._keys[at])
            anchor_ms.append(_ms(lambda: self._web.http.get("/empty").raise_for_status()))
            times_ms.append(_ms(lambda: work(at)))  # noqa: B023  called at once
        medians = statistics.median(times_ms), statistics.median(anchor_ms)
        return Row(f"{name}, {size}", medians[0], "ms", anchor=_ANCHOR, anchor_value=medians[1], **more)

    @staticmethod
    def _answer(answer: httpx2.Response) -> Any:
        if not answer.is_success:
            raise SystemExit(f"{answer.url} answered {answer.status_code}: {answer.text[:500]}")
        return orjson.loads(answer.content)


def _ms(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return (time.perf_counter() - started) * 1e3


def _bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def measure(arguments: argparse.Namespace) -> Iterator[Row]:
    for records in arguments.records:
        with _asker(arguments, ["alice"], records) as asker:
            yield from _of_records(asker, records, is_last=records == max(arguments.records))
    for tenants in arguments.tenants:
        names = [f"tenant-{number}" for number in range(tenants)]
        with _asker(arguments, names, _OF_A_TENANT) as asker:
            shown = f"{tenants:,} tenant{'s' if tenants > 1 else ''} of {_OF_A_TENANT}"
            for name in _FLAT:
                yield asker.row(name, shown, plot="tenants", series=name, x=tenants)
    for processes in arguments.processes:
        yield from _of_processes(processes, arguments.seconds)


@contextmanager
def _asker(arguments: argparse.Namespace, tenants: Sequence[str], records: int) -> Iterator[Asker]:
    """Run a site with ``records`` of each tenant, with what a worker keeps of them in Redis."""
    with ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
        environment = {"TRAJECTORIES_COMPRESS_BODIES": "true"}  # as the quick start does
        if arguments.database == "postgres":
            environment["DATABASE_URL"] = stack.enter_context(throwaway_postgres())
        site = Site.make(Path(directory) / "site", environment)
        stack.callback(site.close)
        seeded = seeding.in_a_process(site.environment, tenants, records, keys=min(len(tenants), _ASKED))
        web, _ = site.web(DJANGO_SETTINGS_MODULE="benchmarks.settings"), site.worker(concurrency=1)
        yield Asker(web, seeded, arguments.requests)


def _of_records(asker: Asker, records: int, *, is_last: bool) -> Iterator[Row]:
    size = f"{records:,} records"
    for name in _FLAT:
        aim, key = (at_most(5), "stats") if is_last and name.startswith("stats") else (None, "")
        yield asker.row(name, size, aim=aim, key=key, plot="records", series=name, x=records)
    if is_last:
        for name, (_, aim) in _MISSES.items():
            yield asker.row(name, size, aim=aim)


def _of_processes(processes: int, seconds: float) -> Iterator[Row]:
    with ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
        site = Site.make(Path(directory) / "site", {"TRAJECTORIES_METRICS_ACCESS": "open"})
        stack.callback(site.close)
        web, _ = site.web(workers=processes), site.worker(concurrency=1)
        store = Side(web.pid, Target(web.url, PATH, site.api_key))
        anchor = stack.enter_context(anchors(SHORT, workers=processes))[SHORT]
        found: list[tuple[float, float]] = []
        for side in (store, anchor):
            send(side.target, encoded(SMALL), connections=8, seconds=1)
            before = usage.cpu_s(side.pid)
            answers = send(side.target, encoded(SMALL), connections=8, seconds=seconds)
            side.wait_until_archived()
            found.append((answers.per_s, (usage.cpu_s(side.pid) - before) / len(answers.took_s) * 1e3))
        name = f"{processes} web process{'es' if processes > 1 else ''}"
        (store_per_s, store_ms), (short_per_s, short_ms) = found
        plot = "processes"
        yield Row(f"runs acknowledged, {name}", store_per_s, "/s", None, SHORT, short_per_s, "", plot, "this store", processes)  # fmt: skip
        yield Row(f"CPU of the web processes for a run, {name}", store_ms, "ms", None, SHORT, short_ms)


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--records", type=int, nargs="*", default=[1_000, 10_000, 100_000])
    parser.add_argument("--tenants", type=int, nargs="*", default=[1, 100, 1_000])
    parser.add_argument("--processes", type=int, nargs="*", default=[1, 2, 4])
    parser.add_argument("--requests", type=int, default=30)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--database", choices=["sqlite", "postgres"], default="sqlite")


if __name__ == "__main__":
    report.main(__doc__, measure, _arguments)
