"""``manage.py erase_tenant TENANT``"""

from __future__ import annotations

import shlex
from typing import Any

from django.apps import apps
from django.core.management.base import BaseCommand, CommandError, CommandParser

from trajectories.exceptions import NotFound, OutboxUnavailable
from trajectories.management.operator import operator
from trajectories.management.progress import Progress
from trajectories.models import ApiKey
from trajectories.services import erasure
from trajectories.services.erasure import ErasureIncomplete
from trajectories.services.erasure_audit import find_traces, forms_of, markers_of
from trajectories.storage.archive_errors import ArchiveError
from trajectories.storage.redis_tier import RedisError, ResponseError
from trajectories.storage.store import get_store


class Command(BaseCommand):
    help = (
        "Delete, for good, a tenant with everything it has: records, quarantine, tombstones, API keys; and search every tier, and "
        "every file that this host can read, for what is left. Other hosts erase what they have within seconds; with --only-search, this "
        "proves it there. Exit code 1: something is left, or could not be done; the same command goes on."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("tenant")
        parser.add_argument("--no-input", action="store_true", help="do not ask")
        parser.add_argument("--only-search", action="store_true", help="delete nothing")
        parser.add_argument(
            "--marker",
            action="append",
            default=[],
            metavar="TEXT",
            help="search for this id or text too; more than once",
        )
        parser.add_argument("--timeout", type=float, default=60.0, metavar="SECONDS", help="for each thing to wait for")
        parser.add_argument(
            "--vacuum-full", action="store_true", help="on Postgres, write its tables anew, each locked meanwhile"
        )
        parser.add_argument(
            "--keep-redis-files",
            action="store_true",
            help="do not have Redis write its files anew: it has none, or does not take that from its clients",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        tenant, undone = options["tenant"], ""
        try:
            # Read the markers before the erasure removes them.
            texts = [*markers_of(get_store(), tenant), *options["marker"]]
            if not options["only_search"]:
                if not options["no_input"] and input(f"Type {tenant} to erase it: ") != tenant:
                    raise CommandError("Nothing was erased.")
                self._erase(tenant, options["timeout"])
                erasure.compact(get_store(), is_full=options["vacuum_full"], timeout_s=options["timeout"])
                undone = "" if options["keep_redis_files"] else self._rewrite_redis_files(options["timeout"])
                self._tell_other_hosts(tenant, texts)
            self._search(tenant, texts, is_only=options["only_search"], undone=undone)
        except NotFound as error:
            raise CommandError(error.message) from error
        except (ErasureIncomplete, RedisError, ArchiveError, OutboxUnavailable) as error:
            raise CommandError(f"Not finished, the same command goes on: {error}") from error

    def _erase(self, tenant: str, timeout_s: float) -> None:
        logged: list[int] = []

        def forget(keys: list[ApiKey]) -> None:
            logged.append(self._forget_in_admin(tenant, keys))

        with Progress(tenant) as progress:
            erased = erasure.erase(
                get_store(), tenant, timeout_s=timeout_s, on_progress=progress.add, forget=forget, actor=operator()
            )
        self.stdout.write(
            f"{tenant} erased: {erased.archive} records, {erased.quarantine} quarantined, {erased.api_keys} API keys, {erased.outbox} rows "
            f"of this host's outbox, {erased.redis} keys of Redis, {sum(logged)} rows of the admin."
        )

    @staticmethod
    def _rewrite_redis_files(timeout_s: float) -> str:
        """Return a message if Redis does not allow the rewrite, otherwise an empty text."""
        try:
            erasure.rewrite_redis_files(get_store(), timeout_s)
        except ResponseError as error:
            return f"Redis does not write its files anew for us ({error}): do it there, and then call with --keep-redis-files."
        return ""

    def _forget_in_admin(self, tenant: str, keys: list[ApiKey]) -> int:
        if not apps.is_installed("django.contrib.admin"):
            return 0
        from trajectories.admin.tenants import forget  # it cannot be imported without the admin

        return forget(tenant, keys)

    def _tell_other_hosts(self, tenant: str, texts: list[str]) -> None:
        if texts:
            given = " ".join(f"--marker {shlex.quote(text)}" for text in texts)
            self.stdout.write(f"On other hosts: erase_tenant {tenant} --only-search {given}")

    def _search(self, tenant: str, texts: list[str], *, is_only: bool, undone: str) -> None:
        self.stdout.write(f"Searched for {tenant} and {len(texts)} markers:")
        left, markers = 0, [form for text in texts for form in forms_of(text)]
        for trace in find_traces(get_store(), tenant, markers):
            self.stdout.write(f"  {trace.place}: {trace.found} {trace.unit}")
            left += trace.found
        if left:
            raise CommandError(f"Something is left. {undone}".strip())
        if undone:
            raise CommandError(f"Nothing is left elsewhere. {undone}")
        # After an erasure no tier has ids or key prefixes of the tenant to search for.
        unsearched = "Files were searched for nothing: name some of its ids, or a text, with --marker."
        if is_only and not markers:
            raise CommandError(unsearched)
        self.stdout.write("Nothing is left." if markers else f"Nothing is left in the tiers. {unsearched}")
