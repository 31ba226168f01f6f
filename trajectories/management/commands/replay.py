"""``manage.py replay TENANT --data FILE``"""

from __future__ import annotations

import http.client
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from django.core.management.base import BaseCommand, CommandError, CommandParser

from trajectories.api.authentication import revoke
from trajectories.exceptions import InvalidInput
from trajectories.learning.full_feedback import read_items
from trajectories.learning.regret_chart import regret_svg
from trajectories.learning.replay import DEFAULT_RUNS, Replayed, Rules, Table, as_json, from_json, replay, report
from trajectories.management.operator import operator
from trajectories.models import ApiKey, Tenant, Trajectory

_TIMEOUT_S = 30


class Command(BaseCommand):
    help = (
        "Replay recorded outcomes of several models through a running store: ask for a recommendation, record the run with the true"
        " outcome of what was chosen, go on. Prints the final choices and writes the regret curve (docs/learning.md). Each seed"
        " has a tenant of its own, TENANT-SEED, without earlier records."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("tenant", help="the first part of the names of the tenants")
        parser.add_argument(
            "--data",
            type=Path,
            required=True,
            help="an export routing-table, or lines of item, model, score or resolved, cost_usd",
        )
        parser.add_argument("--seed", type=int, default=1, help="of the first replay")
        parser.add_argument("--replays", type=int, default=1, help="how many seeds, one after the other")
        parser.add_argument("--runs", type=int, default=DEFAULT_RUNS, help="of a replay; items come again and again")
        parser.add_argument("--cost-weight", type=float, default=Rules().cost_weight, help="as in a recommendation")
        parser.add_argument("--explore", type=float, default=Rules().explore, help="as in a recommendation")
        parser.add_argument("--no-escalation", action="store_true", help="recommend single models only")
        parser.add_argument("--with-project", action="store_true", help="name the item's project in each request")
        parser.add_argument("--svg", type=Path, help="where to write the regret curve", metavar="FILE")
        parser.add_argument(
            "--results",
            type=Path,
            help="keep the result of each seed here; seeds that are here already are not replayed again",
            metavar="DIRECTORY",
        )
        parser.add_argument(
            "--url",
            default=os.environ.get("TRAJSTORE_BASE_URL", "http://127.0.0.1:8000"),
            help="of the running store, which has this database",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        rules = Rules(options["cost_weight"], options["explore"], not options["no_escalation"], options["with_project"])
        if options["runs"] < 1 or options["replays"] < 1:
            raise CommandError("--runs and --replays must be at least 1.")
        try:
            table = Table(read_items(options["data"]))
        except InvalidInput as error:
            raise CommandError(error.message) from error
        seeds = range(options["seed"], options["seed"] + options["replays"])
        found = [self._replayed(seed, table, rules, options) for seed in seeds]
        self.stdout.write(report(table, found, rules))
        if options["svg"]:
            title = f"Regret of {len(found)} replays, in successes, against the best action in hindsight"
            plans = {f"always {plan}": table.regret(plan, rules) for plan in (table.best_single, table.cheap_first)}
            options["svg"].write_text(regret_svg([one.regret for one in found], title, plans))
            self.stdout.write(f"{options['svg']} is written.")

    def _replayed(self, seed: int, table: Table, rules: Rules, options: Mapping[str, Any]) -> Replayed:
        kept: Path | None = options["results"] and options["results"] / f"{seed}.json"
        if kept is not None and kept.exists():
            return _kept(kept, table, rules, options["runs"])
        with _api(options["url"], f"{options['tenant']}-{seed}") as api:
            found = replay(api, table, rules, seed=seed, runs=options["runs"])
        if kept is not None:
            kept.parent.mkdir(parents=True, exist_ok=True)
            part = kept.with_suffix(".part")
            part.write_text(json.dumps(as_json(found, table, rules)))
            part.replace(kept)
        if options["verbosity"] > 1:
            self.stderr.write(f"seed {seed} is done")
        return found


def _kept(path: Path, table: Table, rules: Rules, runs: int) -> Replayed:
    """Return the result that an earlier command kept.

    Raises:
        CommandError: it is of other items, rules or runs.
    """
    try:
        return from_json(json.loads(path.read_text()), table, rules, runs)
    except (ValueError, KeyError, TypeError) as error:
        raise CommandError(
            f"{path} is not a result of these items, rules and --runs {runs}: {error}. Give another --results."
        ) from error


@contextmanager
def _api(url: str, slug: str) -> Iterator[_Connection]:
    """Open a connection with a key of a tenant that has no records; revoke the key at the end.

    Raises:
        CommandError: the tenant has records, or the store does not answer.
    """
    tenant, _ = Tenant.objects.get_or_create(slug=slug)
    if Trajectory.objects.filter(tenant=slug).exists():
        raise CommandError(
            f"The tenant {slug!r} has records, and a replay begins without any: choose another name or seed, or run"
            f" manage.py erase_tenant {slug}."
        )
    key, text = ApiKey.objects.issue(tenant=tenant, name="replay", scopes=["record", "read"])
    connection = _Connection(url, text)
    try:
        yield connection
    except (OSError, http.client.HTTPException) as error:
        raise CommandError(f"The store at {url} does not answer: {error}. Start it, or give --url.") from error
    finally:
        connection.close()
        revoke(key, actor=operator())


class _Connection:
    """A connection to the store that is kept open."""

    def __init__(self, url: str, key: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise CommandError(f"--url must be an address such as http://127.0.0.1:8000, got {url!r}.")
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._http = kind(parts.hostname, parts.port, timeout=_TIMEOUT_S)
        self._prefix = parts.path.rstrip("/")
        self._headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}

    def __call__(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        self._http.request("POST", self._prefix + path, json.dumps(body).encode(), self._headers)
        response = self._http.getresponse()
        answer: dict[str, Any] = json.loads(response.read())
        if response.status not in (200, 201):
            raise CommandError(f"The store answers {response.status}: {answer['error']['message']}")
        return answer

    def close(self) -> None:
        self._http.close()
