"""Environment variables as operators write them: each works, or is a sentence that names it."""

from __future__ import annotations

import os
import re
import runpy
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from django.core.exceptions import ImproperlyConfigured
from kombu import Connection
from kombu.exceptions import OperationalError
from kombu.transport import TRANSPORT_ALIASES
from redis import Redis

from tests.processes import PROJECT, clean_environment, run_python
from trajectory_site import servers

SETTINGS = str(PROJECT / "trajectory_site" / "settings.py")


@pytest.fixture
def read(tmp_path: Path) -> Iterator[Any]:
    """A function that returns the settings that an environment gives."""

    def read(**environment: str) -> dict[str, Any]:
        given = {"SECRET_KEY": "x", "DATA_DIR": str(tmp_path)} | environment
        with patch.dict(os.environ, given, clear=True):
            return runpy.run_path(SETTINGS)

    with patch.dict(TRANSPORT_ALIASES), patch.dict("kombu.transport._transport_cache", clear=True):
        yield read


WORKS: list[tuple[dict[str, str], str, Any]] = [
    ({"SECRET_KEY": "$dollar$"}, "SECRET_KEY", "$dollar$"),
    ({"SECRET_KEY": "'quoted'"}, "SECRET_KEY", "quoted"),
    ({"SECRET_KEY": "line\n"}, "SECRET_KEY", "line"),
    ({"DEBUG": "yes"}, "DEBUG", True),
    ({"DEBUG": "On"}, "DEBUG", True),
    ({"DEBUG": "0"}, "DEBUG", False),
    ({"DEBUG": '"false" '}, "DEBUG", False),
    ({"DEBUG": ""}, "DEBUG", False),
    ({"ALLOWED_HOSTS": "a.example, b.example"}, "ALLOWED_HOSTS", ["a.example", "b.example"]),
    ({"ALLOWED_HOSTS": "a.example b.example [::1]"}, "ALLOWED_HOSTS", ["a.example", "b.example", "[::1]"]),
    ({"ALLOWED_HOSTS": "*"}, "ALLOWED_HOSTS", ["*"]),
    ({"ALLOWED_HOSTS": ""}, "ALLOWED_HOSTS", ["localhost", "127.0.0.1", "[::1]"]),
    ({"CSRF_TRUSTED_ORIGINS": "https://a.example/"}, "CSRF_TRUSTED_ORIGINS", ["https://a.example"]),
    ({"CORS_ALLOWED_ORIGINS": "http://a:3000, https://b"}, "CORS_ALLOWED_ORIGINS", ["http://a:3000", "https://b"]),
    ({"SECRET_KEY_FALLBACKS": "$one, 'two'"}, "SECRET_KEY_FALLBACKS", ["$one", "two"]),
    ({"SECRET_KEY_FALLBACKS": '["a,b", "c d"]'}, "SECRET_KEY_FALLBACKS", ["a,b", "c d"]),
    ({"ALLOWED_HOSTS": '["a.example", ".b.example"]'}, "ALLOWED_HOSTS", ["a.example", ".b.example"]),
    ({"ALLOWED_HOSTS": "my_host"}, "ALLOWED_HOSTS", ["my_host"]),
    ({"CSRF_TRUSTED_ORIGINS": "https://*.a.example"}, "CSRF_TRUSTED_ORIGINS", ["https://*.a.example"]),
    ({"CORS_ALLOWED_ORIGINS": "HTTPS://App.example:443/"}, "CORS_ALLOWED_ORIGINS", ["https://app.example"]),
    ({"CORS_ALLOWED_ORIGINS": "http://[::1]:5173"}, "CORS_ALLOWED_ORIGINS", ["http://[::1]:5173"]),
    ({"STATIC_ROOT": ""}, "STATIC_ROOT", None),
    ({"STATIC_ROOT": "~/static", "HOME": "/home/store"}, "STATIC_ROOT", "/home/store/static"),
    ({"URL_PREFIX": "/store/"}, "URL_PREFIX", "/store"),
    ({"URL_PREFIX": "/"}, "URL_PREFIX", ""),
    ({"TRUST_X_FORWARDED_PREFIX": "True"}, "TRUST_X_FORWARDED_PREFIX", True),
    ({"TRUST_X_FORWARDED_PROTO": "1"}, "SECURE_PROXY_SSL_HEADER", ("HTTP_X_FORWARDED_PROTO", "https")),
    ({"SECURE_COOKIES": "y"}, "CSRF_COOKIE_SECURE", True),
    ({"SECURE_HSTS_INCLUDE_SUBDOMAINS": "true"}, "SECURE_HSTS_INCLUDE_SUBDOMAINS", True),
    ({"SECURE_HSTS_PRELOAD": "off"}, "SECURE_HSTS_PRELOAD", False),
    ({"SECURE_HSTS_SECONDS": " 60 "}, "SECURE_HSTS_SECONDS", 60),
    ({"SECURE_SSL_REDIRECT": "on"}, "SESSION_COOKIE_SECURE", True),
    ({"REDIS_TIMEOUT_S": "0.5"}, "REDIS_TIMEOUT_S", 0.5),
    ({"REDIS_URL": "valkey://cache:6379/2"}, "REDIS_URL", "redis://cache:6379/2"),
    ({"REDIS_URL": "valkeys://cache"}, "CELERY_BROKER_URL", "rediss://cache/1"),
    ({"REDIS_URL": '"redis://cache/2"\n'}, "CELERY_BROKER_URL", "redis://cache/3"),
    ({"REDIS_URL": "redis://[::1]:6380/2"}, "CELERY_BROKER_URL", "redis://[::1]:6380/3"),
    (
        {"REDIS_URL": "rediss://:p@h:6380?ssl_cert_reqs=none"},
        "CELERY_BROKER_URL",
        "rediss://:p@h:6380/1?ssl_cert_reqs=none",
    ),
    ({"CELERY_BROKER_URL": "amqp://guest@rabbit//"}, "CELERY_BROKER_URL", "amqp://guest@rabbit//"),
    ({"CELERY_BROKER_URL": "valkey://cache/7"}, "CELERY_BROKER_URL", "redis://cache/7"),
    ({"CELERY_BROKER_URL": "unix:///r.sock?db=2"}, "CELERY_BROKER_URL", "redis+socket:///r.sock?virtual_host=2"),
]


