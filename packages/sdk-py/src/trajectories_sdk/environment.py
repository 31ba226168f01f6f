"""HTTP clients that start whatever the environment says.

httpx2 reads proxies and certificates from the environment, and its constructors raise if a value is
unusable, even one for other hosts. A recorder must not stop its program, so such values are
ignored, with one warning that names the variable.
"""

from __future__ import annotations

import logging
import os
import ssl
from collections.abc import Callable, Iterable, Iterator
from typing import Final, TypeVar
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx2

from trajectories_sdk.process_lock import ProcessLock

_CERTIFICATES: Final = ("SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE")
Http = TypeVar("Http", httpx2.Client, httpx2.AsyncClient)

_log = logging.getLogger("trajectories_sdk")


class _Warned:
    """Variables that were named in a warning.

    Global because the environment is. Bounded by the variables that httpx2 reads. A forked child
    keeps the parent's.
    """

    lock = ProcessLock()
    names: set[str] = set()  # noqa: RUF012  guarded by the lock


def open_client(
    client: Callable[..., Http], transport: type[httpx2.HTTPTransport | httpx2.AsyncHTTPTransport], base_url: str
) -> Http:
    """Return a client of httpx2 for one server, with the usable part of the environment.

    Args:
        client, transport: the classes of httpx2.
    """
    try:
        return client()
    except Exception:  # whatever the environment holds; the calls below find out which variable
        return client(transport=transport(verify=_verify(), proxy=_proxy(base_url), trust_env=False), trust_env=False)


def reset_warnings() -> None:
    """Forget which variables were named."""
    with _Warned.lock:
        _Warned.names.clear()


def _verify() -> ssl.SSLContext:
    try:
        return httpx2.create_ssl_context()
    except Exception as error:
        given = [name for name in _CERTIFICATES if os.environ.get(name)]
        named = [name for name in given if os.environ[name] == getattr(error, "filename", None)]
        _warn(named or given, error)
        return httpx2.create_ssl_context(trust_env=False)


def _proxy(base_url: str) -> httpx2.Proxy | None:
    """Return the proxy for a server, or None if it has none that is usable."""
    parts = urlsplit(base_url)
    usable = {scheme: proxy for scheme in ("http", "https", "all") if (proxy := _usable_proxy(scheme)) is not None}
    if proxy_bypass(parts.netloc):
        return None
    return usable.get(parts.scheme) or usable.get("all")


def _usable_proxy(scheme: str) -> httpx2.Proxy | None:
    url = getproxies().get(scheme)
    if not url:
        return None
    try:
        proxy = httpx2.Proxy(url if "://" in url else f"http://{url}")
        httpx2.HTTPTransport(proxy=proxy, trust_env=False, verify=False).close()
    except Exception as error:
        _warn(_named(f"{scheme}_proxy"), error)
        return None
    return proxy


def _named(name: str) -> Iterator[str]:
    return (one for one in (name, name.upper()) if os.environ.get(one))


def _warn(names: Iterable[str], error: Exception) -> None:
    with _Warned.lock:
        fresh = [name for name in names if name not in _Warned.names]
        _Warned.names.update(fresh)
    if fresh:
        # Without the text of the error, since a proxy's URL may have a password.
        _log.warning("%s is ignored because it is unusable: %s", " or ".join(fresh), type(error).__name__)
