"""Vowpal Wabbit's decision-service JSON, for ``vw --dsjson --cb_explore_adf``.

    {"_label_cost":-1.0,"_label_probability":0.7,"_label_Action":1,"_labelIndex":0,
     "Timestamp":"2026-01-05T23:58:46.916527Z","Version":"1","EventId":"…/1","a":[1,2],
     "c":{"Request":{"type=bugfix":1,…},"Phase":{"name=implement":1,…},
          "_multi":[{"Action":{"model=m-1":1}},{"Action":{"model=m-2":1}}]},
     "p":[0.7,0.3],"VWState":{"m":"router@2026-11-01"}}

The cost is the negative reward plus ``usd_weight`` times the phase's cost in USD. A decision whose
full propensity is not known is written as the choice among models alone, given that the phase ran.
Probabilities of actions that are not recorded share equally what the recorded ones leave. Decisions
without reward or propensity, and with one action, are left out; ``assume_propensity`` is used where
the propensity is not recorded.

Source: Vowpal Wabbit wiki, "DSJSON".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from trajectories.domain.clock import rfc3339
from trajectories.domain.export_facts import ACTIONS, PROPENSITY
from trajectories.domain.query import got
from trajectories.training.columns import Columns
from trajectories.training.decisions import Action, Decision
from trajectories.training.formats.base import Format, LeftOut, Need, Option, Options, Row, fraction
from trajectories.training.formats.of_decisions import CREDIT, NO_REWARD, decisions, rewarded
from trajectories.training.run import Run
from trajectories.training.steps import RUN, SKIP

NO_PROPENSITY = "decision whose propensity is not recorded"
NO_CHOICE = "decision with one action"
NO_TWO_ACTIONS = "run without a decision of two actions"
NO_KNOWN_PROPENSITY = "run without a recorded propensity"
MAX_USD_WEIGHT = 1_000_000


def _usd_weight(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= MAX_USD_WEIGHT:
        raise ValueError(f"must be between 0 and {MAX_USD_WEIGHT}, {got(text)}")
    return value


class Dsjson(Format):
    name = "dsjson"
    options: ClassVar[Mapping[str, Option]] = {
        **CREDIT,
        "usd_weight": Option(_usd_weight, 0.0, "Reward that one USD of the phase's cost takes away."),
        "assume_propensity": Option(
            fraction, None, "Propensity of decisions that have none recorded, above 0 and at most 1."
        ),
    }

    def columns(self, options: Options) -> Columns:
        return {
            "_label_cost": "float",
            "_label_probability": "float",
            "_label_Action": "int",
            "_labelIndex": "int",
            "Timestamp": "time",
            "Version": "text",
            "EventId": "text",
            "a": ["int"],
            "c": "json",
            "p": ["float"],
            "VWState": {"m": "text"},
        }

    def needs(self, options: Options) -> tuple[Need, ...]:
        needs = (rewarded(options), Need(ACTIONS, NO_TWO_ACTIONS))
        return needs if options["assume_propensity"] else (*needs, Need(PROPENSITY, NO_KNOWN_PROPENSITY))

    def rows_of(self, run: Run, options: Options, left_out: LeftOut) -> Iterator[Row]:
        recorded_at = _recorded_at(run)
        for decision in decisions(run, options):
            reason, row = _row(decision, options, recorded_at)
            if row is None:
                left_out[reason] += 1
            else:
                yield row

    def event(self, decision: Decision, options: Options) -> Row | None:
        """Return the row of a decision, None if it is left out."""
        return _row(decision, options, _recorded_at(decision.run))[1]


def _recorded_at(run: Run) -> str:
    return rfc3339(run.record.recorded_at_us).decode()


def _row(decision: Decision, options: Options, recorded_at: str) -> tuple[str, Row | None]:
    if decision.reward is None:
        return NO_REWARD, None
    actions, taken, propensity = _choice(decision, options["assume_propensity"])
    if len(actions) < 2:
        return NO_CHOICE, None
    if not propensity:
        return NO_PROPENSITY, None
    cost_usd = decision.fields.get("cost_usd") or 0.0
    return "", {
        "_label_cost": options["usd_weight"] * cost_usd - decision.reward,
        "_label_probability": propensity,
        "_label_Action": taken + 1,
        "_labelIndex": taken,
        "Timestamp": recorded_at,
        "Version": "1",
        "EventId": f"{decision.run.id}/{decision.phase_index}",
        "a": list(range(1, len(actions) + 1)),
        "c": _features(decision) | {"_multi": [{"Action": _action(action)} for action in actions]},
        "p": _probabilities(actions, taken, propensity),
        "VWState": {"m": decision.run.fields.get("policy") or "N/A"},
    }


def _choice(decision: Decision, assumed: float | None) -> tuple[Sequence[Action], int, float | None]:
    """Return the actions, the place of the one taken, and its probability among them."""
    actions, taken, of_model = decision.actions, decision.taken, decision.model_propensity
    propensity = actions[taken].probability
    if propensity is not None or of_model is None:
        return actions, taken, assumed if propensity is None else propensity
    models = [action._replace(probability=action.model_probability) for action in actions if action.action == RUN]
    return models, taken, of_model


def _probabilities(actions: Sequence[Action], taken: int, propensity: float) -> list[float]:
    known = {at: action.probability for at, action in enumerate(actions) if action.probability is not None}
    known[taken] = propensity
    rest = max(0.0, 1.0 - sum(known.values()))
    unknown = len(actions) - len(known)
    return [known.get(at, rest / unknown if unknown else 0.0) for at in range(len(actions))]


def _features(decision: Decision) -> dict[str, Any]:
    """Return namespaces of the shared example. A feature of a word is ``name=word``."""
    context = decision.context
    last = context.steps[-1] if context.steps else None
    words = {"type": context.request_type, "source": context.source, "project": context.project}
    return {
        "Request": _words(words),
        "Phase": _words({"name": decision.phase, "last": last and last.phase, "last_outcome": last and last.outcome}),
        "SoFar": {
            "phases": len(context.steps),
            "failures": sum(step.outcome == "failure" for step in context.steps),
            "cost_usd": context.spent_cost_usd or 0.0,
        },
    }


def _action(action: Action) -> dict[str, int]:
    return {"skip": 1} if action.action == SKIP else _words({"model": action.model or "unknown"})


def _words(values: dict[str, str | None]) -> dict[str, int]:
    return {f"{name}={value}": 1 for name, value in values.items() if value is not None}
