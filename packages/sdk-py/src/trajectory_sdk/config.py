"""Where the server is and how it is spoken to."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final
from urllib.parse import urlsplit

DEFAULT_BASE_URL: Final = "http://127.0.0.1:8000"
DEFAULT_TIMEOUT_S: Final = 30.0
DEFAULT_MAX_RETRIES: Final = 4


@dataclass(frozen=True, slots=True)
class Config:
    """Of one client.

    ``base_url`` is where the app is mounted, a path included. ``api_key`` is never in a ``repr``; None sends no key, for
    servers that know their callers in another way. ``timeout_s`` is for each wait (to connect, for a part of the answer), not
    for the whole of a call. ``max_retries`` is how often a call is tried again; of an export, how often without getting
    further. ``headers`` go with each request.

    Raises:
        ValueError: a value that makes no sense. Its message does not quote the key.
    """

    base_url: str = DEFAULT_BASE_URL
    api_key: str | None = field(default=None, repr=False)
    timeout_s: float = DEFAULT_TIMEOUT_S
    max_retries: int = DEFAULT_MAX_RETRIES
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        parts = urlsplit(self.base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise ValueError("base_url must be an http or https URL without a query, such as http://127.0.0.1:8000")
        if "@" in parts.netloc:
            # It would be sent in place of the key, and stand in every message that names the URL.
            raise ValueError("base_url must be without a user and a password")
        if self.api_key is not None and not (self.api_key.isascii() and self.api_key.isprintable() and self.api_key):
            raise ValueError("api_key must be ASCII text on one line")
        if self.timeout_s <= 0 or self.max_retries < 0:
            raise ValueError("timeout_s must be above 0, and max_retries at least 0")
        object.__setattr__(self, "base_url", self.base_url.rstrip("/"))
        object.__setattr__(self, "headers", MappingProxyType(dict(self.headers)))

    @classmethod
    def read(
        cls,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        max_retries: int = DEFAULT_MAX_RETRIES,
        headers: Mapping[str, str] | None = None,
    ) -> Config:
        """What is given, else what ``TRAJECTORY_BASE_URL`` and ``TRAJECTORY_API_KEY`` say. An empty variable says nothing."""
        key = api_key if api_key is not None else os.environ.get("TRAJECTORY_API_KEY", "").strip()
        return cls(
            base_url=base_url or os.environ.get("TRAJECTORY_BASE_URL", "").strip() or DEFAULT_BASE_URL,
            api_key=key or None,
            timeout_s=timeout_s,
            max_retries=max_retries,
            headers=headers or {},
        )
