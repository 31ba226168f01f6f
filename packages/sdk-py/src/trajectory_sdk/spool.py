"""Records that wait to be sent, on disk: segments that a process appends to, and that another one takes over if it ends.

A segment is a file that exactly one process holds by ``flock``. The kernel lets go of the lock when the process ends, however
it ends, so a file that can be locked is one that nobody else will send. Each record is appended by one ``write``: from then on
it is the kernel's, and neither SIGTERM nor SIGKILL of the process takes it back. There is no ``fsync``: a machine that loses
power may lose what it had not written to its disk by itself, which is some seconds' worth.

The directory must be on a file system of this machine: on others ``flock`` may not hold, and a ``write`` may take its time.
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

from trajectory_sdk.config import Config

if sys.platform != "win32":
    import fcntl

MAX_SEGMENT_RECORDS: Final = 500
MAX_SEGMENT_BYTES: Final = 4 * 1024 * 1024
"""A segment is sent by one request, of which the server takes 16 MiB."""
_log = logging.getLogger("trajectory_sdk")
_SUFFIX: Final = ".v1.records"
_KEY_BYTES: Final = 36


class Line(NamedTuple):
    """A record that waits: the text of its id, and its JSON on one line."""

    key: bytes
    data: bytes

    @property
    def written_bytes(self) -> int:
        """What it takes in a file."""
        return _KEY_BYTES + 2 + len(self.data)


class Segment:
    """Lines that wait, in memory: they go with the process."""

    is_on_disk = False

    def __init__(self) -> None:
        self.records = 0
        self.bytes = 0
        self._lines: list[Line] = []

    def has_room(self, line: Line) -> bool:
        """Whether the line belongs here; one line always does."""
        return not self.records or (
            self.records < MAX_SEGMENT_RECORDS and self.bytes + line.written_bytes <= MAX_SEGMENT_BYTES
        )

    def append(self, line: Line) -> None:
        """Keep a line.

        Raises:
            OSError: it cannot be written; the segment is as before.
        """
        self._write(line)
        self.records += 1
        self.bytes += line.written_bytes

    def read(self) -> list[Line]:
        """All lines, in the order in which they came.

        Raises:
            OSError: they cannot be read.
        """
        return self._lines

    def discard(self) -> None:
        """Forget the lines: they are decided."""
        self._lines = []

    def release(self) -> None:
        """Leave the lines to whoever comes next."""

    def _write(self, line: Line) -> None:
        self._lines.append(line)


class FileSegment(Segment):
    """Lines that wait, in a file that this process holds."""

    is_on_disk = True

    def __init__(self, path: Path, descriptor: int) -> None:
        super().__init__()
        self.path = path
        self._descriptor = descriptor
        self.bytes = os.fstat(descriptor).st_size

    def read(self) -> list[Line]:
        text = b"".join(_chunks(self._descriptor))
        # What follows the last newline is half a line: its writer was killed in the middle, before it said that it is kept.
        lines = [Line(line[:_KEY_BYTES], line[_KEY_BYTES + 1 :]) for line in text.split(b"\n")[:-1]]
        return [line for line in lines if line.data[:1] == b"{"]  # a disk that lost power may leave other bytes

    def discard(self) -> None:
        with suppress(OSError):  # what stays is sent once more by another process, which changes nothing
            self.path.unlink()
        self.release()

    def release(self) -> None:
        """Close the file. In a child after a fork this leaves the parent's lock as it is."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def _write(self, line: Line) -> None:
        text = b"%b %b\n" % line
        try:
            if os.write(self._descriptor, text) == len(text):
                return
            raise OSError("The disk took a part of a record")
        except OSError:
            with suppress(OSError):
                os.ftruncate(self._descriptor, self.bytes)
            raise


class Spool:
    """The directory in which the segments of one server and key are, shared by all processes of a user."""

    def __init__(self, directory: Path | None) -> None:
        """Args: directory: None: everything waits in memory."""
        self._directory = directory

    @classmethod
    def of(cls, config: Config, directory: str | os.PathLike[str] | None) -> Spool:
        """The spool of a client.

        Each server and key has a directory of its own, so that no record is ever sent to another server or tenant.

        Args:
            directory: where the spools are. None: what ``TRAJECTORY_SPOOL_DIR`` says, else ``trajectory-sdk`` in the user's
                directory for state.
        """
        digest = hashlib.sha256(f"{config.base_url}\n{config.api_key or ''}".encode()).hexdigest()[:16]
        root = directory or os.environ.get("TRAJECTORY_SPOOL_DIR") or _default_directory()
        return cls(None if root is None else Path(root) / digest)

    def begin(self) -> Segment:
        """A new segment, on disk if the spool is.

        Raises:
            OSError: the directory cannot be written, is another user's, or the system knows no ``flock``.
        """
        if self._directory is None:
            return Segment()
        directory = _ensure_directory(self._directory)
        while True:
            path = directory / f"{time.time_ns():020d}-{os.getpid()}-{secrets.token_hex(4)}{_SUFFIX}"
            descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            # Another process may have taken an empty file for one that was left, in the moment before it was locked.
            if _lock(path, descriptor):
                return FileSegment(path, descriptor)

    def take_over(self, own: Collection[Path], *, max_segments: int) -> tuple[list[FileSegment], int]:
        """Segments whose processes have ended, oldest first and now held, and how many bytes wait in those of others.

        Args:
            own: what the caller holds already.

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
        raise OSError("this system knows no flock")
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = directory.stat()
    if found.st_uid != os.geteuid():
        raise PermissionError(f"{directory} belongs to another user")
    if stat.S_IMODE(found.st_mode) != 0o700:
        directory.chmod(0o700)
    return directory


def _open_unlocked(path: Path) -> FileSegment | None:
    """The segment in a file, unless somebody else holds it, or it is gone, or no file that can be opened."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW)
        return FileSegment(path, descriptor) if _lock(path, descriptor) else None
    except OSError:
        return None


def _lock(path: Path, descriptor: int) -> bool:
    """Hold a file; False, and closed, if somebody else does, or has sent and removed it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pass
    except OSError:  # this file system has no flock, so what was just made here is of no use
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
        _log.warning("Records wait in memory: the user has no home directory, and TRAJECTORY_SPOOL_DIR is not set")
        return None
    if sys.platform == "darwin":
        return home / "Library" / "Application Support" / "trajectory-sdk"
    return Path(os.environ.get("XDG_STATE_HOME") or home / ".local" / "state") / "trajectory-sdk"
