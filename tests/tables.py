"""Tables at the end of a run.

A plugin, since the workers collect the rows and the main process prints them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any

import pytest

_PROPERTY = "row of a table"
_CASES = "cases"
_Row = tuple[tuple[str, ...], tuple[str, ...]]


@pytest.fixture
def tabulate(record_property: Callable[[str, Any], None]) -> Callable[..., None]:
    """Return a function that adds a row to the table of this name and head. A fixture may call it
    in its teardown.

    Where the head ends in ``cases`` a row is shown once, with the number of tests that have put it
    there, and the last is their sum.
    """

    def row(table: str, head: Sequence[str], *values: object) -> None:
        record_property(_PROPERTY, ((table, *head), tuple(map(str, values))))

    return row


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    # The report of the teardown is the last of a test, and contains the properties of all of them.
    ended = [r for reports in terminalreporter.stats.values() for r in reports if getattr(r, "when", "") == "teardown"]
    noted = [value for report in ended for name, value in report.user_properties if name == _PROPERTY]
    rows: list[_Row] = sorted((tuple(head), tuple(row)) for head, row in noted)
    for (name, *head), grouped in groupby(rows, key=lambda row: row[0]):
        found = [row for _, row in grouped]
        _write(terminalreporter, name, [tuple(head), *(_counted(found) if head[-1] == _CASES else found)])


def _counted(rows: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]]:
    total = ("all", *[""] * (len(rows[0]) - 1), str(len(rows)))
    return [*((*row, str(count)) for row, count in sorted(Counter(rows).items())), total]


def _write(reporter: pytest.TerminalReporter, name: str, table: Sequence[tuple[str, ...]]) -> None:
    reporter.section(name)
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        reporter.write_line(" | ".join(f"{value:<{width}}" for value, width in zip(row, widths, strict=True)).rstrip())
