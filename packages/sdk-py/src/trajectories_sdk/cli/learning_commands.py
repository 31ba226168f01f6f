"""The commands of late outcomes, recommendations and evaluations."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast
from uuid import UUID

import click

from trajectories_sdk.cli import documents, views
from trajectories_sdk.cli.documents import open_input
from trajectories_sdk.cli.exits import INCOMPLETE, Exit, say
from trajectories_sdk.cli.options import connection_options, open_client, split
from trajectories_sdk.cli.text import escaped, model_json, write


@click.command()
@click.argument("name")
@click.argument("value")
@click.option("--id", "id_", type=click.UUID, help="The run that it is about.")
@click.option(
    "--reference", metavar="NAME=VALUE", help="Instead of --id, such as pull_request=shop#12 or session_id=s-1."
)
@click.option("--phase-id", help="The phase that it is about; else the run.")
@click.option("--at", help="When it became known (2026-01-05T23:58:46Z). Default: now.")
@click.option("--evidence", multiple=True, metavar="NAME=TEXT", help="Where it can be seen; may be repeated.")
@click.option("--idempotency-key", help="The same key for the same target is the same outcome.")
@connection_options
@click.pass_context
def outcome(
    ctx: click.Context,
    /,
    name: str,
    value: str,
    *,
    id_: UUID | None,
    reference: str | None,
    phase_id: str | None,
    at: str | None,
    evidence: tuple[str, ...],
    idempotency_key: str | None,
    is_json: bool,
    **connection: Any,
) -> None:
    """Record a late outcome NAME of a run, or of a pull request, a commit or a session. Prints its
    id.

    VALUE is true, false, a number, or for the name fit one of good_fit, underpowered,
    overprovisioned and failed.
    """
    if (id_ is None) == (reference is None):
        raise click.UsageError("Give either --id or --reference.")
    stored = open_client(ctx, connection).outcomes.record(
        name,
        _value(value),
        trajectory_id=id_,
        reference=None if reference is None else _pairs("--reference", [reference]),
        phase_id=phase_id,
        at=cast(Any, at),
        evidence=_pairs("--evidence", evidence) or None,
        idempotency_key=idempotency_key,
    )
    click.echo(model_json(stored) if is_json else stored.id)


def _value(text: str) -> bool | float | str:
    if text in ("true", "false"):
        return text == "true"
    try:
        return float(text)
    except ValueError:
        return text


def _pairs(option: str, texts: Iterable[str]) -> dict[str, str]:
    found = {}
    for text in texts:
        name, is_pair, value = text.partition("=")
        if not is_pair:
            raise click.UsageError(f"{option} must be NAME=VALUE, got {escaped(text)}.")
        found[name] = value
    return found


@click.command()
@click.argument("phase")
@click.argument("models", nargs=-1, required=True)
@click.option("--request-type", help="The type of the request.")
@click.option("--project", help="The project of the run.")
@click.option("--budget-usd", type=click.FloatRange(min=0), help="Highest cost of the phase.")
@click.option("--at-least", metavar="MODEL", help="Only what is at least as good as this model, with 95 %.")
@click.option("--min-samples", type=click.IntRange(min=0), help="Only models with this many known outcomes.")
@click.option("--cost-weight", type=click.FloatRange(min=0), help="Success that the dearest cost takes away.")
@click.option("--allow-skip", is_flag=True, help="Skipping the phase is an action too.")
@click.option("--seed", type=click.IntRange(min=0), help="Decides the choice.")
@connection_options
@click.pass_context
def recommend(
    ctx: click.Context,
    /,
    phase: str,
    models: tuple[str, ...],
    *,
    at_least: str | None,
    allow_skip: bool,
    is_json: bool,
    **options: Any,
) -> None:
    """Ask which of MODELS to use for PHASE, with what is known of each.

    The choice explores: without --seed it differs from call to call. Record its PROPENSITY with the
    phase; --json has the fields in record. Give other fields of a request through the SDKs.
    """
    connection, fields = split(options)
    if at_least is not None:
        fields["floor"] = {"model": at_least}
    if allow_skip:
        fields["allow_skip"] = True
    found = open_client(ctx, connection).recommendations.create(phase, models, **cast(Any, fields))
    if not found.complete:
        say(INCOMPLETE)
    write([model_json(found)] if is_json else views.recommendation(found))


@click.command()
@click.argument("policy")
@click.option(
    "--estimand",
    type=click.Choice(["decision", "run"]),
    help="The mean reward of the policy's decisions (default), or the mean outcome of runs in which it makes all of them.",
)
@click.option("--phase", help="The policy chooses at this phase only.")
@click.option(
    "--credit",
    type=click.Choice(["checks", "phase_outcome", "run_outcome"]),
    help="How phases are credited with success.",
)
@click.option("--max-runs", type=click.IntRange(1, 1_000_000), help="Maximum number of runs to read.")
@click.option("--filter", "given", multiple=True, metavar="NAME=VALUE", help="A filter of the list; may be repeated.")
@click.option("--seed", type=click.IntRange(min=0), help="Of the bootstrap.")
@connection_options
@click.pass_context
def evaluate(ctx: click.Context, /, policy: str, *, given: tuple[str, ...], is_json: bool, **options: Any) -> None:
    """Estimate the mean reward that another POLICY would have had, or say why it cannot be known.

    POLICY is a model, for all decisions, or @FILE with a rule table as JSON; @- is stdin. Exits
    with 1 if the value cannot be estimated.
    """
    connection, fields = split(options)
    if given:
        fields["filters"] = _pairs("--filter", given)
    found = open_client(ctx, connection).evaluations.create(_policy(policy), **cast(Any, fields))
    if not found.complete:
        say("Older runs were left out, or a part of the store was unavailable.")
    write([model_json(found)] if is_json else views.evaluation(found))
    if found.refusal is not None:
        ctx.exit(Exit.REFUSED)


def _policy(text: str) -> Any:
    if not text.startswith("@"):
        return {"always": text}
    with open_input(text[1:]) as stream:
        try:
            return documents.read_one(stream)
        except ValueError as error:
            raise click.UsageError(f"{escaped(text)} {escaped(str(error))}") from None
