"""Rate limits of a key per minute.

Redis holds one count for all processes and hosts. Each process uses its own count while Redis is
unavailable.

A request asks Redis once, before its body is read, and waits at most 50 ms. Refused requests are
not counted, so that a client that keeps retrying is not blocked by its retries.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from django.core.cache import caches
from django.http import HttpRequest
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

from trajectories.api.sliding_window import COUNTED_S, Allowance, Limits, Standing, Use, Window, allowance
from trajectories.caller import Caller
from trajectories.conf import RATE_LIMITS, Settings, read_settings
from trajectories.storage.redis_tier import base_prefix
from trajectories.storage.store import get_store

logger = logging.getLogger(__name__)

ASK_S = 0.05
"""Longest wait of a request for Redis, including connecting and waiting for a thread."""
_ASKING_THREADS = 8
_MAX_KEYS = 10_000

# The hash has one field per second and unit ("r1764028800", "b…", "c…"). The script uses the clock of
# the server, because those of hosts differ; tests pass in their own. Bytes and CPU were used already,
# so they are added regardless of the limits. A limit of 0 means no limit. The rules are those of
# `Window.take`.
_TAKE = """
local key, counted_s = KEYS[1], tonumber(ARGV[10])
local now = tonumber(ARGV[11]) or tonumber(redis.call('TIME')[1])
local names, units = {'r', 'b', 'c'}, {}
for at, name in ipairs(names) do
  units[name] = {
    amount = tonumber(ARGV[at]), spent = tonumber(ARGV[3 + at]), limit = tonumber(ARGV[6 + at]),
    used = 0, oldest = -1, fits = -1, seconds = {},
  }
