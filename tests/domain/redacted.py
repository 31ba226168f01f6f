"""Values as they are stored, before and after redaction."""

from __future__ import annotations

from typing import Any

import orjson

from trajectories.domain import dialects, schema
from trajectories.domain.redaction import redact


def form_of(value: Any) -> bytes:
    return schema.canonical(dialects.read(orjson.dumps(value)))


def stored(value: Any) -> Any:
    return orjson.loads(redact(form_of(value)).body)