@pytest.mark.parametrize(("environment", "name", "value"), WORKS, ids=str)
def test_a_value_works_as_it_is_written(read: Any, environment: dict[str, str], name: str, value: Any) -> None:
    assert read(**environment)[name] == value


@pytest.mark.parametrize("scheme", ["postgres", "postgresql"])
@pytest.mark.parametrize(
    ("rest", "expected"),
    [
        ("u:p%40%2F%23%25@db:5433/n", {"USER": "u", "PASSWORD": "p@/#%", "HOST": "db", "PORT": 5433, "NAME": "n"}),
        ("u@[2001:db8::1]:5433/n", {"HOST": "2001:db8::1", "PORT": 5433, "NAME": "n"}),
        ("u:$p@db/n", {"PASSWORD": "$p"}),
        ("u:p#1@db/n", {"PASSWORD": "p#1", "HOST": "db"}),
    ],
)
def test_a_postgres_url_is_read(read: Any, scheme: str, rest: str, expected: dict[str, Any]) -> None:
    database = read(DATABASE_URL=f" {scheme}://{rest}\n")["DATABASES"]["default"]
    assert {key: database[key] for key in expected} == expected
    assert database["ENGINE"] == "django.db.backends.postgresql"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgresql:///store?host=/run/postgresql", {"NAME": "store", "OPTIONS": {"host": "/run/postgresql"}}),
        ("Postgres://u:p@db/n?sslmode=require", {"HOST": "db", "OPTIONS": {"sslmode": "require"}}),
        ("sqlite:////srv/store.sqlite3", {"NAME": "/srv/store.sqlite3", "OPTIONS": {"timeout": 20}}),
    ],
)
def test_a_database_url_with_options_is_read(read: Any, url: str, expected: dict[str, Any]) -> None:
    database = read(DATABASE_URL=url, DATABASE_STATEMENT_TIMEOUT_MS="0")["DATABASES"]["default"]
    assert expected.pop("OPTIONS").items() <= database["OPTIONS"].items()
    assert {key: database[key] for key in expected} == expected


