"""A line of the log takes bounded CPU time, and no cut in it shows half of a credential."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable

import pytest
from django.core.exceptions import SuspiciousOperation
from django.test import Client, RequestFactory
from rest_framework.exceptions import MethodNotAllowed, UnsupportedMediaType

from tests.credentials import CREDENTIALS, MIXED, private_key
from tests.domain.test_cost import FACTOR, MOST, NOISE_S, SMALL_BYTES, cpu_s
from trajectories.api.exception_handler import error_response
from trajectories.domain import redaction
from trajectory_site.exception_filter import hide_passwords
from trajectory_site.logs import _CUT, LineFormatter

PASSWORD = "-".join(["made", "up", "password"])
TOKEN = dict(CREDENTIALS)["github-token"]
HARD = [
    ":",
    "a://:b@",
    "x://:",
    "://",
    "bearer ",
    "bearer:",
    "bearer\t",
    "@",
    "\x1b",
    "\u202e",
    "a b",
    "sk-ant-",
    "%41a",
]


def line_of(message: str) -> str:
    return _formatter().format(logging.LogRecord("test", logging.INFO, "x", 1, message, None, None))


def traceback_of(message: str) -> str:
    try:
        raise ValueError(message)
    except ValueError as error:
        found = type(error), error, error.__traceback__
        return _formatter().formatException(found)


def _formatter() -> LineFormatter:
    return LineFormatter("%(levelname)s %(message)s")


def _lines(message: str) -> str:
    return traceback_of(message.replace(" ", "\n"))


@pytest.mark.parametrize("piece", HARD)
@pytest.mark.parametrize("work", [hide_passwords, line_of, traceback_of, _lines])
def test_cpu_per_byte_of_the_formatter_does_not_grow_with_the_text(work: Callable[[str], str], piece: str) -> None:
    small, large = ("x://" + piece * (size // len(piece)) for size in (SMALL_BYTES, SMALL_BYTES * FACTOR))
    allowed = NOISE_S + MOST * cpu_s(lambda: work(small), 5)
    assert cpu_s(lambda: work(large), 1) <= allowed or cpu_s(lambda: work(large), 4) <= allowed


@pytest.mark.parametrize("piece", HARD)
def test_a_formatter_reads_no_more_than_it_may_show(piece: str, monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    original = redaction.replace_text

    def replace_text(text: str) -> str:
        read.append(len(text))
        return original(text)

    monkeypatch.setattr(redaction, "replace_text", replace_text)
    line_of(piece * 100_000)
    assert max(read) < 10_000
    traceback_of(piece * 100_000)
    traceback_of(f"{piece}\n" * 100_000)
    assert max(read) < 20_000


@pytest.mark.parametrize(
    "url", ["redis://user:{}@host", "amqp://:{}@host", "pg://me@tenant:{}@host:5432/x", "x://a:$b:{}@c/d@e:f"]
)
@pytest.mark.parametrize("password", [PASSWORD, f"a:{PASSWORD}:b", f"::{PASSWORD}", f"p@{PASSWORD}"])
def test_a_password_with_colons_is_hidden(url: str, password: str) -> None:
    assert PASSWORD not in hide_passwords(f"at {url.format(password)} end")
    assert hide_passwords("http://host:80/a@b x://: y@z") == "http://host:80/a@b x://: y@z"


@pytest.mark.parametrize("secret", [f"redis://user:{PASSWORD}@host", TOKEN, f"bearer {MIXED[:30]}"])
@pytest.mark.parametrize("make", [line_of, traceback_of, lambda text: redaction.quoted(text, max_chars=300)])
def test_no_cut_shows_half_of_a_credential(make: Callable[[str], str], secret: str) -> None:
    # What is replaced before it makes room for the text at the cut.
    key = f"a {private_key(newline=' ')} "
    for length in (2_000, 4_096, 8_000):
        for at in range(length - 60, length + 20):
            keys = key * (at // len(key) - 1)
            shown = make(f"{keys:.<{at}} {secret} {'z' * 9_000} end")
            assert PASSWORD[:9] not in shown
            assert TOKEN[:8] not in shown
            assert MIXED[:12] not in shown


@pytest.mark.parametrize("count", [1, 100, 400, 10_000])
def test_a_private_key_in_a_traceback_is_removed_wherever_it_is(count: int) -> None:
    for before in range(0, 400, 40):
        text = "\n".join([*[f"text {n}" for n in range(before)], *[private_key()] * count, "end"])
        shown = traceback_of(text)
        assert MIXED[:20] not in shown
        assert shown.startswith("| Traceback")
        assert "ValueError: " in shown


def test_a_long_traceback_keeps_its_beginning_and_its_end() -> None:
    def first(depth: int) -> None:
        second(depth - 1)

    def second(depth: int) -> None:
        if depth < 0:
            raise ValueError("the cause")
        first(depth)

    try:
        first(300)
    except ValueError:
        shown = _formatter().formatException(sys.exc_info())
    lines = shown.split("\n")
    assert lines[0] == "| Traceback (most recent call last):"
    assert lines[-1] == "| ValueError: the cause"
    assert [line for line in lines if line.startswith("| … (")]
    assert len(shown) < 40_000
    assert _CUT not in shown


@pytest.mark.parametrize("piece", ["a://:b@", "x://:::::", ":", "\x1b", "a"])
def test_an_answer_does_not_repeat_a_long_path(piece: str) -> None:
    answer = Client().get("/v1/" + piece * (60_000 // len(piece)))
    assert answer.status_code == 404
    assert len(answer.content) < 4_000
    assert answer.json()["error"]["message"].startswith("There is nothing at (")


@pytest.mark.parametrize(
    "error",
    [UnsupportedMediaType("a://:b@" * 9_000), SuspiciousOperation("a" * 60_000), MethodNotAllowed("A" * 60_000)],
)
def test_an_answer_does_not_repeat_a_long_header(error: Exception) -> None:
    answer = error_response(error, RequestFactory().get("/v1/x"))
    assert 400 <= answer.status_code < 500
    assert len(answer.content) < 4_000
