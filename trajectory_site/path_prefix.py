"""Serve the site below a path, such as ``/store``, whether the proxy strips the path or not."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeAlias

from django.conf import settings
from django.contrib.staticfiles.storage import StaticFilesStorage
from django.urls import get_script_prefix
from whitenoise.storage import CompressedManifestStaticFilesStorage

from trajectory_site.environment import PREFIX_PATTERN

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment


AsgiApplication: TypeAlias = "Callable[[Any, Any, Any], Awaitable[None]]"


def below_prefix(application: WSGIApplication) -> WSGIApplication:
    """Return ``application`` with ``SCRIPT_NAME`` set to the prefix of each request."""

    def prefixed(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if prefix := _prefix(environ.get("HTTP_X_FORWARDED_PREFIX")):
            environ["SCRIPT_NAME"] = prefix
            environ["PATH_INFO"] = _without(prefix, environ["PATH_INFO"])
        return application(environ, start_response)

    return prefixed


def below_prefix_asgi(application: AsgiApplication) -> AsgiApplication:
    """Return ``application`` with ``root_path`` set to the prefix of each request.

    Django takes ``root_path`` off the beginning of ``path``, so that begins with it.
    """

    async def prefixed(scope: Any, receive: Any, send: Any) -> None:
        given = dict(scope.get("headers", ())).get(b"x-forwarded-prefix")
        if prefix := _prefix(None if given is None else given.decode("latin-1")):
            scope = scope | {"root_path": prefix, "path": prefix + _without(prefix, scope["path"])}
        await application(scope, receive, send)

    return prefixed


def _prefix(forwarded: str | None) -> str:
    if settings.TRUST_X_FORWARDED_PREFIX and forwarded is not None:
        given = forwarded.rstrip("/")
        # An address in a page is made of it, so it must be a path and nothing else.
        return given if re.fullmatch(PREFIX_PATTERN, given) else ""
    return str(settings.URL_PREFIX)


def _without(prefix: str, path: str) -> str:
    """Return ``path`` below ``prefix``, whether the proxy has removed the prefix or not."""
    is_below = path == prefix or path.startswith(f"{prefix}/")
    return (path.removeprefix(prefix) or "/") if is_below else path


class _BelowPrefix:
    """Static files below the prefix of the request; Django keeps the one of the first request."""

    @property
    def base_url(self) -> str:
        return f"{get_script_prefix()}static/"


class PlainStorage(_BelowPrefix, StaticFilesStorage):
    pass


class ManifestStorage(_BelowPrefix, CompressedManifestStaticFilesStorage):  # type: ignore[misc]
    pass
