"""Redis URLs. The broker uses the Redis tier's server and the next database number."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit


def database(url: str) -> int:
    """Return the database number in ``url``, or 0 if there is none."""
    parts = urlsplit(url)
    in_path = "" if parts.scheme == "unix" else parts.path.strip("/")
    number = in_path or parse_qs(parts.query).get("db", ["0"])[0]
    return int(number) if number.isdecimal() else 0


def with_database(url: str, number: int) -> str:
    """Return ``url`` with another database number."""
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return parts._replace(query=f"db={number}").geturl()
    others = [pair for pair in parts.query.split("&") if pair and not pair.startswith("db=")]
    return parts._replace(path=f"/{number}", query="&".join(others)).geturl()


def broker(url: str) -> str:
    """Return the default broker URL: same server, next database.

    The tier's database then holds only trajectories.
    """
    number = database(url) + 1
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return f"redis+socket://{parts.path}?virtual_host={number}"
    return with_database(url, number)


def port(url: str) -> int | None:
    """Return the port in ``url``, or ``None``."""
    return urlsplit(url).port