@pytest.mark.parametrize("level", ["debug", "WARN", "Error"])
def test_a_log_level_and_format_are_used(read: Any, level: str) -> None:
    logging = read(LOG_LEVEL=level, LOG_FORMAT="%(message)s %(request_id)s", DATA_DIR="~/x", HOME="/tmp")["LOGGING"]
    assert level.upper() in repr(logging)
    assert "'%(message)s %(request_id)s'" in repr(logging)


@pytest.mark.parametrize("name", ["", "django.request", "mcp"])
def test_no_logger_writes_below_the_log_level(tmp_path: Path, name: str) -> None:
    code = f"""
import django, logging
django.setup()
logging.getLogger({name!r}).warning("one")
logging.getLogger({name!r}).error("two")
"""
    site = {"DJANGO_SETTINGS_MODULE": "trajectory_site.settings", "SECRET_KEY": "x", "DATA_DIR": str(tmp_path)}
    done = run_python(["-c", code], clean_environment(LOG_LEVEL="ERROR", **site))
    assert ("one" in done.stderr, "two" in done.stderr) == (False, True)


@pytest.mark.parametrize("key", ["QUEUE", "METRICS_ACCESS", "TENANT_FROM_REQUEST", "OUTBOX_PATH"])
def test_a_text_of_the_app_may_look_like_a_number(read: Any, key: str) -> None:
    assert read(**{f"TRAJECTORIES_{key}": "12345678901234567890"})["TRAJECTORIES"][key] == "12345678901234567890"


def test_other_settings_of_the_app_are_json(read: Any) -> None:
    given = {"RESEND_AFTER_S": "2.5", "HOT_MAX_RECORDS": "'7'", "RATE_LIMITS": '{"requests_per_minute": 6}'}
    found = read(**{f"TRAJECTORIES_{key}": text for key, text in given.items()})["TRAJECTORIES"]
    assert [found[key] for key in given] == [2.5, 7, {"requests_per_minute": 6}]


@pytest.mark.parametrize("key", ["RELAY_IN_PROCESS", "REDACT"])
@pytest.mark.parametrize(("text", "value"), [("off", False), ("Yes", True), ("0", False), ("False", False)])
def test_a_boolean_of_the_app_is_read_as_one(read: Any, key: str, text: str, value: bool) -> None:
    assert read(**{f"TRAJECTORIES_{key}": text})["TRAJECTORIES"][key] is value


def test_an_empty_variable_of_the_app_is_an_unset_one(read: Any) -> None:
    assert read(TRAJECTORIES_QUEUE=" ")["TRAJECTORIES"]["QUEUE"] == "trajectories-{store}"
    assert read(TRAJECTORIES_METRICS_ACCESS="off")["TRAJECTORIES"]["METRICS_ACCESS"] == "off"


