"""The API's part of the matrix: which endpoints and parameters there are, as routes and OpenAPI
say, and what to send."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import urlencode

import orjson
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver

from tests.api.client import ID, PATH, number, post, update
from tests.examples import body, camel, phase
from trajectories.api.openapi import openapi
from trajectories.domain.query import decode_cursor, encode_cursor
from trajectories.training.export import OPTIONS, PARAMETERS
from trajectories.urls.api import api_urlpatterns

# Routes outside the OpenAPI document, and why none of them reveals a tenant.
OTHER_ROUTES = {
    "": "leads to the docs",
    "docs/": "the docs page",
    r"^(?:\.well-known/.*|register|authorize|token)$": "always 404: the site is no OAuth server",
    "health": "of the host",
    "health/live": "of the process",
    "health/ready": "of the host",
    "metrics": "numbers of the host",
    "v1/openapi.json": "the document",
    r"^v1/(?:agent/(?:trajectories|outcomes|recommendations|evaluations|alerts)|intelligence/cost-forecast)": "what nothing else has matched",
}

# It carries operations of the API; its own part of the matrix is in test_mcp.py.
MCP_ROUTE = "v1/mcp/connect"

NAMES_NOTHING = {
    ("list", "limit"): "a number of records",
    ("export", "end"): "whether there is a last line",
    ("readiness", "max_runs"): "a number of runs",
    ("stats", "credit"): "a rule",
    ("alerts", "weeks"): "a length of time",
    ("stats", "bucket"): "a length of time",
    ("delete_matching", "dry_run"): "whether it only counts",
    ("record", "replace"): "whether phases may be dropped",
    **{
        (operation, name): "how the tenant's own records are written"
        for operation in ("export", "export_manifest")
        for name in (*PARAMETERS, *OPTIONS, "file", "compression")
    },
}

ADDRESSES = {
    "list": PATH,
    "stats": f"{PATH}/stats",
    "readiness": f"{PATH}/readiness",
    "export": f"{PATH}/export",
    "recommend_models": "/v1/agent/recommendations",
    "forecast_cost": "/v1/intelligence/cost-forecast",
    "alerts": "/v1/agent/alerts",
}
ALWAYS = {"forecast_cost": {"taskType": "north-type"}}
"""Parameters without which an operation is refused."""
RECOMMENDATIONS = ADDRESSES["recommend_models"]
ASKED: dict[str, tuple[str, dict[str, Any]]] = {
    "recommend": (
        RECOMMENDATIONS,
        {
            "phase": "north-phase",
            "request_type": "north-type",
            "project": "north-project",
            "candidates": [{"model": "north-model"}, {"model": "other"}],
            "seed": 1,
        },
    ),
    "evaluate": ("/v1/agent/evaluations", {"policy": {"always": "north-model"}}),
    "evaluate runs": ("/v1/agent/evaluations", {"policy": {"always": "north-model"}, "estimand": "run"}),
}
"""Questions about all records of a tenant that are asked by POST: address and body."""


class Values(NamedTuple):
    """Values of a parameter: one of the other tenant, and one of no tenant."""

    theirs: str
    nobodys: str


class Case(NamedTuple):
    operation: str
    place: str
    """``path``, ``query``, ``header``; ``body`` and ``camelCase body`` for a field of one."""
    name: str


NORTHS: dict[str, Any] = body(
    id=ID,
    request_summary="northern words",
    request_type="north-type",
    source="north-source",
    project="north-project",
    policy="north-policy",
    outcome="partial",
    build_passed=False,
    tests_passed=False,
    total_cost_usd=500,
    total_duration_ms=500,
    started_at="2026-01-05T22:00:00Z",
    session_id="north-session",
    trace_id="north-trace",
    tags=["north-tag"],
    phases=[
        phase(
            phase_name="north-phase",
            model="north-model",
            model_selection_method="north-method",
            agent="north-agent",
            tools_used=["north-tool"],
            fit="overprovisioned",
        )
    ],
)
SOUTHS = body(id=number(7), outcome="success", total_cost_usd=1, total_duration_ms=1, started_at="2025-01-05T22:00:00Z")

_FIXED = {
    "id": Values(ID, number(9)),
    "parent_id": Values(ID, number(9)),
    "trajectory_id": Values(ID, number(9)),
    "phase_id": Values("north-phase-id", "nobodys-phase-id"),
    "reference": Values("north-session", "nobodys-session"),
    "after": Values(ID, number(9)),
    "Idempotency-Key": Values("north-key", "nobodys-key"),
    "X-Idempotency-Key": Values("north-key", "nobodys-key"),
    "session_id": Values("north-session", "nobodys-session"),
    "trace_id": Values("north-trace", "nobodys-trace"),
    "project": Values("north-project", "nobodys-project"),
    "source": Values("north-source", "nobodys-source"),
    "request_type": Values("north-type", "nobodys-type"),
    "policy": Values("north-policy", "nobodys-policy"),
    "outcome": Values("partial", "failure"),
    "phase": Values("north-phase", "nobodys-phase"),
    "model": Values("north-model", "nobodys-model"),
    "selection_method": Values("north-method", "nobodys-method"),
    "agent": Values("north-agent", "nobodys-agent"),
    "tool": Values("north-tool", "nobodys-tool"),
    "credited": Values("failure", "partial"),
    "fit": Values("overprovisioned", "failed"),
    "build_passed": Values("false", "true"),
    "tests_passed": Values("false", "true"),
    "tag": Values("north-tag", "nobodys-tag"),
    "filters": Values("north-project", "nobodys-project"),
    "taskType": Values("north-type", "nobodys-type"),
    "framework": Values("north-project", "nobodys-project"),
    "complexity": Values("north-tag", "nobodys-tag"),
    "started_since": Values("2026-01-05T22:00:00Z", "2026-01-05T22:00:01Z"),
    "started_until": Values("2026-01-05T22:00:01Z", "2026-01-05T21:59:59Z"),
    "min_cost_usd": Values("500", "501"),
    "max_cost_usd": Values("500", "499"),
    "min_duration_ms": Values("500", "501"),
    "max_duration_ms": Values("500", "499"),
    "q": Values("northern", "nobodys"),
}


def token_of(client: Client) -> str:
    """Return the token of a dry run that would delete the other tenant's record."""
    token: str = client.delete(f"{PATH}?project=north-project&dry_run=1").json()["token"]
    return token


