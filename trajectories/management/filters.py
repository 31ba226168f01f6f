"""The API's filters as options of a command."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from django.core.management.base import CommandError, CommandParser

from trajectories.domain.query import FILTERS, Query, parse_query
from trajectories.exceptions import InvalidInput
from trajectories.storage import archive_reads


def add_filters(parser: CommandParser) -> None:
    """Add an option for each filter: ``--request-type``, ``--min-cost-usd`` and so on."""
    group = parser.add_argument_group("filters", "A run must match all of them.")
    for name, filter_ in FILTERS.items():
        option = f"--{name.replace('_', '-')}"
        group.add_argument(option, help=filter_.description.replace("%", "%%"), metavar=filter_.kind.upper())


def filters_of(options: Mapping[str, Any]) -> dict[str, str]:
    """Return the filters that were given, as query parameters."""
    return {name: options[name] for name in FILTERS if options.get(name) is not None}


def query_of(options: Mapping[str, Any]) -> Query:
    """Return the query of the filters that were given.

    Raises:
        CommandError: a filter has an invalid value.
    """
    try:
        return parse_query(filters_of(options), round(time.time() * 1_000_000))
    except InvalidInput as error:
        option = f"--{(error.param or '').replace('_', '-')}"
        raise CommandError(f"{option}: {error.message}") from None


def known_tenant(tenant: str) -> str:
    """Return ``tenant``.

    Raises:
        CommandError: there is no such tenant.
    """
    if tenant not in archive_reads.tenants():
        raise CommandError(f"There is no tenant {tenant!r}.")
    return tenant
