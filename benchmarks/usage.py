"""CPU and memory of processes, from /proc."""

from __future__ import annotations

import os
import re
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


def cpu_s(pid: int) -> float:
    """Return the user and system seconds of a process, its descendants and its ended children."""
    return sum(_tree(pid).values())


def exact_cpu_ms(pid: int) -> float:
    """Return the CPU milliseconds of the threads of a process and its descendants, to the
    microsecond."""
    found = 0
    for one in _tree(pid):
        for path in Path(f"/proc/{one}/task").glob("*/schedstat"):
            try:
                found += int(path.read_text().split()[0])
            except (FileNotFoundError, ProcessLookupError):
                continue
    return found / 1_000_000


def pss_mb(pid: int) -> float:
    """Return the memory of a process and its descendants; pages that several share count once."""
    return sum(_field("smaps_rollup", one, "Pss") for one in _tree(pid)) * 1.024 / 1_000


def rss_mb(pid: int) -> float:
    """Return the sum of the resident sizes of a process and its descendants."""
    return sum(_field("status", one, "VmRSS") for one in _tree(pid)) * 1.024 / 1_000


def own_rss() -> int:
    """Return the resident bytes of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _field(file: str, pid: int, name: str) -> int:
    """Return a field in KiB, or 0 for a process that has ended."""
    try:
        found = re.search(rf"^{name}:\s+(\d+)", Path(f"/proc/{pid}/{file}").read_text(), re.MULTILINE)
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return int(found[1]) if found else 0


def _tree(pid: int) -> dict[int, float]:
    """Return the CPU seconds of a process and of all its descendants, by pid."""
    parents: dict[int, int] = {}
    seconds: dict[int, float] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        parents[int(path.parent.name)] = int(fields[1])
        seconds[int(path.parent.name)] = sum(map(int, fields[11:15])) / _TICKS
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return {one: seconds[one] for one in found if one in seconds}
