"""Serve the site below a path, such as ``/store``, whether the proxy strips the path or not."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from django.conf import settings
from django.contrib.staticfiles.storage import StaticFilesStorage
from django.urls import get_script_prefix
from whitenoise.storage import CompressedManifestStaticFilesStorage

from trajectory_site.environment import PREFIX_PATTERN

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment


def below_prefix(application: WSGIApplication) -> WSGIApplication:
    """Return ``application`` with ``SCRIPT_NAME`` set to the prefix of each request."""

    def prefixed(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if prefix := _prefix(environ):
            path = environ["PATH_INFO"]
            environ["SCRIPT_NAME"] = prefix
            if path == prefix or path.startswith(f"{prefix}/"):
                environ["PATH_INFO"] = path.removeprefix(prefix) or "/"
        return application(environ, start_response)

    return prefixed


def _prefix(environ: WSGIEnvironment) -> str:
    if settings.TRUST_X_FORWARDED_PREFIX and "HTTP_X_FORWARDED_PREFIX" in environ:
        given = str(environ["HTTP_X_FORWARDED_PREFIX"]).rstrip("/")
        # An address in a page is made of it, so it must be a path and nothing else.
        return given if re.fullmatch(PREFIX_PATTERN, given) else ""
    return str(settings.URL_PREFIX)


class _BelowPrefix:
    """Static files below the prefix of the request; Django keeps the one of the first request."""

    @property
    def base_url(self) -> str:
        return f"{get_script_prefix()}static/"


class PlainStorage(_BelowPrefix, StaticFilesStorage):
    pass


class ManifestStorage(_BelowPrefix, CompressedManifestStaticFilesStorage):  # type: ignore[misc]
    pass
