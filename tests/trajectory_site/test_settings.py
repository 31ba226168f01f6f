"""Settings from the environment, each time in a new process that reads them."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from tests.processes import PROJECT, clean_environment, run_python


def run(script: str, data_dir: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    settings = {"DJANGO_SETTINGS_MODULE": "trajectory_site.settings", "DATA_DIR": str(data_dir), "SECRET_KEY": "x"}
    arguments = ["-c", f"from django.conf import settings; {script}"]
    return run_python(arguments, clean_environment(**(settings | environment)))


def read(expression: str, data_dir: Path, **environment: str) -> Any:
    done = run(f"import json; print(json.dumps({expression}))", data_dir, **environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_missing_secret_key_names_the_variable(tmp_path: Path) -> None:
    done = run("settings.DEBUG", tmp_path, SECRET_KEY="")
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("django.core.exceptions.ImproperlyConfigured: SECRET_KEY is not set.")
    assert "quickstart" in last


def test_debug_is_off_unless_asked_for(tmp_path: Path) -> None:
    assert read("settings.DEBUG", tmp_path) is False
    assert read("settings.DEBUG", tmp_path, DEBUG="1") is True


def test_the_archive_is_sqlite_in_the_data_directory_with_wal(tmp_path: Path) -> None:
    script = (
        "import django; django.setup(); from django.db import connection; cursor = connection.cursor();"
        "print(connection.settings_dict['NAME'], *cursor.execute('PRAGMA journal_mode').fetchone(),"
        " *cursor.execute('PRAGMA synchronous').fetchone())"
    )
    done = run(script, tmp_path / "new")
    assert done.stdout.split() == [str(tmp_path / "new" / "db.sqlite3"), "wal", "2"], done.stderr


def test_a_postgres_url_gets_timeouts_and_keeps_its_own_options(tmp_path: Path) -> None:
    url = "postgresql://someone@db.example/name?sslmode=require&connect_timeout=7"
    database = read("settings.DATABASES['default']", tmp_path, DATABASE_URL=url)
    assert database["HOST"] == "db.example"
    assert database["OPTIONS"]["sslmode"] == "require"
    assert database["OPTIONS"]["connect_timeout"] == 7
    assert "options" not in database["OPTIONS"]  # PgBouncer refuses it


@pytest.mark.parametrize(
    ("tier", "broker"),
    [
        ("redis://:secret@cache.example:6380/3", "redis://:secret@cache.example:6380/4"),
        ("redis://cache.example", "redis://cache.example/1"),
        ("rediss://cache.example/2?ssl_cert_reqs=required", "rediss://cache.example/3?ssl_cert_reqs=required"),
        ("redis://cache.example?db=5", "redis://cache.example/6"),
        ("unix:///run/redis.sock?db=2", "redis+socket:///run/redis.sock?virtual_host=3"),
    ],
)
def test_the_broker_is_the_next_database_of_the_tier_s_server(tier: str, broker: str, tmp_path: Path) -> None:
    assert read("settings.CELERY_BROKER_URL", tmp_path, REDIS_URL=tier) == broker


def test_settings_of_the_app_come_from_the_environment_as_json_or_text(tmp_path: Path) -> None:
    given = read(
        "settings.TRAJECTORIES",
        tmp_path,
        TRAJECTORIES_OUTBOX_SYNCHRONOUS="NORMAL",
        TRAJECTORIES_RELAY_IN_PROCESS="false",
        TRAJECTORIES_REDIS_TTL_S="60",
    )
    assert given == {
        "OUTBOX_PATH": str(tmp_path / "outbox.sqlite3"),
        "QUEUE": "trajectories-{store}",
        "OUTBOX_SYNCHRONOUS": "NORMAL",
        "RELAY_IN_PROCESS": False,
        "REDIS_TTL_S": 60,
    }


def test_a_broker_that_is_away_is_known_at_once(tmp_path: Path) -> None:
    """Kombu's defaults would wait six seconds in each attempt of the relay."""
    script = (
        "import kombu.utils.functional; from trajectory_site.celery import app\n"
        "kombu.utils.functional.sleep = lambda seconds: print('It waits', seconds)\n"
        "try: app.send_task('nothing', retry=False)\n"
        "except kombu.exceptions.OperationalError: print('It is known')"
    )
    done = run(script, tmp_path, REDIS_URL="redis://127.0.0.1:1/0")
    assert done.stdout.strip() == "It is known", done.stderr


def test_behind_https_django_s_deployment_checks_have_nothing_to_say(tmp_path: Path) -> None:
    script = (
        "from django.core.management import execute_from_command_line as run;"
        "run(['', 'check', '--deploy', '--tag=security', '--fail-level=WARNING'])"
    )
    done = run(
        script,
        tmp_path,
        SECRET_KEY="".join(map(chr, range(ord("0"), ord("z")))),
        SECURE_SSL_REDIRECT="1",
        SECURE_HSTS_SECONDS="31536000",
        SECURE_HSTS_INCLUDE_SUBDOMAINS="1",
        SECURE_HSTS_PRELOAD="1",
    )
    assert done.returncode == 0, done.stderr


def test_the_page_for_host_projects_has_the_cors_settings_of_the_site() -> None:
    page = (PROJECT / "docs" / "host-project.md").read_text()
    (block,) = re.findall(r"^```python\n(# for settings\.py, with corsheaders.+?)^```$", page, re.M | re.S)
    named: dict[str, Any] = {}
    exec(block, named)
    for name in ("CORS_URLS_REGEX", "CORS_ALLOW_METHODS", "CORS_EXPOSE_HEADERS"):
        assert named[name] == getattr(settings, name)
    # The others are those of MCP, which is the site's.
    assert named["CORS_ALLOW_HEADERS"] == [name for name in settings.CORS_ALLOW_HEADERS if not name.startswith("mcp-")]
