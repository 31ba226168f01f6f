"""The pages that show figures: README.md and docs/performance.md with its plots, from one report."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from benchmarks.plots import plot
from benchmarks.report import PROJECT, Report, Row, replaced, table, with_unit

RESULTS = PROJECT / "benchmarks" / "results.json"
PLOTS = ("records", "tenants", "processes")
SHORT = ("rate", "p99", "stats", "memory", "archive")
"""Keys of the figures in README.md."""


def write(report: Report) -> list[Path]:
    """Write the pages, the plots and the report itself; return their paths."""
    written = rendered(report)
    for path, text in written.items():
        path.write_text(text)
    report.write(RESULTS)
    return [*written, RESULTS]


def rendered(report: Report) -> dict[Path, str]:
    """Return the text of every page and plot, by path.

    Raises:
        ValueError: a page lacks a marker, or the report lacks a figure of README.md.
    """
    docs = PROJECT / "docs"
    page = (docs / "performance.md").read_text()
    for name, content in _sections(report).items():
        page = replaced(page, name, content)
    readme = PROJECT / "README.md"
    texts = {
        docs / "performance.md": page,
        readme: replaced(readme.read_text(), "short", _short(report)),
    }
    for name in PLOTS:
        texts[docs / "images" / f"growth-{name}.svg"] = plot(row for row, _ in report.rows if row.plot == name)
    return texts


def _sections(report: Report) -> dict[str, str]:
    rows = [(row, command) for row, command in report.rows]
    return {
        "conditions": report.conditions,
        "aims": table(row for row, _ in rows if row.aim),
        "latency": table(row for row, command in rows if ".latency" in command),
        "growth": table(row for row, command in rows if ".growth" in command),
        "others": _by_command(report),
    }


def _by_command(report: Report) -> str:
    """Return a table for each command, without the rows that another table has."""
    parts = []
    for each in report.measurements:
        rows = [row for row in each.rows if not row.aim]
        if rows and not any(name in each.command for name in (".latency", ".growth")):
            parts.append(f"`{each.command}`\n\n{table(rows)}")
    return "\n\n".join(parts)


def _short(report: Report) -> str:
    found = {row.key: (row, command) for row, command in report.rows if row.key}
    missing = [key for key in SHORT if key not in found]
    if missing:
        raise ValueError(f"The report lacks {', '.join(missing)}. Measure all benchmarks in one run.")
    lines = ["| | measured | beside it | `uv run python -m …` |", "|---|---:|---|---|"]
    lines += [_short_line(*found[key]) for key in SHORT]
    return "\n".join(lines)


def _short_line(row: Row, command: str) -> str:
    module = next(word for word in command.split() if word.startswith("benchmarks."))
    beside = f"{row.anchor} {with_unit(row.anchor_value, row.unit)}" if row.anchor_value is not None else row.anchor
    return f"| {row.name} | {with_unit(row.value, row.unit)} | {beside} | `{module}` |"


def lacking(texts: dict[Path, str]) -> Iterable[Path]:
    """Return the paths whose file has another text."""
    return [path for path, text in texts.items() if not path.exists() or path.read_text() != text]
