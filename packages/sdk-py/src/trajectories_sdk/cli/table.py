"""Plain-text tables."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal

from trajectories_sdk.cli.text import cut, escaped, width

UNKNOWN = "-"
_GAP = "  "
_MIN_LAST_COLUMN = 12


@dataclass(slots=True)
class Table:
    """A table. A head that begins with ``>`` marks a column of numbers. Cells are untrusted text.

    On a narrow terminal the last column is cut. In a pipe or a file it is written in full.
    """

    heads: tuple[str, ...]
    rows: list[list[str]] = field(default_factory=list)

    def add(self, *cells: str | None) -> None:
        """Add a row; None is unknown."""
        self.rows.append([UNKNOWN if cell is None else escaped(cell) for cell in cells])

    def lines(self) -> Iterable[str]:
        """Return the head and the rows."""
        cells = [[head.removeprefix(">") for head in self.heads], *self.rows]
        widths = [max(width(row[n]) for row in cells) for n in range(len(self.heads))]
        rest = _terminal_columns() - sum(widths[:-1]) - len(_GAP) * (len(widths) - 1)
        for row in cells:
            padded = [self._padded(n, text, widths[n]) for n, text in enumerate(row[:-1])]
            last = self._padded(len(row) - 1, cut(row[-1], max(rest, _MIN_LAST_COLUMN)), widths[-1])
            yield _GAP.join([*padded, last]).rstrip()

    def _padded(self, n: int, text: str, columns: int) -> str:
        blanks = " " * (columns - width(text))
        return blanks + text if self.heads[n].startswith(">") else text + blanks


def _terminal_columns() -> int:
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else sys.maxsize


def number(value: float | None, digits: int = 0) -> str | None:
    """Return a number rounded for reading; ``--json`` has the exact value."""
    return None if value is None else f"{value:,.{digits}f}"


def usd(value: float | None) -> str | None:
    """Return US dollars with cents, and amounts below ten dollars with three significant digits."""
    if value is None:
        return None
    if value == 0 or value >= 10:
        return f"{value:,.2f}"
    whole, _, fraction = f"{Decimal(f'{value:.3g}'):f}".partition(".")
    return f"{whole}.{fraction:0<2}"


def percent(rate: float | None) -> str | None:
    return None if rate is None else f"{rate * 100:.1f}%"


def duration(ms: float | None) -> str | None:
    """Return milliseconds below ten seconds, then seconds, minutes and hours."""
    if ms is None or ms < 10_000:
        return None if ms is None else f"{ms:.0f}ms"
    minutes, seconds = divmod(round(ms / 1000), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes:02}m"
    return f"{minutes}m{seconds:02}s" if minutes else f"{seconds}s"


def moment(at: datetime | None) -> str | None:
    """Return the time in UTC, to the second."""
    return None if at is None else at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")
