"""Make random faults for a quarter of an hour under load, then check all acknowledged records.

``uv run python -m benchmarks.soak [--minutes 15] [--seed N]``. Exits with 1 if a record was lost or
doubled, if anything differs, or if a record was missing from a complete page. It also exits with 1
if a kind of fault had fewer than ``--at-least`` acknowledged; the run extends by up to half its
time to get there.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from functools import partial
from pathlib import Path

from tests.faults import faults
from tests.faults.cluster import Cluster, Verdict
from tests.faults.faults import Fault, Poison
from tests.faults.load import Load, Observer
from tests.processes import wait_until

OUTAGE_S = 20.0
DRAIN_S = 300.0


def kinds(poison: Poison) -> dict[str, Fault]:
    return {
        "kill -9 of a web process": faults.kill_web_processes,
        "kill -9 of all web processes": faults.kill_all_web_processes,
        "kill -9 of the worker in a batch": faults.kill_worker_in_a_batch,
        "SIGTERM of web and worker": faults.stop_web_and_worker,
        "Redis killed, back empty": faults.wipe_redis,
        f"Redis stopped for {OUTAGE_S:g} s": partial(faults.stop_redis, outage_s=OUTAGE_S),
        "Redis hangs": faults.hang_redis,
        "Redis at maxmemory": faults.fill_redis,
        "Redis fails over": faults.fail_redis_over,
        f"archive stopped for {OUTAGE_S:g} s": partial(faults.stop_archive, outage_s=OUTAGE_S),
        "archive killed and restarted": faults.kill_archive,
        "archive read-only": faults.make_archive_read_only,
        "archive: deadlock": faults.make_deadlocks,
        "archive refuses records": poison.make,
    }


class Soak:
    """Results of the faults of each kind."""

    def __init__(self, cluster: Cluster, load: Load, chance: random.Random, chosen: dict[str, Fault]) -> None:
        self._cluster, self._load, self._chance, self._kinds = cluster, load, chance, chosen
        self.times: Counter[str] = Counter()
        self.acknowledged: Counter[str] = Counter()
        self.slowest_s: dict[str, float] = dict.fromkeys(chosen, 0.0)

    def behind(self, at_least: int) -> list[str]:
        """Return the kinds with fewer than ``at_least`` acknowledged records."""
        return [name for name in self._kinds if self.acknowledged[name] < at_least]

    def step(self, at_least: int) -> None:
        """Make one fault and wait until its records are decided.

        The kind is one that is behind, or any once none is.
        """
        behind = self.behind(at_least) or list(self._kinds)
        lacking = [max(1, at_least - self.acknowledged[name]) for name in behind]
        (name,) = self._chance.choices(behind, lacking)
        ledger, before, started = self._cluster.ledger, self._cluster.ledger.acknowledged, time.monotonic()
        ledger.during = name
        proof = self._kinds[name](self._cluster, self._load)
        mended = time.monotonic()
        behind_by = self._cluster.waiting()
        newest = self._cluster.last_numbers()
        wait_until(lambda: self._cluster.has_decided(newest), DRAIN_S, "what waited is decided")
        self.times[name] += 1
        self.acknowledged[name] += ledger.acknowledged - before
        self.slowest_s[name] = max(self.slowest_s[name], time.monotonic() - mended)
        print(f"{time.monotonic() - started:6.1f} s  {name}: {proof}; {behind_by:,} waited then", flush=True)

    def table(self, lost: Counter[str]) -> Iterable[str]:
        yield "| fault | times | acknowledged | lost | seconds until decided, at most |"
        yield "|---|---:|---:|---:|---:|"
        for name in self._kinds:
            row = (self.times[name], f"{self.acknowledged[name]:,}", lost[name], f"{self.slowest_s[name]:.1f}")
            yield f"| {name} | " + " | ".join(map(str, row)) + " |"


def run(directory: Path, minutes: float, seed: int, at_least: int, only: str) -> bool:
    poison = Poison()
    chosen = {name: fault for name, fault in kinds(poison).items() if only in name}
    cluster = Cluster(directory)
    try:
        cluster.start()
        observer = Observer(cluster.webs["b1"].url, cluster.site.api_key, may_go=poison.may_go)
        with cluster.load(seed=seed, pause_s=0.03, max_lines=40, extra=poison.extra) as load, observer:
            soak = Soak(cluster, load, random.Random(seed), chosen)
            started = time.monotonic()
            while (gone_s := time.monotonic() - started) < minutes * 60 or soak.behind(at_least):
                if gone_s > minutes * 60 * 1.5:
                    break
                soak.step(at_least)
        verdict = cluster.converged(600)
        observer.settle()
        return report(cluster, soak, observer, verdict, at_least)
    finally:
        cluster.close()


def report(cluster: Cluster, soak: Soak, observer: Observer, verdict: Verdict, at_least: int) -> bool:
    lost = Counter(cluster.ledger.last_during[id_] for id_ in verdict.lost_ids)
    print("\n" + "\n".join(soak.table(lost)))
    print("\nacknowledged by kind of write:", ", ".join(f"{kind} {n:,}" for kind, n in cluster.ledger.kinds.items()))
    print(f"acknowledged {verdict.acknowledged:,}, {len(cluster.ledger.newest()):,} ids; lost {verdict.lost}, ", end="")
    print(
        f"doubled {verdict.doubled}; agreed after {verdict.converged_s:.1f} s; {verdict.differing or 'nothing differs'}"
    )
    print(
        f"pages of one process's list {observer.pages:,}, of them said to be incomplete {observer.incomplete:,}; ",
        end="",
    )
    print(f"records gone from a complete one: {len(observer.broken)}", *observer.broken[:3], sep="\n")
    behind = soak.behind(at_least)
    return not (verdict.lost or verdict.doubled or verdict.differing or observer.broken or behind)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=15.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="kinds of fault that have this in their name")
    parser.add_argument("--at-least", type=int, default=10_000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="soak-") as directory:
        is_good = run(Path(directory) / "cluster", given.minutes, given.seed, given.at_least, given.only)
    print("passed" if is_good else "FAILED")
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main())
