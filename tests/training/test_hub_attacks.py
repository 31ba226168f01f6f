"""Pushes that somebody else tries to start, alter or redirect."""

from __future__ import annotations

import ast
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.hub_server import HubServer
from tests.training.test_hub import REPO, push, record, server, store  # noqa: F401  server and store are fixtures
from trajectories import tasks
from trajectories.models import Tenant
from trajectories.storage.store import get_store
from trajectories.training.hub import Target
from trajectories.training.hub_errors import HubError
from trajectories.training.tasks import push_to_hub

pytestmark = [
    pytest.mark.django_db,
    # huggingface_hub sends a file to httpx2 as data=.
    pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning"),
]
APP = Path(__file__).parents[2]

# Messages.


def genuine() -> dict[str, Any]:
    target = {"repo_id": REPO, "is_private": True, "license": None, "is_replaced": False}
    until_us = get_store().now_us() + 10**9
    return {
        "store": get_store().identity,
        "tenant": "north",
        "given": {},
        "file": "jsonl",
        "target": target,
        "actor": "user alice",
        "until_us": until_us,
    }


ALTERED: dict[str, Any] = {
    "another tenant": lambda sent: sent | {"tenant": "south"},
    "another repository": lambda sent: sent | {"target": sent["target"] | {"repo_id": "mallory/runs"}},
    "public": lambda sent: sent | {"target": sent["target"] | {"is_private": False, "license": "mit"}},
    "what others pushed is removed": lambda sent: sent | {"target": sent["target"] | {"is_replaced": True}},
    "more fields": lambda sent: sent | {"given": {"format": "jsonl"}},
    "a later day": lambda sent: sent | {"until_us": sent["until_us"] + 10**12},
    "another user": lambda sent: sent | {"actor": "user bob"},
    "a number as a text": lambda sent: sent | {"until_us": str(sent["until_us"])},
}


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize("way", ["as arguments", "as keywords"])
@pytest.mark.parametrize("kind", ALTERED)
def test_a_captured_message_that_was_altered_pushes_nothing(
    server: HubServer,  # noqa: F811
    kind: str,
    way: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    Tenant.objects.create(slug="south")
    sent = genuine()
    altered, headers = ALTERED[kind](sent), tasks.signed(push_to_hub, *sent.values())
    given: Any = (tuple(altered.values()), None) if way == "as arguments" else ((), altered)
    push_to_hub.apply(*given, headers=headers, throw=True)
    assert server.requests == []
    assert "A message of trajectories.push_to_hub was refused: it is signed with another SECRET_KEY." in caplog.text


@pytest.mark.usefixtures("store")
def test_a_repeated_message_commits_nothing_new_and_an_expired_one_asks_nothing(server: HubServer) -> None:  # noqa: F811
    record(*range(3))
    sent = genuine()
    for _ in range(2):
        push_to_hub.apply(tuple(sent.values()), headers=tasks.signed(push_to_hub, *sent.values()), throw=True)
    assert len(server.repositories[REPO].commits) == 1
    asked, sent["until_us"] = len(server.requests), get_store().now_us() - 1
    push_to_hub.apply(tuple(sent.values()), headers=tasks.signed(push_to_hub, *sent.values()), throw=True)
    assert len(server.requests) == asked


# Addresses.


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize(
    "name",
    [
        "../whoami-v2",
        "org/..",
        "..",
        "http://127.0.0.1/x",
        "//127.0.0.1/x",
        "org/runs?x=1",
        "org/runs#x",
        "org/a b",
        "org/x\n",
    ],
)
def test_a_name_that_leads_elsewhere_is_refused_before_anything_is_asked(server: HubServer, name: str) -> None:  # noqa: F811
    record(1)
    with pytest.raises(HubError) as refused:
        push(target=Target(name))
    assert refused.value.code == "invalid_repository"
    assert server.requests == []


@pytest.mark.usefixtures("server", "store")
@pytest.mark.parametrize(
    "endpoint",
    ["file:///etc", "ftp://127.0.0.1", "gopher://127.0.0.1:6379", "127.0.0.1:1", "http://user:s3cret@127.0.0.1:1"],
)
def test_an_endpoint_that_is_no_hub_is_named_without_its_password(
    monkeypatch: pytest.MonkeyPatch, endpoint: str
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    record(1)
    with pytest.raises(HubError) as refused:
        push()
    assert refused.value.code in ("unreachable", "invalid_endpoint")
    assert "HF_ENDPOINT" in refused.value.message
    assert "s3cret" not in refused.value.message


@contextmanager
def listener() -> Iterator[tuple[str, list[tuple[str, dict[str, str]]]]]:
    """A server within a network: it notes what it is asked, and answers an empty object."""
    asked: list[tuple[str, dict[str, str]]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append((f"{self.command} {self.path}", {name.lower(): text for name, text in self.headers.items()}))
            self.send_response(404)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    http = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://localhost:{http.server_address[1]}", asked
    finally:
        http.shutdown()
        http.server_close()
        thread.join()


@pytest.mark.usefixtures("store")
def test_a_hub_that_redirects_gets_no_token_to_another_host(server: HubServer) -> None:  # noqa: F811
    record(1)
    with listener() as (url, asked):
        server.fail(r"GET /api/datasets/", 302, headers={"Location": f"{url}/latest/meta-data/"})
        with pytest.raises(HubError):
            push()
    assert asked
    assert all("authorization" not in headers for _, headers in asked), asked


def test_only_known_modules_open_connections_by_an_address() -> None:
    """Nothing that a client sends is fetched: imports are files, and links of records are only shown."""
    clients = {"requests", "urllib.request", "http.client", "httpx", "httpx2", "aiohttp", "huggingface_hub", "urllib3"}
    found = set()
    for package in ("trajectories", "trajectory_site"):
        for path in (APP / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                names = [one.name for one in node.names] if isinstance(node, ast.Import) else []
                names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                if any(name == one or name.startswith(f"{one}.") for name in names for one in clients):
                    found.add(path.relative_to(APP).as_posix())
    assert found == {
        "trajectories/management/commands/replay.py",  # --url of the operator
        "trajectories/training/hub.py",  # HF_ENDPOINT of the worker
        "trajectories/training/hub_card.py",  # makes text alone
        "trajectories/training/hub_errors.py",
        "trajectory_site/mcp_connect.py",  # calls this process, without a network
        "trajectory_site/quickstart.py",  # the server that it has started
    }
