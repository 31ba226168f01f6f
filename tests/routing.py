"""A database router, for tests that run on SQLite and on Postgres."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar

from django.db.models import Model


class ArchiveRouter:
    """Sends the models of the app to ``alias``; everything else stays in the default database."""

    # Global and not per thread, so that a relay or a pool of writers in the test uses it too.
    alias: ClassVar[str] = "default"

    @classmethod
    @contextmanager
    def to(cls, alias: str) -> Iterator[None]:
        before, cls.alias = cls.alias, alias
        try:
            yield
        finally:
            cls.alias = before

    def db_for_read(self, model: type[Model], **_: object) -> str | None:
        return self.alias if model._meta.app_label == "trajectories" else None

    def db_for_write(self, model: type[Model], **_: object) -> str | None:
        return self.db_for_read(model)