WRONG: list[tuple[str, str, str]] = [
    ("SECRET_KEY", " ", "is not set"),
    ("DEBUG", "maybe", "must be true or false, got 'maybe'"),
    ("ALLOWED_HOSTS", "https://store.example", "write the host alone"),
    ("ALLOWED_HOSTS", "store.example:8000", "write the host alone"),
    ("ALLOWED_HOSTS", "*.store.example", "write '.store.example'"),
    ("ALLOWED_HOSTS", "a.example;b.example", "write the host alone"),
    ("CSRF_TRUSTED_ORIGINS", "store.example", "write scheme and host alone"),
    ("CSRF_TRUSTED_ORIGINS", "https://store.example/path", "write scheme and host alone"),
    ("CORS_ALLOWED_ORIGINS", "*", "write scheme and host alone"),
    ("CORS_ALLOWED_ORIGINS", "null", "write scheme and host alone"),
    ("CORS_ALLOWED_ORIGINS", "https://*.store.example", "name each origin"),
    ("CORS_ALLOWED_ORIGINS", "http://localhost:port", "write scheme and host alone"),
    ("SECURE_HSTS_SECONDS", "a year", "must be a whole number"),
    ("SECURE_COOKIES", "never", "must be true or false"),
    ("DATABASE_STATEMENT_TIMEOUT_MS", "60s", "must be a whole number"),
    ("DATABASE_STATEMENT_TIMEOUT_MS", "99999999999", "from 0 to 2147483647"),
    ("DATABASE_TRANSACTION_POOLING", "pgbouncer", "must be true or false"),
    ("REDIS_TIMEOUT_S", "0", "must be a number of seconds above 0"),
    ("REDIS_TIMEOUT_S", "nan", "must be a number of seconds above 0"),
    ("DATA_DIR", "/dev/null/x", "cannot be used"),
    ("LOG_LEVEL", "loud", "must be one of DEBUG, INFO"),
    ("LOG_FORMAT", "%(nonsense", "is no format of Python's logging"),
    ("LOG_FORMAT", "%(colour)s %(message)s", "is no format of Python's logging"),
    ("DATABASE_URL", "mysql://u:secret@db/n", "must begin with postgresql:// or sqlite://"),
    ("DATABASE_URL", "db.example/n", "must begin with"),
    ("DATABASE_URL", "u:secret@db/n", "got no scheme"),
    ("DATABASE_URL", "postgresql+psycopg://u:secret@db/n", "must begin with"),
    ("DATABASE_URL", "postgresql://u:secret@db:port/n", "cannot be read"),
    ("DATABASE_URL", "postgresql://u:secret@db", "names no database"),
    ("DATABASE_URL", "sqlite://:memory:", "names no database"),
    ("REDIS_URL", "localhost:6379", "must begin with redis://"),
    ("REDIS_URL", "memcached://:secret@cache", "must begin with redis://"),
    ("REDIS_URL", "redis://:secret#1@cache/0", "cannot be read"),
    ("REDIS_URL", "redis://:secret@cache:port/0", "cannot be read"),
    ("REDIS_URL", "redis://:secret@cache/records", "cannot be read"),
    ("REDIS_URL", "sentinel://:secret@a:26379,b:26379", "must be sentinel://"),
    ("REDIS_URL", "redis+sentinel://:secret@a:x/mymaster/0", "must be sentinel://"),
    ("CELERY_BROKER_URL", "rabbit", "has no scheme"),
    ("CELERY_BROKER_URL", "guest:secret@rabbit", "has no scheme"),
    ("CELERY_BROKER_URL", "memory://", "reach no worker"),
    ("CELERY_BROKER_URL", "filesystem://", "reach no worker"),
    ("CELERY_BROKER_URL", "consul://:secret@host", "a library that is not installed"),
    ("CELERY_BROKER_URL", "qpid://:secret@host", "a library that is not installed"),
    ("CELERY_BROKER_URL", "kafkaesque://:secret@host", "has the scheme"),
    ("TRAJECTORIES_REDACT", "sometimes", "must be true or false"),
    ("TRAJECTORIES_RESEND_AFTER_S", "30s", "cannot be '30s'. It wants float"),
    ("TRAJECTORIES_CREDIT_RULE", "check", "cannot be 'check'"),
    ("TRAJECTORIES_RATE_LIMITS", "600", "It wants Mapping[str, int]"),
    ("TRAJECTORIES_REDIS_TTL", "600", "is no setting. Did you mean TRAJECTORIES_REDIS_TTL_S?"),
    ("SECURE_SSL_REDIRECT", "always", "must be true or false"),
    ("SECURE_HSTS_INCLUDE_SUBDOMAINS", "all", "must be true or false"),
    ("SECURE_HSTS_PRELOAD", "2", "must be true or false"),
    ("TRUST_X_FORWARDED_PROTO", "https", "must be true or false"),
    ("TRUST_X_FORWARDED_PREFIX", "/store", "must be true or false"),
    ("URL_PREFIX", "https://a.example/store", "must be a path"),
    ("URL_PREFIX", "/store/..", "must be a path"),
]


