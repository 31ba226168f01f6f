"""A table of faults at the end of the run. A plugin, since the processes that run tests are not the one that writes it."""

from __future__ import annotations

import pytest

_HEAD = ("fault", "proof", "acknowledged", "lost", "doubled", "converged s", "pages seen (incomplete)")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = [*terminalreporter.stats.get("passed", ()), *terminalreporter.stats.get("failed", ())]
    rows = [value for report in reports for name, value in report.user_properties if name == "fault"]
    if not rows:
        return
    terminalreporter.section("faults")
    table = [_HEAD, *sorted(map(tuple, rows))]
    widths = [max(len(str(row[at])) for row in table) for at in range(len(_HEAD))]
    for row in table:
        terminalreporter.write_line(" | ".join(f"{value!s:<{width}}" for value, width in zip(row, widths, strict=True)))
