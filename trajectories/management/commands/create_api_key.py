"""``manage.py create_api_key TENANT --scopes record,read``."""

from __future__ import annotations

import argparse
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import router, transaction
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from trajectories.exceptions import InvalidInput
from trajectories.management.operator import operator
from trajectories.models import SCOPES, ApiKey, Tenant


class Command(BaseCommand):
    help = (
        "Makes an API key for a tenant, and the tenant if there is none of that name. The key is all that goes to standard "
        "output, so that KEY=$(manage.py create_api_key ...) works. It cannot be shown again."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("tenant", help="Slug of the tenant.")
        parser.add_argument(
            "--scopes",
            required=True,
            type=_words,
            help=f"Comma-separated, of {', '.join(SCOPES)}: what the key may do.",
        )
        parser.add_argument("--name", default="", help="What it is for.")
        parser.add_argument(
            "--source", default="", help="Source of the late outcomes that it sends, such as ci, review or user."
        )
        expiry = parser.add_mutually_exclusive_group()
        expiry.add_argument(
            "--expires-at",
            type=_moment,
            metavar="TIME",
            help="ISO 8601 date or time; without an offset in TIME_ZONE. Default: it does not expire.",
        )
        expiry.add_argument("--expires-in-days", type=float, metavar="DAYS")

    def handle(self, *args: Any, **options: Any) -> None:
        expires_at = _expiry(options["expires_at"], options["expires_in_days"])
        with transaction.atomic(using=router.db_for_write(ApiKey)):
            tenant = self._tenant(options["tenant"])
            try:
                key, text = ApiKey.objects.issue(
                    tenant=tenant,
                    name=options["name"],
                    scopes=options["scopes"],
                    source=options["source"],
                    expires_at=expires_at,
                    actor=operator(),
                )
            except InvalidInput as error:
                raise CommandError(error.message) from error
        until = f"until {expires_at:%Y-%m-%d %H:%M:%S %Z}".strip() if expires_at else "without an end"
        self._say(f"API key {key.prefix} of tenant {tenant}: {key.scopes}, {until}. It is shown only now:")
        self.stdout.write(text)

    def _tenant(self, slug: str) -> Tenant:
        tenant = Tenant.objects.using(router.db_for_write(Tenant)).filter(pk=slug).first()
        if tenant is None:
            tenant = Tenant(slug=slug)
            try:
                tenant.full_clean()
            except ValidationError as error:
                raise CommandError(f"{slug!r} cannot be the name of a tenant: {' '.join(error.messages)}") from error
            tenant.save(force_insert=True)
            self._say(f"Tenant {tenant} created.")
        return tenant

    def _say(self, text: str) -> None:
        self.stderr.write(text, str)  # str replaces the red style of errors


def _words(text: str) -> list[str]:
    return text.replace(",", " ").split()


def _moment(text: str) -> datetime:
    """Return a time; a date alone is the start of that day."""
    try:
        found = parse_datetime(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text}: {error}") from error
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no date or time such as 2030-12-31 or 2030-12-31T18:00:00Z")
    return found


def _expiry(at: datetime | None, in_days: float | None) -> datetime | None:
    """Return the expiry for the model field: aware exactly if USE_TZ is on."""
    if in_days is not None:
        try:
            at = timezone.now() + timedelta(days=in_days)
        except (OverflowError, ValueError) as error:
            raise CommandError(f"--expires-in-days {in_days:g} is not within the calendar.") from error
    if at is None:
        return None
    if timezone.is_naive(at) and settings.USE_TZ:
        at = timezone.make_aware(at)
    elif timezone.is_aware(at) and not settings.USE_TZ:
        at = timezone.make_naive(at)
    if at <= timezone.now():
        raise CommandError(f"The key would have expired already, on {at:%Y-%m-%d %H:%M:%S}.")
    return at
