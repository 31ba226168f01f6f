"""Options shared by the commands."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias, TypeVar

import click

from trajectories_sdk.client import Client
from trajectories_sdk.config import DEFAULT_BASE_URL, DEFAULT_MAX_RETRIES, DEFAULT_TIMEOUT_S

MakeClient: TypeAlias = Callable[..., Client]
"""Creates the client of a command. Tests put another one into ``obj`` of the context."""
C = TypeVar("C", bound=Callable[..., Any])

_NUMBER = click.FloatRange(min=0)
_TIME = "a time (2026-01-05T23:58:46Z), a date in UTC (2026-01-05), or a span before now (30m, 12h, 7d, 2w)"
FILTERS: Mapping[str, tuple[click.ParamType[Any] | type, str]] = {
    "project": (str, "Exactly this project."),
    "source": (str, "Exactly this orchestrator."),
    "request_type": (str, "Exactly this type of request."),
    "policy": (str, "Exactly this policy."),
    "outcome": (click.Choice(["success", "failure", "partial", "unknown"]), "Outcome, given or derived."),
    "phase": (str, "A phase of this name or an alias of it."),
    "model": (str, "A phase that this model answered."),
    "selection_method": (str, "A phase whose model was picked this way."),
    "agent": (str, "A phase of this agent."),
    "tool": (str, "A phase that used this tool."),
    "credited": (
        click.Choice(["success", "failure", "partial", "none"]),
        "A phase that earned this by the checks; none: nothing.",
    ),
    "fit": (
        click.Choice(["good_fit", "underpowered", "overprovisioned", "failed"]),
        "A phase whose model suited it so.",
    ),
    "build_passed": (bool, "Whether the build passed."),
    "tests_passed": (bool, "Whether the tests passed."),
    "tag": (str, "Has this tag."),
    "since": (str, f"Recorded at or after: {_TIME}."),
    "until": (str, "Recorded before."),
    "started_since": (str, "Started at or after."),
    "started_until": (str, "Started before."),
    "min_cost_usd": (_NUMBER, "Cost at least this."),
    "max_cost_usd": (_NUMBER, "Cost at most this."),
    "min_duration_ms": (_NUMBER, "Took at least this."),
    "max_duration_ms": (_NUMBER, "Took at most this."),
    "q": (str, "Each word is part of the request summary."),
}
"""The store's query parameters. The seven phase filters must match the same phase."""


def flag(name: str) -> str:
    """Return the option for a parameter of the store."""
    return "--" + name.replace("_", "-")


def filter_options(command: C) -> C:
    """Add an option for each of FILTERS. An option that is not given is None."""
    for name, (kind, text) in reversed(list(FILTERS.items())):
        written = f"{flag(name)}/--no{flag(name)[1:]}" if kind is bool else flag(name)
        metavar = None if isinstance(kind, click.Choice) or kind is bool else "NUMBER" if kind is _NUMBER else "TEXT"
        command = click.option(written, name, type=kind, default=None, help=text, metavar=metavar)(command)
    return command


def without_none(filters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the filters that were given."""
    return {name: value for name, value in filters.items() if value is not None}


def connection_options(command: C) -> C:
    """Add the connection options and ``--json``."""
    options = [
        click.option("--json", "is_json", is_flag=True, help="Write the store's response as JSON."),
        click.option(
            "--base-url",
            metavar="URL",
            help=f"Address of the store. Default: TRAJSTORE_BASE_URL, then {DEFAULT_BASE_URL}.",
        ),
        click.option(
            "--api-key", metavar="KEY", help="Default: TRAJSTORE_API_KEY, which other users of the machine cannot see."
        ),
        click.option(
            "--timeout-s",
            type=click.FloatRange(min=0, min_open=True),
            default=DEFAULT_TIMEOUT_S,
            show_default=True,
            help="Seconds for each wait.",
        ),
        click.option(
            "--max-retries",
            type=click.IntRange(min=0),
            default=DEFAULT_MAX_RETRIES,
            show_default=True,
            help="Number of retries of a failed request.",
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def open_client(ctx: click.Context, connection: Mapping[str, Any]) -> Client:
    """Return the client of a command. It is closed with the command.

    Raises:
        click.UsageError: an invalid URL or key.
    """
    make: MakeClient = ctx.obj or Client
    try:
        # As arguments, invalid values of the environment are errors too, where a library only logs them.
        client = make(**{**connection, **_of_the_environment(connection)})
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    return ctx.with_resource(client)


def _of_the_environment(connection: Mapping[str, Any]) -> dict[str, str]:
    """Return the settings that the environment has and the command line has not."""
    variables = {"base_url": "TRAJSTORE_BASE_URL", "api_key": "TRAJSTORE_API_KEY"}
    texts = {name: os.environ.get(variable, "").strip() for name, variable in variables.items()}
    return {name: text for name, text in texts.items() if text and connection.get(name) is None}


def split(options: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Split the options into those of the connection and the given filters."""
    names = ("base_url", "api_key", "timeout_s", "max_retries")
    filters = without_none({name: value for name, value in options.items() if name not in names})
    return {name: options[name] for name in names}, filters