def values(north: Mapping[str, Any], cursor: str, token: str) -> dict[str, Values]:
    """Return values of every parameter, for the record ``north`` that the other tenant has, and a
    cursor and a token that it was given."""
    at = decode_cursor(cursor)
    recorded_at = north["recorded_at"]
    before = recorded_at.replace("Z", "+00:00")  # the same moment, and another text
    return _FIXED | {
        "cursor": Values(cursor, encode_cursor(at._replace(id=type(at.id)(int=1)))),
        "token": Values(token, "nobodys:token"),
        "If-Match": Values(f'"{north["revision"]}"', '"1"'),
        "since": Values(recorded_at, before),
        "until": Values("2999-01-01T00:00:00Z", "2999-01-01T00:00:01Z"),
    }


def routes() -> list[str]:
    """Routes of the site, without those of the admin site."""
    return sorted(_routes(get_resolver(None).url_patterns))


def _routes(patterns: list[URLPattern | URLResolver]) -> Iterator[str]:
    for pattern in patterns:
        if isinstance(pattern, URLPattern):
            yield str(pattern.pattern)
        elif pattern.namespace != "admin":
            yield from (f"{pattern.pattern}{route}" for route in _routes(pattern.url_patterns))


def operation_routes() -> set[str]:
    """Routes that the OpenAPI document describes."""
    return {str(pattern.pattern) for pattern in api_urlpatterns if isinstance(pattern, URLPattern)}


