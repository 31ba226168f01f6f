"""The wheel in a foreign project, whose settings are the opposite of ours."""

from __future__ import annotations

import hashlib
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx2
import orjson
import pytest

from tests.examples import CAMEL, REFERENCE, body
from tests.host_project.conftest import Host
from tests.processes import PROJECT, wait_until
from trajectories.api import responses

PATH = "/store/v1/agent/trajectories"
NDJSON = {"Content-Type": "application/x-ndjson"}


@pytest.fixture(scope="module")
def migrated(host: Host) -> Host:
    host.manage("migrate", "--verbosity", "0")
    return host


@pytest.fixture(scope="module")
def http(migrated: Host) -> httpx2.Client:
    """A client of the running project."""
    # A short life: if a naive New York time were read as UTC, this key would be expired from the
    # start.
    scopes, days = "record,read,export", "0.05"
    key = migrated.manage("create_api_key", "north", "--scopes", scopes, "--expires-in-days", days).strip()
    migrated.worker()
    return migrated.web(key)


def database(host: Host) -> sqlite3.Connection:
    return sqlite3.connect(host.directory / "host.sqlite3", isolation_level=None)


def test_the_project_runs_on_the_wheel_and_not_on_the_source_tree(host: Host) -> None:
    where = host.run("-c", "import trajectories; print(trajectories.__file__)").stdout.strip()
    assert Path(where).is_relative_to(host.python.parent.parent)
    for ours in ("trajectory_site", "tests"):
        assert "ModuleNotFoundError" in host.run("-c", f"import {ours}").stderr


def test_the_wheel_says_that_it_is_typed_and_under_which_licence(host: Host) -> None:
    files = "import importlib.metadata as m; print(*m.files('django-trajectories'), sep='\\n')"
    names = host.run("-c", files).stdout.split()
    assert "trajectories/py.typed" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert not any(name.startswith(("tests/", "trajectory_site/", "docs/")) for name in names)


@pytest.mark.parametrize(
    ("left_out", "expected"), [("TRAJECTORIES", "trajectories.E005"), ("CACHES", "trajectories.E009")]
)
def test_the_checks_tell_what_is_missing(host: Host, left_out: str, expected: str) -> None:
    done = host.run("manage.py", "check", HOST_WITHOUT=left_out)
    assert done.returncode != 0
    assert expected in done.stderr
    assert "HINT" in done.stderr


def test_a_project_with_the_documented_settings_passes_the_checks(migrated: Host) -> None:
    migrated.manage("check", "--fail-level", "WARNING", "--tag", "trajectories")


def test_the_project_has_no_migration_to_make_for_the_app(migrated: Host) -> None:
    migrated.manage("makemigrations", "--check", "--dry-run", "trajectories")


def test_a_run_reaches_the_archive_through_the_projects_worker_and_the_automatic_relay(
    migrated: Host, http: httpx2.Client
) -> None:
    posted = http.post(PATH, json=REFERENCE | {"project": "whole way"})
    assert posted.status_code == 201, posted.text
    assert posted.headers["Location"] == f"{PATH}/{posted.json()['id']}"
    answer = http.post(
        PATH, content=orjson.dumps(CAMEL) + b"\n{\n" + orjson.dumps(body()) + b"\n", headers=NDJSON
    ).json()
    assert (answer["accepted"], answer["refused"]) == (2, 1)

    with closing(database(migrated)) as archive:
        found = "SELECT 1 FROM trajectories_trajectory WHERE trajectory_id = ?"
        as_stored = (UUID(posted.json()["id"]).hex,)
        wait_until(lambda: archive.execute(found, as_stored).fetchone(), what="the record is archived")
    with migrated.redis.client() as tier:
        (key,) = tier.keys(f"*record:{posted.json()['id']}")
        assert key.startswith(b"host:7:")
        assert tier.ttl(key) > 89 * 24 * 3600

    page = http.get(PATH, params={"project": "whole way"})
    responses.TrajectoryPage.model_validate_json(page.content)
    assert page.json()["data"] == [posted.json()]
    assert http.get(posted.headers["Location"]).json() == posted.json()
    stats = http.get(f"{PATH}/stats", params={"project": "whole way"})
    responses.Stats.model_validate_json(stats.content)
    assert (stats.json()["count"], stats.json()["cost_usd"]["sum"]) == (1, 0.057)
    lines = http.get(f"{PATH}/export", params={"end": "1"}).content.splitlines(keepends=True)
    assert posted.content + b"\n" in lines
    assert orjson.loads(lines[-1])["end"]["sha256"] == hashlib.sha256(b"".join(lines[:-1])).hexdigest()


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (("POST", "", {"content": b"{", "headers": {"Content-Type": "application/json"}}), 400),
        (("GET", "?nonsense=1", {}), 400),
        (("GET", "?source=1", {"headers": {"Authorization": "Bearer nonsense"}}), 401),
        (("GET", "/29243fa3-f296-5e3b-9266-7052b77cbfe9", {}), 404),
        (("GET", "/", {}), 404),
        (("POST", "/", {"content": b"{}", "headers": {"Content-Type": "application/json"}}), 404),
        (("PUT", "", {}), 405),
        (("OPTIONS", "", {}), 405),
        (("POST", "", {"content": b"a=1", "headers": {"Content-Type": "application/x-www-form-urlencoded"}}), 415),
    ],
)
def test_errors_have_our_one_shape_and_not_the_projects(
    http: httpx2.Client, request_: tuple[str, str, dict[str, Any]], status: int
) -> None:
    method, address, more = request_
    response = http.request(method, PATH + address, **more)
    assert response.status_code == status, response.text
    assert response.headers["X-Request-Id"]
    responses.ErrorBody.model_validate_json(response.content)


def test_the_projects_limit_of_request_bodies_is_not_ours(http: httpx2.Client) -> None:
    assert http.post(PATH, json=body(error="e" * 100_000)).status_code == 201


def test_a_request_opens_no_transaction_although_the_project_wants_one_around_each(
    migrated: Host, http: httpx2.Client
) -> None:
    record = http.post(PATH, json=body()).json()
    http.get(PATH)
    with closing(database(migrated)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        assert http.post(PATH, json=body(id=record["id"], source="s")).status_code == 200
        for address in (PATH, f"{PATH}/stats", f"{PATH}/{record['id']}", "/store/v1/openapi.json"):
            assert http.get(address).status_code == 200, address
        assert http.get(f"{PATH}/").status_code == 404
        writer.execute("ROLLBACK")


def test_the_document_is_ours_with_the_projects_prefix_as_its_server(http: httpx2.Client) -> None:
    served = http.get("/store/v1/openapi.json").json()
    kept = orjson.loads((PROJECT / "docs/openapi.json").read_bytes())
    assert served.pop("servers") == [{"url": "/store"}]
    del kept["servers"]
    assert served == kept
