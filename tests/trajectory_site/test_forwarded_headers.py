"""Headers of a proxy, sent by a client of this host to the real server."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx2
import pytest

from tests.api.client import PATH
from tests.processes import PROJECT, Process, Site, Web, wait_until
from trajectory_site.servers import free_port

FORGED = [
    ("SCRIPT_NAME", "/forged"),
    ("Script-Name", "/forged"),
    ("Path-Info", "/forged"),
    ("Remote-Addr", "192.0.2.1"),
    ("X-Forwarded-Prefix", "/forged"),
    ("X-Script-Name", "/forged"),
    ("X-Forwarded-Host", "forged.example"),
    ("X-Forwarded-Port", "4443"),
    ("X-Forwarded-Proto", "https"),
    ("X-Forwarded-Protocol", "ssl"),
    ("X-Forwarded-Scheme", "https"),
    ("X-Forwarded-Ssl", "on"),
    ("X-Scheme", "https"),
    ("X-Url-Scheme", "https"),
    ("Front-End-Https", "on"),
    ("Forwarded", "for=192.0.2.1;proto=https;host=forged.example"),
    ("X-Real-Ip", "192.0.2.1"),
    ("X-Rewrite-Url", "/health/live"),
    ("X-Original-Url", "/health/live"),
    ("X-Http-Method-Override", "DELETE"),
]
"""Headers that a WSGI server or a framework may believe of a peer on its own host."""


def served(directory: Path, **environment: str) -> Iterator[Web]:
    site = Site.make(directory / "site", {"SECURE_SSL_REDIRECT": "true"} | environment)
    try:
        yield site.web()
    finally:
        site.close()


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    """A server that redirects to HTTPS, and trusts no header."""
    yield from served(tmp_path_factory.mktemp("direct"))


@pytest.fixture(scope="module")
def web_behind_proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    """A server that takes the scheme, and nothing else, from a header."""
    yield from served(
        tmp_path_factory.mktemp("proxied"), TRUST_X_FORWARDED_PROTO="true", TRAJECTORIES_KEY_FAILURES_PER_MINUTE="3"
    )


def documented(server: str) -> list[str]:
    """Return the command by which docs/security.md starts another server."""
    lines = (PROJECT / "docs" / "security.md").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith(f"{server} trajectory_site."))
    return shlex.split(line)


@pytest.mark.parametrize("server", ["gunicorn", "uvicorn"])
def test_another_server_started_as_documented_believes_no_header(server: str, tmp_path: Path) -> None:
    site = Site.make(tmp_path / "site", {"SECURE_SSL_REDIRECT": "true"})
    port = free_port()
    listen = {"gunicorn": ["--bind", f"127.0.0.1:{port}"], "uvicorn": ["--port", str(port)]}[server]
    process = Process([sys.executable, "-m", *documented(server), *listen], site.environment, tmp_path / "log")
    try:
        with httpx2.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=30) as client:
            process.wait_for(lambda: answers(client), f"{server} answers")
            for name, value in FORGED:
                answer = client.get("/docs/", headers={name: value})
                assert (name, answer.status_code) == (name, 301)
                assert answer.headers["Location"] == f"https://127.0.0.1:{port}/docs/"
    finally:
        process.kill()
        site.close()


def answers(client: httpx2.Client) -> bool:
    with suppress(httpx2.TransportError):
        return client.get("/health/live").is_success
    return False


@pytest.mark.parametrize("header", FORGED, ids=[name for name, _ in FORGED])
def test_a_forwarded_header_of_a_client_changes_nothing(web: Web, header: tuple[str, str]) -> None:
    for path in ("/docs/", "/admin/", PATH, "/forged/docs/"):
        plain, forged = (web.http.get(path, headers=sent) for sent in ({}, dict([header])))
        assert plain.status_code == 301
        assert plain.headers["Location"] == f"https://{web.http.base_url.netloc.decode()}{path}"
        assert (forged.status_code, forged.headers["Location"]) == (301, plain.headers["Location"])


@pytest.mark.parametrize("path", ["/docs/", "/admin/", PATH, "/nowhere"])
def test_a_bad_host_is_one_line_of_the_output_of_the_server(web: Web, path: str) -> None:
    before = len(web.output)
    assert web.http.get(path, headers={"Host": "forged.example"}).status_code == 400
    wait_until(lambda: "\n" in web.output[before:], what="the server logs it")
    (line,) = web.output[before:].splitlines()
    assert "DisallowedHost: Invalid HTTP_HOST header: 'forged.example'" in line


def test_the_scheme_comes_from_the_header_if_the_setting_trusts_it(web_behind_proxy: Web) -> None:
    sent: list[dict[str, str]] = [{"X-Forwarded-Proto": "https"}, {"X-Forwarded-Proto": "http"}, {}]
    assert [web_behind_proxy.http.get(PATH, headers=headers).status_code for headers in sent] == [200, 301, 301]


def test_a_client_cannot_name_the_first_part_of_its_path_as_the_prefix_of_the_site(web_behind_proxy: Web) -> None:
    for name in ("SCRIPT_NAME", "Script-Name", "X-Script-Name", "X-Forwarded-Prefix"):
        sent = {"X-Forwarded-Proto": "https", name: "/forged"}
        assert web_behind_proxy.http.get("/forged/docs/", headers=sent).status_code == 404


def test_a_client_cannot_choose_the_address_that_its_bad_keys_are_counted_for(web_behind_proxy: Web) -> None:
    def send(n: int) -> int:
        address = f"192.0.2.{n}"
        forged = {"X-Forwarded-For": address, "Forwarded": f"for={address}", "X-Real-Ip": address}
        own = {"Authorization": f"Bearer bad{n}.key", "X-Forwarded-Proto": "https"}
        return web_behind_proxy.http.get(PATH, headers=own | forged).status_code

    assert [send(n) for n in range(5)] == [401, 401, 401, 429, 429]
