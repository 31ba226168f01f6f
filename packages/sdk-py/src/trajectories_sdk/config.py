"""Address, credentials, timeout and retries of a client."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final
from urllib.parse import urlsplit

DEFAULT_BASE_URL: Final = "http://127.0.0.1:8000"
UNREACHABLE_URL: Final = "http://trajstore-base-url.invalid"
"""Used if ``TRAJSTORE_BASE_URL`` is invalid. The default may be the server of somebody else (RFC
6761)."""
DEFAULT_TIMEOUT_S: Final = 30.0
DEFAULT_MAX_RETRIES: Final = 4

_log = logging.getLogger("trajectories_sdk")


@dataclass(frozen=True, slots=True)
class Config:
    """Settings of one client.

    ``base_url`` is where the app is mounted, including any path. ``api_key`` never appears in a
    ``repr``; None sends no key, for servers that authenticate callers in another way. ``timeout_s``
    limits each wait (to connect, to read a part of the response), not the whole call.
    ``max_retries`` is the number of retries of a call; for an export, the number of consecutive
    retries without progress. ``headers`` are sent with every request.

    Raises:
        ValueError: a value is invalid. The message does not quote the key.
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
            # It would replace the key in requests, and leak into every message that names the URL.
            raise ValueError("base_url must be free of a user name and a password")
        if self.api_key is not None and not (self.api_key.isascii() and self.api_key.isprintable() and self.api_key):
            raise ValueError("api_key must be printable ASCII text on one line")
        if self.timeout_s <= 0 or self.max_retries < 0:
            raise ValueError(
                f"timeout_s must be above 0, got {self.timeout_s}; max_retries must be at least 0, got {self.max_retries}"
            )
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
        """Return a config from the arguments, falling back to the environment.

        The variables are ``TRAJSTORE_BASE_URL`` and ``TRAJSTORE_API_KEY``. An empty variable
        counts as unset. An invalid one is logged and does not raise, so that a recorder never stops
        its program: requests then have no key, or fail.
        """
        return cls(
            base_url=base_url or cls._variable("TRAJSTORE_BASE_URL", "base_url", UNREACHABLE_URL) or DEFAULT_BASE_URL,
            api_key=(cls._variable("TRAJSTORE_API_KEY", "api_key", "") if api_key is None else api_key) or None,
            timeout_s=timeout_s,
            max_retries=max_retries,
            headers=headers or {},
        )

    @classmethod
    def _variable(cls, name: str, setting: str, instead: str) -> str:
        text = os.environ.get(name, "").strip()
        try:
            if text:
                cls(**{setting: text})  # type: ignore[arg-type]
        except ValueError as error:
            _log.warning("The environment variable %s is invalid: %s. Records wait until it is valid", name, error)
            return instead
        return text
