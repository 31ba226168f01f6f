"""A logged text reaches the terminal as text, and one log record is one line."""

from __future__ import annotations

import io
import logging
import logging.config
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import pytest
from django.conf import settings
from django.test import Client

from tests.admin.rows import record
from tests.credentials import CREDENTIALS, DISGUISES, MIXED
from tests.text.injections import INJECTIONS
from trajectories import persistence
from trajectories.domain.text import escaped, visible
from trajectories.storage.archive_writes import RefusedRecord
from trajectories.storage.store import get_store

_ACTING = "\x1b\x07\x9b\x9c\x9d\r\u202e\u202c\u2066\u2067\u2069\u2028\u2029\u200b\ufeff\U000e0069"


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """Return the line that the site's handler writes."""
    logging_config: dict[str, Any] = settings.LOGGING
    name = logging_config["handlers"]["stderr"]["formatter"]
    handler = logging.StreamHandler(stream := io.StringIO())
    # A copy, since what is made of it eats it.
    handler.setFormatter(
        logging.config.DictConfigurator({}).configure_formatter(dict(logging_config["formatters"][name]))
    )
    root = logging.getLogger()
    root.addHandler(handler)
    yield stream
    root.removeHandler(handler)


@pytest.mark.parametrize("name", INJECTIONS)
def test_a_record_is_one_line_and_nothing_in_it_acts(
    name: str, log: io.StringIO, record_property: Callable[[str, Any], None]
) -> None:
    text = INJECTIONS[name]
    logging.getLogger("test").warning("Refused: %s", text)
    logging.getLogger(f"test {text}").warning(text)
    lines = log.getvalue().splitlines()
    assert len(lines) == 2
    assert lines[0].endswith(f"WARNING test: Refused: {escaped(text)}")
    assert not set(log.getvalue()) & set(_ACTING)
    record_property("text", ("log", name))


@pytest.mark.parametrize("name", INJECTIONS)
def test_no_line_of_a_traceback_looks_like_a_record(name: str, log: io.StringIO) -> None:
    try:
        raise ValueError(INJECTIONS[name])
    except ValueError:
        logging.getLogger("test").exception("Failed.", stack_info=True)
    first, *rest = log.getvalue().splitlines()
    assert first.endswith("ERROR test: Failed.")
    assert all(line.startswith("| ") for line in rest)
    assert not set(log.getvalue()) & set(_ACTING)


@pytest.mark.django_db
def test_a_record_that_the_archive_refuses_forges_no_line(
    log: io.StringIO, redis_tier: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(records: Any) -> Any:
        raise RefusedRecord(f"value too long: {records[0].body.decode()}\n2026-01-01 00:00:00,000 INFO forged\x1b[2J")

    monkeypatch.setattr(persistence, "mirror", refuse)
    persistence.persist(get_store(), [record({"request_summary": "x", "phases": []})])
    lines = log.getvalue().splitlines()
    assert [line for line in lines if "Quarantined:" in line]
    assert [line for line in lines if line.startswith("| 2026-01-01 00:00:00,000 INFO forged\\x1b[2J")]
    assert not [line for line in lines if line.startswith("2026-01-01 ")]


def test_an_address_that_is_not_there_forges_no_line(log: io.StringIO, client: Client) -> None:
    client.get("/v1/%0D%0A2026-01-01%20INFO%20forged%1B%5B2J")
    assert "forged" in log.getvalue()
    assert len(log.getvalue().splitlines()) == 1
    assert "\x1b" not in log.getvalue()


@pytest.mark.parametrize("disguise", ["name before", "percent-encoded signs", "zero-width space", "colour before"])
@pytest.mark.parametrize("path", ["/v1/agent/", "/v1/", "/nowhere/", "/"])
def test_a_credential_in_the_path_of_an_unknown_address_is_not_logged(
    path: str, disguise: str, log: io.StringIO, client: Client
) -> None:
    for kind, token in [*CREDENTIALS[:12], ("trajectories-key", MIXED[:12] + "." + MIXED[12:44])]:
        answer = client.get(path + quote(DISGUISES[disguise](token)))
        assert answer.status_code == 404
        # Outside the API, the page says only that there is nothing.
        for text in (log.getvalue(), answer.content.decode())[: 2 if path.startswith("/v1") else 1]:
            assert f"[redacted:{kind}]" in text
        assert token[-12:] not in log.getvalue() + answer.content.decode()


def test_a_credential_in_the_text_of_an_exception_is_not_logged(log: io.StringIO) -> None:
    token = dict(CREDENTIALS)["github-token"]
    try:
        raise ValueError(f"401 for X-Api-Key: {MIXED[:24]} and {token}")
    except ValueError:
        logging.getLogger("test").exception("Failed for %s.", token)
    assert MIXED[:20] not in log.getvalue()
    assert log.getvalue().count("[redacted:github-token]") == 2


def test_active_characters_are_shown_as_pictures_and_escapes() -> None:
    assert visible("a\x1b[0m\x7f\x9b\u202eb\tc\nd\r") == "a␛[0m␡⟦U+009B⟧⟦U+202E⟧b\tc\nd␍"
    assert escaped("a\x1b[0m\x7f\x9b\u202eb\tc\nd\r\U000e0069") == r"a\x1b[0m\x7f\x9b\u202eb\tc\nd\r\U000e0069"


def test_ordinary_text_is_unchanged() -> None:
    for text in ("Grüße, العربية, עברית", "می‌خواهم", "👩‍💻 🇪🇺 ❤️", "x = 'é' \\ \u00a0"):
        assert visible(text) == escaped(text) == text


def test_emoji_keep_one_variation_selector_and_other_text_none() -> None:
    for text in (
        "1\ufe0f\u20e3",
        "\u2764\ufe0f",
        "\u2764\ufe0e",
        "\U0001f3f3\ufe0f\u200d\U0001f308",
        "\U0001f590\ufe0f",
    ):
        assert visible(text) == escaped(text) == text
    assert visible("a\ufe0f1\ufe0f \u2764\ufe0f\ufe0f") == "a⟦U+FE0F⟧1⟦U+FE0F⟧ \u2764\ufe0f⟦U+FE0F⟧"
    assert escaped("\u2764\ufe00\U000e0100") == "\u2764\\ufe00\\U000e0100"
