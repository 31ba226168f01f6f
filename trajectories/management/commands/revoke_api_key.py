"""``manage.py revoke_api_key PREFIX``."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import router

from trajectories.api.authentication import revoke
from trajectories.conf import read_settings
from trajectories.management.operator import operator
from trajectories.models import ApiKey


class Command(BaseCommand):
    help = "Revokes an API key for good. Other hosts refuse it within a second; without Redis, after KEY_CACHE_S."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("prefix", help="What stands before the dot of the key; the whole key will do.")

    def handle(self, *args: Any, **options: Any) -> None:
        prefix = options["prefix"].partition(".")[0]
        key = ApiKey.objects.using(router.db_for_write(ApiKey)).filter(prefix=prefix).first()
        if key is None:
            raise CommandError(f"There is no API key {prefix!r}.")
        if key.is_revoked:
            self.stdout.write(f"API key {key.prefix} of tenant {key.tenant_id} was revoked before.")
            return
        revoke(key, actor=operator())
        self.stdout.write(
            f"API key {key.prefix} of tenant {key.tenant_id} is revoked. This host refuses it now, and other hosts "
            f"within a second; without Redis, within {read_settings().key_cache_s:g} seconds."
        )
