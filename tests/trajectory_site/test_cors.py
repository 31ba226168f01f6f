"""Pages of other origins: refused unless the site names them, and then let in to the API alone."""

from __future__ import annotations

from collections.abc import Iterator
from unittest.mock import patch

import httpx2
import pytest

from tests.processes import Site, Web

PATH = "/v1/agent/trajectories"
MCP_PATH = "/v1/mcp/connect"
ORIGIN = "https://app.example.com"
STRANGER = "https://app.example.org"


def cors_headers(answer: httpx2.Response) -> dict[str, str]:
    return {name: text for name, text in answer.headers.items() if name.startswith("access-control-")}


def preflight(web: Web, origin: str, path: str = PATH) -> httpx2.Response:
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,content-type"}
    return httpx2.options(web.url + path, headers={"Origin": origin} | asked, trust_env=False)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    site = Site.make(tmp_path_factory.mktemp("cors") / "site", {})
    yield site
    site.close()


@pytest.fixture(scope="module")
def web(site: Site) -> Web:
    return site.web(CORS_ALLOWED_ORIGINS=f"http://localhost:5173,{ORIGIN}")


def test_without_the_setting_no_origin_is_allowed(site: Site) -> None:
    web = site.web()
    for answer in (preflight(web, ORIGIN), web.http.get(PATH, headers={"Origin": ORIGIN})):
        assert cors_headers(answer) == {}
        assert "origin" not in answer.headers.get("Vary", "").lower()


def test_a_named_origin_may_send_api_headers_and_no_cookies(web: Web) -> None:
    asked = preflight(web, ORIGIN)
    assert asked.status_code == 200
    assert asked.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert asked.headers["Access-Control-Allow-Methods"] == "GET, POST, PATCH, DELETE"
    allowed = asked.headers["Access-Control-Allow-Headers"].split(", ")
    assert {"authorization", "content-type", "idempotency-key", "if-match", "x-request-id"} <= set(allowed)
    assert "cookie" not in allowed
    answer = web.http.get(PATH, headers={"Origin": ORIGIN})
    assert answer.status_code == 200
    assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert {"ETag", "Retry-After"} <= set(answer.headers["Access-Control-Expose-Headers"].split(", "))
    assert not {"access-control-allow-credentials"} & set(cors_headers(asked) | cors_headers(answer))


def test_an_error_has_the_headers_that_let_a_page_read_it(web: Web) -> None:
    answer = httpx2.get(web.url + PATH, headers={"Origin": ORIGIN, "Authorization": "Bearer made.up"}, trust_env=False)
    assert answer.status_code == 401
    assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN


def test_an_unnamed_origin_may_call_nothing(web: Web) -> None:
    for origin in (STRANGER, f"{ORIGIN}.example.org", "http://app.example.com", "null"):
        for answer in (preflight(web, origin), web.http.get(PATH, headers={"Origin": origin})):
            assert cors_headers(answer) == {}, origin


def test_a_page_of_a_named_origin_alone_may_call_the_mcp_tools(web: Web) -> None:
    asked = preflight(web, ORIGIN, MCP_PATH)
    assert {"mcp-protocol-version", "mcp-method", "mcp-name"} <= set(
        asked.headers["Access-Control-Allow-Headers"].split(", ")
    )
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    answers = [
        web.http.post(MCP_PATH, json=message, headers={"Origin": origin, "Accept": "application/json"}, timeout=120)
        for origin in (ORIGIN, STRANGER, "null")
    ]
    assert [answer.status_code for answer in answers] == [200, 403, 403]
    assert answers[0].headers["Access-Control-Allow-Origin"] == ORIGIN
    assert cors_headers(answers[1]) == {}


def test_a_named_origin_may_call_the_api_only(web: Web) -> None:
    for path in ("/admin/login/", "/docs/", "/health/live", "/metrics"):
        for answer in (preflight(web, ORIGIN, path), web.http.get(path, headers={"Origin": ORIGIN})):
            assert cors_headers(answer) == {}, path


def test_an_origin_that_is_none_is_refused_by_name(site: Site) -> None:
    given = {"CORS_ALLOWED_ORIGINS": f"{ORIGIN}/page"}
    with patch.dict(site.environment, given), pytest.raises(AssertionError, match="CORS_ALLOWED_ORIGINS has"):
        site.manage("check")
