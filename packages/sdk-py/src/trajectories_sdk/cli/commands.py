"""The commands."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import click

from trajectories_sdk import _version
from trajectories_sdk.cli import documents, views
from trajectories_sdk.cli.documents import open_input
from trajectories_sdk.cli.exits import INCOMPLETE, Commands, Exit, exit_for_status, log_to_stderr, say
from trajectories_sdk.cli.learning_commands import evaluate, outcome, recommend
from trajectories_sdk.cli.options import connection_options, filter_options, open_client, split
from trajectories_sdk.cli.progress import progress_bar
from trajectories_sdk.cli.text import escaped, json_text, model_json, write
from trajectories_sdk.client import Client
from trajectories_sdk.errors import TrajectoryError
from trajectories_sdk.models import LineResult, StoredTrajectory, TrajectoryPage

_MAX_PAGE_SIZE = 1000
_NDJSON_SUFFIXES = (".ndjson", ".jsonl")
_JSONL_SUFFIXES = (".jsonl", ".ndjson")


@click.group(
    cls=Commands,
    context_settings={"max_content_width": 110, "help_option_names": ["-h", "--help"]},
    epilog="Data goes to stdout, everything else to stderr.",
)
@click.version_option(_version.__version__, message="%(version)s")
@click.pass_context
def trajectory(ctx: click.Context, /) -> None:
    """Record and inspect orchestration trajectories: phases, models, cost and outcome of agent
    runs."""
    log_to_stderr(ctx)


@trajectory.command()
@click.argument("file", type=click.Path(dir_okay=False, allow_dash=True))
@click.option(
    "--ndjson",
    "is_ndjson",
    is_flag=True,
    help="Read one body per line. Default for .ndjson and .jsonl, otherwise detected.",
)
@click.option("--replace", is_flag=True, help="Also replace stored versions that have phases which these lack.")
@connection_options
@click.pass_context
def record(
    ctx: click.Context, /, file: str, *, is_ndjson: bool, replace: bool, is_json: bool, **connection: Any
) -> None:
    """Record the JSON body in FILE, or each line of NDJSON; - is stdin.

    Prints the id, or a result per line of NDJSON. A refused line does not block the others.
    Recording a body with an id again changes nothing if it is the same.
    """
    client = open_client(ctx, connection)
    with open_input(file) as stream:
        try:
            found = documents.read(stream, is_ndjson=is_ndjson or file.endswith(_NDJSON_SUFFIXES))
        except ValueError as error:
            raise click.UsageError(f"{'stdin' if file == '-' else escaped(file)} {escaped(str(error))}") from None
        if isinstance(found, Iterator):
            ctx.exit(_record_lines(client, found, replace=replace, is_json=is_json))
        stored = client.trajectories.record(cast(Any, found), replace=replace)
    click.echo(model_json(stored) if is_json else stored.id)


@trajectory.command()
@click.argument("id", type=click.UUID)
@click.argument("file", type=click.Path(dir_okay=False, allow_dash=True))
@click.option("--if-match", type=int, metavar="REVISION", help="Refuse if the store has another revision.")
@connection_options
@click.pass_context
def update(
    ctx: click.Context,
    /,
    id: UUID,  # noqa: A002  the name in the API
    file: str,
    *,
    if_match: int | None,
    is_json: bool,
    **connection: Any,
) -> None:
    """Change the record ID by the JSON object in FILE; - is stdin. Prints the new revision.

    null deletes a field. phases lists objects with a phase_id, which change the phase of that id or
    append one: {"tests_passed": true, "phases": [{"phase_id": "spec-1", "fit": "good_fit"}]}
    """
    client = open_client(ctx, connection)
    with open_input(file) as stream:
        try:
            patch = documents.read_one(stream)
        except ValueError as error:
            raise click.UsageError(f"{'stdin' if file == '-' else escaped(file)} {escaped(str(error))}") from None
    stored = client.trajectories.update(id, cast(Any, patch), if_match=if_match)
    click.echo(model_json(stored) if is_json else stored.revision)


@trajectory.command(name="list")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="Maximum number of records.")
@filter_options
@connection_options
@click.pass_context
def list_(ctx: click.Context, /, *, limit: int, is_json: bool, **options: Any) -> None:
    """List records, newest first. With --json, print one record per line."""
    connection, filters = split(options)
    # One extra record shows whether there are more.
    found = open_client(ctx, connection).trajectories.list(limit=min(limit + 1, _MAX_PAGE_SIZE), **filters)
    records = list(islice(_records_of_pages(found.pages()), limit + 1))
    shown = records[:limit]
    write(map(model_json, shown) if is_json else views.records(shown))
    if len(records) > limit:
        say(f"There are more than {limit} records. Raise --limit, or use export for all.")


@trajectory.command()
@click.argument("id", type=click.UUID)
@connection_options
@click.pass_context
def show(ctx: click.Context, /, id: UUID, *, is_json: bool, **connection: Any) -> None:  # noqa: A002  the name in the API
    """Show the record ID and its phases."""
    found = open_client(ctx, connection).trajectories.retrieve(id)
    write([model_json(found)] if is_json else views.record(found))


@trajectory.command()
@click.option(
    "--credit",
    type=click.Choice(["checks", "phase_outcome", "run_outcome"]),
    help="How phases are credited with success.",
)
@click.option("--bucket", type=click.Choice(["day", "week"]), help="Show the totals of each day or week.")
@filter_options
@connection_options
@click.pass_context
def stats(ctx: click.Context, /, *, credit: str | None, bucket: str | None, is_json: bool, **options: Any) -> None:
    """Show totals, and success rate, cost and value by phase, model and selection method.

    CREDITED is the success rate by what the tests, builds and reviews of a run said of its phases,
    BY PHASE by what the phases said of themselves. WILSON LOW is the lower bound of the 95 %
    interval of CREDITED. VALUE/USD is that bound divided by (mean cost + 0.001 USD). Phases that
    were skipped in some runs are listed with the success of the runs where they ran and were
    skipped.
    """
    connection, filters = split(options)
    found = open_client(ctx, connection).trajectories.stats(credit=credit, bucket=bucket, **filters)
    if not found.window.complete:
        say(INCOMPLETE)
    write([model_json(found)] if is_json else views.stats(found))


@trajectory.command()
@click.option(
    "--max-runs",
    type=click.IntRange(1, 1_000_000),
    help="Maximum number of runs to measure: a request measures up to 750.",
)
@filter_options
@connection_options
@click.pass_context
def readiness(ctx: click.Context, /, *, max_runs: int | None, is_json: bool, **options: Any) -> None:
    """Show whether the records are worth training on, and what to do where they are not."""
    connection, filters = split(options)
    found = open_client(ctx, connection).trajectories.readiness(max_runs=max_runs, **filters)
    if not found.complete:
        say(found.note or "A tier was unavailable: not all records are measured.")
    write([model_json(found)] if is_json else views.readiness(found))


@trajectory.command()
@click.option(
    "-o", "--output", required=True, type=click.Path(dir_okay=False, allow_dash=True), help="Output file; - is stdout."
)
@click.option("--after", type=click.UUID, metavar="ID", help="Export only records that arrived after this one.")
@click.option("--resume/--no-resume", default=True, show_default=True, help="Resume an interrupted export.")
@click.option("--no-progress", is_flag=True, help="Hide the progress bar, which only a terminal shows.")
@filter_options
@connection_options
@click.pass_context
def export(
    ctx: click.Context,
    /,
    *,
    output: str,
    after: UUID | None,
    resume: bool,
    no_progress: bool,
    is_json: bool,
    **options: Any,
) -> None:
    """Export all records as JSONL, verified by count and hash. NAME ends in .jsonl or .ndjson.

    The file appears once it is complete. An interrupted export stays beside it, as NAME.….part, and
    the same command resumes it. With --json, count, hash and the id for --after go to stdout.
    """
    if output == "-" and (is_json or sys.stdout.isatty()):
        # The bytes must match the store's hash, so control characters cannot be escaped.
        raise click.UsageError("-o - needs a pipe or a redirect, and cannot be combined with --json.")
    if output != "-" and Path(output).suffix.lower() not in ("", *_JSONL_SUFFIXES):
        suffixes = " or ".join(_JSONL_SUFFIXES)
        raise click.UsageError(
            f"Exports are JSONL, so the name must end in {suffixes}, got {output!r}. Convert the file afterwards."
        )
    connection, filters = split(options)
    client = open_client(ctx, connection)
    target: Any = sys.stdout.buffer if output == "-" else output
    shows_bar = sys.stderr.isatty() and not no_progress
    bar = progress_bar(client, after, filters) if shows_bar else nullcontext(None)
    with bar as report:
        exported = client.trajectories.export_jsonl(target, progress=report, resume=resume, after=after, **filters)
    if is_json:
        click.echo(json_text(asdict(exported) | {"cursor": exported.cursor and str(exported.cursor)}))
    say(f"{exported.count:,} records, SHA-256 {exported.sha256}")


def _record_lines(client: Client, lines: Iterator[documents.Line], *, replace: bool, is_json: bool) -> Exit:
    bodies, failure = documents.Bodies(lines), None
    try:
        recorded = client.trajectories.record_many(cast(Any, bodies), replace=replace)
    except TrajectoryError as error:
        if error.recorded is None:
            raise
        recorded, failure = error.recorded, error
    results = [_as_line(bodies.numbers[result.line - 1], result) for result in recorded.results]
    results = sorted([*results, *(line.refusal() for line in bodies.refused)], key=lambda result: result["line"])
    refused = [result for result in results if result["status"] >= 400]
    accepted = len(results) - len(refused)
    answer = {"accepted": accepted, "refused": len(refused), "results": results}
    write([json_text(answer)] if is_json else views.results(results))
    say(f"{accepted:,} accepted, {len(refused):,} refused")
    if failure is not None:
        raise failure
    return max((exit_for_status(result["status"]) for result in refused), default=Exit.DONE)


def _as_line(number: int, result: LineResult) -> dict[str, Any]:
    return result.model_dump(mode="json", exclude_unset=True) | {"line": number}


def _records_of_pages(pages: Iterable[TrajectoryPage]) -> Iterator[StoredTrajectory]:
    has_warned = False
    for page in pages:
        if not page.complete and not has_warned:
            say(INCOMPLETE)
            has_warned = True
        yield from page.data


for command in (outcome, recommend, evaluate):
    trajectory.add_command(command)
