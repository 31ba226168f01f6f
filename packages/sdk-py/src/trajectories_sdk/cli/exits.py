"""Exit codes of the command."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import Any

import click

from trajectories_sdk.cli.text import escaped
from trajectories_sdk.errors import (
    APIConnectionError,
    APIStatusError,
    AuthenticationError,
    ExportBrokenError,
    PermissionDeniedError,
    TrajectoryError,
)

INCOMPLETE = "Incomplete: a part of the store was unavailable, and records that only it has are missing."
_TRY_LATER = (408, 429)
_MAX_PROBLEMS = 20


class Exit(IntEnum):
    """Exit codes. They are public: a code keeps its meaning."""

    DONE = 0
    REFUSED = 1
    USAGE = 2
    NOT_ALLOWED = 3
    UNAVAILABLE = 4
    EXPORT_BROKEN = 5
    INTERRUPTED = 130
    PIPE_CLOSED = 141


HELP = {
    Exit.DONE: "success",
    Exit.REFUSED: "a record, a filter, an id or an evaluation was refused; valid records are recorded all the same",
    Exit.USAGE: "wrong usage, or a local file cannot be read or written; nothing was sent",
    Exit.NOT_ALLOWED: "the API key is missing, invalid, or lacks the scope",
    Exit.UNAVAILABLE: "the store was unreachable or failed; a retry may help later",
    Exit.EXPORT_BROKEN: "an export does not match the store's count or hash",
    Exit.INTERRUPTED: "interrupted",
    Exit.PIPE_CLOSED: "the reader of the output has closed it, as `| head` does",
}


def exit_for_status(status: int) -> Exit:
    """Return the exit code of an HTTP error status."""
    if status in (401, 403):
        return Exit.NOT_ALLOWED
    return Exit.REFUSED if 400 <= status < 500 and status not in _TRY_LATER else Exit.UNAVAILABLE


def exit_for_error(error: TrajectoryError) -> Exit:
    if isinstance(error, ExportBrokenError):
        return Exit.EXPORT_BROKEN
    return exit_for_status(error.status) if isinstance(error, APIStatusError) else Exit.UNAVAILABLE


def say(message: str) -> None:
    """Write to stderr, with unsafe characters escaped."""
    click.echo(escaped(message), err=True)


class _Handler(logging.Handler):
    """Writes log lines of the SDK to stderr, escaped: they may quote what was recorded."""

    def emit(self, record: logging.LogRecord) -> None:
        say(f"{record.levelname.capitalize()}: {record.getMessage()}")


def log_to_stderr(ctx: click.Context) -> None:
    """Write warnings of the SDK to stderr until the command ends."""
    handler, log = _Handler(logging.WARNING), logging.getLogger("trajectories_sdk")
    log.addHandler(handler)
    ctx.call_on_close(lambda: log.removeHandler(handler))


def explain(error: TrajectoryError) -> None:
    """Print an error and a hint."""
    say(f"Error: {error}")
    if isinstance(error, APIStatusError):
        for problem in error.details[:_MAX_PROBLEMS]:
            say(f"  {problem.path or 'body'}: {problem.message}")
    if isinstance(error, AuthenticationError):
        say("Set TRAJSTORE_API_KEY, or pass --api-key.")
    elif isinstance(error, PermissionDeniedError):
        say("Use an API key with the required scope.")
    elif isinstance(error, APIConnectionError):
        say("Check that the store runs, and check its address: TRAJSTORE_BASE_URL or --base-url.")


@contextmanager
def exit_codes_for_errors(ctx: click.Context) -> Iterator[None]:
    """End the command with an exit code, and without a traceback, on expected errors."""
    try:
        yield
        sys.stdout.flush()
    except TrajectoryError as error:
        explain(error)
        ctx.exit(exit_for_error(error))
    except BrokenPipeError:
        _discard_stdout()
        ctx.exit(Exit.PIPE_CLOSED)
    except OSError as error:
        say(f"Error: {error.filename or 'output'}: {error.strerror or error}")
        ctx.exit(Exit.USAGE)
    except KeyboardInterrupt:
        say("Interrupted.")
        ctx.exit(Exit.INTERRUPTED)


def _discard_stdout() -> None:
    # Python flushes stdout at exit, which would fail again.
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)


class Commands(click.Group):
    """A group whose commands end with one of ``Exit``."""

    def invoke(self, ctx: click.Context) -> Any:
        with exit_codes_for_errors(ctx):
            return super().invoke(ctx)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        super().format_epilog(ctx, formatter)
        with formatter.section("Exit codes"):
            formatter.write_dl([(str(int(code)), HELP[code]) for code in Exit])
