"""The common base of other trainers' formats: each is a mapping over the rows of sft and of dpo."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from typing import ClassVar

from trajectories.training.formats.base import Format, LeftOut, Need, Option, Options, Row, one_of
from trajectories.training.formats.dpo import Dpo
from trajectories.training.formats.sft import Sft
from trajectories.training.run import Run

_SFT, _DPO = Sft(), Dpo()


class Layout(Format):
    """Rows of ``sft``, or with ``kind=dpo`` rows of ``dpo``, under the names that a trainer loads."""

    options: ClassVar[Mapping[str, Option]] = {
        **Sft.options,
        **Dpo.options,
        "kind": Option(one_of("sft", "dpo"), "sft", "sft: examples; dpo: pairs of a better and a worse action."),
    }

    @abstractmethod
    def example(self, row: Row, options: Options) -> Row:
        """Return the row of an example of ``sft``."""

    @abstractmethod
    def pair(self, row: Row) -> Row:
        """Return the row of a pair of ``dpo``."""

    def needs(self, options: Options) -> tuple[Need, ...]:
        return (_DPO if self.is_combined(options) else _SFT).needs(options)

    def rows_of(self, run: Run, options: Options, left_out: LeftOut) -> Iterator[Row]:
        if self.is_combined(options):
            return _DPO.rows_of(run, options, left_out)
        return (self.example(row, options) for row in _SFT.rows_of(run, options, left_out))

    def is_combined(self, options: Options) -> bool:
        return bool(options["kind"] == "dpo")

    def combined(self, rows: Iterable[Row], options: Options, left_out: LeftOut) -> Iterator[Row]:
        return (self.pair(row) for row in _DPO.combined(rows, options, left_out))
