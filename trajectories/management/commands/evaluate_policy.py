"""``manage.py evaluate_policy TENANT --always MODEL``"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, get_args

import orjson
from django.core.management.base import BaseCommand, CommandError, CommandParser

from trajectories.domain.credit import RULES
from trajectories.exceptions import InvalidInput, Unavailable
from trajectories.learning.evaluate import Evaluation, evaluate, result_json
from trajectories.learning.policies import (
    DEFAULT_RUNS,
    Estimand,
    FunctionPolicy,
    Policy,
    RulePolicy,
    VowpalWabbitPolicy,
    parse_policy,
)
from trajectories.management.filters import add_filters, known_tenant, query_of
from trajectories.storage.archive_errors import ArchiveError
from trajectories.storage.store import get_store


class Command(BaseCommand):
    help = (
        "Estimate the mean reward that another policy would have had at a tenant's recorded decisions, or say why it cannot be known"
        " (docs/learning.md). Exits with 1 on a refusal."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("tenant")
        policy = parser.add_mutually_exclusive_group(required=True)
        policy.add_argument("--always", help="this model, whatever the decision", metavar="MODEL")
        policy.add_argument("--rules", type=Path, help="a rule table, as JSON", metavar="FILE")
        policy.add_argument("--vw", type=Path, help="a model of vw --cb_explore_adf trained on dsjson", metavar="FILE")
        policy.add_argument("--function", help="choose(context, models) in Python", metavar="DOTTED.PATH")
        parser.add_argument(
            "--estimand",
            choices=get_args(Estimand),
            default="decision",
            help="decision: the mean reward of the policy's decisions; run: the mean outcome of runs in which it makes all of them",
        )
        parser.add_argument("--credit", choices=RULES, default=RULES[0], help="credit rule of the reward of a decision")
        parser.add_argument("--max-runs", type=int, default=DEFAULT_RUNS, help="read the newest runs only")
        parser.add_argument("--seed", type=int, default=0, help="of the bootstrap")
        parser.add_argument("--json", action="store_true", help="write the answer of the API")
        add_filters(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            found = evaluate(
                get_store(),
                known_tenant(options["tenant"]),
                query_of(options),
                _policy(options),
                phase=options["phase"],
                estimand=options["estimand"],
                rule=options["credit"],
                max_runs=options["max_runs"],
                seed=options["seed"],
            )
        except InvalidInput as error:
            raise CommandError(error.message) from error
        except (ArchiveError, Unavailable) as error:
            raise CommandError(f"The runs cannot be read: {error}") from error
        self.stdout.write(orjson.dumps(result_json(found)).decode() if options["json"] else _text(found))
        if found.refusal:
            sys.exit(1)


def _policy(options: dict[str, Any]) -> Policy:
    if options["always"]:
        return RulePolicy.model_validate({"always": options["always"]})
    if options["rules"]:
        try:
            return parse_policy(options["rules"].read_bytes())
        except OSError as error:
            raise CommandError(f"{options['rules']} cannot be read: {error.strerror}.") from error
    return VowpalWabbitPolicy(options["vw"]) if options["vw"] else FunctionPolicy(options["function"])


def _text(found: Evaluation) -> str:
    lines = [f"{found.decisions} {found.estimand}s with propensity and reward."]
    lines += [f"left out: {count} {reason}" for reason, count in found.left_out.items()]
    if found.logged is not None:
        lines.append(f"logged  {found.logged:.4f}")
    if found.exact is not None:
        cost = "" if found.exact.cost_usd is None else f", {found.exact.cost_usd:.4g} USD each"
        lines.append(f"exact   {found.exact.value:.4f} on {found.exact.items} items{cost}")
    lines += [
        f"{one.method:<7} {one.value:.4f}  normal {one.normal.low:.4f} to {one.normal.high:.4f}"
        f"  bootstrap {one.bootstrap.low:.4f} to {one.bootstrap.high:.4f}"
        for one in found.estimates
    ]
    if found.overlap is not None:
        lines.append(
            f"{found.overlap.effective_samples:.0f} effective {found.estimand}s, largest weight {found.overlap.largest_weight:.1f},"
            f" mean weight {found.overlap.mean_weight:.3f}"
        )
    return "\n".join([*lines, found.refusal] if found.refusal else lines)
