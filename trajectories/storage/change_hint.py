"""A mark that processes of a host share, read without a system call."""

from __future__ import annotations

import mmap
import os
from contextlib import suppress
from pathlib import Path

from trajectories import private_files

_BYTES = 8


class ChangeHint:
    """Eight bytes in a file, which are others after each ``change`` of any process. Thread-safe.

    A hint and no proof: a process of an earlier release changes nothing here, and one that is killed
    may not have. Readers therefore look at what has changed itself from time to time.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._map: mmap.mmap | None = None

    def read(self) -> bytes | None:
        """Return the mark; None if the file cannot be used."""
        if self._map is None:
            with suppress(OSError, ValueError):
                self._map = self._mapped()
        return None if self._map is None else self._map[:_BYTES]

    def change(self) -> None:
        """Make ``read`` of every process return another mark.

        Raises:
            OSError: the file cannot be written.
        """
        file = self._open()
        try:
            # Random, as processes that count would write the same number. Not through the map: on a
            # full disk that kills the process.
            os.pwrite(file, os.urandom(_BYTES), 0)
        finally:
            os.close(file)

    def close(self) -> None:
        """Release the file. No thread may be using it."""
        if self._map is not None:
            self._map.close()
            self._map = None

    def _mapped(self) -> mmap.mmap:
        file = self._open()
        try:
            if os.fstat(file).st_size < _BYTES:  # reading beyond its end would kill the process
                os.pwrite(file, bytes(_BYTES), 0)
            return mmap.mmap(file, _BYTES, access=mmap.ACCESS_READ)
        finally:
            os.close(file)

    def _open(self) -> int:
        path = Path(self._path)
        private_files.make_folder(path.parent)
        private_files.make_file(path)
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)
