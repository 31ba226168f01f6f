"""One way to report figures: rows, the conditions in which they were measured, tables and JSON.

A benchmark is a function that yields rows, and ``main`` makes a command of it. ``python -m
benchmarks`` runs the commands and puts their reports together.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parent.parent
_PACKAGES = ("django", "djangorestframework", "celery", "granian", "redis", "pydantic", "orjson", "psycopg")


@dataclass(frozen=True, slots=True)
class Aim:
    """A bound of a figure, in its unit; with ``of_anchor``, as a multiple of the anchor."""

    bound: float
    is_minimum: bool = False
    of_anchor: bool = False

    def __str__(self) -> str:
        return f"{'≥' if self.is_minimum else '≤'} {number(self.bound)}{' × anchor' if self.of_anchor else ''}"  # noqa: RUF001

    def is_met(self, value: float, anchor: float | None) -> bool:
        if self.of_anchor:
            if not anchor:
                raise ValueError(f"An aim of {self} needs an anchor, got {anchor}.")
            value /= anchor
        return value >= self.bound if self.is_minimum else value <= self.bound


def at_most(bound: float, *, of_anchor: bool = False) -> Aim:
    return Aim(bound, of_anchor=of_anchor)


def at_least(bound: float, *, of_anchor: bool = False) -> Aim:
    return Aim(bound, is_minimum=True, of_anchor=of_anchor)


@dataclass(frozen=True, slots=True)
class Row:
    """One figure.

    Args:
        name: what was measured, with its size.
        value: in ``unit``.
        aim: the bound that the project has set itself.
        anchor: the same work by something else in the same run, and ``anchor_value`` in ``unit``.
        key: a stable name, for texts that quote the figure.
        series, x: of a plot; rows with the same ``plot`` are drawn together.
    """

    name: str
    value: float
    unit: str
    aim: Aim | None = None
    anchor: str = ""
    anchor_value: float | None = None
    key: str = ""
    plot: str = ""
    series: str = ""
    x: int = 0

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Row:
        return cls(**fields | {"aim": Aim(**fields["aim"]) if fields["aim"] else None})

    @property
    def verdict(self) -> str:
        """``met``, ``not met``, or empty without an aim."""
        if self.aim is None:
            return ""
        return "met" if self.aim.is_met(self.value, self.anchor_value) else "**not met**"


@dataclass(frozen=True, slots=True)
class Measurement:
    """The rows of one command, the seconds that it took, and the load of the machine at both ends."""

    command: str
    seconds: float
    load: tuple[float, float]
    rows: tuple[Row, ...] = ()
    error: str = ""

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Measurement:
        rows = tuple(Row.from_json(row) for row in fields["rows"])
        return cls(**fields | {"rows": rows, "load": tuple(fields["load"])})


@dataclass(frozen=True, slots=True)
class Report:
    """All measurements of a run, with where and when it was."""

    date: str
    machine: dict[str, str]
    versions: dict[str, str]
    is_full: bool = False
    measurements: list[Measurement] = field(default_factory=list)

    @classmethod
    def begin(cls, *, is_full: bool = False) -> Report:
        return cls(time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()), _machine(), _versions(), is_full)

    @classmethod
    def read(cls, path: Path) -> Report:
        fields = json.loads(path.read_text())
        return cls(**fields | {"measurements": [Measurement.from_json(each) for each in fields["measurements"]]})

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n")

    @property
    def rows(self) -> Iterator[tuple[Row, str]]:
        """Each row with the command that measured it."""
        return ((row, each.command) for each in self.measurements for row in each.rows)

    @property
    def conditions(self) -> str:
        """Return a sentence about machine, versions, date and load."""
        loads = [load for each in self.measurements for load in each.load] or [0.0]
        machine = f"{self.machine['cpus']} cores ({self.machine['cpu']}), {self.machine['memory_gb']} GB"
        software = f"Python {self.versions['python']}, Django {self.versions['django']}"
        return f"{self.date}; {machine}; {software}; load {number(min(loads))} to {number(max(loads))}."


def number(value: float) -> str:
    """Return a figure with three digits, or all digits before the point."""
    size = abs(value)
    return f"{value:,.0f}" if size >= 100 or value == int(value) else f"{value:.1f}" if size >= 10 else f"{value:.2f}"


def with_unit(value: float, unit: str) -> str:
    return f"{number(value)} {unit}".strip()


def table(rows: Iterable[Row]) -> str:
    """Return rows as a Markdown table, with a column for the aim where any row has one."""
    rows = list(rows)
    has_aims = any(row.aim for row in rows)
    lines = [
        f"| | measured | {'aim | | ' if has_aims else ''}anchor of the same run |",
        f"|---|---:|{'---:|---|' if has_aims else ''}---|",
    ]
    for row in rows:
        aim = f" {row.aim or ''} | {row.verdict} |" if has_aims else ""
        lines.append(f"| {row.name} | {with_unit(row.value, row.unit)} |{aim} {_anchor(row)} |")
    return "\n".join(lines)


def _anchor(row: Row) -> str:
    if row.anchor_value is None:
        return row.anchor
    ratio = f", ratio {number(row.value / row.anchor_value)}" if row.anchor_value else ""
    return f"{row.anchor} {with_unit(row.anchor_value, row.unit)}{ratio}"


def replaced(text: str, name: str, content: str) -> str:
    """Put ``content`` between the markers ``<!-- figures: NAME -->`` and ``<!-- end: NAME -->``.

    Raises:
        ValueError: ``text`` does not have each marker once, in this order.
    """
    begin, end = f"<!-- figures: {name} -->", f"<!-- end: {name} -->"
    before, found, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed) or begin in rest:
        raise ValueError(f"The text needs one {begin} and one {end} after it.")
    return f"{before}{begin}\n{content}\n{end}{after}"


def main(
    description: str | None,
    measure: Callable[[argparse.Namespace], Iterator[Row]],
    add_arguments: Callable[[argparse.ArgumentParser], object] = lambda parser: None,
    *,
    is_judge: bool = False,
) -> None:
    """Run a benchmark as a command: print its table, and with ``--json`` write its rows to a file. Each row
    goes to stderr when it is measured.

    Args:
        is_judge: without ``--json``, exit with 1 if a row does not meet its aim.
    """
    arguments = parsed(description, add_arguments)
    rows = []
    for row in measure(arguments):
        rows.append(row)
        # Many take minutes.
        print(f"{row.name}: {with_unit(row.value, row.unit)} {row.verdict}".strip(), file=sys.stderr, flush=True)
    print(table(rows), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(row) for row in rows], ensure_ascii=False))
    elif is_judge and any(row.verdict not in ("", "met") for row in rows):
        sys.exit(1)


def parsed(description: str | None, add_arguments: Callable[[argparse.ArgumentParser], object]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(description or "").splitlines()[0])
    add_arguments(parser)
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    return parser.parse_args()


def measured(module: str, options: Sequence[str], directory: Path, *, timeout_s: float) -> Measurement:
    """Run one benchmark in a process of its own; a failure is part of the measurement."""
    shown = " ".join(["uv run python -m", f"benchmarks.{module}", *options])
    path, started, load = directory / f"{module}.json", time.monotonic(), os.getloadavg()[0]
    command = [sys.executable, "-m", f"benchmarks.{module}", *options, "--json", str(path)]
    error = ""
    try:
        # Each benchmark chooses its settings; this process has some for the plots.
        environment = {name: text for name, text in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}
        code = subprocess.run(command, cwd=PROJECT, env=environment, timeout=timeout_s, check=False).returncode
        error = f"exit code {code}" if code else ""
    except subprocess.TimeoutExpired:
        error = f"not within {timeout_s:.0f} s"
    rows = () if error else tuple(Row.from_json(fields) for fields in json.loads(path.read_text()))
    return Measurement(shown, round(time.monotonic() - started, 1), (load, os.getloadavg()[0]), rows, error)


def _machine() -> dict[str, str]:
    try:
        models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    except FileNotFoundError:
        models = []
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return {
        "cpu": models[0].partition(":")[2].strip() if models else platform.machine(),
        "cpus": str(len(os.sched_getaffinity(0))),
        "memory_gb": f"{memory:.0f}",
        "system": platform.platform(),
    }


def _versions() -> dict[str, str]:
    found = {name: importlib.metadata.version(name) for name in _PACKAGES}
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=PROJECT, capture_output=True, text=True, check=False)
    return {"commit": commit.stdout.strip(), "python": platform.python_version(), **found}
