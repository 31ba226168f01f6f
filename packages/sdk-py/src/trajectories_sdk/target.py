"""Destinations of an export."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, Final, Protocol, cast
from uuid import UUID

from trajectories_sdk.errors import ExportBrokenError
from trajectories_sdk.values import json_value

_ID: Final = re.compile(rb'\{"id":"([0-9a-fA-F-]{36})"')
_MAX_LINES_READ: Final = 1_000


class Writable(Protocol):
    """A binary file."""

    def write(self, data: bytes, /) -> object: ...


class Target(Protocol):
    """A destination of exported lines. Its methods may block."""

    def existing_lines(self) -> list[bytes]:
        """Return the next lines left by an interrupted export; an empty list at their end."""

    def write(self, lines: list[bytes]) -> None:
        """Append lines."""

    def finish(self) -> None:
        """Complete the export. All lines have arrived and were verified."""

    def discard(self) -> None:
        """Discard the export, because its data cannot be trusted."""

    def close(self) -> None:
        """Close the target, whether or not the export is complete."""


class FileTarget:
    """A file that the caller opens and closes."""

    def __init__(self, file: Writable) -> None:
        if isinstance(cast(object, file), io.TextIOBase):
            raise TypeError("An export consists of bytes: open the file in binary mode")
        self._file = file

    def existing_lines(self) -> list[bytes]:
        return []

    def write(self, lines: list[bytes]) -> None:
        self._file.write(b"".join(lines))

    def finish(self) -> None:
        if isinstance(self._file, io.IOBase):
            self._file.flush()

    def discard(self) -> None:
        """Do nothing: the file belongs to the caller, who gets the error."""

    def close(self) -> None:
        """Do nothing: the caller closes the file."""


class PathTarget:
    """A file that appears under its name once it is complete."""

    def __init__(self, path: Path, part: Path, *, is_resumed: bool) -> None:
        self._path = path
        self._part = part
        self._is_resumed = is_resumed
        self._file: BinaryIO | None = None
        self._good_bytes = 0
        self._is_read = False

    def existing_lines(self) -> list[bytes]:
        if self._file is None:
            is_there = self._is_resumed and self._part.exists()
            self._file = self._part.open("r+b" if is_there else "w+b")
        lines: list[bytes] = []
        for line in islice(self._file, 0 if self._is_read else _MAX_LINES_READ):
            if not _is_complete_line(line):
                self._is_read = True
                break
            self._good_bytes += len(line)
            lines.append(line)
        if not lines:
            # A killed process may have left a partial line.
            self._file.seek(self._good_bytes)
            self._file.truncate()
        return lines

    def write(self, lines: list[bytes]) -> None:
        self._open_file().write(b"".join(lines))

    def finish(self) -> None:
        file = self._open_file()
        file.flush()
        os.fsync(file.fileno())
        file.close()
        self._part.replace(self._path)

    def discard(self) -> None:
        self.close()
        self._part.unlink(missing_ok=True)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def _open_file(self) -> BinaryIO:
        if self._file is None:
            raise ValueError("existing_lines must be called before write")
        return self._file


def target_of(
    path_or_file: str | os.PathLike[str] | Writable, *, identity: Mapping[str, object], is_resumed: bool
) -> Target:
    """Return the target for a path or a file.

    Args:
        identity: everything that decides which lines are exported. Its hash is part of the name of
            the partial file, so that another export does not resume it.
    """
    if not isinstance(path_or_file, str | os.PathLike):
        return FileTarget(path_or_file)
    path = Path(path_or_file)
    text = json.dumps({name: _text(value) for name, value in identity.items()}, sort_keys=True)
    mark = hashlib.sha256(text.encode()).hexdigest()[:8]
    return PathTarget(path, path.with_name(f"{path.name}.{mark}.part"), is_resumed=is_resumed)


def _text(value: object) -> Any:
    return None if value is None else json_value(value)


def id_of(line: bytes) -> UUID:
    """Return the id of the record on a line.

    Raises:
        ExportBrokenError: the line is not a record.
    """
    found = _ID.match(line)
    try:
        return UUID(found[1].decode() if found else json.loads(line)["id"])
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ExportBrokenError("A line of the export is not a trajectory. Check base_url.") from None


def _is_complete_line(line: bytes) -> bool:
    try:
        id_of(line)
    except ExportBrokenError:
        return False
    return line.endswith(b"}\n")
