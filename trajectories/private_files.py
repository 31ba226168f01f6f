"""Files and folders that only the user of the process can read, whatever the umask."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def make_folder(path: Path) -> None:
    """Create ``path`` and its missing parents with mode 0700."""
    if not path.is_dir():
        make_folder(path.parent)
        # An existing path that is no folder raises the error of mkdir.
        path.mkdir(mode=0o700, exist_ok=True)


def make_file(path: Path) -> None:
    """Create an empty file with mode 0600; an existing file stays as it is.

    SQLite gives its -wal and -shm files the mode of their database.
    """
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))


def open_new(path: Path) -> BinaryIO:
    """Return a new file with mode 0600, open for writing, in place of an existing one."""
    path.unlink(missing_ok=True)
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")


def is_exposed(path: Path) -> bool:
    """Return whether users other than the owner can use the file, by its mode and its folder's."""
    try:
        return all(one.stat().st_mode & _OTHERS for one in (path, path.parent))
    except FileNotFoundError:
        return False
