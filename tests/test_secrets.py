"""No secret appears in a log, an error report or the repr of an object."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.signals import got_request_exception
from django.http import HttpRequest
from django.test import Client
from django.views.debug import ExceptionReporter, get_exception_reporter_filter
from pytest_django import Settings

from tests.api.client import PATH, client_of, issue
from trajectories.api import authentication
from trajectories.conf import read_settings
from trajectories.services import reads
from trajectories.storage.store import get_store
from trajectory_site.logs import LineFormatter

SECRET = "-".join(["made", "up", "secret", "of", "a", "test"])


@pytest.fixture
def reports() -> Iterator[list[str]]:
    """Return the mails to ADMINS, as text and as HTML with the variables of each frame."""
    made: list[str] = []

    def report(sender: Any, request: HttpRequest, **_: Any) -> None:
        reporter = ExceptionReporter(request, *sys.exc_info())
        made.extend([reporter.get_traceback_text(), reporter.get_traceback_html()])

    got_request_exception.connect(report)
    yield made
    got_request_exception.disconnect(report)


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    handler = logging.StreamHandler(stream := io.StringIO())
    handler.setFormatter(LineFormatter("%(levelname)s %(name)s: %(message)s"))
    root, level = logging.getLogger(), logging.getLogger().level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield stream
    root.removeHandler(handler)
    root.setLevel(level)


@pytest.mark.django_db
@pytest.mark.parametrize("where", ["reads", "keys"])
def test_a_failure_does_not_reveal_the_key(
    where: str, reports: list[str], log: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("this fails")

    text = issue()[1]
    # In the second case while the key is a variable of the frames that fail.
    target: tuple[Any, str] = (reads, "list_") if where == "reads" else (authentication._generator, "verify")
    monkeypatch.setattr(*target, fail)
    assert client_of(text).get(PATH).status_code == 500
    assert "this fails" in log.getvalue()
    assert len(reports) == 2
    for written in (log.getvalue(), *reports):
        assert "RuntimeError" in written
        assert text not in written
        assert text.partition(".")[2] not in written


@pytest.mark.django_db
def test_a_failure_that_quotes_the_request_tells_the_log_no_key(
    log: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = issue()[1]

    def fail(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError({"Authorization": f"Bearer {text}", "broker": f"redis://user:{SECRET}@127.0.0.1/0"})

    monkeypatch.setattr(reads, "list_", fail)
    assert client_of(text).get(PATH).status_code == 500
    assert "RuntimeError" in log.getvalue()
    assert text.partition(".")[2] not in log.getvalue()
    assert SECRET not in log.getvalue()


def test_a_refused_metrics_request_does_not_reveal_the_secret(
    settings: Settings,
    trajectories_settings: dict[str, Any],
    reports: list[str],
    log: io.StringIO,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings.TRAJECTORIES = trajectories_settings | {"METRICS_ACCESS": SECRET}

    def fail(*args: Any) -> Any:
        raise RuntimeError("this fails")

    monkeypatch.setattr("trajectories.api.metrics.hmac.compare_digest", fail)
    client = Client(headers={"authorization": f"Bearer {SECRET}"}, raise_request_exception=False)
    assert client.get("/metrics").status_code == 500
    assert len(reports) == 2
    for written in (log.getvalue(), *reports):
        assert "this fails" in written
        assert SECRET not in written


def test_a_report_of_the_settings_has_no_password() -> None:
    given = {
        "TRAJECTORIES": {"METRICS_ACCESS": SECRET, "OUTBOX_PATH": "/x"},
        "CACHES": {"trajectories": {"LOCATION": f"redis://:{SECRET}@127.0.0.1:6379/0"}},
        "CELERY_BROKER_URL": f"amqp://user:{SECRET}@127.0.0.1//",
        "DATABASES": {"default": {"PASSWORD": SECRET}},
    }
    cleansed = {
        name: get_exception_reporter_filter(HttpRequest()).cleanse_setting(name, value) for name, value in given.items()
    }
    assert SECRET not in str(cleansed)
    assert "/x" in str(cleansed)
    assert "127.0.0.1:6379/0" in str(cleansed)


def test_settings_do_not_say_their_secret(settings: Settings, trajectories_settings: dict[str, Any]) -> None:
    settings.TRAJECTORIES = trajectories_settings | {"METRICS_ACCESS": SECRET}
    assert read_settings().metrics_access == SECRET
    assert SECRET not in repr(read_settings())


@pytest.mark.django_db
def test_the_stored_digest_of_a_key_is_no_key_and_not_revealed() -> None:
    key, text = issue()
    verified = authentication._verify(text, key.prefix)
    assert verified.matches(text)
    secret = text.partition(".")[2]
    assert secret not in f"{verified!r} {verified.caller('prefix')!r} {key!r} {key.hashed_key}"
    assert verified.digest not in repr(verified)
    assert secret not in str(get_store().outbox.remembered_key(key.prefix, 0))
