"""The site as the README starts it in production."""

from __future__ import annotations

import re
import secrets

import pytest
from django.contrib.auth.models import User
from django.test import Client
from pytest_django import Settings

from tests.processes import PROJECT, Site, clean_environment, run_python


def production_environment() -> dict[str, str]:
    """The variables that the README's production section exports, placeholders included."""
    section = (PROJECT / "README.md").read_text().partition("## Run it in production")[2].partition("\n## ")[0]
    exports = [line.partition("#")[0].split()[1:] for line in section.splitlines() if line.startswith("export ")]
    return {name: text for line in exports for name, _, text in (given.partition("=") for given in line)}


def test_django_s_deployment_checks_have_nothing_to_say(site: Site) -> None:
    site.environment["SECRET_KEY"] = secrets.token_urlsafe(50)
    site.worker(concurrency=1)
    names = ("SECRET_KEY", "REDIS_URL", "DATA_DIR", "DJANGO_SETTINGS_MODULE")
    own = {name: site.environment[name] for name in names}
    done = run_python(
        ["manage.py", "check", "--deploy", "--fail-level", "WARNING"],
        clean_environment(**production_environment() | own | {"DATABASE_URL": ""}),
    )
    assert done.returncode == 0, done.stderr
    assert "no issues (0 silenced)" in done.stdout


def test_the_readme_leaves_no_secret_to_a_default() -> None:
    environment = production_environment()
    assert {name for name, text in environment.items() if "…" in text} == {"SECRET_KEY", "DATABASE_URL", "REDIS_URL"}
    assert environment["SECURE_SSL_REDIRECT"] == "true"


@pytest.mark.django_db
@pytest.mark.parametrize(
    "address", ["/admin/login/", "/docs/", "/v1/openapi.json", "/v1/agent/trajectories", "/nowhere"]
)
def test_every_answer_has_the_headers_that_keep_a_browser_in(address: str, client: Client) -> None:
    answer = client.get(address)
    policy = dict(part.strip().split(" ", 1) for part in answer["Content-Security-Policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert (policy["script-src"], policy["style-src"]) == ("'self'", "'self'")
    assert (policy["frame-ancestors"], policy["base-uri"]) == ("'none'", "'none'")
    assert "unsafe" not in answer["Content-Security-Policy"]
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert answer["X-Frame-Options"] == "DENY"
    assert answer["Referrer-Policy"] == "same-origin"


@pytest.mark.django_db
def test_behind_https_cookies_are_secure_and_hsts_is_sent(settings: Settings) -> None:
    settings.SESSION_COOKIE_SECURE = settings.CSRF_COOKIE_SECURE = True
    settings.SECURE_HSTS_SECONDS = 31_536_000
    User.objects.create_superuser("admin", password="only for tests")
    client = Client()
    answer = client.post("/admin/login/", {"username": "admin", "password": "only for tests"}, secure=True)
    assert answer["Strict-Transport-Security"].startswith("max-age=31536000")
    for cookie in (
        answer.cookies["sessionid"],
        client.get("/admin/password_change/", secure=True).cookies["csrftoken"],
    ):
        assert (cookie["secure"], cookie["samesite"]) == (True, "Lax")
    assert answer.cookies["sessionid"]["httponly"]


def test_only_a_probe_is_answered_without_https(settings: Settings, client: Client) -> None:
    settings.SECURE_SSL_REDIRECT = True
    fresh = Client()
    assert fresh.get("/health/live").status_code == 200
    assert fresh.get("/v1/agent/trajectories")["Location"].startswith("https://")
    assert fresh.get("/metrics")["Location"].startswith("https://")


def test_no_page_of_ours_has_a_script_or_a_style_in_it() -> None:
    paths = [*PROJECT.glob("templates/**/*.html"), *PROJECT.glob("trajectories/templates/**/*.html")]
    assert paths
    for path in paths:
        assert not re.search(r"<style|<script(?![^>]*\bsrc=)|\bstyle=|\son\w+=", path.read_text()), path
