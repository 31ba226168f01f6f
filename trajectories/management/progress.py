"""The progress line of commands that take long."""

from __future__ import annotations

import sys
from types import TracebackType


class Progress:
    """Count records on one line of standard error, if that is a terminal."""

    def __init__(self, name: str, total: int | None = None) -> None:
        self._name = name
        self._of = "" if total is None else f" of {total}"
        self._done = 0

    def __enter__(self) -> Progress:
        self.add(0)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._write("\n")

    def add(self, records: int) -> None:
        self._done += records
        self._write(f"\r{self._name}: {self._done}{self._of} records")

    @staticmethod
    def _write(text: str) -> None:
        if sys.stderr.isatty():
            sys.stderr.write(text)
            sys.stderr.flush()
