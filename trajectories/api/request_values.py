"""Values in headers, paths and parameters of a request, read or refused with what they must be."""

from __future__ import annotations

import re
from collections.abc import Iterable
from uuid import UUID

from django.http import HttpRequest
from django.utils.http import parse_etags

from trajectories.domain.query import got
from trajectories.exceptions import InvalidInput, NotFound

MAX_IDEMPOTENCY_KEY = 255
MAX_IF_MATCH = 4_096
"""Characters of If-Match, about 200 ETags. The 100,000 of a longest header took a quarter of a second."""
_IDEMPOTENCY_KEYS = {"Idempotency-Key": "HTTP_IDEMPOTENCY_KEY", "X-Idempotency-Key": "HTTP_X_IDEMPOTENCY_KEY"}


def idempotency_key(request: HttpRequest) -> str | None:
    keys = {name: request.META.get(key) for name, key in _IDEMPOTENCY_KEYS.items()}
    for name, key in keys.items():
        if key is not None and len(key) > MAX_IDEMPOTENCY_KEY:
            raise InvalidInput(f"{name} may have {MAX_IDEMPOTENCY_KEY} characters, got {len(key)}.", param=name)
    return keys["Idempotency-Key"] or keys["X-Idempotency-Key"]


def if_match(request: HttpRequest) -> frozenset[int] | None:
    """Return the revisions of If-Match; None if any will do.

    Weak ETags count: gzip makes them of ours, in Django and in proxies, and the record is the same.
    """
    given = request.headers.get("If-Match", "*")
    if len(given) > MAX_IF_MATCH:
        raise InvalidInput(f"If-Match may have {MAX_IF_MATCH} characters, got {len(given)}.", param="If-Match")
    etags = parse_etags(given)
    if not etags:
        raise InvalidInput(
            'If-Match must be the ETag of an answer, in its quotes, such as "1764028800000000", or *.', param="If-Match"
        )
    if etags == ["*"]:
        return None
    revisions = (re.fullmatch(r'(?:W/)?"([0-9]{1,19})"', etag) for etag in etags)
    return frozenset(int(found[1]) for found in revisions if found)


def known_id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise NotFound("There is no such trajectory; ids are UUIDs.", param="id") from None


def after_id(text: str | None) -> UUID | None:
    if text is None:
        return None
    try:
        return UUID(text)
    except ValueError:
        raise InvalidInput(
            f"after must be the id of an exported record, {got(text)}.", code="invalid_cursor", param="after"
        ) from None


def choice(name: str, given: dict[str, str], words: Iterable[str]) -> str | None:
    """Take a parameter that is one of ``words`` out of ``given``; None where it is not given."""
    text = given.pop(name, None)
    if text is not None and text not in words:
        raise InvalidInput(
            f"{name} must be one of {', '.join(words)}, {got(text)}.", code="invalid_parameter", param=name
        )
    return text


def flag(name: str, text: str) -> bool:
    if text not in ("0", "1"):
        raise InvalidInput(f"{name} must be 0 or 1, {got(text)}.", code="invalid_parameter", param=name)
    return text == "1"