def cases() -> list[Case]:
    """Each parameter of each operation, and each field of a body that is an id."""
    document = openapi(api_urlpatterns)
    found = []
    for methods in document["paths"].values():
        for operation in methods.values():
            name = operation["operationId"]
            found += [Case(name, given["in"], given["name"]) for given in operation.get("parameters", ())]
            if "requestBody" in operation:
                found += [Case(name, place, field) for place, field in _ids(document, _BODIES[name])]
    return sorted(case for case in found if (case.operation, case.name) not in NAMES_NOTHING)


_BODIES = {
    "record": {"body": "Trajectory", "camelCase body": "CamelTrajectory"},
    "update": {"body": "TrajectoryPatch"},
    "record_outcome": {"body": "LateOutcome"},
    "record_outcomes": {"body": "LateOutcome"},
    "recommend": {"body": "RecommendationRequest"},
    "evaluate": {"body": "EvaluationRequest"},
}
_FILTERS_OF_BODIES = {
    "RecommendationRequest": ("phase", "request_type", "project"),
    "EvaluationRequest": ("phase", "filters"),
}
"""Fields of a body that select records, besides ids."""


def _ids(document: dict[str, Any], bodies: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for place, component in bodies.items():
        for field in document["components"]["schemas"][component]["properties"]:
            if field.lower().endswith(("id", "reference")) or field in _FILTERS_OF_BODIES.get(component, ()):
                yield place, field


def send(client: Client, case: Case, value: str) -> Any:
    """The request of ``case`` with this value."""
    if case.operation in ("record_outcome", "record_outcomes"):
        return _send_outcome(client, case, value)
    if case.operation == "list_outcomes":
        return client.get(f"{PATH}/{value}/outcomes")
    if case.operation == "recommend":
        asked = {"phase": "north-phase", "candidates": [{"model": "north-model"}], "seed": 1} | {case.name: value}
        return client.post(RECOMMENDATIONS, asked, content_type="application/json")
    if case.operation == "evaluate":
        narrowed: dict[str, Any] = {"filters": {"project": value}} if case.name == "filters" else {case.name: value}
        evaluated = {"policy": {"always": "north-model"}} | narrowed
        return client.post("/v1/agent/evaluations", evaluated, content_type="application/json")
    if case.operation == "update":
        return _send_update(client, case, value)
    if case.place == "header":
        return post(client, body(), **{case.name: value})
    if case.place == "body":
        return post(client, body(phases=NORTHS["phases"], **{case.name: value}))
    if case.place == "camelCase body":
        return post(client, camel(**{case.name: value}))
    if case.operation == "delete_one":
        return client.delete(f"{PATH}/{value}")
    if case.operation == "delete_matching":
        given = {"project": "north-project"} if case.name == "token" else {"dry_run": "1"}
        return client.delete(f"{PATH}?{urlencode(given | {case.name: value})}")
    if case.place == "path":
        return client.get(f"{PATH}/{value}")
    paths = ADDRESSES | {"export_manifest": f"{PATH}/export/manifest"}
    return client.get(paths[case.operation], ALWAYS.get(case.operation, {}) | {case.name: value})


def _send_outcome(client: Client, case: Case, value: str) -> Any:
    target = value if case.place == "path" else number(7)
    given: dict[str, Any] = {"name": "merged", "value": False}
    if case.name == "reference":
        given["reference"] = {"session_id": value}
    elif case.place == "body":
        given[case.name] = value
    if case.operation == "record_outcomes" and "reference" not in given:
        given.setdefault("trajectory_id", target)
    path = f"{PATH}/{target}/outcomes" if case.operation == "record_outcome" else "/v1/agent/outcomes"
    headers = {case.name: value} if case.place == "header" else {}
    return client.post(path, orjson.dumps(given), content_type="application/json", headers=headers)


def _send_update(client: Client, case: Case, value: str) -> Any:
    if case.place == "header":
        return update(client, ID, {}, **{case.name: value})
    changes = {case.name: value} if case.place == "body" else {}
    return update(client, value if case.name == "id" else number(7), changes)
