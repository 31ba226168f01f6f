"""The API's filters as options of a command."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.core.management.base import CommandError, CommandParser

from trajectories.domain.clock import now_us
from trajectories.domain.query import FILTERS, Query, parse_query
from trajectories.exceptions import InvalidInput
from trajectories.storage import archive_reads
from trajectories.training.export import OPTIONS, PARAMETERS, Request, parse_request
from trajectories.training.formats import DEFAULT, FORMATS
from trajectories.training.splits import SPLIT_BY


def add_filters(parser: CommandParser) -> None:
    """Add an option for each filter: ``--request-type``, ``--min-cost-usd`` and so on."""
    group = parser.add_argument_group("filters", "A run must match all of them.")
    for name, filter_ in FILTERS.items():
        option = f"--{name.replace('_', '-')}"
        group.add_argument(option, help=filter_.description.replace("%", "%%"), metavar=filter_.kind.upper())


def add_export_options(parser: CommandParser) -> None:
    """Add ``--format``, ``--split`` and the other parameters of an export, and the filters."""
    group = parser.add_argument_group("export", "As GET .../export (docs/training.md).")
    group.add_argument("--format", help=f"one of {', '.join(FORMATS)}; {DEFAULT} by default")
    group.add_argument("--split", help="such as train=0.9,test=0.1")
    group.add_argument("--split-by", help=f"{' or '.join(SPLIT_BY)}: what stays in one part")
    group.add_argument("--part", help="only this part of the split")
    group.add_argument("--dedupe", action="store_const", const="1", help="leave out repeated runs")
    group.add_argument(
        "--option",
        action="append",
        default=[],
        help=f"an option of the format ({', '.join(OPTIONS)}); may be repeated",
        metavar="NAME=VALUE",
    )
    add_filters(parser)


def export_parameters(options: Mapping[str, Any]) -> dict[str, str]:
    """Return the export that the options describe, as query parameters.

    Raises:
        CommandError: ``--option`` names no option of a format.
    """
    given = {name: options[name] for name in (*PARAMETERS, *FILTERS) if options.get(name) is not None}
    for text in options["option"]:
        name, equals, value = text.partition("=")
        if not equals or name not in OPTIONS:
            raise CommandError(f"--option must be NAME=VALUE with a name of {', '.join(OPTIONS)}, got {text!r}.")
        given[name] = value
    return given


def export_request(options: Mapping[str, Any]) -> Request:
    """Return the export that the options describe, parsed.

    Raises:
        CommandError: an option has an invalid value.
    """
    try:
        return parse_request(export_parameters(options), now_us())
    except InvalidInput as error:
        raise CommandError(error.message) from None


def filters_of(options: Mapping[str, Any]) -> dict[str, str]:
    """Return the filters that were given, as query parameters."""
    return {name: options[name] for name in FILTERS if options.get(name) is not None}


def query_of(options: Mapping[str, Any]) -> Query:
    """Return the query of the filters that were given.

    Raises:
        CommandError: a filter has an invalid value.
    """
    try:
        return parse_query(filters_of(options), now_us())
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
