"""Answers that a process remembers, each for the version of the records that it was made from."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import NamedTuple
from weakref import ref

from trajectories.conf import Settings
from trajectories.domain.record import Position
from trajectories.storage.tenant_cache import HotVersion

MAX_BYTES = 32 * 1024**2
"""Maximum memory of all answers of a process."""
_ENTRY_BYTES = 2_048
"""Memory of an entry besides its JSON: question, version, objects."""


class Version(NamedTuple):
    """A version of a tenant's records. Equal ones are versions of the same records.

    - ``hot``: ``Snapshot.version``. Once it is gone, nothing is equal to this version.
    - ``floor``: the position below which the archive has answered; None: everything was hot.
    - ``changed``: ``archive_reads.last_changed`` at that time.
    """

    hot: ref[HotVersion]
    floor: Position | None
    changed: int | None


class Answer(NamedTuple):
    """An answer in JSON. It holds for ``version`` only; with None it must not be remembered.

    ``has_archive``: the archive has answered. ``computed_from``: ``rollups``, or ``records``.
    """

    version: Version | None
    json: bytes
    is_complete: bool
    has_archive: bool
    computed_from: str = "records"


class RememberedAnswers:
    """The most recently used answers of a process, one for each question. Thread-safe.

    An answer is dropped with the version of the hot cache that it was made from, so nothing of a
    changed or deleted record stays. It is a part of a store: changed settings and a fork begin
    anew.
    """

    def __init__(self, conf: Settings) -> None:
        self._lock = threading.RLock()  # a version may end while this thread holds it
        self._answers: OrderedDict[Hashable, tuple[Answer, object]] = OrderedDict()
        self.size = 0
        """Estimated memory in bytes."""

    def __len__(self) -> int:
        return len(self._answers)

    def find(self, question: Hashable, version: Version | None) -> Answer | None:
        """Return the answer to ``question`` if it was made from ``version``."""
        with self._lock:
            answer, _ = self._answers.get(question, (None, None))
            if answer is None or answer.version != version:
                return None
            self._answers.move_to_end(question)
            return answer

    def keep(self, question: Hashable, answer: Answer) -> None:
        """Replace the answer to ``question``.

        Args:
            question: everything that decides the answer, besides the records.
        """
        with self._lock:
            self._drop(question)
            hot = answer.version and answer.version.hot()
            if hot is None:
                return
            # The reference is kept with the answer, so an answer that is dropped hears of no end.
            self._answers[question] = answer, ref(hot, lambda _: self._drop(question))
            self.size += _size(answer)
            while self.size > MAX_BYTES:
                self._drop(next(iter(self._answers)))

    def _drop(self, question: Hashable) -> None:
        with self._lock:
            if found := self._answers.pop(question, None):
                self.size -= _size(found[0])


def _size(answer: Answer) -> int:
    return _ENTRY_BYTES + len(answer.json)
