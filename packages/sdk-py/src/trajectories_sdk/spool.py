"""Disk spool of records that wait to be sent.

A spool is a directory of segments. A process appends to its own segments, and takes over the
segments of processes that have ended.

Exactly one process holds a segment file, by ``flock``. The kernel releases the lock when the
process ends for any reason, so a file that can be locked has no other sender. Each record is
appended by one ``write``. From then on the kernel has it, and neither SIGTERM nor SIGKILL of the
process loses it. There is no ``fsync``: after a power failure the last seconds of data may be
missing.

The directory must be on a local file system. On others ``flock`` may not hold, and a ``write`` may
be slow.
"""

from __future__ import annotations

import hashlib
import logging
import os
import secrets
import stat
import sys
import time
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from trajectories_sdk.config import Config

if sys.platform != "win32":
    import fcntl

MAX_SEGMENT_RECORDS: Final = 500
MAX_SEGMENT_BYTES: Final = 4 * 1024 * 1024
"""One request sends a segment; the server accepts requests of up to 16 MiB."""
_log = logging.getLogger("trajectories_sdk")
_SUFFIX: Final = ".v1.records"
_KEY_BYTES: Final = 36


class Line(NamedTuple):
    """A record that waits: the text of its id, and its JSON on one line; or a late outcome, with a
    random id."""

    key: bytes
    data: bytes

    @property
    def written_bytes(self) -> int:
        """Return its size in a file."""
        return _KEY_BYTES + 2 + len(self.data)


class Segment:
    """Lines that wait in memory. They are lost when the process ends."""

    is_on_disk = False

    def __init__(self) -> None:
        self.records = 0
        self.bytes = 0
        self._lines: list[Line] = []

    def has_room(self, line: Line) -> bool:
        """Return whether the line fits. An empty segment takes a line of any size."""
        return not self.records or (
            self.records < MAX_SEGMENT_RECORDS and self.bytes + line.written_bytes <= MAX_SEGMENT_BYTES
        )

    def append(self, line: Line) -> None:
        """Add a line.

        Raises:
            OSError: the write failed; the segment is unchanged.
        """
        self._write(line)
        self.records += 1
        self.bytes += line.written_bytes

    def read(self) -> list[Line]:
        """Return all lines, oldest first.

        Raises:
            OSError: the lines cannot be read.
        """
        return self._lines

    def discard(self) -> None:
        """Delete the lines after they were sent or refused."""
        self._lines = []

    def release(self) -> None:
        """Give up the segment, so that another process can take it over."""

    def _write(self, line: Line) -> None:
        self._lines.append(line)


