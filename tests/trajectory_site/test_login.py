"""The admin's login refuses an attempt over its limit before it hashes the password."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth import hashers
from django.contrib.auth.models import User
from django.test import Client

from trajectory_site import login

pytestmark = pytest.mark.django_db

RIGHT = "only for tests"


@pytest.fixture(autouse=True)
def users() -> None:
    for name in ("admin", "other"):
        User.objects.create_superuser(name, password=RIGHT)


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Count the passwords that are hashed."""
    made: list[str] = []
    hasher = hashers.get_hasher()
    encode = type(hasher).encode

    def counted(self: Any, password: str, *args: Any) -> str:
        made.append(password)
        return encode(self, password, *args)

    monkeypatch.setattr(type(hasher), "encode", counted)
    return made


def attempt(password: str, *, user: str = "admin", address: str = "203.0.113.7") -> str:
    """Return "in", or the form's error."""
    answer = Client().post("/admin/login/", {"username": user, "password": password}, REMOTE_ADDR=address)
    if answer.status_code == 302:
        return "in"
    (error,) = answer.context["form"].non_field_errors()
    return str(error)


def test_an_address_over_its_limit_costs_no_hashing(hashed: list[str]) -> None:
    said = [attempt(f"wrong {n}", user=f"guess{n}") for n in range(login._PER_ADDRESS + 3)]
    assert all(text.startswith("Please enter the correct") for text in said[: login._PER_ADDRESS])
    assert all(text.startswith("Too many failed logins. Try again in ") for text in said[login._PER_ADDRESS :])
    assert [password for password in hashed if password.startswith("wrong")] == [
        f"wrong {n}" for n in range(login._PER_ADDRESS)
    ]
    assert attempt(RIGHT).startswith("Too many failed logins.")
    assert attempt(RIGHT, address="203.0.113.8") == "in"


def test_a_user_name_over_its_limit_is_refused_from_every_address(
    hashed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(login, "_PER_USER", 3)
    said = [attempt("wrong", user=name, address=f"203.0.113.{n}") for n, name in enumerate(["admin", "ADMIN", "admin"])]
    assert all(text.startswith("Please enter the correct") for text in said)
    before = len(hashed)
    assert attempt("wrong", address="203.0.113.9").startswith("Too many failed logins.")
    assert len(hashed) == before
    assert attempt(RIGHT, user="other", address="203.0.113.9") == "in"


def test_right_passwords_are_not_counted() -> None:
    assert {attempt(RIGHT) for _ in range(login._PER_ADDRESS + 2)} == {"in"}
