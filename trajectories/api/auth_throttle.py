"""Limit failed API keys per client address: further failures get 429.

A valid key is never throttled, so an attacker cannot lock out a tenant. A correct guess is
therefore not throttled either. Guessing is infeasible because the secret of a key has 190 random
bits, not because attempts are limited. The throttle limits the database lookups that failures cost.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from functools import lru_cache
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Any

from django.http import HttpRequest

from trajectories.conf import Settings, read_settings
from trajectories.exceptions import RateLimited

_WINDOW_S = 60
_MAX_ADDRESSES = 10_000
_MAX_KEYS = 10_000


def address_of(request: HttpRequest) -> str:
    """Return the client address of ``request``: an IPv4 address, or the /64 of an IPv6 address.

    One customer owns the whole /64. Without ``trusted_proxies`` this is the address of the
    connection. With them it is the X-Forwarded-For entry that the outermost trusted proxy added. A
    request whose header has fewer entries than proxies, or an invalid address, bypassed the
    proxies. The address of the connection counts then.
    """
    connected, proxies = str(request.META.get("REMOTE_ADDR", "")), read_settings().trusted_proxies
    noted = request.META.get("HTTP_X_FORWARDED_FOR", "").split(",")
    if proxies and len(noted) >= proxies:
        return _network(noted[-proxies].strip()) or _network(connected) or connected
    # REMOTE_ADDR is empty on a Unix socket.
    return _network(connected) or connected


@lru_cache(1_024)
def _network(text: str) -> str | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if not isinstance(address, IPv6Address):
        return str(address)
    return str(address.ipv4_mapped or ip_network((int(address), 64), strict=False))


class FailureCounter:
    """Failures per name and minute; the oldest names are dropped at a bound. Thread-safe.

    The minute begins with the first failure of a name and ends 60 s later. Around its end a name
    can therefore have up to twice as many failures.
    """

    def __init__(self, limit: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._clock = clock
        self._lock = threading.Lock()
        self._names: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._names)

    def wait_s(self, name: str) -> int:
        """Return the seconds until this name is within its limit again; 0 if it is."""
        with self._lock:
            until, failed = self._names.get(name, (0.0, 0))
        left_s = until - self._clock()
        return int(left_s) + 1 if left_s > 0 and failed >= self._limit else 0

    def add(self, name: str) -> None:
        """Count a failure."""
        with self._lock:
            until, failed = self._names.get(name, (0.0, 0))
            if self._clock() >= until:
                until, failed = self._clock() + _WINDOW_S, 0
            _put(self._names, name, (until, failed + 1), _MAX_ADDRESSES)

    def take_back(self, name: str) -> None:
        """Take back a failure that was none."""
        with self._lock:
            until, failed = self._names.get(name, (0.0, 0))
            if failed:
                self._names[name] = until, failed - 1

    def clear(self) -> None:
        with self._lock:
            self._names.clear()


class AuthThrottle:
    """Failures per address and minute, and unknown keys. Both are bounded."""

    def __init__(self, conf: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._addresses = FailureCounter(conf.key_failures_per_minute, clock)
        self._unknown: OrderedDict[bytes, float] = OrderedDict()

    def expect_not_known_bad(self, address: str, text: str) -> None:
        """Check whether this key may be looked up.

        Raises:
            RateLimited: 429; the address is over its limit, and this key was unknown within the
                last minute.
        """
        with self._lock:
            wait_s = self._addresses.wait_s(address)
            if wait_s and self._clock() < self._unknown.get(_digest(text), 0.0):
                raise _too_many(wait_s)

    def note(self, address: str, text: str, *, is_unknown: bool) -> None:
        """Count an invalid key.

        Args:
            is_unknown: no such key exists. A revoked or expired key may become valid again, so it
                is always looked up.

        Raises:
            RateLimited: 429; the address was already over its limit.
        """
        with self._lock:
            if is_unknown:
                _put(self._unknown, _digest(text), self._clock() + _WINDOW_S, _MAX_KEYS)
            if wait_s := self._addresses.wait_s(address):
                raise _too_many(wait_s)
            self._addresses.add(address)

    def clear(self) -> None:
        with self._lock:
            self._addresses.clear()
            self._unknown.clear()


def _put(entries: OrderedDict[Any, Any], name: Any, value: Any, bound: int) -> None:
    entries[name] = value
    entries.move_to_end(name)
    while len(entries) > bound:
        entries.popitem(last=False)


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def _too_many(wait_s: int) -> RateLimited:
    return RateLimited(
        "Too many API keys from this address were not good; a good one is taken at any time.",
        code="too_many_bad_keys",
        retry_after_s=wait_s,
    )
