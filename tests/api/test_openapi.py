"""The OpenAPI document: current, valid, and true of what is answered."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

import orjson
import pytest
from django.test import Client, override_settings
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator
from redis import Redis

from tests.api.client import (
    ID,
    JSON,
    NDJSON,
    PATH,
    archive_all,
    client_of,
    error,
    exported,
    issue,
    number,
    post,
    update,
)
from tests.examples import CAMEL, REFERENCE, body, phase
from trajectories.domain.query import FILTERS
from trajectories.models import SCOPES
from trajectories.storage.store import get_store
from trajectories.training.export import OPTIONS, PARAMETERS

WithoutTables = Callable[..., AbstractContextManager[None]]
DOCS = Path(__file__).resolve().parent.parent.parent / "docs"


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    kept: dict[str, Any] = orjson.loads((DOCS / "openapi.json").read_bytes())
    return kept


def validator(document: dict[str, Any], schema: dict[str, Any]) -> Draft202012Validator:
    """Build a validator of a schema that refers to components of the document."""
    return Draft202012Validator(schema | {"components": document["components"]})


# The document.


def test_the_committed_document_is_current_and_generated_without_a_warning() -> None:
    check = [sys.executable, str(DOCS / "generate_openapi.py"), "--check"]
    done = subprocess.run(check, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0), "python docs/generate_openapi.py"


def test_the_document_is_served_to_everybody(client: Client, document: dict[str, Any]) -> None:
    response = client.get("/v1/openapi.json")
    assert (response.status_code, response["Content-Type"]) == (200, JSON)
    assert response.json() == document


def test_the_document_is_valid_openapi_3_1(document: dict[str, Any]) -> None:
    OpenAPIV31SpecValidator(document).validate()


def test_the_operations_have_the_verbs_of_every_other_layer(document: dict[str, Any]) -> None:
    operations = {
        operation["operationId"]: (method.upper(), path)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }
    assert operations == {
        "record": ("POST", PATH),
        "list": ("GET", PATH),
        "stats": ("GET", f"{PATH}/stats"),
        "readiness": ("GET", f"{PATH}/readiness"),
        "export": ("GET", f"{PATH}/export"),
        "export_manifest": ("GET", f"{PATH}/export/manifest"),
        "delete_one": ("DELETE", f"{PATH}/{{id}}"),
        "delete_matching": ("DELETE", PATH),
        "retrieve": ("GET", f"{PATH}/{{id}}"),
        "update": ("PATCH", f"{PATH}/{{id}}"),
        "list_outcomes": ("GET", f"{PATH}/{{id}}/outcomes"),
        "record_outcome": ("POST", f"{PATH}/{{id}}/outcomes"),
        "record_outcomes": ("POST", "/v1/agent/outcomes"),
        "recommend": ("POST", "/v1/agent/recommendations"),
        "recommend_models": ("GET", "/v1/agent/recommendations"),
        "forecast_cost": ("GET", "/v1/intelligence/cost-forecast"),
        "evaluate": ("POST", "/v1/agent/evaluations"),
        "alerts": ("GET", "/v1/agent/alerts"),
    }


@pytest.mark.parametrize(
    ("operation", "more"),
    [
        ("", {"cursor", "limit"}),
        ("/stats", {"credit", "bucket"}),
        ("/readiness", {"max_runs"}),
        ("/export", {"after", "end", "file", "compression", *PARAMETERS, *OPTIONS}),
        ("/export/manifest", {*PARAMETERS, *OPTIONS}),
    ],
)
def test_every_accepted_parameter_is_documented(
    document: dict[str, Any], north: Client, operation: str, more: set[str]
) -> None:
    parameters = document["paths"][PATH + operation]["get"]["parameters"]
    assert {parameter["name"] for parameter in parameters if parameter["in"] == "query"} == set(FILTERS) | more
    for parameter in parameters:
        response = north.get(PATH + operation, {parameter["name"]: "\0"})
        assert error(response, 400, response.json()["error"]["code"]).param == parameter["name"]
        assert response.json()["error"]["code"] != "unknown_parameter"


# Bodies agree with the document.


@pytest.mark.parametrize("given", [REFERENCE, CAMEL, body(), body(phases=[phase(candidates=[{"model": "m"}])])])
def test_every_accepted_body_is_valid_by_the_document(
    document: dict[str, Any], north: Client, given: dict[str, Any]
) -> None:
    taken = document["paths"][PATH]["post"]["requestBody"]["content"][JSON]["schema"]
    validator(document, taken).validate(given)
    assert post(north, given).status_code == 201


@pytest.mark.parametrize("given", [body(projct="p"), body(phases=[phase(cost_usd=-1)]), {"request_summary": "x"}])
def test_a_body_that_is_refused_is_none_of_the_document(
    document: dict[str, Any], north: Client, given: dict[str, Any]
) -> None:
    taken = document["paths"][PATH]["post"]["requestBody"]["content"][JSON]["schema"]
    assert not validator(document, taken).is_valid(given)
    error(post(north, given), 400, "invalid_input")


def test_every_good_answer_is_as_documented(document: dict[str, Any], north: Client) -> None:
    lines = orjson.dumps(REFERENCE | {"id": ID}) + b"\n{\n" + orjson.dumps(CAMEL)
    answers = {
        ("post", PATH): [post(north, REFERENCE), post(north, lines, content_type=NDJSON), post(north, body(id=ID))],
        ("get", PATH): [north.get(PATH), north.get(PATH, {"limit": 1})],
        ("get", f"{PATH}/stats"): [north.get(f"{PATH}/stats"), north.get(f"{PATH}/stats", {"project": "none"})],
        ("get", f"{PATH}/readiness"): [
            north.get(f"{PATH}/readiness"),
            north.get(f"{PATH}/readiness", {"q": "no such"}),
        ],
        ("get", f"{PATH}/{{id}}"): [north.get(f"{PATH}/{ID}")],
        ("patch", f"{PATH}/{{id}}"): [update(north, ID, {"tests_passed": True})],
    }
    for (method, path), responses in answers.items():
        for response in responses:
            documented = document["paths"][path][method]["responses"][str(response.status_code)]
            validator(document, documented["content"][JSON]["schema"]).validate(response.json())


def test_every_line_of_an_export_is_a_stored_trajectory(document: dict[str, Any], north: Client) -> None:
    post(north, REFERENCE)
    post(north, CAMEL)
    archive_all()
    schema = validator(document, {"$ref": "#/components/schemas/StoredTrajectory"})
    assert len([schema.validate(orjson.loads(line)) for line in exported(north)]) == 2


# Errors agree with the document: each documented status is provoked.


class SlowBody(io.RawIOBase):
    """An input stream whose body times out."""

    def read(self, size: int = -1) -> bytes:
        raise TimeoutError


@pytest.fixture
def refusals(
    north: Client, without_tables: WithoutTables, trajectories_settings: dict[str, Any], redis_tier: Redis
) -> Callable[[str, str, int], Any]:
    """Brings an operation to answer with a status."""
    everything, reader = client_of(issue(scopes=" ".join(SCOPES))[1]), client_of(issue(scopes="read")[1])
    admin = client_of(issue(scopes="admin")[1])

    def call(method: str, path: str, client: Client, **parameters: str) -> Any:
        address = path.replace("{id}", ID)
        if method == "post":
            return client.post(address, b"{", content_type=JSON)
        if method == "patch":
            return client.patch(address, b"{}", content_type=JSON, query_params=parameters)
        return client.generic(method.upper(), f"{address}?{urlencode(parameters)}")

    def send_slowly(method: str, path: str) -> Any:
        slow: Any = {"wsgi.input": SlowBody()}
        return north.generic(method.upper(), path.replace("{id}", ID), b"{}", content_type=JSON, **slow)

    def refuse(method: str, path: str, status: int) -> Any:
        if status == 400:
            return call(method, path, everything, nonsense="1")
        if status == 401:
            return call(method, path, Client())
        if status == 403:
            is_write = path.startswith((PATH, "/v1/agent/outcomes")) and method in ("post", "patch", "delete")
            return call(method, path, reader if is_write or "export" in path else admin)
        if status == 404 and method == "post":
            return call(method, path.replace("{id}", "nothing"), everything)
        if status == 404:
            archive_all()  # an export waits for it
            return call(method, path, everything, **{"after": ID} if "export" in path else {})
        if status == 409 and method == "delete":
            return call(method, path, admin, project="a")
        if status == 409:
            get_store().outbox.delete("north", [UUID(number(1))])
            if path.endswith("/outcomes"):
                outcome = {"name": "merged", "value": True}
                target = outcome if "{id}" in path else outcome | {"trajectory_id": number(1)}
                return north.post(path.replace("{id}", number(1)), orjson.dumps(target), content_type=JSON)
            return post(north, body(id=number(1))) if method == "post" else update(north, number(1), {})
        if status == 412:
            post(north, body(id=number(2)))
            return update(north, number(2), {}, **{"If-Match": '"1"'})
        if status == 408:
            return send_slowly(method, path)
        if status == 413:
            return north.generic(method.upper(), path.replace("{id}", ID), b" " * (2 * 1024**2), content_type=JSON)
        if status == 415:
            return north.generic(method.upper(), path.replace("{id}", ID), b"{}", content_type="text/plain")
        if status == 429:
            with override_settings(TRAJECTORIES=trajectories_settings | {"RATE_LIMITS": {"requests_per_minute": 1}}):
                call(method, path, everything)
                return call(method, path, everything)
        with without_tables("apikey"):
            return call(method, path, client_of("neverseen.here"))

    return refuse


def test_every_documented_error_can_happen_and_has_the_documented_body(
    document: dict[str, Any], refusals: Callable[[str, str, int], Any]
) -> None:
    tried = 0
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            for status, documented in operation["responses"].items():
                if status < "400":
                    continue
                response = refusals(method, path, int(status))
                error(response, int(status), response.json()["error"]["code"])
                validator(document, documented["content"][JSON]["schema"]).validate(response.json())
                tried += 1
    assert tried == 9 + 11 + 5 + 5 + 5 + 6 + 5 + 6 + 6 + 6 + 6 + 10 + 9 + 8 + 5 + 5 + 8 + 5
