"""Answers that a process remembers, each for the version of the records that it was made from."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import NamedTuple

from trajectories.conf import Settings
from trajectories.domain.record import Position

MAX_BYTES = 32 * 1024**2
"""Maximum memory of all answers of a process."""
_ENTRY_BYTES = 2_048
"""Memory of an entry besides its JSON: question, version, objects."""


class Version(NamedTuple):
    """A version of a tenant's records. Equal ones are versions of the same records.

    - ``hot``: ``Snapshot.version``.
    - ``floor``: the position below which the archive has answered; None: everything was hot.
    - ``changed``: ``archive_reads.last_changed`` at that time.
    """

    hot: object
    floor: Position | None
    changed: int | None


class Answer(NamedTuple):
    """An answer in JSON. It holds for ``version`` only; with None it must not be remembered."""

    version: Version | None
    json: bytes
    is_complete: bool


class RememberedAnswers:
    """The most recently used answers of a process, one for each question. Thread-safe.

    It is a part of a store: changed settings, another database and a fork begin anew.
    """

    def __init__(self, conf: Settings) -> None:
        self._lock = threading.Lock()
        self._answers: OrderedDict[Hashable, Answer] = OrderedDict()
        self.size = 0
        """Estimated memory in bytes."""

    def find(self, question: Hashable, version: Version | None) -> Answer | None:
        """Return the answer to ``question`` if it was made from ``version``."""
        with self._lock:
            answer = self._answers.get(question)
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
            if old := self._answers.pop(question, None):
                self.size -= _size(old)
            if answer.version is None:
                return
            self._answers[question] = answer
            self.size += _size(answer)
            while self.size > MAX_BYTES:
                self.size -= _size(self._answers.popitem(last=False)[1])


def _size(answer: Answer) -> int:
    return _ENTRY_BYTES + len(answer.json)
