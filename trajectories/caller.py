"""The caller of a request: what authentication returns and permissions read."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Caller:
    """A tenant and its scopes: some of record, read, export, admin.

    ``key`` identifies the client whose requests ``rate_limits`` counts together. It is the prefix
    of an API key, or a name that the host project gives a user or client within the tenant. With
    None, all such requests of the tenant are counted together.

    ``source`` is the source of the late outcomes that the caller sends, such as ``ci``.
    """

    tenant: str
    scopes: frozenset[str]
    key: str | None = None
    source: str | None = None
