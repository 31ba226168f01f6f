"""Measure every figure of docs/performance.md: a table, and JSON with machine, versions, date and
load.

    uv run python -m benchmarks                    # under ten minutes on two idle cores
    uv run python -m benchmarks --full             # up to 1,000,000 records; half an hour
    uv run python -m benchmarks --write            # then write the figures into the pages
    uv run python -m benchmarks --write --from benchmarks/results.json

Each benchmark runs in a process of its own, one after the other. If one fails, the others still
run; the exit code is 1, and nothing is written into the pages. Linux only.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from benchmarks import pages, report
from benchmarks.report import Report

_TIMEOUT_S, _FULL_TIMEOUT_S = 1_200, 4 * 3_600


class Item(NamedTuple):
    """A benchmark, with the options of a short run and of a full one."""

    module: str
    options: str = ""
    full: str = ""

    def chosen(self, *, is_full: bool) -> list[str]:
        return (self.full if is_full else self.options).split()


PLAN = (
    Item("write_path", "--seconds 3 --rounds 3", "--seconds 4 --rounds 4"),
    Item("latency", "--seconds 3", "--seconds 5"),
    Item("tenants_in_batch", "--batches 15", "--batches 60"),
    Item("start_up"),
    Item("hot_memory"),
    Item("hot_reads", "--tenants 300 --writes 5000", "--tenants 1000 --writes 10000"),
    Item("stored_bytes", "--records 2000", "--records 10000"),
    Item("recorder", "--runs 200", "--runs 500"),
    Item("stats", "--records 50000 --repeats 3", "--records 1000000"),
    Item(
        "growth",
        "--records 1000 10000 50000 --tenants 1 100 1000 --processes 1 2 4",
        "--records 1000 10000 100000 1000000 --tenants 1 100 1000 --processes 1 2 4 --requests 50",
    ),
)


def main() -> int:
    arguments = _arguments()
    if arguments.read:
        found = Report.read(arguments.read)
    else:
        found = _measured(arguments)
        found.write(arguments.json)
        print(f"\n{found.conditions}\n\n{report.table(row for row, _ in found.rows if row.aim)}\n")
        print(f"{sum(each.seconds for each in found.measurements):.0f} s; all figures are in {arguments.json}")
    failed = [f"{each.command}: {each.error}" for each in found.measurements if each.error]
    if failed:
        print("Failed:", *failed, sep="\n", file=sys.stderr)
    elif arguments.write:
        print("Written:", *pages.write(found), sep="\n")
    return 1 if failed else 0


def _measured(arguments: argparse.Namespace) -> Report:
    found = Report.begin(is_full=arguments.full)
    with tempfile.TemporaryDirectory() as directory:
        for item in PLAN:
            if arguments.only and item.module not in arguments.only:
                continue
            print(f"\n{time.strftime('%H:%M:%S')} benchmarks.{item.module}\n", flush=True)
            options = item.chosen(is_full=arguments.full)
            timeout_s = _FULL_TIMEOUT_S if arguments.full else _TIMEOUT_S
            found.measurements.append(report.measured(item.module, options, Path(directory), timeout_s=timeout_s))
    return found


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--full", action="store_true", help="measure up to 1,000,000 records")
    parser.add_argument("--only", nargs="+", choices=[item.module for item in PLAN], default=[], metavar="NAME")
    parser.add_argument("--json", type=Path, default=Path("benchmarks.json"), help="default: benchmarks.json")
    parser.add_argument("--write", action="store_true", help="write the figures into README.md and docs/")
    parser.add_argument("--from", dest="read", type=Path, help="read this file of an earlier run, and measure nothing")
    arguments = parser.parse_args()
    if arguments.write and arguments.only:
        parser.error("--write needs all figures of one run; leave out --only")
    return arguments


if __name__ == "__main__":
    sys.exit(main())
