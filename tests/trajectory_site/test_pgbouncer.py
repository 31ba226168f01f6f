"""The archive behind a real PgBouncer, which refuses the startup parameter ``options``."""

from __future__ import annotations

import os
import re
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import orjson
import psycopg
import pytest

from tests.processes import PROJECT, Site
from tests.test_whole_path import PATH, bodies, ndjson, post
from tests.trajectory_site.test_settings import run
from trajectory_site.servers import free_port, server_process, wait_for_server

pytestmark = pytest.mark.outside

TIMEOUTS = "SELECT current_setting('statement_timeout'), current_setting('lock_timeout')"
SHOW_TIMEOUTS = (
    "import django; django.setup(); from django.db import connection; cursor = connection.cursor();"
    f'print(*cursor.execute("{TIMEOUTS}").fetchone())'
)


@pytest.fixture
def behind_pgbouncer(postgres_database: str) -> Iterator[Callable[[str], str]]:
    """Start a PgBouncer with a pool mode, and return the URL of an empty database behind it."""
    binary = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
    if binary is None:
        pytest.skip("there is no PgBouncer here (Debian, Ubuntu: apt-get install pgbouncer)")
    parts = urlsplit(postgres_database)
    host, name = parse_qs(parts.query).get("host", [parts.hostname])[0], parts.path[1:]
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pgbouncer-", dir="/tmp")))
        home.chmod(0o755)  # it does not run as root

        def start(pool_mode: str) -> str:
            port = free_port()
            server = f"host={host} port={parts.port or 5432} user={parts.username}"
            server += f" password={parts.password}" if parts.password else ""
            lines = ["[databases]", f"{name} = {server}", "[pgbouncer]", "auth_type = any", "unix_socket_dir ="]
            lines += ["listen_addr = 127.0.0.1", f"listen_port = {port}", f"pool_mode = {pool_mode}"]
            (home / "ini").write_text("\n".join(lines) + "\n")
            command = [binary, *(["-u", "nobody"] if os.geteuid() == 0 else []), str(home / "ini")]
            process = stack.enter_context(server_process(command, home / "log", stop_signal=signal.SIGINT))
            url = f"postgresql://anyone@127.0.0.1:{port}/{name}"
            wait_for_server(process, home / "log", "PgBouncer", lambda: _answers(url))
            return url

        yield start


def _answers(url: str) -> bool:
    try:
        psycopg.connect(url, connect_timeout=1).close()
    except psycopg.OperationalError:
        return False
    return True


def timeouts(url: str) -> tuple[str, ...]:
    with psycopg.connect(url) as connection:
        return connection.execute(TIMEOUTS).fetchone() or ()


def test_a_site_works_with_transaction_pooling_and_leaves_no_session_state(
    behind_pgbouncer: Callable[[str], str], make_site: Callable[..., Site]
) -> None:
    url = behind_pgbouncer("transaction")
    site = make_site(DATABASE_URL=url, DATABASE_TRANSACTION_POOLING="yes")
    web, _ = site.web(), site.worker()
    runs = bodies(20)
    assert post(web, ndjson(runs))["accepted"] == 20
    exported = web.http.get(f"{PATH}/export").text.splitlines()  # it waits for the archive
    assert [orjson.loads(line)["id"] for line in exported] == [run["id"] for run in runs]
    assert timeouts(url) == ("0", "0")


def test_with_transaction_pooling_the_documented_timeouts_of_the_role_apply(
    behind_pgbouncer: Callable[[str], str], postgres_database: str, tmp_path: Path
) -> None:
    statements = re.findall(r"^ALTER ROLE store (SET .+);$", (PROJECT / "docs" / "environment.md").read_text(), re.M)
    assert len(statements) == 3
    name = urlsplit(postgres_database).path[1:]
    with psycopg.connect(postgres_database, autocommit=True) as connection:
        for statement in statements:  # of this database only, because other tests have the same role
            connection.execute(f"ALTER ROLE CURRENT_USER IN DATABASE {name} {statement}")
    url = behind_pgbouncer("transaction")
    done = run(SHOW_TIMEOUTS, tmp_path, DATABASE_URL=url, DATABASE_TRANSACTION_POOLING="yes")
    assert done.stdout.split() == ["1min", "10s"], done.stderr


def test_with_session_pooling_a_session_has_the_timeouts_of_the_settings(
    behind_pgbouncer: Callable[[str], str], tmp_path: Path
) -> None:
    done = run(SHOW_TIMEOUTS, tmp_path, DATABASE_URL=behind_pgbouncer("session"))
    assert done.stdout.split() == ["1min", "10s"], done.stderr
