"""Replay of recorded outcomes through the loop: ask, do what is recommended, record, ask again.

The outcome of every model on every item is known, so that each choice has its true outcome, and the
best action in hindsight is known too.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import sha256
from itertools import permutations
from typing import Any, Final, NamedTuple, Protocol
from uuid import UUID, uuid5

from trajectories.learning.full_feedback import Item

DEFAULT_RUNS: Final = 6_000
"""So many that the best plan of four models is found from nearly every seed (docs/learning.md)."""
SOURCE: Final = "replay"
_IDS = UUID("0c5f7a52-3a0e-4b0e-8f0b-6a4a5d0a9b11")


class Api(Protocol):
    """Posts JSON to an address of the API, and returns the answer."""

    def __call__(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]: ...


class Plan(NamedTuple):
    """Ask ``model``, and ``then`` where it did not succeed."""

    model: str
    then: str | None = None

    def __str__(self) -> str:
        return self.model if self.then is None else f"{self.model}, then {self.then}"


class Result(NamedTuple):
    """Mean score, and total cost in USD, over some items."""

    score: float
    cost_usd: float

    def value(self, price: float, count: int) -> float:
        """Return the mean score less the mean cost, at ``price`` a USD."""
        return self.score - price * self.cost_usd / count


class Rules(NamedTuple):
    """Rules of each request, as in ``context.RecommendationRequest``."""

    cost_weight: float = 0.1
    explore: float = 0.02
    allow_escalation: bool = True
    has_project: bool = False


class Replayed(NamedTuple):
    """One replay.

    - ``regret``: after each run, the value that the best action in hindsight would have earned
      more, added up.
    - ``done``: what the runs themselves earned. ``final``: the best action at the end, by request
      type; ``final_result``: what it earns on all items. ``after_pass``: the same after each item
      came once.
    """

    seed: int
    regret: list[float]
    done: Result
    final: Mapping[str | None, Plan]
    final_result: Result
    after_pass: Result


def attempts_of(item: Item, plan: Plan) -> list[tuple[str, float, float]]:
    """Return model, score and cost of each attempt; the second one only where the first did not
    succeed."""
    found: list[tuple[str, float, float]] = []
    for model in (plan.model, plan.then):
        if model is not None and (not found or found[-1][1] < 1):
            outcome = item.outcomes[model]
            found.append((model, outcome.score, outcome.cost_usd or 0.0))
    return found


def result_of(items: Sequence[Item], plan_of: Callable[[Item], Plan]) -> Result:
    """Return what a plan for each item earns on all of them."""
    tried = [attempts_of(item, plan_of(item)) for item in items]
    score = sum(max(score for _, score, _ in attempts) for attempts in tried)
    return Result(score / len(items), sum(cost for attempts in tried for _, _, cost in attempts))


class Table:
    """Every single model and every plan of two, with its result on all items."""

    def __init__(self, items: Sequence[Item]) -> None:
        models = sorted({model for item in items for model in item.outcomes})
        plans = [Plan(model) for model in models] + [Plan(*pair) for pair in permutations(models, 2)]
        self.items = items
        self.models = models
        self.results = {plan: result_of(items, lambda _, plan=plan: plan) for plan in plans}  # type: ignore[misc]

    @property
    def best_single(self) -> Plan:
        """Return the model of the highest score; of equals the cheapest."""
        singles = [Plan(model) for model in self.models]
        return max(singles, key=lambda plan: (self.results[plan].score, -self.results[plan].cost_usd))

    @property
    def cheap_first(self) -> Plan:
        """Return the plan that asks the cheapest model, and the best one where it did not succeed."""
        cheapest = min(self.models, key=lambda model: self.results[Plan(model)].cost_usd)
        best = self.best_single.model
        return Plan(cheapest) if cheapest == best else Plan(cheapest, best)

    def price(self, cost_weight: float) -> float:
        """Return the score that one USD takes away: ``cost_weight`` for the dearest model's mean
        cost."""
        dearest = max(self.results[Plan(model)].cost_usd for model in self.models) / len(self.items)
        return cost_weight / dearest if dearest else 0.0

    def regret(self, plan: Plan, rules: Rules) -> float:
        """Return the regret per run of a plan that is always chosen."""
        return self.best_value(rules) - self.results[plan].value(self.price(rules.cost_weight), len(self.items))

    def best_value(self, rules: Rules) -> float:
        """Return the value of the best action in hindsight."""
        price, count = self.price(rules.cost_weight), len(self.items)
        allowed = [plan for plan in self.results if rules.allow_escalation or plan.then is None]
        return max(self.results[plan].value(price, count) for plan in allowed)


def replay(api: Api, table: Table, rules: Rules, *, seed: int, runs: int = DEFAULT_RUNS) -> Replayed:
    """Run the loop ``runs`` times over the items in random order, again and again.

    Args:
        api: of a tenant without records.
        seed: of the order and of the choices.
    """
    items, price, best = table.items, table.price(rules.cost_weight), table.best_value(rules)
    regret, total_score, total_cost, lost = [], 0.0, 0.0, 0.0
    after_pass: Result | None = None
    for number, item in enumerate(_stream(items, seed, runs)):
        asked = _request(table, item, rules) | {"seed": seed * 1_000_003 + number}
        answer = api("/v1/agent/recommendations", asked)
        choice = answer["choice"]
        tried = attempts_of(item, Plan(choice["model"], choice["escalate_to"]))
        api("/v1/agent/trajectories", _run(item, tried, answer["record"], seed, number))
        score, cost = max(score for _, score, _ in tried), sum(cost for _, _, cost in tried)
        total_score, total_cost = total_score + score, total_cost + cost
        lost += best - (score - price * cost)
        regret.append(lost)
        if number + 1 == len(items):
            after_pass = _final_result(items, _final(api, table, rules))
    final = _final(api, table, rules)
    final_result = _final_result(items, final)
    done = Result(total_score / runs, total_cost * len(items) / runs)
    return Replayed(seed, regret, done, final, final_result, after_pass or final_result)


def _stream(items: Sequence[Item], seed: int, runs: int) -> Iterator[Item]:
    rng, order = random.Random(seed), list(items)  # noqa: S311  a reproducible order
    while runs > 0:
        rng.shuffle(order)
        yield from order[:runs]
        runs -= len(order)


def _request(table: Table, item: Item, rules: Rules) -> dict[str, Any]:
    return {
        "phase": item.phase,
        "request_type": item.request_type,
        "project": item.project if rules.has_project else None,
        "candidates": [{"model": model} for model in table.models],
        "cost_weight": rules.cost_weight,
        "explore": rules.explore,
        "allow_escalation": rules.allow_escalation,
    }


def _run(
    item: Item, tried: Sequence[tuple[str, float, float]], record: Mapping[str, Any], seed: int, number: int
) -> dict[str, Any]:
    """Return the run to record: one phase with its attempts, and what the tests said."""
    made = [{"model": model, "outcome": _outcome(score), "cost_usd": cost} for model, score, cost in tried]
    cost = sum(cost for _, _, cost in tried)
    last = made[-1]
    fields = {
        "phase_name": item.phase,
        "requested_model": made[0]["model"],
        "attempts": made,
        "outcome": last["outcome"],
        "cost_usd": cost,
    }
    body: dict[str, Any] = {
        "id": str(uuid5(_IDS, f"{seed} {number} {item.name}")),
        "request_summary": item.name,
        "source": SOURCE,
        "session_id": item.name,
        "policy": f"{SOURCE}@{seed}",
        "phases": [{**record, **fields, "model": last["model"]}],
        "outcome": last["outcome"],
    }
    given = {"request_type": item.request_type, "project": item.project}
    return body | {name: value for name, value in given.items() if value is not None}


def _outcome(score: float) -> str:
    return "success" if score >= 1 else "partial" if score > 0 else "failure"


def _final(api: Api, table: Table, rules: Rules) -> dict[str | None, Plan]:
    """Return the best action for each type of request."""
    found = {}
    first = {item.request_type: item for item in reversed(table.items)}
    for kind, item in first.items():
        asked = _request(table, item, rules) | {"project": None, "seed": 0}
        best = api("/v1/agent/recommendations", asked)["best"]
        found[kind] = Plan(best["model"], best["escalate_to"])
    return found


def _final_result(items: Sequence[Item], final: Mapping[str | None, Plan]) -> Result:
    return result_of(items, lambda item: final[item.request_type])


def as_json(one: Replayed, table: Table, rules: Rules) -> dict[str, Any]:
    """Return a replay as JSON, with what it is of."""
    final = [[kind, *plan] for kind, plan in one.final.items()]
    return {"of": _of(table, rules, len(one.regret)), **one._asdict(), "final": final}


def from_json(kept: Mapping[str, Any], table: Table, rules: Rules, runs: int) -> Replayed:
    """Return the replay that ``as_json`` gave.

    Raises:
        ValueError, KeyError, TypeError: it is no such replay, or one of other items, rules or runs.
    """
    of = _of(table, rules, runs)
    if kept["of"] != of:
        raise ValueError(f"it is of {kept['of']}, not of {of}")
    return Replayed(
        kept["seed"],
        kept["regret"],
        Result(*kept["done"]),
        {kind: Plan(model, then) for kind, model, then in kept["final"]},
        Result(*kept["final_result"]),
        Result(*kept["after_pass"]),
    )


def _of(table: Table, rules: Rules, runs: int) -> dict[str, Any]:
    items = sha256(repr(table.items).encode()).hexdigest()
    return {"items": items, "models": table.models, "runs": runs, "rules": rules._asdict()}


def report(table: Table, replays: Sequence[Replayed], rules: Rules) -> str:
    """Return the baselines, and the final choices of all replays, as text."""
    count = len(table.items)
    single, cheap = table.best_single, table.cheap_first
    limit = table.results[single].cost_usd
    rows = [(f"best single model: {single}", table.results[single]), (f"cheap first: {cheap}", table.results[cheap])]
    rows += [(f"seed {one.seed}: {_named(one.final)}", one.final_result) for one in replays]
    lines = [f"{count} items, {len(table.models)} models, {len(replays[0].regret)} runs a replay."]
    lines += [
        f"{100 * row.score:6.1f} %  {row.cost_usd:10.4g} USD  {_share(row.cost_usd, limit):>5}  {name}"
        for name, row in rows
    ]
    for name, results in (
        ("final choice", [one.final_result for one in replays]),
        ("choice after each item came once", [one.after_pass for one in replays]),
        ("runs themselves", [one.done for one in replays]),
    ):
        score = sum(one.score for one in results) / len(results)
        cost = sum(one.cost_usd for one in results) / len(results)
        lines.append(f"{100 * score:6.1f} %  {cost:10.4g} USD  {_share(cost, limit):>5}  mean, {name}")
    finals = Counter(_named(one.final) for one in replays)
    lines += [f"{times} of {len(replays)}: {name}" for name, times in finals.most_common()]
    lost = sum(one.regret[-1] for one in replays) / len(replays)
    lines.append(f"mean regret {lost:.1f}, in successes, at cost_weight {rules.cost_weight:g}")
    return "\n".join(lines)


def _named(final: Mapping[str | None, Plan]) -> str:
    plans = Counter(str(plan) for plan in final.values())
    if len(plans) == 1:
        return next(iter(plans))
    return "; ".join(f"{plan} ({times} types)" for plan, times in plans.most_common())


def _share(cost: float, limit: float) -> str:
    return f"{cost / limit:.0%}" if limit else "-"
