"""The common base of the formats of decisions: the credit rule, columns of origin, and pairs of
actions."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping

import orjson

from trajectories.domain.credit import RULES
from trajectories.domain.export_facts import ATTEMPT, LATE, OTHER_MODEL, REWARD, SHARED
from trajectories.domain.export_facts import request_key as request_key
from trajectories.training import messages
from trajectories.training.columns import Columns
from trajectories.training.decisions import DEFAULT_RULE, REWARDS, Action, Decision, decisions_of
from trajectories.training.formats.base import LeftOut, Need, Option, Options, Row, one_of
from trajectories.training.run import Run
from trajectories.training.scratch import BEST_FIRST, Item, Scratch
from trajectories.training.steps import RUN

CREDIT: Mapping[str, Option] = {
    "credit": Option(one_of(*RULES), DEFAULT_RULE, f"Credit rule of the reward: {', '.join(RULES)}."),
    "reward_outcome": Option(
        str, None, "Name of the late outcome that is the reward instead: of the phase, else of the run."
    ),
}
PAIR_BY: Mapping[str, Option] = {
    "pair_by": Option(
        one_of("request", "type"),
        "request",
        "Decisions that are compared have the same request, or only the same type of request.",
    )
}
ORIGIN: Columns = {"trajectory_id": "text", "phase_index": "int"}

NO_REWARD = "decision whose reward is not known"
ONE_ACTION = "decision without an action that earned less in the same context"


def decisions(run: Run, options: Options) -> Iterator[Decision]:
    return decisions_of(run, options["credit"], options["reward_outcome"])


NO_KNOWN_REWARD = "run without a decision whose reward is known"
NOTHING_TO_COMPARE = "run of one model whose request no other run has"


def rewarded(options: Options, facts: int = REWARD) -> Need:
    """Return the need of a decision with a reward: one of ``facts``, or a late outcome."""
    return Need(facts if options["reward_outcome"] is None else LATE, NO_KNOWN_REWARD)


def compared(options: Options, facts: int) -> tuple[Need, ...]:
    """Return the needs of a format that compares attempts, or decisions of several runs.

    Args:
        facts: those of a run that has two actions to compare.
    """
    need = rewarded(options)
    needs = (need._replace(facts=need.facts | ATTEMPT),)
    if options.get("pair_by") == "type":
        return needs
    return (*needs, Need(facts | SHARED, NOTHING_TO_COMPARE))


def pair_needs(options: Options) -> tuple[Need, ...]:
    return compared(options, OTHER_MODEL)


def origin(decision: Decision) -> Row:
    return {"trajectory_id": decision.run.id, "phase_index": decision.phase_index}


def weight(decision: Decision) -> float:
    """Return the weight of an example: its reward, and 0.5 where that is not known."""
    return 0.5 if decision.reward is None else decision.reward


# Pairs: two actions in the same context, of which one has earned more.


def candidates_of(run: Run, options: Options, left_out: LeftOut) -> Iterator[Row]:
    """Yield what the pairs are made of: each action that was taken or attempted, with its reward."""
    for decision in decisions(run, options):
        # Without an observed action there is nothing to compare, so no context is put together.
        base: Row = {}
        for action, reward, cost_usd in _observed(decision):
            base = base or origin(decision) | {
                "key": _context_key(decision, options),
                "prompt": messages.prompt(decision),
            }
            arguments = messages.arguments_of_other(decision, action)
            yield base | {"arguments": arguments, "reward": reward, "cost_usd": cost_usd}
        if decision.reward is None:
            left_out[NO_REWARD] += 1


def pairs(rows: Iterable[Row], left_out: LeftOut) -> Iterator[Row]:
    """Yield the pairs of each context: its best action before each action that has earned less.

    The reward of an action is the mean over the decisions with this context. The best action is the
    one with the highest reward, then the lowest mean cost, then the first in the order of its text.
    A pair of actions is yielded once a context, with the prompt of the first decision in which the
    chosen action was taken.
    """
    with Scratch() as scratch:
        for _, members in scratch.groups(map(_item, rows), BEST_FIRST):
            best, items, is_alone = next(members), 0, True
            reward = best.means[0]
            for worse in members:
                items += worse.items
                if worse.means[0] == reward:
                    continue
                is_alone = False
                yield {
                    "prompt": best.row["prompt"],
                    "chosen": best.row["arguments"],
                    "rejected": worse.row["arguments"],
                    "chosen_reward": reward,
                    "rejected_reward": worse.means[0],
                    "trajectory_id": best.row["trajectory_id"],
                    "phase_index": best.row["phase_index"],
                    "rejected_trajectory_id": worse.row["trajectory_id"],
                    "rejected_phase_index": worse.row["phase_index"],
                }
            if is_alone:
                left_out[ONE_ACTION] += best.items + items
        if scratch.alone.items:
            left_out[ONE_ACTION] += scratch.alone.items


def _observed(decision: Decision) -> Iterator[tuple[Action, float, float | None]]:
    """Yield the action taken, and the attempts of other models at the same phase."""
    if decision.reward is not None:
        yield decision.action, decision.reward, decision.fields.get("cost_usd")
    seen = {decision.action.model}
    for attempt in decision.fields.get("attempts") or ():
        if attempt["model"] not in seen and attempt["outcome"] in REWARDS:
            seen.add(attempt["model"])
            yield Action(RUN, attempt["model"]), REWARDS[attempt["outcome"]], attempt.get("cost_usd")


def _context_key(decision: Decision, options: Options) -> str:
    """Return a digest that is the same for contexts that are compared.

    Compared are the request without case and repeated blanks (unless by type), its type, the phase,
    and group, action and outcome of each phase so far.
    """
    context = decision.context
    key = [
        request_key(context.request_summary) if options["pair_by"] == "request" else None,
        context.request_type,
        decision.phase,
        [[step.phase, step.action, step.outcome] for step in context.steps],
    ]
    return hashlib.blake2b(orjson.dumps(key), digest_size=16).hexdigest()


def _item(row: Row) -> Item:
    return Item(row["key"].encode(), orjson.dumps(row["arguments"]), row, (row["reward"], row["cost_usd"], None))
