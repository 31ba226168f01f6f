"""How the tests speak to the API, and what they hold every answer to."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import orjson
from django.test import Client

from trajectories.api import responses
from trajectories.api.responses import ErrorObject
from trajectories.domain.record import Record
from trajectories.models import ApiKey, Tenant
from trajectories.storage.archive_writes import mirror
from trajectories.storage.store import get_store

PATH = "/v1/agent/trajectories"
JSON = "application/json"
NDJSON = "application/x-ndjson"
MERGE_PATCH = "application/merge-patch+json"
ID = "29243fa3-f296-5e3b-9266-7052b77cbfe9"


def issue(tenant: str = "north", scopes: str = "record read export", **fields: Any) -> tuple[ApiKey, str]:
    """A key of a tenant, and its text."""
    owner, _ = Tenant.objects.get_or_create(slug=tenant)
    return ApiKey.objects.issue(tenant=owner, name="of a test", scopes=scopes.split(), **fields)


def client_of(text: str) -> Client:
    """A client that sends this key, and is not told of exceptions in another way than the wire's."""
    return Client(headers={"authorization": f"Bearer {text}"}, raise_request_exception=False, enforce_csrf_checks=True)


def post(client: Client, body: Any, *, content_type: str = JSON, **headers: str) -> Any:
    data = body if isinstance(body, bytes) else orjson.dumps(body)
    # As a header too, since Django's client leaves the type of an empty body out.
    return client.post(PATH, data, content_type=content_type, headers=headers | {"Content-Type": content_type})


def posted(client: Client, body: Any) -> dict[str, Any]:
    """The stored record of a body that must be accepted."""
    response = post(client, body)
    assert response.status_code in (200, 201), response.content
    responses.StoredTrajectory.model_validate_json(response.content)
    record: dict[str, Any] = response.json()
    return record


def update(client: Client, id_: str, changes: Any, *, content_type: str = MERGE_PATCH, **headers: str) -> Any:
    data = changes if isinstance(changes, bytes) else orjson.dumps(changes)
    return client.patch(f"{PATH}/{id_}", data, content_type=content_type, headers=headers)


def listed(client: Client, **parameters: Any) -> dict[str, Any]:
    """A page that must be answered."""
    response = client.get(PATH, parameters)
    assert response.status_code == 200, response.content
    responses.TrajectoryPage.model_validate_json(response.content)
    page: dict[str, Any] = response.json()
    return page


def ids(client: Client, **parameters: Any) -> list[str]:
    """Ids on the page, newest first."""
    return [record["id"] for record in listed(client, **parameters)["data"]]


def stats(client: Client, **parameters: Any) -> dict[str, Any]:
    """Stats that must be answered."""
    response = client.get(f"{PATH}/stats", parameters)
    assert response.status_code == 200, response.content
    responses.Stats.model_validate_json(response.content)
    found: dict[str, Any] = response.json()
    return found


def exported(client: Client, **parameters: Any) -> list[bytes]:
    """Lines of an export that must be answered."""
    response = client.get(f"{PATH}/export", parameters)
    assert response.status_code == 200
    assert response["Content-Type"] == NDJSON
    return response.getvalue().splitlines(keepends=True)


def error(response: Any, status: int, code: str) -> ErrorObject:
    """What a response says that must be this error, in the one shape of all of them."""
    assert response.status_code == status, response.content
    assert response["Content-Type"] == JSON
    found = responses.ErrorBody.model_validate_json(response.content).error
    assert found.code == code, found
    if status == 503:
        assert int(response["Retry-After"]) > 0
    return found


def archive_all() -> list[Record]:
    """Do the relay's and the worker's part for what waits in the outbox."""
    rows = get_store().outbox.waiting(0, 10_000)
    stored = mirror([row.record for row in rows]).stored
    get_store().outbox.settle([row.n for row in rows])
    return stored


def number(of: int) -> str:
    """An id that says which one it is."""
    return str(UUID(int=of))