end
local function count(unit, second, amount)
  unit.used = unit.used + amount
  unit.seconds[#unit.seconds + 1] = {second, amount}
  if unit.oldest == -1 or second < unit.oldest then unit.oldest = second end
end
local function fits(unit)
  local over = unit.used + unit.amount - unit.limit
  if unit.limit == 0 or unit.amount == 0 or over <= 0 then return -1 end
  table.sort(unit.seconds, function(one, other) return one[1] < other[1] end)
  for _, pair in ipairs(unit.seconds) do
    over = over - pair[2]
    if over <= 0 then return pair[1] + counted_s end
  end
  return now + counted_s
end
local fields, gone = redis.call('HGETALL', key), {}
for at = 1, #fields, 2 do
  local second = tonumber(string.sub(fields[at], 2))
  if now - counted_s < second and second <= now then
    count(units[string.sub(fields[at], 1, 1)], second, tonumber(fields[at + 1]))
  else
    gone[#gone + 1] = fields[at]
  end
end
if #gone > 0 then redis.call('HDEL', key, unpack(gone)) end
local function add(name, amount)
  if amount == 0 then return end
  count(units[name], now, amount)
  redis.call('HINCRBY', key, name .. now, amount)
  redis.call('EXPIRE', key, counted_s)
end
local is_taken, standings = true, {}
for _, name in ipairs(names) do
  add(name, units[name].spent)
  units[name].fits = fits(units[name])
  is_taken = is_taken and units[name].fits == -1
end
for at, name in ipairs(names) do
  if is_taken then add(name, units[name].amount) end
  standings[at] = {units[name].used, units[name].oldest, units[name].fits}
end
return {now, unpack(standings)}
"""


class _Key(NamedTuple):
    """The owner of a count: an API key, or the name that a host project set in ``Caller.key``."""

    tenant: str
    name: str | None


def count(caller: Caller, request: HttpRequest) -> Allowance | None:
    """Count ``request`` if it fits. Return the allowance for its response; None without limits."""
    if not read_settings().rate_limits:
        return None
    use = Use(1, _expected_bytes(request), int(_is_metered(request)))
    return get_store().part(Limiter).count(_Key(caller.tenant, caller.key), use)


def count_unannounced(caller: Caller, request: HttpRequest, size: int) -> None:
    """Count what a body of ``size`` bytes, decoded, has beyond its Content-Length."""
    if read_settings().rate_limits:
        _count_more(caller, Use(bytes=max(0, size - _expected_bytes(request))))


def count_cpu(caller: Caller, request: HttpRequest, cpu_s: float) -> None:
    """Count the CPU time that a read has used, beyond the millisecond that it was counted with."""
    if _is_metered(request):
        _count_more(caller, Use(read_cpu_ms=max(0, round(cpu_s * 1000) - 1)))


def metered(caller: Caller, request: HttpRequest, lines: Iterator[bytes]) -> Iterator[bytes]:
    """Yield ``lines``, and count the CPU time that they take."""
    cpu_s, before_s = 0.0, time.thread_time()
    try:
        for line in lines:
            cpu_s += time.thread_time() - before_s
            yield line
            before_s = time.thread_time()
    finally:
        count_cpu(caller, request, cpu_s)


def _count_more(caller: Caller, use: Use) -> None:
    if read_settings().rate_limits and any(use):
        get_store().part(Limiter).add_debt(_Key(caller.tenant, caller.key), use)


def mark_read(request: HttpRequest) -> None:
    """Note that the CPU time of ``request`` counts: it reads, whatever its method."""
    request.META[_READS] = "1"


_READS = "trajectories.reads"
"""No header has this name, so clients cannot set it."""


def _is_metered(request: HttpRequest) -> bool:
    return _READS in request.META and "read_cpu_ms_per_minute" in read_settings().rate_limits


def _expected_bytes(request: HttpRequest) -> int:
    """Return the bytes that the body needs of the limit.

    A body of unknown length needs one byte; the rest is counted after the body was read.
    """
    announced = _announced_bytes(request)
    if announced is None:
        return int(request.method in ("POST", "PATCH"))
    # A larger body gets 413 and is not read.
    return announced if announced <= read_settings().max_request_bytes else 0


def _announced_bytes(request: HttpRequest) -> int | None:
    text = request.META.get("CONTENT_LENGTH", "")
    return int(text) if text.isascii() and text.isdigit() else None


class ApiKeyThrottle(BaseThrottle):
    """Count the request against the limits of its caller.

    ``view.allowance`` is for the headers of the response.
    """

    def allow_request(self, request: Request, view: Any) -> bool:
        """Count the request.

        Raises:
            RateLimited: 429; the request is over a limit.
        """
        caller: Any = request.auth
        if isinstance(caller, Caller):
            view.allowance = count(caller, request._request)
            if view.allowance is not None:
                view.allowance.expect_taken()
        return True


class Limiter:
    """The counts of this process, and access to the shared counts."""

    def __init__(self, conf: Settings) -> None:
        self._limits = Limits(*(conf.rate_limits.get(name) for name in RATE_LIMITS))
        self.local = LocalCounts(self._limits)
        # Without a cache alias (a store of ``trajectories.testing``) there is no Redis.
        self.shared = SharedCounts(conf, self._limits) if conf.cache_alias else None

    def count(self, key: _Key, use: Use) -> Allowance:
        now_s = int(time.monotonic())
        spent = self.local.unsynced(key)
        shared = self.shared.take(key, use, spent) if self.shared else None
        if shared is None:
            return self.local.take(key, use, now_s)
        if shared.retry_after_s is None:
            # Otherwise an outage would begin with an empty count.
            self.local.add(key, use, now_s)
        return shared

    def add_debt(self, key: _Key, use: Use) -> None:
        """Count ``use`` here at once, and in Redis with the next request of this key.

        One request asks Redis once.
        """
        self.local.add_debt(key, use, int(time.monotonic()))

    def close(self) -> None:
        if self.shared:
            self.shared.close()


@dataclass(slots=True)
class _Local:
    window: Window = field(default_factory=Window)
    unsynced: Use = field(default_factory=Use)


class LocalCounts:
    """The accepted use of this process, by key.

    Keys that were idle for a window are dropped. At ``_MAX_KEYS`` the keys that were idle longest
    are dropped.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._lock = threading.Lock()
        self._keys: OrderedDict[_Key, _Local] = OrderedDict()

    def take(self, key: _Key, use: Use, now_s: int) -> Allowance:
        with self._lock:
            return self._of(key, now_s).window.take(now_s, use, self._limits)

    def add(self, key: _Key, use: Use, now_s: int) -> None:
        """Add use that the shared count accepted."""
        with self._lock:
            self._of(key, now_s).window.add(now_s, use)

    def add_debt(self, key: _Key, use: Use, now_s: int) -> None:
        with self._lock:
            local = self._of(key, now_s)
            local.window.add(now_s, use)
            local.unsynced = local.unsynced.plus(use)

    def unsynced(self, key: _Key) -> Use:
        """Return the use that Redis has not counted, and reset it: the caller sends it."""
        with self._lock:
            local = self._keys.get(key)
            if local is None:
                return Use()
            use, local.unsynced = local.unsynced, Use()
            return use

    def __len__(self) -> int:
        return len(self._keys)

    def _of(self, key: _Key, now_s: int) -> _Local:
        local = self._keys.setdefault(key, _Local())
        local.window.forget(now_s)
        self._keys.move_to_end(key)
        while len(self._keys) > _MAX_KEYS or self._is_idle(next(iter(self._keys)), now_s, but=key):
            self._keys.popitem(last=False)
        return local

    def _is_idle(self, key: _Key, now_s: int, *, but: _Key) -> bool:
        newest_s = self._keys[key].window.newest_s
        return key != but and (newest_s is None or newest_s <= now_s - COUNTED_S)


class SharedCounts:
    """The counts in Redis.

    After a failure, requests do not ask Redis for ``redis_retry_s``. Then a single request tries
    first.
    """

    def __init__(self, conf: Settings, limits: Limits) -> None:
        self._conf = conf
        self._limits = limits
        self._lock = threading.Lock()
        self._is_away = False
        self._away_until = float("-inf")
        # A thread bounds the whole wait. A socket timeout bounds a single step, and name lookup,
        # handshake and reply are several. A thread may outlive ASK_S; its sockets time out soon
        # after.
        self._threads = ThreadPoolExecutor(_ASKING_THREADS, thread_name_prefix="trajectories-limits")
        self.client = _client(conf.cache_alias)
        self._take = self.client.register_script(_TAKE)

    def take(self, key: _Key, use: Use, spent: Use) -> Allowance | None:
        """Do as ``LocalCounts.take``; return None if Redis does not respond.

        ``spent`` is counted whether or not ``use`` is accepted.
        """
        if not self._may_ask():
            return None
        try:
            told = self._threads.submit(self.ask, self.name_of(key), use, spent).result(ASK_S)
        except (RedisError, OSError) as error:  # the thread's TimeoutError is an OSError
            self._failed(error)
            return None
        with self._lock:
            self._is_away = False
        return told

    def ask(self, name: str, use: Use, spent: Use, *, now_s: int | None = None) -> Allowance:
        """Do as ``take``, without a time limit.

        Args:
            name: of the Redis key that has the count.
            now_s: replaces the clock of the server.
        """
        limits = [limit or 0 for limit in self._limits]
        reply: Any = self._take(keys=[name], args=[*use, *spent, *limits, COUNTED_S, "" if now_s is None else now_s])
        now_s, *standings = reply
        return allowance(int(now_s), self._limits, [_standing(*numbers) for numbers in standings])

    def close(self) -> None:
        self._threads.shutdown(wait=False)
        self.client.close()
        self.client.connection_pool.disconnect()

    def name_of(self, key: _Key) -> str:
        """Return the Redis key of the count of ``key``."""
        name = "limits" if key.name is None else f"limits:{key.name}"
        return f"{base_prefix(self._conf)}{get_store().identity}:{{{key.tenant}}}:{name}"

    def _may_ask(self) -> bool:
        with self._lock:
            now = time.monotonic()
            if now < self._away_until:
                return False
            if self._is_away:
                self._pause(now)  # other requests must not wait for this attempt
            return True

    def _failed(self, error: Exception) -> None:
        with self._lock:
            if not self._is_away:
                logger.warning("Redis does not answer for limits, so this process's own count decides: %r", error)
            self._is_away = True
            self._pause(time.monotonic())

    def _pause(self, now: float) -> None:
        self._away_until = now + self._conf.redis_retry_s


def _client(alias: str) -> Redis:
    """Return a client of the alias's server, with its own connections.

    django-redis keeps one pool per URL, which has longer timeouts.
    """
    tier = caches[alias].client  # type: ignore[attr-defined]
    factory = tier.connection_factory
    pool = factory.get_connection_pool(factory.make_connection_params(tier._server[0]))
    # Set here: options of the alias and of its URL would override parameters.
    pool.connection_kwargs.update(socket_timeout=ASK_S, socket_connect_timeout=ASK_S, retry=Retry(NoBackoff(), 0))
    return Redis(connection_pool=pool)


def _standing(used: int, oldest_s: int, fits_s: int) -> Standing:
    """Return the standing from a reply of Redis, in which -1 means None."""
    return Standing(used, None if oldest_s == -1 else oldest_s, None if fits_s == -1 else fits_s)
