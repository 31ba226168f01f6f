"""A format of exports: how a record becomes lines, and which columns its rows have."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, ClassVar, NamedTuple, TypeAlias

import orjson

from trajectories.domain import redaction
from trajectories.domain.quotes import in_quotes
from trajectories.domain.record import Record
from trajectories.exceptions import InvalidInput
from trajectories.services.exports import Need as Need
from trajectories.training.columns import Columns
from trajectories.training.run import Run

Row: TypeAlias = dict[str, Any]
Options: TypeAlias = Mapping[str, Any]
LeftOut: TypeAlias = Counter[str]
"""Why something of a record is not in the export: the number of cases by reason."""


class Option(NamedTuple):
    """An option of a format: the parser of its text, its value when it is not given, and its
    documentation.

    The parser raises ValueError with what the value must be.
    """

    read: Callable[[str], Any]
    default: Any
    description: str


def one_of(*words: str) -> Callable[[str], str]:
    """Return a parser that accepts these words."""

    def read(text: str) -> str:
        if text not in words:
            raise ValueError(f"must be {' or '.join(words)}, got {in_quotes(text, max_chars=40)}")
        return text

    return read


def fraction(text: str) -> float:
    """Return a number above 0 and at most 1."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 1:
        raise ValueError(f"must be above 0 and at most 1, got {in_quotes(text, max_chars=40)}")
    return value


class Format(ABC):
    """A format. A subclass has a name, columns and ``rows_of``; the rest has defaults.

    Rows are JSON: dict, list, str, int, float, bool and None. A row has the columns of the format
    in their order, and may lack some.
    """

    name: ClassVar[str]
    options: ClassVar[Mapping[str, Option]] = {}

    @abstractmethod
    def columns(self, options: Options) -> Columns:
        """Return the columns of a row, the same for all rows of an export."""

    @abstractmethod
    def rows_of(self, run: Run, options: Options, left_out: LeftOut) -> Iterator[Row]:
        """Yield the rows of one record, a pure function of it; count in ``left_out`` what has
        none."""

    def needs(self, options: Options) -> tuple[Need, ...]:
        """Return what a run needs to yield a line, or to change one. Other runs are not read."""
        return ()

    def is_combined(self, options: Options) -> bool:
        """Return whether rows of different records are compared, by ``combined``.

        The lines of such an export come after the last record was read, and it cannot be continued
        after an id.
        """
        return False

    def combined(self, rows: Iterable[Row], options: Options, left_out: LeftOut) -> Iterator[Row]:
        """Yield the rows of the export from those of ``rows_of``, in the order of the records."""
        raise NotImplementedError(f"{self.name} compares no records")

    def lines_of(self, run: Run, options: Options, left_out: LeftOut) -> Iterator[bytes]:
        """Yield the rows of one record as lines, newline included."""
        return (line(row) for row in self.rows_of(run, options, left_out))

    def rows(self, records: Iterable[Record], options: Options, left_out: LeftOut | None = None) -> Iterator[Row]:
        """Yield the rows of an export of ``records``."""
        counted: LeftOut = Counter() if left_out is None else left_out
        rows = (row for record in records for row in self.rows_of(Run(record), options, counted))
        return self.combined(rows, options, counted) if self.is_combined(options) else rows

    def lines(self, records: Iterable[Record], options: Options, left_out: LeftOut | None = None) -> Iterator[bytes]:
        """Yield the lines of an export of ``records``, newline included."""
        counted: LeftOut = Counter() if left_out is None else left_out
        if self.is_combined(options):
            return (line(row) for row in self.rows(records, options, counted))
        return (one for record in records for one in self.lines_of(Run(record), options, counted))

    def read_options(self, given: Mapping[str, str]) -> Options:
        """Return every option of this format, with its default where it is not given.

        Raises:
            InvalidInput: 400; the format has no such option, or its value is invalid.
        """
        for name in given:
            if name not in self.options:
                has = f"it has {', '.join(self.options)}" if self.options else "it has none"
                raise InvalidInput(
                    f"The format {self.name} has no option {in_quotes(name, max_chars=40)}; {has}.",
                    code="unknown_option",
                    param=redaction.quoted(name, max_chars=40),
                )
        values = {}
        for name, option in self.options.items():
            try:
                values[name] = option.read(given[name]) if name in given else option.default
            except ValueError as error:
                raise InvalidInput(f"{name} {error}.", code="invalid_parameter", param=name) from None
        return values


def line(row: Row) -> bytes:
    return orjson.dumps(row) + b"\n"
