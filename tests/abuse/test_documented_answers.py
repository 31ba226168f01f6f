"""Every answer to any request with any key is documented, and the server accepts exactly what the
document allows (Schemathesis with its default checks, OpenAPI document)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import orjson
import pytest
import schemathesis
from django.core.signals import request_finished, request_started
from django.core.wsgi import get_wsgi_application
from django.db import close_old_connections
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from pytest_django import Settings
from schemathesis.config import SchemathesisConfig
from schemathesis.specs.openapi.checks import positive_data_acceptance

from tests.api.client import ID, NDJSON, archive_all, client_of, issue, posted
from tests.api.test_openapi import DOCS
from tests.examples import REFERENCE
from tests.strategies import IN_CI, bodies_of_any_kind, trajectories
from trajectories.training.export import OPTIONS, PARAMETERS

pytestmark = [pytest.mark.abuse, pytest.mark.django_db]

EXAMPLES = 25
FREE_VALUE_CODES = ("nul_character", "integer_range")
# Codes of a patch that the document allows and the stored record does not: another id, a phase that is not there or has
# no name yet, a part of an object that has no rest.
RECORD_CODES = ("other_id", "unknown_phase_id", "ambiguous_phase_id", "missing", "too_long")
# Codes of recommendations and evaluations: one of two fields, names of the store, probabilities that sum to 1.
DEPENDENT_CODES = ("candidates", "feature", "filter", "floor", "nul_character", "policy", "probabilities")
SCOPES = {
    "no key": None,
    "record": "record",
    "read": "read",
    "export": "export",
    "admin": "admin",
    "all": "record read export admin",
}
# The kept document, which a test of its own holds equal to what is served; made here it would need
# Django at collection.
document = schemathesis.openapi.from_path(
    DOCS / "openapi.json",
    # Keys are what the tests give; Schemathesis would make up others.
    config=SchemathesisConfig.from_dict(
        {
            # 2,000 requests, which cost seconds to generate and more to answer: each boundary of each
            # parameter. Elsewhere the random examples remain.
            "phases": {"coverage": {"enabled": IN_CI}},
            "generation": {"deterministic": True, "with-security-parameters": False},
            # A list of more than 10,000 tools may be a body over 1 MiB too, which is 413 and unread.
            "checks": {"negative_data_rejection": {"expected-statuses": [400, 401, 403, 404, 405, 409, 413, 415]}},
        }
    ),
)


document.app = get_wsgi_application()  # in this process
schemathesis.openapi.media_type(
    NDJSON,
    st.lists(bodies_of_any_kind | trajectories.map(orjson.dumps) | st.binary(max_size=9), max_size=5).map(b"\n".join),
)


# Without a parameter of its own, Schemathesis gives all operations one node id, of which xdist runs one.
@pytest.fixture(params=["every key"])
def callers(
    redis_tier_url: str, settings: Settings, trajectories_settings: dict[str, Any]
) -> Iterator[dict[str, dict[str, str]]]:
    """Headers of a caller for each of the scopes, whose own tenant has the stored record."""
    # A check sends requests with bad keys, which must get 401 and not 429.
    settings.TRAJECTORIES = trajectories_settings | {"KEY_FAILURES_PER_MINUTE": 1_000_000}
    callers = {name: headers_of(name, scopes) for name, scopes in SCOPES.items()}
    # As Django's own client does on each request, which connects them again: the connection is the
    # test's, and none of a request's.
    for signal in (request_started, request_finished):
        signal.disconnect(close_old_connections)
    yield callers
    for signal in (request_started, request_finished):
        signal.connect(close_old_connections)


def headers_of(name: str, scopes: str | None) -> dict[str, str]:
    if scopes is None:
        return {}
    tenant = name.replace(" ", "-")
    posted(client_of(issue(tenant)[1]), REFERENCE | {"id": ID})
    archive_all()  # an export waits for it
    return {"Authorization": f"Bearer {issue(tenant, scopes)[1]}"}


@pytest.fixture
def statuses(request: pytest.FixtureRequest, tabulate: Callable[..., None]) -> Iterator[dict[str, Counter[int]]]:
    """Count the answers by scopes and status, for rows of the table."""
    seen: dict[str, Counter[int]] = {scopes: Counter() for scopes in SCOPES}
    yield seen
    operation = request.node.name.partition("[")[2].partition("]")[0]
    for scopes, counter in seen.items():
        counts = ", ".join(f"{status}: {count}" for status, count in sorted(counter.items()))
        tabulate(
            "documented answers",
            ("operation", "scopes", "requests", "answers"),
            operation,
            scopes,
            counter.total(),
            counts,
        )


def refuses_a_free_value(response: schemathesis.Response) -> bool:
    """Return whether only values below a name of the client's own are refused: a schema of them
    cannot say what a name or text at any depth may have, nor what a name that it excludes has."""
    if response.status_code != 400:
        return False
    problems = response.json()["error"].get("details", [])
    places = tuple(f"{problem['path']}." for problem in problems if problem["code"] in FREE_VALUE_CODES)
    return bool(places) and all(f"{problem['path']}.".startswith(places) for problem in problems)


def refuses_for_the_record(case: schemathesis.Case[Any], response: schemathesis.Response) -> bool:
    """Return whether a patch is refused for the record that it changes alone."""
    if case.method != "PATCH" or response.status_code not in (400, 412):
        return False
    error = response.json()["error"]
    if error.get("param") == "If-Match":  # also as '0', though the pattern of the document wants quotes
        return True
    codes = {problem["code"] for problem in error.get("details", ())}
    return bool(codes) and codes <= set(RECORD_CODES)


def refuses_for_the_format(case: schemathesis.Case[Any], response: schemathesis.Response) -> bool:
    """Return whether an export is refused for parameters that depend on each other or on the
    format."""
    if "/export" not in case.path or response.status_code != 400:
        return False
    return response.json()["error"].get("param") in {*PARAMETERS, *OPTIONS, "after", "end"}


def refuses_for_the_target(case: schemathesis.Case[Any], response: schemathesis.Response) -> bool:
    """Return whether a late outcome is refused for its target, or for a value that its name does
    not take."""
    if not case.path.endswith("/outcomes") or response.status_code != 400:
        return False
    error = response.json()["error"]
    codes = {problem["code"] for problem in error.get("details", ())}
    return error.get("param") in ("trajectory_id", "reference") or not codes.isdisjoint(("two_targets", "fit_value"))


def refuses_dependent_fields(response: schemathesis.Response) -> bool:
    """Return whether a question about policies is refused for fields that depend on each other.

    Beside them are the problems of the other kinds that such a field may have.
    """
    if response.status_code != 400:
        return False
    codes = {problem["code"] for problem in response.json()["error"].get("details", ())}
    return not codes.isdisjoint(DEPENDENT_CODES)


@document.parametrize()
@settings(
    max_examples=EXAMPLES,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
def test_every_answer_is_documented(
    case: schemathesis.Case[Any], callers: dict[str, dict[str, str]], statuses: dict[str, Counter[int]]
) -> None:
    given = dict(case.path_parameters)
    for scopes, headers in callers.items():
        if "id" in given:
            # One that is there will not be guessed.
            case.path_parameters["id"] = ID if statuses[scopes].total() % 2 else given["id"]
        response = case.call(headers=headers)
        statuses[scopes][response.status_code] += 1
        is_beyond_schema = (
            refuses_a_free_value(response)
            or refuses_for_the_record(case, response)
            or refuses_for_the_format(case, response)
            or refuses_for_the_target(case, response)
            or ("/trajectories" not in case.path and refuses_dependent_fields(response))
        )
        unchecked: list[Any] = [positive_data_acceptance] if is_beyond_schema else []
        case.validate_response(response, headers=headers, excluded_checks=unchecked)
        assert response.status_code != 503, "nothing is away"
