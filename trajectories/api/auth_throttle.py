"""Keys that were not good, by the address they came from: whoever goes on trying is answered 429, and asks less of the database.

A good key is never held up by them, so nobody can lock a tenant out; from which follows that a right guess is not held up either.
What keeps guesses out is that the secret of a key has 190 random bits, not how many of them one may try. What is slowed is failing,
which else costs the database a question each time.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Any

from django.http import HttpRequest

from trajectories.conf import Settings, read_settings
from trajectories.exceptions import RateLimited

_WINDOW_S = 60
_MAX_ADDRESSES = 10_000
_MAX_KEYS = 10_000


def address_of(request: HttpRequest) -> str:
    """From where ``request`` comes: an IPv4 address, or the /64 that is one customer's of IPv6.

    The address of the connection; behind ``trusted_proxies`` what the outermost of them has noted. Whoever comes with fewer notes
    than there are proxies, or with nonsense in their place, has come around them.
    """
    connected, proxies = str(request.META.get("REMOTE_ADDR", "")), read_settings().trusted_proxies
    noted = request.headers.get("X-Forwarded-For", "").split(",")
    if proxies and len(noted) >= proxies:
        return _network(noted[-proxies].strip()) or _network(connected) or connected
    # Empty on a Unix socket.
    return _network(connected) or connected


def _network(text: str) -> str | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if not isinstance(address, IPv6Address):
        return str(address)
    return str(address.ipv4_mapped or ip_network((int(address), 64), strict=False))


class AuthThrottle:
    """Failures per address and minute, and the keys that were not known. Of both the oldest are dropped at a bound.

    The minute begins with an address's first failure and ends by itself: up to twice as many are told 401 around its end.
    """

    def __init__(self, conf: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        self._max_failures = conf.key_failures_per_minute
        self._clock = clock
        self._lock = threading.Lock()
        self._addresses: OrderedDict[str, tuple[float, int]] = OrderedDict()
        self._unknown: OrderedDict[bytes, float] = OrderedDict()

    def expect_not_known_bad(self, address: str, text: str) -> None:
        """Raises:
        RateLimited: 429; the address is over, and this very key was not known within the last minute.
        """
        with self._lock:
            wait_s = self._wait_s(address)
            if wait_s and self._clock() < self._unknown.get(_digest(text), 0.0):
                raise _too_many(wait_s)

    def note(self, address: str, text: str, *, is_unknown: bool) -> None:
        """Count a key that was not good.

        Args:
            is_unknown: there is no such key; one that was revoked or has expired may be mended, so it is always looked up.

        Raises:
            RateLimited: 429; the address had used up its failures before.
        """
        with self._lock:
            if is_unknown:
                _put(self._unknown, _digest(text), self._clock() + _WINDOW_S, _MAX_KEYS)
            if wait_s := self._wait_s(address):
                raise _too_many(wait_s)
            until, failed = self._addresses.get(address, (0.0, 0))
            if self._clock() >= until:
                until, failed = self._clock() + _WINDOW_S, 0
            _put(self._addresses, address, (until, failed + 1), _MAX_ADDRESSES)

    def clear(self) -> None:
        with self._lock:
            self._addresses.clear()
            self._unknown.clear()

    def _wait_s(self, address: str) -> int:
        """How long this address is over; 0 if it is not."""
        until, failed = self._addresses.get(address, (0.0, 0))
        left_s = until - self._clock()
        return int(left_s) + 1 if left_s > 0 and failed >= self._max_failures else 0


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
