"""The common base of the formats of decisions: the credit rule, columns of origin, and pairs of
actions."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any

import orjson

from trajectories.domain.credit import RULES
from trajectories.domain.export_facts import ATTEMPT, LATE, OTHER_MODEL, REWARD, SHARED, VARIED
from trajectories.domain.export_facts import request_key as request_key
from trajectories.training import messages
from trajectories.training.columns import Columns
from trajectories.training.decisions import (
    DEFAULT_RULE,
    REWARDS,
    Decision,
    History,
    decisions_of,
    history_of,
    models_of,
    picked_model,
)
from trajectories.training.formats.base import LeftOut, Need, Option, Options, Row, one_of
from trajectories.training.run import Run
from trajectories.training.scratch import BEST_FIRST, Item, Member, Scratch
from trajectories.training.steps import RUN, SKIP

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
NOTHING_ELSE_EARNED = "run in whose phases no action of its type has earned anything else"


def rewarded(options: Options, facts: int = REWARD) -> Need:
    """Return the need of a decision with a reward: one of ``facts``, or a late outcome."""
    return Need(facts if options["reward_outcome"] is None else LATE, NO_KNOWN_REWARD)


def compared(options: Options, facts: int) -> tuple[Need, ...]:
    """Return the needs of a format that compares attempts, or decisions of runs with the same request.

    Args:
        facts: those of a run that has two actions to compare.
    """
    return _attempted(options), Need(facts | SHARED, NOTHING_TO_COMPARE)


def pair_needs(options: Options) -> tuple[Need, ...]:
    varied = Need(VARIED, NOTHING_ELSE_EARNED)
    if options["pair_by"] == "type":
        return _attempted(options), varied
    return (*compared(options, OTHER_MODEL), varied)


def _attempted(options: Options) -> Need:
    need = rewarded(options)
    return need._replace(facts=need.facts | ATTEMPT)


def origin(decision: Decision) -> Row:
    return {"trajectory_id": decision.run.id, "phase_index": decision.phase_index}


def weight(decision: Decision) -> float:
    """Return the weight of an example: its reward, and 0.5 where that is not known."""
    return 0.5 if decision.reward is None else decision.reward


# Pairs: two actions in the same context, of which one has earned more.


def candidates_of(run: Run, options: Options, left_out: LeftOut) -> Iterator[Row]:
    """Yield a row of a run's candidates for pairs: each action that was taken or attempted.

    A candidate has the key of its context, its text, its reward, its cost, and the place of its
    phase. Prompts are made of ``body`` for pairs alone: most candidates are in none.
    """
    keys, found = None, list[Any]()
    for decision in decisions(run, options):
        if observed := _observed(decision):
            keys = keys or ContextKeys(decision.history, options)
            key = keys.of(decision.phase_index)
            for arguments, reward, cost_usd in observed:
                found.append([key, orjson.dumps(arguments).decode(), reward, cost_usd, decision.phase_index])
        if decision.reward is None:
            left_out[NO_REWARD] += 1
    if found:
        yield {"trajectory_id": run.id, "body": run.record.body.decode(), "candidates": found}


def pairs(rows: Iterable[Row], left_out: LeftOut) -> Iterator[Row]:
    """Yield the pairs of each context: its best action before each action that has earned less.

    The reward of an action is the mean over the decisions with this context. The best action is the
    one with the highest reward, then the lowest mean cost, then the first in the order of its text.
    A pair of actions is yielded once a context, with the prompt of the first decision in which the
    chosen action was taken. ``chosen`` and ``rejected`` are messages.
    """
    with Scratch() as scratch:

        @lru_cache(1)  # contexts come in the order of their runs
        def history(number: int) -> History:
            return history_of(orjson.loads(scratch.kept(number)))

        for _, members in scratch.groups(_items(rows, scratch), BEST_FIRST):
            best, items, prompt = next(members), 0, None
            reward = best.means[0]
            for worse in members:
                items += worse.items
                if worse.means[0] == reward:
                    continue
                prompt = prompt or _prompt(history(best.row["run"]), best.row["phase_index"])
                yield {
                    "prompt": prompt,
                    "chosen": [_message(best)],
                    "rejected": [_message(worse)],
                    "chosen_reward": reward,
                    "rejected_reward": worse.means[0],
                    "trajectory_id": best.row["trajectory_id"],
                    "phase_index": best.row["phase_index"],
                    "rejected_trajectory_id": worse.row["trajectory_id"],
                    "rejected_phase_index": worse.row["phase_index"],
                }
            if prompt is None:
                left_out[ONE_ACTION] += best.items + items
        if scratch.alone.items:
            left_out[ONE_ACTION] += scratch.alone.items


def _items(rows: Iterable[Row], scratch: Scratch) -> Iterator[Item]:
    for row in rows:
        of_run = {"run": scratch.keep(row["body"].encode()), "trajectory_id": row["trajectory_id"]}
        for key, said, reward, cost_usd, at in row["candidates"]:
            of_item = {**of_run, "phase_index": at, "said": said}
            yield Item(bytes.fromhex(key), said.encode(), of_item, (reward, cost_usd, None))


def _prompt(history: History, at: int) -> list[Row]:
    phase = history.fields["phases"][at]
    return messages.prompt_of(history.context(at), models_of(phase, picked_model(phase)))


def _message(member: Member) -> Row:
    return {"role": "assistant", "content": member.row["said"]}


def _observed(decision: Decision) -> list[tuple[Row, float, float | None]]:
    """Return arguments, reward and cost of the action taken, and of the attempts of other models at
    the same phase."""
    phase, found = decision.fields, list[tuple[Row, float, float | None]]()
    if decision.reward is not None:
        arguments = messages.skip_of(phase) if decision.is_skip else messages.run_of(phase, decision.model)
        found.append((arguments, decision.reward, phase.get("cost_usd")))
    if attempts := phase.get("attempts"):
        seen = {decision.model}
        for attempt in attempts:
            model, outcome = attempt["model"], attempt["outcome"]
            if model not in seen and outcome in REWARDS:
                seen.add(model)
                found.append((messages.run_of(phase, model), REWARDS[outcome], attempt.get("cost_usd")))
    return found


class ContextKeys:
    """Digests of the contexts of a run, the same for contexts that are compared.

    Compared are the request without case and repeated blanks (unless by type), its type, the phase,
    and group, action and outcome of each phase so far. Where no phase was still running, a context
    begins with the one before it, so the digest goes on from there.
    """

    def __init__(self, history: History, options: Options) -> None:
        fields = history.fields
        request = request_key(fields["request_summary"]) if options["pair_by"] == "request" else None
        self._history, self._phases = history, fields["phases"]
        self._start = orjson.dumps([request, fields.get("request_type")])
        self._so_far, self._at = hashlib.blake2b(self._start, digest_size=16), 0

    def of(self, at: int) -> str:
        """Return the digest of the context before the phase at ``at``; these must not decrease."""
        if running := self._history.running(at):
            digest = hashlib.blake2b(self._start, digest_size=16)
            digest.update(b"".join([self._step(before, before not in running) for before in range(at)]))
        else:
            while self._at < at:
                self._so_far.update(self._step(self._at, True))
                self._at += 1
            digest = self._so_far.copy()
        digest.update(orjson.dumps(self._history.groups[at]))
        return digest.hexdigest()

    def _step(self, at: int, has_ended: bool) -> bytes:
        outcome = self._phases[at].get("outcome")
        action = SKIP if outcome == "skipped" else RUN
        return orjson.dumps((self._history.groups[at], action, outcome if has_ended else None))
