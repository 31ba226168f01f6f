"""The OpenAPI document of a host project that uses drf-spectacular."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from drf_spectacular.drainage import GENERATOR_STATS, warn
from drf_spectacular.settings import patched_settings, spectacular_settings
from openapi_spec_validator import OpenAPIV30SpecValidator, OpenAPIV31SpecValidator

from trajectories.api import openapi
from trajectories.urls import api as urls

PATH = "/store/v1/agent/trajectories"


@pytest.fixture
def documents(tmp_path: Path) -> Any:
    """Make the document that the command of drf-spectacular validates, and warns about nothing."""

    def make(settings: str) -> dict[str, Any]:
        file = tmp_path / "schema.json"
        call_command(
            "spectacular",
            urlconf="tests.api.host_urls",
            custom_settings=f"tests.api.host_urls.{settings}",
            format="openapi-json",
            file=str(file),
            validate=True,
            fail_on_warn=True,
        )
        made: dict[str, Any] = json.loads(file.read_text())
        return made

    return make


def test_this_api_is_not_in_the_document_of_the_host_unless_asked_for(documents: Any) -> None:
    document = documents("ALONE")
    assert list(document["paths"]) == ["/moon"]
    assert list(document["components"]["schemas"]) == ["Phase"]
    assert document["paths"]["/moon"]["get"]["operationId"] == "list"


@pytest.mark.parametrize("asked", ["WITH_3_0", "WITH_3_1"])
def test_it_is_valid_when_asked_for_and_its_names_cannot_collide(documents: Any, asked: str) -> None:
    document, alone = documents(asked), documents("ALONE")
    validator = OpenAPIV30SpecValidator if asked == "WITH_3_0" else OpenAPIV31SpecValidator
    validator(document).validate()
    assert document["paths"].pop("/moon") == alone["paths"]["/moon"]
    schemas = document["components"]["schemas"]
    assert schemas.pop("Phase") == alone["components"]["schemas"]["Phase"]
    operations = {
        (method, path): operation["operationId"]
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }
    own = openapi.openapi(urls.api_urlpatterns)
    assert operations == {
        (method, "/store" + path): f"trajectories_{operation['operationId']}"
        for path, methods in own["paths"].items()
        for method, operation in methods.items()
    }
    assert set(schemas) == {f"Trajectories{name}" for name in own["components"]["schemas"]}
    assert set(references(document)) <= {f"#/components/schemas/{name}" for name in schemas}


def references(value: Any) -> Iterator[str]:
    if isinstance(value, list):
        for item in value:
            yield from references(item)
    elif isinstance(value, dict):
        for name, item in value.items():
            if name == "$ref":
                yield item
            else:
                yield from references(item)


def test_a_null_of_3_1_is_nullable_in_3_0(documents: Any) -> None:
    phase = documents("WITH_3_0")["components"]["schemas"]["TrajectoriesPhase"]["properties"]
    assert (phase["model"]["type"], phase["model"]["nullable"]) == ("string", True)


def test_the_hosts_own_warnings_and_settings_outlast_the_making_of_this_document() -> None:
    openapi._document.cache_clear()
    with patched_settings({"TITLE": "Of the host"}):
        warn("of the host")
        openapi.openapi(urls.api_urlpatterns)
        assert "of the host" in str(dict(GENERATOR_STATS._warn_cache))
        assert spectacular_settings.TITLE == "Of the host"
    GENERATOR_STATS.reset()
    assert spectacular_settings.TITLE != "Of the host"
