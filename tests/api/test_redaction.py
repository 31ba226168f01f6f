"""A posted credential is in no place that outlives the request."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from django.test import Client

from tests.api.client import ID, NDJSON, PATH, error, post, posted
from tests.credentials import CREDENTIALS, IN_CONTEXT, MIXED
from tests.examples import CAMEL, body, phase
from tests.processes import Site, Web, wait_until
from trajectories import metrics
from trajectories.domain.redaction import COUNT_KEY, placeholder

TOKEN = dict(CREDENTIALS)["github-token"]
TEXTS = [(credential, credential) for _, credential in CREDENTIALS] + [
    (before + secret + after, secret) for _, before, secret, after in IN_CONTEXT
]
"""Texts with a credential in each, and the credential."""
SECRETS = [secret for _, secret in TEXTS if len(secret) > 10]
"""Those that no byte of a file is by chance."""


def runs() -> list[dict[str, Any]]:
    """A record with each credential, in both dialects in turn."""
    return [
        CAMEL | {"id": f"run-{n}", "request": text, "ownKey": {text: [text]}}
        if n % 2
        else body(request_summary="run", phases=[phase(error=text, tools_used=[text])], metadata={"a": {text: text}})
        for n, (text, _) in enumerate(TEXTS)
    ]


def everywhere(site: Site) -> bytes:
    """Every byte of the site: outbox and archive with their logs, Redis' append-only file, what its
    processes have printed."""
    files = [path for path in site.data_dir.rglob("*") if path.is_file() and not path.is_symlink()]
    suffixes = {path.name for path in files}
    assert {"outbox.sqlite3", "outbox.sqlite3-wal", "db.sqlite3"} <= suffixes, suffixes
    assert any("appendonly" in str(path) for path in files), suffixes
    assert any(path.suffix == ".log" for path in files), suffixes
    return b"".join(path.read_bytes() for path in files)


def record_everything(site: Site) -> tuple[Web, int]:
    web = site.web()
    site.worker()
    sent = runs()
    half = len(sent) // 2
    for run in sent[:half]:
        assert web.http.post(PATH, json=run).status_code == 201
    lines = b"\n".join(map(orjson.dumps, [*sent[half:], {TOKEN: TOKEN, "request_summary": TOKEN}]))
    answer = web.http.post(PATH, content=lines, headers={"Content-Type": NDJSON}).json()
    assert (answer["accepted"], answer["refused"]) == (len(sent) - half, 1)
    export = PATH + "/export?end=1"
    wait_until(lambda: web.http.get(export).is_success, what="everything is archived")
    assert json.loads(web.http.get(export).text.splitlines()[-1])["end"]["count"] == len(sent)
    return web, len(sent)


def test_a_credential_is_in_no_file_of_the_store_nor_in_redis_nor_in_an_answer(site: Site) -> None:
    web, count = record_everything(site)
    found = (
        everywhere(site) + web.http.get(PATH + "/export").content + web.http.get(PATH, params={"limit": 1000}).content
    )
    assert [secret for secret in SECRETS if secret.encode() in found] == []
    assert MIXED[:24].encode() not in found
    with site.redis.client() as client:
        values = [orjson.dumps(_texts(client, key)) for key in client.scan_iter("*:record:*")]
    assert len(values) == count
    assert MIXED[:24].encode() not in b"".join(values)
    assert found.count(b"[redacted:github-token]")


def _texts(client: Any, key: bytes) -> Any:
    read: dict[bytes, Callable[[], Any]] = {b"string": lambda: client.get(key), b"hash": lambda: client.hgetall(key)}
    return repr(read[client.type(key)]())


def test_with_redaction_off_it_is_kept_as_sent(make_site: Callable[..., Site]) -> None:
    site = make_site(TRAJECTORIES_REDACT="false")
    record_everything(site)
    assert MIXED[:24].encode() in everywhere(site)
    assert b"[redacted:" not in everywhere(site)


def test_the_answer_has_the_stored_text_and_its_redaction_count(north: Client) -> None:
    record = posted(north, body(id=ID, error=f"refused: {TOKEN}"))
    assert record["error"] == f"refused: {placeholder('github-token')}"
    assert record["metadata"] == {COUNT_KEY: {"github-token": 1}}


def test_a_repeat_with_the_credential_or_from_an_export_is_no_new_revision(north: Client) -> None:
    first = post(north, body(id=ID, error=TOKEN))
    assert post(north, body(id=ID, error=TOKEN)).content == first.content
    back = post(north, first.content)
    assert (back.status_code, back.content) == (200, first.content)


def test_it_can_be_turned_off(north: Client, settings: Any, trajectories_settings: dict[str, Any]) -> None:
    settings.TRAJECTORIES = trajectories_settings | {"REDACT": False}
    assert posted(north, body(id=ID, error=TOKEN)) | {"error": TOKEN} == posted(north, body(id=ID, error=TOKEN))


def test_redactions_are_counted_by_kind_and_placeholders_are_not(north: Client) -> None:
    def count() -> float:
        return metrics.registry.get_sample_value("trajectories_redacted_total", {"kind": "github-token"}) or 0

    before = count()
    stored = post(north, body(id=ID, error=f"{TOKEN} {TOKEN}"))
    assert count() == before + 2
    post(north, stored.content)
    assert count() == before + 2


@pytest.mark.parametrize(("text", "secret"), TEXTS)
def test_a_refusal_quotes_no_credential(
    north: Client, text: str, secret: str, caplog: pytest.LogCaptureFixture
) -> None:
    refused = post(north, body(**{text: text}, metadata={text: "a\0b"}))
    error(refused, 400, "invalid_input")
    lines = post(north, orjson.dumps({text: 1, "request_summary": 7}), content_type=NDJSON)
    unknown = north.get(PATH, {text: "1"})
    error(unknown, 400, "unknown_parameter")
    for said in (refused.content, lines.content, unknown.content, caplog.text.encode()):
        assert secret.encode() not in said
        assert MIXED[:24].encode() not in said


def test_the_outbox_file_never_has_it_even_before_it_is_handed_over(
    north: Client, trajectories_settings: dict[str, Any]
) -> None:
    posted(north, body(error=TOKEN))
    path = Path(trajectories_settings["OUTBOX_PATH"])
    files = [path, path.with_name(path.name + "-wal")]
    assert b"[redacted:github-token]" in b"".join(file.read_bytes() for file in files)
    assert not any(TOKEN.encode() in file.read_bytes() for file in files)
