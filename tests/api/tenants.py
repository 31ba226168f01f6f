"""What a host project may name in ``TENANT_FROM_REQUEST``."""

from __future__ import annotations

from django.http import HttpRequest
from rest_framework.exceptions import AuthenticationFailed

from trajectories.api.authentication import Caller


def slug(request: HttpRequest) -> str | None:
    """The tenant is what a header says."""
    return request.headers.get("X-Team")


def letters(request: HttpRequest) -> Caller:
    """A text where a set of scopes is wanted."""
    return Caller("north", "read")  # type: ignore[arg-type]


def reader(request: HttpRequest) -> Caller:
    """Everybody may read what is of north."""
    return Caller("north", frozenset({"read"}))


def of_token(request: HttpRequest) -> str | None:
    """A login of the host's own, which knows no token."""
    if request.headers.get("Authorization"):
        raise AuthenticationFailed("This token is unknown.")
    return None


of_token.challenge = 'Token realm="trajectories"'  # type: ignore[attr-defined]
