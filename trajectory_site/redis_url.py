"""``REDIS_URL``: what the Redis tier and the broker make of it.

The broker uses the Redis tier's server and the next database number.
"""

from __future__ import annotations

from typing import Any, NamedTuple
from urllib.parse import parse_qs, quote, unquote, urlsplit

from trajectory_site import environment

_SENTINEL = ("sentinel", "redis+sentinel", "redis-sentinel")
_SENTINEL_PORT = 26379
_OF_ONE_PROCESS = ("memory", "filesystem", "pyro")  # the second needs options that no variable gives
_SERVER = {"redis": "redis", "rediss": "rediss", "valkey": "redis", "valkeys": "rediss", "unix": "unix"}
_FORMS = (
    "redis://, rediss://, valkey://, valkeys://, unix:// or sentinel://, such as redis://:PASSWORD@HOST:6379/0,"
    " unix://:PASSWORD@/run/redis.sock?db=0 or sentinel://:PASSWORD@HOST1:26379,HOST2:26379/SERVICE/0"
)


class Sentinels(NamedTuple):
    """Sentinels, and the service that they watch.

    ``password`` is the one of the Redis servers; ``sentinel_password`` the one of the sentinels.
    """

    addresses: list[tuple[str, int]]
    service: str
    database: int
    username: str | None
    password: str | None
    sentinel_password: str | None


def normalized(name: str, url: str) -> str:
    """Return ``url`` with a scheme that redis-py knows, or ``sentinel``.

    Raises:
        ImproperlyConfigured: the URL in the variable ``name`` cannot be used.
    """
    scheme, separator, rest = url.partition("://")
    if not separator or scheme.lower() not in (*_SERVER, *_SENTINEL):
        environment.refuse(name, f"must begin with {_FORMS}; got {scheme[:20] if separator else 'no scheme'!r}.")
    url = f"{_SERVER.get(scheme.lower(), 'sentinel')}://{rest}"
    try:
        parts = urlsplit(url)
        is_readable = is_sentinel(url) or parts.port is None or parts.port > 0
    except ValueError:
        is_readable = False
    number = (parts.path.strip("/") if is_readable and parts.scheme in ("redis", "rediss") else "") or "0"
    if not is_readable or parts.fragment or not number.isdecimal():
        environment.refuse(
            name,
            "cannot be read: the port and the database must be numbers, and in a password the characters @ : / ? # %"
            " must be written as %40 %3A %2F %3F %23 %25.",
        )
    if is_sentinel(url):
        sentinels(name, url)
    return url


def is_sentinel(url: str) -> bool:
    return url.startswith("sentinel://")


def sentinels(name: str, url: str) -> Sentinels:
    """Return what ``sentinel://[USER]:[PASSWORD]@HOST[:PORT],…/SERVICE[/DATABASE]`` names.

    The query may have ``sentinel_password``.

    Raises:
        ImproperlyConfigured: the URL in the variable ``name`` cannot be used.
    """
    parts = urlsplit(url)
    credentials, _, hosts = parts.netloc.rpartition("@")
    username, _, password = credentials.partition(":")
    service, _, number = parts.path.strip("/").partition("/")
    try:
        addresses = [_address(host) for host in hosts.split(",")]
        database_number = int(number or 0)
    except ValueError:
        addresses, database_number = [], 0
    if not service or not all(host for host, _ in addresses) or not addresses:
        environment.refuse(name, "must be sentinel://:PASSWORD@HOST1:26379,HOST2:26379/SERVICE/DATABASE.")
    own = parse_qs(parts.query).get("sentinel_password", [""])[0]
    return Sentinels(
        addresses,
        unquote(service),
        database_number,
        unquote(username) or None,
        unquote(password) or None,
        own or None,
    )


def _address(host: str) -> tuple[str, int]:
    parts = urlsplit(f"//{host}")
    return parts.hostname or "", parts.port or _SENTINEL_PORT


