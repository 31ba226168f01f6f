"""The API does not reveal whether another tenant's record exists, whichever parameter names it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client
from pytest_django import Settings

from tests.api.client import ID, PATH, archive_all, client_of, issue, listed, number, post, posted
from tests.examples import body
from tests.isolation import api
from trajectories.api.openapi import openapi
from trajectories.models import SCOPES
from trajectories.urls.api import api_urlpatterns

pytestmark = pytest.mark.abuse

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
_REVISION = re.compile(r'"revision":\d+')
_TOKEN = re.compile(r'"token":"[^"]+"')
_EVERYTHING = " ".join(SCOPES)

HEAD = ("surface", "endpoint", "cases")


@pytest.fixture(params=[1, 10_000], ids=["archive", "hot"])
def both(request: pytest.FixtureRequest, settings: Settings, trajectories_settings: dict[str, Any]) -> None:
    """Every case twice: out of the hot cache, and mostly out of the archive."""
    settings.TRAJECTORIES = trajectories_settings | {"HOT_MAX_RECORDS": request.param}


@pytest.fixture
def clients(db: None) -> tuple[Client, Client]:
    """A tenant that has a record, and one that asks for it."""
    return client_of(issue("north", _EVERYTHING)[1]), client_of(issue("south", _EVERYTHING)[1])


def told(answer: Any, echoed: str | None = None) -> tuple[int, dict[str, str], str]:
    """Return everything a client receives, except the value it sent and what changes each time."""
    content = answer.getvalue() if answer.streaming else answer.content
    # A length follows from the body, what must not be cached has the second of its answer, each
    # answer has an id of its own, and an ETag is the revision.
    own = ("Content-Length", "Expires", "X-Request-Id", "ETag")
    kept = ((name, text) for name, text in answer.items() if name not in own)
    headers = {name: _constant(text, echoed) for name, text in kept}
    return answer.status_code, headers, _constant(content.decode(), echoed)


def _constant(text: str, echoed: str | None) -> str:
    text = text if echoed is None else text.replace(echoed, "VALUE")
    text = _TOKEN.sub("TOKEN", text)
    return _REVISION.sub("REVISION", _TIME.sub("TIME", _UUID.sub("UUID", text)))


@pytest.mark.usefixtures("both")
@pytest.mark.parametrize("case", api.cases(), ids="-".join)
def test_data_of_another_tenant_is_answered_like_missing_data(
    case: api.Case, clients: tuple[Client, Client], tabulate: Callable[..., None]
) -> None:
    north, south = clients
    posted(south, api.SOUTHS)
    theirs = posted(north, api.NORTHS)
    post(north, body(), **{"Idempotency-Key": "north-key"})
    for target in (ID, number(7)):
        path = f"{PATH}/{target}/outcomes"
        north.post(
            path, b'{"name":"merged","value":true,"idempotency_key":"north-key"}', content_type="application/json"
        )
    archive_all()
    known = api.values(theirs, listed(north, limit=1)["next_cursor"], api.token_of(north))
    assert case.name in known, (
        f"The parameter {case} is new: say in tests/isolation/api.py what of it is another tenant's."
    )
    value = known[case.name]
    before = {client: listed(client) for client in clients}

    # The manifest repeats the filters.
    is_echoed = (
        case.place != "query" or case.name == "after" or case.operation == "export_manifest"
    )  # of others the words are words of every answer
    # The manifest repeats the filters, as JSON text.
    is_repeated = case.operation in ("export_manifest", "forecast_cost", "recommend")
    shown = '"{}"' if is_repeated else "{}" if is_echoed else None
    answers = [told(api.send(south, case, one), shown and shown.format(one)) for one in value]
    assert answers[0] == answers[1]
    assert ID not in answers[0][2]
    assert listed(north) == before[north]

    tabulate("isolation", HEAD, "API", case.operation)


# Where the answer says who has a thing; elsewhere what is sent is a text that is kept.
_TELLING = [case for case in api.cases() if case.place in ("path", "query", "header") or case.name == "id"]


@pytest.mark.usefixtures("redis_tier")
@pytest.mark.parametrize("case", _TELLING, ids="-".join)
def test_the_same_question_gets_each_tenants_own_answer(case: api.Case, clients: tuple[Client, Client]) -> None:
    """Check that the matrix asks for rows that exist."""
    north, _ = clients
    first = post(north, body(), **{"Idempotency-Key": "north-key"}).json()
    theirs = posted(north, api.NORTHS)
    camel_id = api.send(north, api.Case("record", "camelCase body", "id"), ID)
    assert camel_id.status_code == 200
    theirs = posted(north, api.NORTHS)
    archive_all()
    value = api.values(theirs, listed(north, limit=1)["next_cursor"], api.token_of(north))[case.name].theirs
    answer = api.send(north, case, value)
    text = (answer.getvalue() if answer.streaming else answer.content).decode()
    if case.operation == "update":
        assert answer.status_code == 200
        assert answer.json()["id"] == ID
    elif case.operation in ("record_outcome", "record_outcomes"):
        # It is taken for whichever target, and shown with the run that has it.
        assert answer.status_code in (200, 201, 400)
    elif case.operation == "record":
        assert answer.status_code == 200
        assert answer.json()["id"] in (ID, first["id"])
    elif case.operation == "delete_one":
        assert answer.json()["removed"]["archive"] == 1
    elif case.operation == "delete_matching":
        assert answer.json()["deleted" if case.name == "token" else "count"] >= 1
    elif case.operation == "evaluate":
        assert answer.json()["left_out"]["decision without a propensity"] == 1
    elif case.operation == "recommend":
        assert answer.json()["candidates"][0]["samples"] == 1
    elif case.operation == "recommend_models":
        assert answer.json()[0]["recommendedModel"] == "north-model"
    elif case.operation == "forecast_cost":
        assert answer.json()["basedOnSamples"] == 1
    elif case.operation in ("stats", "readiness"):
        assert answer.json()["count" if case.operation == "stats" else "runs"] >= 1
    else:
        assert answer.status_code == 200
        # Behind the last line of an export there is nothing, but it may be asked for.
        assert (
            case.name == "after"
            or case.operation == "list_outcomes"
            or (first["id"] if case.name == "cursor" else ID) in text
        )


def test_every_route_is_in_the_matrix() -> None:
    known = api.operation_routes() | set(api.OTHER_ROUTES) | {api.MCP_ROUTE}
    assert sorted(api.routes()) == sorted(known), (
        "A route is new or gone. One that tells of tenants belongs into the OpenAPI document, whose parameters the matrix"
        " reads; for any other add a line to OTHER_ROUTES in tests/isolation/api.py that says why it cannot tell of them."
    )
    assert {f"/{route}" for route in api.OTHER_ROUTES}.isdisjoint(_documented())


def test_every_route_of_an_operation_is_documented() -> None:
    assert len(_documented()) == len(api.operation_routes())


def _documented() -> set[str]:
    return set(openapi(api_urlpatterns)["paths"])


@pytest.mark.parametrize("route", [route for route in api.OTHER_ROUTES if not route.startswith("^")])
def test_other_routes_answer_every_caller_alike_and_show_no_tenant_data(
    route: str,
    clients: tuple[Client, Client],
    settings: Settings,
    trajectories_settings: dict[str, Any],
    tabulate: Callable[..., None],
) -> None:
    settings.TRAJECTORIES = trajectories_settings | {"METRICS_ACCESS": "open"}
    north, _ = clients
    posted(north, api.NORTHS)
    answers = [client.get(f"/{route}", follow=True) for client in (*clients, Client())]
    assert {answer.status_code for answer in answers} == {200}
    for answer in answers:
        text = answer.content.decode()
        assert not re.search(rf"\bnorth\b|north-|northern|{ID}", text)
        if route != "metrics":  # whose numbers grow with each request
            assert told(answer) == told(answers[0])
    tabulate("isolation", HEAD, "API", f"/{route}")


@pytest.mark.parametrize("operation", [*api.ADDRESSES, *api.ASKED])
@pytest.mark.usefixtures("both")
def test_an_answer_is_the_same_before_and_after_another_tenant_has_records(
    operation: str, clients: tuple[Client, Client], tabulate: Callable[..., None]
) -> None:
    north, south = clients
    posted(south, api.SOUTHS)
    archive_all()

    def answer() -> tuple[int, dict[str, str], str]:
        if operation in api.ASKED:
            address, asked = api.ASKED[operation]
            return told(south.post(address, asked, content_type="application/json"))
        return told(south.get(api.ADDRESSES[operation], api.ALWAYS.get(operation, {})))

    before = answer()
    assert before[0] == 200
    for of in range(3):
        posted(north, api.NORTHS | {"id": number(20 + of)})
        archive_all()
        north.post(
            f"{PATH}/{number(20 + of)}/outcomes", {"name": "merged", "value": True}, content_type="application/json"
        )
    assert answer() == before
    tabulate("isolation", HEAD, "API", operation)
