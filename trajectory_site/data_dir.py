"""The data directory: the quick start keeps its files there, and commands find its settings there."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from trajectories.private_files import make_folder

PROJECT = Path(__file__).resolve().parent.parent
"""The checkout, or the directory of installed packages."""
IS_CHECKOUT = (PROJECT / "manage.py").exists()


class DataDirUnusable(Exception):
    """The data directory cannot be used. The message is a sentence for the user."""


@dataclass(frozen=True, slots=True)
class Secrets:
    """Secrets created at the first start and kept: a new ``secret_key`` would end every session."""

    secret_key: str
    admin_password: str
    redis_password: str


def default() -> Path:
    """Return ``var/`` of a checkout; for an installed site, a directory of the user."""
    if IS_CHECKOUT:
        return PROJECT / "var"
    return Path(os.environ.get("XDG_DATA_HOME") or "~/.local/share").expanduser() / "trajectories"


def chosen(given: str | None = None) -> Path:
    """Return ``given``, or ``DATA_DIR`` of the environment, or the default."""
    return Path(given or os.environ.get("DATA_DIR") or default()).expanduser().resolve()


@contextmanager
def locked(directory: Path) -> Iterator[int]:
    """Lock ``directory`` for one quick start, and provide the descriptor of the lock.

    Redis holds the lock too, because it may outlive a quick start that was killed.

    Raises:
        DataDirUnusable: a quick start uses it, it cannot be written, or another user may put files
            there: the database has the users of the admin.
    """
    try:
        make_folder(directory)
        status = directory.stat()
        # Root uses the directories of others, as in a container.
        if status.st_mode & stat.S_IWOTH or os.geteuid() not in (0, status.st_uid):
            raise DataDirUnusable(
                f"Other users may write the data directory {directory} (owner {status.st_uid}, mode"
                f" {stat.S_IMODE(status.st_mode):o}). Run chmod 700 on it as its owner, or take another: --data-dir DIR"
            )
        lock = os.open(directory / "quickstart.lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise DataDirUnusable(f"The data directory {directory} cannot be used: {error.strerror}.") from error
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DataDirUnusable(_in_use(directory)) from error
        yield lock
    finally:
        os.close(lock)


def kept_secrets(directory: Path) -> Secrets:
    """Return the secrets of ``directory``; create them at the first call."""
    path = directory / "secrets.json"
    kept = read_json(path)
    if not kept:
        made = Secrets(secrets.token_urlsafe(48), secrets.token_urlsafe(12), secrets.token_urlsafe(24))
        write_json(path, asdict(made))
        return made
    try:
        return Secrets(**kept)
    except TypeError as error:
        raise DataDirUnusable(f"{path} is not what an earlier start wrote. Put it back, or delete it.") from error


def keep_settings(directory: Path, settings: Mapping[str, str]) -> None:
    """Keep the environment of the quick start's processes, for ``use_settings``."""
    write_json(directory / "environment.json", dict(settings))


def use_settings(directory: Path) -> None:
    """Put the settings of the last quick start in ``directory`` into this process's environment.

    Variables that are set win. A ``SECRET_KEY`` that is set is an environment of its own, to which
    nothing is added.
    """
    os.environ["DATA_DIR"] = str(directory)
    if os.environ.get("SECRET_KEY"):
        return
    for name, text in read_json(directory / "environment.json").items():
        if not os.environ.get(name):
            os.environ[name] = str(text)


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in the file, empty if there is no file.

    Its content decides what this process does, so another user must not have written it.

    Raises:
        DataDirUnusable: the file is damaged, or another user owns or may write it.
    """
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            if status.st_uid != os.geteuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                raise DataDirUnusable(
                    f"{path} belongs to another user, or others may write it (owner {status.st_uid}, mode"
                    f" {stat.S_IMODE(status.st_mode):o}). Run this command as its owner, chmod it to 600, or take"
                    " another directory: --data-dir DIR"
                )
            read = json.loads(file.read() or b"{}")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise DataDirUnusable(f"{path} cannot be read ({error}). Put it back, or delete it.") from error
    return read if isinstance(read, dict) else {}


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write the file atomically, and never readable by other users."""
    draft = path.with_suffix(".draft")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(content, file, indent=2)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def _in_use(directory: Path) -> str:
    running = read_json(directory / "processes.json")
    if (starter := running.pop("quickstart", None)) is None or _is_alive(starter):
        return f"The data directory {directory} is in use by a quick start that runs. Take another: --data-dir DIR"
    left = " ".join(str(pid) for pid in running.values())
    return f"An earlier quick start in {directory} was killed and left processes behind. End them first: kill {left}"


def _is_alive(pid: int) -> bool:
    with suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False
