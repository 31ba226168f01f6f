"""Redis URLs: the broker lives on the tier's server, in the next database."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit


def database(url: str) -> int:
    """The database number that ``url`` names; 0 where it names none."""
    parts = urlsplit(url)
    in_path = "" if parts.scheme == "unix" else parts.path.strip("/")
    number = in_path or parse_qs(parts.query).get("db", ["0"])[0]
    return int(number) if number.isdecimal() else 0


def with_database(url: str, number: int) -> str:
    """``url`` with another database number."""
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return parts._replace(query=f"db={number}").geturl()
    others = [pair for pair in parts.query.split("&") if pair and not pair.startswith("db=")]
    return parts._replace(path=f"/{number}", query="&".join(others)).geturl()


def broker(url: str) -> str:
    """The broker's default: same server, next database, so that the tier's database holds nothing but trajectories."""
    number = database(url) + 1
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return f"redis+socket://{parts.path}?virtual_host={number}"
    return with_database(url, number)


def port(url: str) -> int | None:
    """The port that ``url`` names, if it does."""
    return urlsplit(url).port