def cache(name: str, url: str) -> dict[str, Any]:
    """Return the entries of ``CACHES`` that depend on the URL: ``LOCATION`` and ``OPTIONS``."""
    if not is_sentinel(url):
        return {"LOCATION": url, "OPTIONS": {}}
    found = sentinels(name, url)
    options: dict[str, Any] = {
        "CONNECTION_FACTORY": "django_redis.pool.SentinelConnectionFactory",
        "SENTINELS": found.addresses,
        "SENTINEL_KWARGS": {"password": found.sentinel_password},
        "USERNAME": found.username,
        "PASSWORD": found.password,
    }
    return {"LOCATION": f"redis://{quote(found.service)}/{found.database}", "OPTIONS": options}


def database(url: str) -> int:
    """Return the database number in ``url``, or 0 if there is none."""
    if is_sentinel(url):
        return sentinels("", url).database
    parts = urlsplit(url)
    in_path = "" if parts.scheme == "unix" else parts.path.strip("/")
    number = in_path or parse_qs(parts.query).get("db", ["0"])[0]
    return int(number) if number.isdecimal() else 0


def with_database(url: str, number: int) -> str:
    """Return ``url`` with another database number."""
    parts = urlsplit(url)
    others = "&".join(pair for pair in parts.query.split("&") if pair and not pair.startswith("db="))
    if parts.scheme == "unix":
        return parts._replace(query=f"{others}&db={number}".removeprefix("&")).geturl()
    return parts._replace(path=f"/{number}", query=others).geturl()


def broker(url: str, number: int | None = None) -> str:
    """Return the URL of a broker on the same server, by default in the next database.

    The tier's database then holds only trajectories.
    """
    number = database(url) + 1 if number is None else number
    if is_sentinel(url):
        found = sentinels("", url)
        user = f"{quote(found.username or '', safe='')}:{quote(found.password or '', safe='')}@"
        return ";".join(
            f"sentinel://{user if found.password else ''}{f'[{host}]' if ':' in host else host}:{port}/{number}"
            for host, port in found.addresses
        )
    parts = urlsplit(url)
    if parts.scheme == "unix":
        query = parse_qs(parts.query)
        credentials, separator, _ = parts.netloc.rpartition("@")
        if "password" in query:
            user, password = (quote(query.get(part, [""])[0], safe="") for part in ("username", "password"))
            credentials, separator = f"{user}:{password}", "@"
        return f"redis+socket://{credentials}{separator}{parts.path}?virtual_host={number}"
    return with_database(url, number)


def explicit_broker(name: str, url: str) -> str:
    """Return Celery's broker URL for ``url``, which may have each form that ``REDIS_URL`` may have.

    Raises:
        ImproperlyConfigured: Kombu has no transport for the URL in the variable ``name``.
    """
    # Here and not above: the quick start's own process would keep Kombu.
    from kombu.transport import TRANSPORT_ALIASES

    scheme, separator, _ = url.partition("://")
    scheme = scheme.lower()
    if not separator:
        environment.refuse(
            name, "has no scheme; it is a URL such as redis://HOST:6379/1 or amqp://USER:PASSWORD@HOST//."
        )
    if scheme in (*_SERVER, *_SENTINEL):
        given = normalized(name, url)
        return broker(given, database(given))
    if scheme.partition("+")[0] not in TRANSPORT_ALIASES:
        environment.refuse(name, f"has the scheme {scheme[:20]!r}, for which Celery has no transport.")
    if scheme in _OF_ONE_PROCESS:
        environment.refuse(name, f"has the scheme {scheme!r}, whose messages reach no worker.")
    from kombu import Connection  # the server's main process reads the settings, and needs no connection

    try:
        Connection(url).transport  # noqa: B018  loads it
    except (ImportError, NameError, RuntimeError) as error:  # by transport, if its library is missing
        environment.refuse(name, f"has the scheme {scheme!r}, which needs a library that is not installed: {error}.")
    return url


def sentinel_options(name: str, url: str) -> dict[str, Any]:
    """Return Kombu's transport options for sentinels; empty for another URL."""
    if url.partition("://")[0].lower() not in _SENTINEL:
        return {}
    found = sentinels(name, normalized(name, url))
    return {"master_name": found.service, "sentinel_kwargs": {"password": found.sentinel_password}}


def port(url: str) -> int | None:
    """Return the port in ``url``, or ``None``."""
    return urlsplit(url).port