class FileSegment(Segment):
    """Lines that wait in a file that this process has locked."""

    is_on_disk = True

    def __init__(self, path: Path, descriptor: int) -> None:
        super().__init__()
        self.path = path
        self._descriptor = descriptor
        self.bytes = os.fstat(descriptor).st_size

    def read(self) -> list[Line]:
        text = b"".join(_chunks(self._descriptor))
        # Text after the last newline is a partial line: its writer was killed before `enqueue` returned.
        lines = [Line(line[:_KEY_BYTES], line[_KEY_BYTES + 1 :]) for line in text.split(b"\n")[:-1]]
        # A power failure may leave garbage bytes. An outcome begins with a bracket.
        return [line for line in lines if line.data[:1] in (b"{", b"[")]

    def discard(self) -> None:
        with suppress(OSError):  # another process sends a file that stays again, which changes nothing
            self.path.unlink()
        self.release()

    def release(self) -> None:
        """Close the file. In the child of a fork, the parent keeps its lock."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def _write(self, line: Line) -> None:
        text = b"%b %b\n" % line
        try:
            if os.write(self._descriptor, text) == len(text):
                return
            raise OSError("The disk is full: only a part of the record was written")
        except OSError:
            with suppress(OSError):
                os.ftruncate(self._descriptor, self.bytes)
            raise


class Spool:
    """The spool directory of one server and key, shared by all processes of a user."""

    def __init__(self, directory: Path | None) -> None:
        """Args:
        directory: None keeps everything in memory.
        """
        self._directory = directory

    @classmethod
    def of(cls, config: Config, directory: str | os.PathLike[str] | None) -> Spool:
        """Return the spool of a client.

        Each server and key has its own directory, so that no record reaches another server or
        tenant.

        Args:
            directory: parent of the spools. None: ``TRAJSTORE_SPOOL_DIR``, otherwise
                ``trajectories-sdk`` in the user's state directory.
        """
        digest = hashlib.sha256(f"{config.base_url}\n{config.api_key or ''}".encode()).hexdigest()[:16]
        root = directory or os.environ.get("TRAJSTORE_SPOOL_DIR") or _default_directory()
        return cls(None if root is None else Path(root) / digest)

    def begin(self) -> Segment:
        """Return a new segment, on disk if the spool has a directory.

        Raises:
            OSError: the directory is not writable, belongs to another user, or the system has no
                ``flock``.
        """
        if self._directory is None:
            return Segment()
        directory = _ensure_directory(self._directory)
        while True:
            path = directory / f"{time.time_ns():020d}-{os.getpid()}-{secrets.token_hex(4)}{_SUFFIX}"
            descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            # Before this process locks the file, another one may take it over as an abandoned empty file.
            if _lock(path, descriptor):
                return FileSegment(path, descriptor)

    def take_over(self, own: Collection[Path], *, max_segments: int) -> tuple[list[FileSegment], int]:
        """Lock the segments of ended processes, oldest first.

        Args:
            own: segments that the caller already holds.

        Returns:
            The locked segments, and the number of bytes in segments that other processes hold.

        Raises:
            OSError: the directory cannot be read.
        """
        taken: list[FileSegment] = []
        foreign_bytes = 0
        for path in self._paths():
            if path in own:
                continue
            segment = _open_unlocked(path) if len(taken) < max_segments else None
            if segment is None:
                with suppress(FileNotFoundError):
                    foreign_bytes += path.stat().st_size
            elif segment.bytes == 0:
                segment.discard()
            else:
                taken.append(segment)
        return taken, foreign_bytes

    def _paths(self) -> list[Path]:
        if self._directory is None:
            return []
        with suppress(FileNotFoundError):
            return sorted(path for path in self._directory.iterdir() if path.name.endswith(_SUFFIX))
        return []


def _ensure_directory(directory: Path) -> Path:
    if sys.platform == "win32":
        raise OSError("this system has no flock")
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = directory.stat()
    if found.st_uid != os.geteuid():
        raise PermissionError(f"{directory} belongs to another user")
    if stat.S_IMODE(found.st_mode) != 0o700:
        directory.chmod(0o700)
    return directory


def _open_unlocked(path: Path) -> FileSegment | None:
    """Lock and return a segment, or None if it is locked by another process, deleted or unreadable."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW)
        return FileSegment(path, descriptor) if _lock(path, descriptor) else None
    except OSError:
        return None


def _lock(path: Path, descriptor: int) -> bool:
    """Lock a file. If another process holds or has deleted it, close it and return False."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pass
    except OSError:  # this file system has no flock, so the new file is useless
        os.close(descriptor)
        if path.stat().st_size == 0:
            path.unlink()
        raise
    else:
        if os.fstat(descriptor).st_nlink:
            return True
    os.close(descriptor)
    return False


def _chunks(descriptor: int) -> Iterator[bytes]:
    offset = 0
    while chunk := os.pread(descriptor, 1024 * 1024, offset):
        offset += len(chunk)
        yield chunk


def _default_directory() -> Path | None:
    try:
        home = Path.home()
    except RuntimeError:
        _log.warning("Records are kept in memory only: the user has no home directory. Set TRAJSTORE_SPOOL_DIR.")
        return None
    if sys.platform == "darwin":
        return home / "Library" / "Application Support" / "trajectories-sdk"
    return Path(os.environ.get("XDG_STATE_HOME") or home / ".local" / "state") / "trajectories-sdk"
