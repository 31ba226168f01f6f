"""A refused request or argument is one line, whatever its length."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator

import pytest
from django.core.exceptions import DisallowedHost, RequestDataTooBig, SuspiciousOperation, TooManyFieldsSent
from django.test import Client

from tests.processes import PROJECT, clean_environment
from trajectory_site.logs import LineFormatter

LONG = 200_000


@pytest.fixture
def lines() -> Iterator[list[str]]:
    """Collect what the site's formatter makes of each record."""
    made: list[str] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            made.append(self.format(record))

    handler = Handler()
    handler.setFormatter(LineFormatter("%(levelname)s %(name)s: %(message)s"))
    logging.getLogger().addHandler(handler)
    yield made
    logging.getLogger().removeHandler(handler)


@pytest.mark.parametrize(
    "host", ["evil.example", "a" * LONG, "x://" + ":" * LONG, "a://:b@" * 30_000, "[::", "a b", "\x1b[31mred"]
)
@pytest.mark.parametrize("path", ["/admin/", "/v1/agent/trajectories", "/nowhere"])
def test_a_bad_host_is_one_line(host: str, path: str, lines: list[str]) -> None:
    answer = Client(raise_request_exception=False).get(path, headers={"Host": host})
    assert answer.status_code == 400
    (line,) = lines
    assert line.startswith("ERROR django.security.DisallowedHost: Invalid HTTP_HOST header: ")
    assert "\n" not in line
    assert len(line) < 2_100


@pytest.mark.parametrize("error", [DisallowedHost, TooManyFieldsSent, RequestDataTooBig, SuspiciousOperation])
def test_a_request_that_django_refuses_is_logged_without_traceback(error: type[Exception], lines: list[str]) -> None:
    try:
        raise error("why")
    except error as raised:
        logging.getLogger(f"django.security.{error.__name__}").error(str(raised), exc_info=raised)
        logging.getLogger("another").error("failed", exc_info=raised)
    assert lines[0] == f"ERROR django.security.{error.__name__}: why"
    assert "| Traceback" in lines[1]  # an error of the site keeps its own


@pytest.mark.django_db
def test_a_request_with_too_many_fields_or_too_long_a_path_is_one_line(lines: list[str]) -> None:
    client = Client(raise_request_exception=False)
    fields = "&".join(f"a{n}=1" for n in range(2_000))
    assert client.post("/admin/login/", fields, "application/x-www-form-urlencoded").status_code == 400
    for path in ("/nowhere/" + "a" * LONG, "/x://" + ":" * LONG, "/" + "a://:b@" * 30_000):
        assert client.get(path).status_code == 404
    assert [line.partition(":")[0] for line in lines] == [
        "ERROR django.security.TooManyFieldsSent",
        *["WARNING django.request"] * 3,
    ]
    assert all(len(line) < 2_100 and "\n" not in line for line in lines)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--port", "99999"], "argument --port: must be a number from 1 to 65535, got '99999'"),
        (["--port", "9" * 5_000], "argument --port: must be a number from 1 to 65535, got '999"),
        (["--host", "localhost"], "argument --host: must be an IP address such as 127.0.0.1 or ::, got 'localhost'"),
        (["--threads", "0"], "argument --threads: must be a number from 1 to 1024, got '0'"),
    ],
)
def test_a_wrong_argument_of_the_server_is_one_line(
    arguments: list[str], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from trajectory_site import server

    monkeypatch.setattr(sys, "argv", ["trajectories-server serve", *arguments])
    with pytest.raises(SystemExit):
        server._arguments()
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert said in last
    assert len(last) < 300


def test_a_path_that_no_file_can_have_is_one_line() -> None:
    environment = clean_environment(SECRET_KEY="only for tests", DATA_DIR="a" * 5_000)
    done = subprocess.run(
        [sys.executable, "manage.py", "check"],
        cwd=PROJECT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("DATA_DIR cannot be used: ")