@pytest.mark.parametrize(("name", "text", "words"), WRONG)
def test_a_value_that_cannot_work_is_one_sentence_about_its_variable(
    read: Any, name: str, text: str, words: str
) -> None:
    with pytest.raises(ImproperlyConfigured) as caught:
        read(**{name: text})
    message = str(caught.value)
    assert message.startswith(f"{name} ")
    assert words in message
    assert "secret" not in message or name == "SECRET_KEY"


def test_every_variable_of_the_page_is_tried_here() -> None:
    page = (PROJECT / "docs" / "environment.md").read_text()
    rows = [row.split("|")[1] for row in page.splitlines() if row.startswith("| `")]
    variables = {name for row in rows for name in re.findall(r"`([A-Z_]+)`", row)}
    assert len(variables) > 20
    tried = {name for environment, _, _ in WORKS for name in environment} | {name for name, _, _ in WRONG}
    assert variables <= tried


def test_a_server_does_not_start_without_the_collected_files_that_it_is_told_of(tmp_path: Path) -> None:
    environment = clean_environment(SECRET_KEY="x", DATA_DIR=str(tmp_path), STATIC_ROOT=str(tmp_path / "static"))
    done = run_python(["-m", "trajectory_site.server"], environment)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert done.stderr.startswith(f"STATIC_ROOT {tmp_path}/static has no collected files. Run `trajectories-server")


@pytest.fixture
def socket_redis(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Start a Redis on a socket, with a password and so many databases."""
    with ExitStack() as stack, tempfile.TemporaryDirectory() as short:  # a socket's path has a limit

        def start(databases: int) -> Path:
            socket = Path(short, "r.sock")
            options = ["--port", "0", "--unixsocket", str(socket), "--requirepass", "p@ss", "--dir", str(tmp_path)]
            command = [str(servers.find_redis()[0]), *options, "--databases", str(databases)]
            process = stack.enter_context(servers.server_process(command, tmp_path / "redis.log"))
            servers.wait_for_server(process, tmp_path / "redis.log", "Redis", socket.exists)
            return socket

        yield start


@pytest.mark.parametrize("auth", ["unix://:p%40ss@{}?db={}", "unix://{}?password=p%40ss&db={}"])
@pytest.mark.parametrize(("databases", "tier", "broker"), [(16, 2, 3), (1, 0, 0), (4, 3, 3)])
def test_the_broker_has_the_tier_s_password_and_the_next_database_if_there_is_one(
    read: Any, socket_redis: Callable[[int], Path], auth: str, databases: int, tier: int, broker: int
) -> None:
    socket = socket_redis(databases)
    found = read(REDIS_URL=auth.format(socket, tier))
    with Redis.from_url(found["CACHES"]["trajectories"]["LOCATION"]) as client:
        client.set("record", 1)
    with Connection(
        found["CELERY_BROKER_URL"],
        transport=found["CELERY_BROKER_TRANSPORT"],
        transport_options=found["CELERY_BROKER_TRANSPORT_OPTIONS"],
    ) as connection:
        connection.SimpleQueue("work").put("a message")
        with Redis(unix_socket_path=str(socket), password="p@ss", db=broker) as client:
            assert client.llen("work") == 1
            assert bool(client.exists("record")) is (tier == broker)


def test_a_database_that_the_operator_names_is_used_or_refused(read: Any, socket_redis: Callable[[int], Path]) -> None:
    found = read(CELERY_BROKER_URL=f"redis+socket://:p%40ss@{socket_redis(1)}?virtual_host=1")
    connection = Connection(found["CELERY_BROKER_URL"], transport=found["CELERY_BROKER_TRANSPORT"])
    with connection, pytest.raises(OperationalError, match="DB index is out of range"):
        connection.ensure_connection(max_retries=1, interval_start=0)


@pytest.mark.parametrize("arguments", [["manage.py", "check"], ["-m", "trajectory_site.server"]])
def test_a_wrong_variable_ends_a_process_with_its_sentence_and_no_traceback(arguments: list[str]) -> None:
    done = run_python(arguments, clean_environment(SECRET_KEY="x", DEBUG="maybe"))
    assert done.returncode != 0
    assert done.stderr.strip() == "DEBUG must be true or false, got 'maybe'."
