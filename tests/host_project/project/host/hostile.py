"""Defaults of this project that the app must never come to use."""

from __future__ import annotations

from typing import Any, NoReturn

from rest_framework.schemas.inspectors import ViewInspector


class OfTheHost(AssertionError):
    """A default of the host project was used for a view of the app."""


class Untouchable:
    """A renderer, parser, permission and whatever else REST framework makes one of for each
    request."""

    media_type = "application/json"

    def __init__(self, *_: Any, **__: Any) -> None:
        raise OfTheHost


class Schema(ViewInspector):
    """REST framework makes one of these when it is imported, so it may exist, but not be asked."""

    def get_operation(self, *_: Any, **__: Any) -> NoReturn:
        raise OfTheHost


def untouchable(*_: Any, **__: Any) -> NoReturn:
    """An exception handler, a hook of a schema generator."""
    raise OfTheHost
