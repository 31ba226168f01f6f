"""Environment variables as operators write them.

Whitespace around a value and one pair of quotes, which ``docker --env-file`` keeps, are dropped. An
empty value is an unset one. Nothing is interpolated, so a value may begin with ``$``. A value that
cannot be used is one sentence that names its variable; it does not show a secret.
"""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Sequence
from contextlib import suppress
from typing import NoReturn
from urllib.parse import urlsplit

from django.core.exceptions import ImproperlyConfigured

PREFIX_PATTERN = r"(/(?!\.{1,2}(/|\Z))[A-Za-z0-9._~-]+)+"
"""A path below which the site can be, without a slash at the end, ``.`` and ``..``."""
_HOST = re.compile(r"\*|\.?[\w-]+(\.[\w-]+)*\.?|\[[0-9A-Fa-f:.]+\]")
_MAX = 2**31 - 1
_BOOLEANS = {
    **dict.fromkeys(("1", "true", "yes", "on", "y", "t"), True),
    **dict.fromkeys(("0", "false", "no", "off", "n", "f"), False),
}


def refuse(name: str, why: str) -> NoReturn:
    """Raise the error of a variable.

    Raises:
        ImproperlyConfigured: always.
    """
    raise ImproperlyConfigured(f"{name} {why}") from None


def text(name: str, default: str = "") -> str:
    """Return the text of a variable."""
    return cleaned(os.environ.get(name, "")) or default


def cleaned(value: str) -> str:
    """Return ``value`` without surrounding whitespace and one pair of quotes."""
    value = value.strip()
    if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
        return value[1:-1].strip()
    return value


def boolean(name: str, *, default: bool = False) -> bool:
    """Return a boolean, such as 1, true, yes, on, or their opposites."""
    value = text(name)
    return as_boolean(name, value) if value else default


def as_boolean(name: str, value: str) -> bool:
    """Return the boolean that ``value`` says."""
    if value.lower() not in _BOOLEANS:
        refuse(name, f"must be true or false, got {value!r}.")
    return _BOOLEANS[value.lower()]


def integer(name: str, default: int) -> int:
    """Return an integer from 0 to the largest that databases and browsers take."""
    value = text(name)
    if value and not (value.isascii() and value.isdigit() and len(value) < 20 and int(value) <= _MAX):
        refuse(name, f"must be a whole number from 0 to {_MAX}, got {value[:50]!r}.")
    return int(value) if value else default


def seconds(name: str, default: float) -> float:
    """Return a positive number of seconds."""
    value = text(name)
    try:
        number = float(value) if value else default
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        refuse(name, f"must be a number of seconds above 0, got {value!r}.")
    return number


def names(name: str, default: Sequence[str] = ()) -> list[str]:
    """Return the parts of a list, which are separated by commas or whitespace, or are a JSON array."""
    value = text(name)
    with suppress(ValueError):
        found = json.loads(value)
        if isinstance(found, list) and all(isinstance(part, str) for part in found):
            return found or list(default)
    return [cleaned(part) for part in value.replace(",", " ").split()] or list(default)


def hosts(name: str, default: Sequence[str]) -> list[str]:
    """Return host names without scheme, port and path."""
    found = names(name, default)
    for host in found:
        if host.startswith("*."):
            refuse(name, f"has {host!r}: for a domain and everything below it, write {host[1:]!r}.")
        if not _HOST.fullmatch(host):
            refuse(name, f"has {host!r}: write the host alone, such as store.example.com or [::1].")
    return found


def origins(name: str, *, has_wildcards: bool) -> list[str]:
    """Return origins, each a scheme and a host, as browsers write them.

    Args:
        has_wildcards: whether ``https://*.example.com`` stands for everything below a domain.
    """
    return [_origin(name, origin, has_wildcards=has_wildcards) for origin in names(name)]


def _origin(name: str, origin: str, *, has_wildcards: bool) -> str:
    parts = urlsplit(origin.rstrip("/").lower())
    try:
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if parts.scheme not in _PORTS or not host or "@" in parts.netloc or parts.path or parts.query or parts.fragment:
        refuse(name, f"has {origin!r}: write scheme and host alone, such as https://app.example.com.")
    if "*" in host and not has_wildcards:
        refuse(name, f"has {origin!r}: name each origin, because a * is not understood here.")
    host = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{host}" + ("" if port in (None, _PORTS[parts.scheme]) else f":{port}")


_PORTS = {"http": 80, "https": 443}


def log_format(name: str, default: str) -> str:
    """Return a format of Python's logging, whose fields may include ``request_id``."""
    value = text(name, default)
    try:
        logging.Formatter(value, defaults={"request_id": "-"}).format(logging.makeLogRecord({}))
    except (ValueError, KeyError, TypeError) as error:
        refuse(name, f"is no format of Python's logging: {error}.")
    return value


def path_prefix(name: str) -> str:
    """Return the path below which the site is, such as ``/store``, or an empty text."""
    value = text(name).rstrip("/")
    if value and not re.fullmatch(PREFIX_PATTERN, value):
        refuse(name, f"must be a path such as /store, got {value!r}.")
    return value


def choice(name: str, allowed: Sequence[str], default: str) -> str:
    """Return one of ``allowed``, which are in upper case."""
    value = text(name, default).upper()
    if value not in allowed:
        refuse(name, f"must be one of {', '.join(allowed)}, got {value!r}.")
    return value
