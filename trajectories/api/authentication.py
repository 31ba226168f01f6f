"""Authenticate a request by its API key.

A bounded cache is checked first, then the database. The outbox file replaces an unavailable
database.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any

import orjson
from django.core.exceptions import ImproperlyConfigured
from django.db import Error, router, transaction
from django.http import HttpRequest
from django.utils import timezone
from django.utils.module_loading import import_string
from django.views.decorators.debug import sensitive_variables
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request
from rest_framework_api_key.crypto import KeyGenerator

from trajectories.api.auth_throttle import AuthThrottle, address_of
from trajectories.caller import Caller as Caller  # was its path before `trajectories.Caller`
from trajectories.conf import Settings, read_settings
from trajectories.domain.clock import now_us
from trajectories.exceptions import AuthenticationFailure, KeyLookupUnavailable, OutboxUnavailable
from trajectories.models import SCOPES, SLUG_PATTERN, ApiKey, AuditAction, AuditEntry
from trajectories.storage.archive_errors import ArchiveError, archive_errors
from trajectories.storage.outbox import Outbox
from trajectories.storage.redis_tier import RedisError
from trajectories.storage.store import get_store

logger = logging.getLogger(__name__)

_generator = KeyGenerator()
# Keys with an unknown prefix are compared with this hash, to take as long as known ones.
_NOBODYS_HASH = _generator.hash("nobody's key")


KEY_CHALLENGE = 'Bearer realm="trajectories"'
_HOST_CHALLENGE = 'Login realm="trajectories"'
"""HTTP wants a challenge with each 401 (RFC 9110, section 15.5.2). No client knows this scheme, so
none asks for a password or a key that ``tenant_from_request`` would not read."""
_NOTE_USE_EVERY = timedelta(minutes=10)
_SLUG_SCOPES = frozenset({"record", "read"})
"""The scopes that a slug from ``tenant_from_request`` grants. A ``Caller`` can name others."""


@dataclass(frozen=True, slots=True)
class _Verified:
    """A key that was valid when the database was last asked."""

    digest: str = field(repr=False)
    tenant: str
    scopes: tuple[str, ...]
    expires_at_us: int | None
    source: str = ""

    def matches(self, text: str) -> bool:
        return hmac.compare_digest(self.digest, _digest(text))

    def caller(self, prefix: str) -> Caller:
        if self.expires_at_us is not None and self.expires_at_us <= now_us():
            raise AuthenticationFailure("This API key has expired.", code="expired_api_key")
        return Caller(self.tenant, frozenset(self.scopes), prefix, self.source or None)


def authenticate(request: HttpRequest) -> Caller:
    """Return the caller of ``request``, by its bearer key or by ``tenant_from_request``.

    Raises:
        AuthenticationFailure: 401; the key is missing, unknown, revoked or expired.
        RateLimited: 429; the key is invalid, and its address has sent many invalid keys.
        KeyLookupUnavailable: 503; the key is not cached here and the database is unavailable.
    """
    path = read_settings().tenant_from_request
    if path is None:
        return _caller_from(address_of(request), _bearer(request))
    found = import_string(path)(request)
    if found is None:
        raise AuthenticationFailure("This request belongs to no tenant.", code="not_authenticated")
    caller = found if isinstance(found, Caller) else Caller(str(found), _SLUG_SCOPES)
    if unknown := frozenset(caller.scopes) - frozenset(SCOPES):
        raise ImproperlyConfigured(
            f"{path} returned the scopes {sorted(unknown)}; use some of {', '.join(SCOPES)} in a frozenset."
        )
    if not re.match(SLUG_PATTERN, caller.tenant):
        raise ImproperlyConfigured(f"{path} returned {caller.tenant!r}, which cannot be a tenant: {SLUG_PATTERN}")
    return caller


@sensitive_variables()
def _caller_from(address: str, text: str) -> Caller:
    throttle = get_store().part(AuthThrottle)
    throttle.expect_not_known_bad(address, text)
    try:
        return caller_of(text)
    except AuthenticationFailure as failure:
        throttle.note(address, text, is_unknown=failure.code == AuthenticationFailure.code)
        raise


@sensitive_variables()  # covers the variables of every function that it calls, too
def caller_of(text: str) -> Caller:
    """Return the caller of this key, sent from any address; raise as ``authenticate`` does."""
    prefix = text.partition(".")[0]
    cache, conf = get_store().part(KeyCache), get_store().conf
    changes = cache.follow(get_store().outbox)
    cached = cache.get(prefix)
    if cached is not None and cached.matches(text):
        return cached.caller(prefix)
    try:
        verified = _verify(text, prefix)
    except ArchiveError as error:
        remembered = _remembered(prefix, conf.key_offline_s)
        if remembered is None:
            raise KeyLookupUnavailable("API keys cannot be looked up right now.") from error
        if not remembered.matches(text):
            raise _unknown() from None
        cache.put(prefix, remembered, as_of=changes)
        return remembered.caller(prefix)
    cache.put(prefix, verified, as_of=changes)
    return verified.caller(prefix)


def revoke(key: ApiKey, *, actor: str = "code") -> None:
    """Revoke ``key`` permanently, and notify every process as ``changed`` does."""
    key.is_revoked = True
    key.save(update_fields=["is_revoked"])
    changed(key, actor=actor, action="revoke_key")


def changed(key: ApiKey, *, actor: str, action: AuditAction = "change_key") -> None:
    """Make every process ask the database for ``key`` again, and note who has changed it.

    Processes of this host do so from their next request on, and those of other hosts within a
    second, when their relay has read it from Redis. Without outbox or Redis, processes accept what
    they have cached for ``key_cache_s``.
    """
    AuditEntry.objects.note(action, actor, {key.tenant_id: 1}, key.prefix)
    tell = partial(_tell_of_change, key.prefix)
    tell()
    connection = transaction.get_connection(key._state.db)
    if connection.in_atomic_block:  # a process that asks before the commit gets the old row
        connection.on_commit(tell)


def _tell_of_change(prefix: str) -> None:
    store = get_store()
    tiers: list[Callable[[], object]] = [
        lambda: store.outbox.forget_keys([prefix]),
        lambda: store.redis_tier.change_key(prefix, store.now_us()),
    ]
    for tell in tiers:
        try:
            tell()
        except (OutboxUnavailable, RedisError) as error:  # the row is changed, so the call succeeds
            kept_s = store.conf.key_cache_s
            logger.warning("API key %s has changed; some processes may accept it for %g s: %s", prefix, kept_s, error)
    store.part(KeyCache).clear()


@sensitive_variables()
def _bearer(request: HttpRequest) -> str:
    given: str = request.META.get("HTTP_AUTHORIZATION", "")
    scheme, _, text = given.partition(" ")
    if scheme.lower() != "bearer" or not text.strip():
        raise AuthenticationFailure("Send your API key as 'Authorization: Bearer KEY'.", code="missing_api_key")
    return text.strip()


@archive_errors()
def _verify(text: str, prefix: str) -> _Verified:
    """Verify the key in the database; store the result in the outbox file for database outages."""
    key = ApiKey.objects.filter(prefix=prefix).first() if prefix.isalnum() else None
    is_match = _generator.verify(text, key.hashed_key if key else _NOBODYS_HASH)
    if key is None:
        _forget(prefix)  # the key may have been deleted
        raise _unknown()
    if not is_match:
        raise _unknown()
    if key.is_revoked:
        _forget(prefix)
        raise AuthenticationFailure("This API key has been revoked.", code="revoked_api_key")
    _note_use(key)
    verified = _Verified(_digest(text), key.tenant_id, tuple(key.scopes.split()), _expires_at_us(key), key.source)
    remembered = orjson.dumps(
        [
            verified.digest,
            verified.tenant,
            verified.scopes,
            verified.expires_at_us,
            *([verified.source] if verified.source else []),
        ]
    ).decode()
    with suppress(OutboxUnavailable):  # a full disk must not block readers
        get_store().outbox.remember_key(prefix, remembered)
    return verified


def _note_use(key: ApiKey) -> None:
    """Store that ``key`` was used, unless that was stored lately. A failure must not refuse the
    key."""
    now = timezone.now()
    if key.last_used_at is None or key.last_used_at < now - _NOTE_USE_EVERY:
        with suppress(Error), transaction.atomic(using=router.db_for_write(ApiKey)):
            ApiKey.objects.filter(pk=key.pk).update(last_used_at=now)


def _expires_at_us(key: ApiKey) -> int | None:
    if key.expires_at is None:
        return None
    at = timezone.make_aware(key.expires_at) if timezone.is_naive(key.expires_at) else key.expires_at
    return round(at.timestamp() * 1_000_000)


def _remembered(prefix: str, for_s: float) -> _Verified | None:
    text = get_store().outbox.remembered_key(prefix, now_us() - round(for_s * 1_000_000))
    if text is None:
        return None
    digest, tenant, scopes, *rest = orjson.loads(text)  # a source only if the key has one
    return _Verified(digest, tenant, tuple(scopes), *rest)


def _forget(prefix: str) -> None:
    with suppress(OutboxUnavailable):
        # Read first: guessed keys must not cause writes to disk.
        if get_store().outbox.remembered_key(prefix, 0) is not None:
            get_store().outbox.forget_keys([prefix])


def _unknown() -> AuthenticationFailure:
    return AuthenticationFailure("This API key is not known.", code="invalid_api_key")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


class KeyCache:
    """Verified keys by prefix; the oldest are dropped at the bound."""

    def __init__(self, conf: Settings) -> None:
        self._ttl_s, self._max_keys = conf.key_cache_s, conf.key_cache_max
        self._lock = threading.Lock()
        self._keys: OrderedDict[str, tuple[float, _Verified]] = OrderedDict()
        self._changes = 0

    def follow(self, outbox: Outbox) -> int:
        """Drop everything if a key was changed since the last call.

        Returns:
            The number of changes that this process knows of.
        """
        with suppress(OutboxUnavailable):  # entries then last for key_cache_s
            changes = outbox.key_changes()
            with self._lock:
                if changes != self._changes:
                    self._changes = changes
                    self._keys.clear()
            return changes
        return self._changes

    def get(self, prefix: str) -> _Verified | None:
        with self._lock:
            at, verified = self._keys.get(prefix, (0.0, None))
        return verified if verified and time.monotonic() - at < self._ttl_s else None

    def put(self, prefix: str, verified: _Verified, *, as_of: int) -> None:
        """Keep a key, unless a key was changed after ``as_of``: the database may have been asked
        before."""
        with self._lock:
            if as_of != self._changes:
                return
            self._keys[prefix] = time.monotonic(), verified
            self._keys.move_to_end(prefix)
            while len(self._keys) > self._max_keys:
                self._keys.popitem(last=False)

    def clear(self) -> None:
        with self._lock:
            self._keys.clear()


class ApiKeyAuthentication(BaseAuthentication):
    """Authenticate by bearer key or by ``tenant_from_request``.

    ``request.auth`` is the ``Caller``.
    """

    def authenticate(self, request: Request) -> tuple[Any, Caller]:
        # DRF writes the user back to Django's request, so keep the one that the host project has
        # set there.
        return getattr(request._request, "user", None), authenticate(request._request)

    def authenticate_header(self, request: Request) -> str:
        path = read_settings().tenant_from_request
        return KEY_CHALLENGE if path is None else getattr(import_string(path), "challenge", _HOST_CHALLENGE)
