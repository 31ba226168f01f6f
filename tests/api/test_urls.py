"""A host project names our routes in a namespace, and includes the parts that it wants."""

from __future__ import annotations

from types import ModuleType

import pytest
from django.core.checks.urls import check_url_namespaces_unique
from django.test import Client, override_settings
from django.urls import NoReverseMatch, URLPattern, URLResolver, include, path, reverse

ID = "29243fa3-f296-5e3b-9266-7052b77cbfe9"


class Parts(ModuleType):
    """A host's URLs that include the parts under prefixes of their own."""

    urlpatterns: tuple[URLPattern | URLResolver, ...] = (
        path("store/", include("trajectories.urls.api")),
        path("probes/", include("trajectories.urls.health")),
        path("internal/", include("trajectories.urls.metrics")),
        path("twice/", include("trajectories.urls", namespace="twice")),
    )


PARTS = Parts("parts")


@pytest.mark.parametrize(
    ("name", "args", "address"),
    [
        ("trajectory-list", [], "/v1/agent/trajectories"),
        ("trajectory-detail", [ID], f"/v1/agent/trajectories/{ID}"),
        ("trajectory-stats", [], "/v1/agent/trajectories/stats"),
        ("trajectory-export", [], "/v1/agent/trajectories/export"),
        ("openapi", [], "/v1/openapi.json"),
        ("live", [], "/health/live"),
        ("ready", [], "/health/ready"),
        ("metrics", [], "/metrics"),
    ],
)
def test_each_route_has_a_name_in_the_namespace_and_none_outside(name: str, args: list[str], address: str) -> None:
    assert reverse(f"trajectories:{name}", args=args) == address
    with pytest.raises(NoReverseMatch):
        reverse(name, args=args)


def test_the_parts_can_be_included_alone_and_together_without_a_warning() -> None:
    with override_settings(ROOT_URLCONF=PARTS):
        assert check_url_namespaces_unique(None) == []
        names = {
            "trajectories:trajectory-list": "/store/v1/agent/trajectories",
            "trajectories:openapi": "/store/v1/openapi.json",
            "trajectories_health:live": "/probes/health/live",
            "trajectories_metrics:metrics": "/internal/metrics",
            "twice:ready": "/twice/health/ready",
        }
        assert {name: reverse(name) for name in names} == names
        client = Client()
        assert client.get("/probes/health/live").status_code == 200
        assert client.get("/store/v1/openapi.json").json()["servers"] == [{"url": "/store"}]
        assert client.get("/store/v1/agent/trajectories/").json()["error"]["type"] == "not_found_error"
        assert client.get("/store/health/live").status_code == 404
