"""Items that several models worked on: score, cost and duration of each, one row per item and
model.

    {"item":"9f2c…","request_summary":"Fix the login","request_type":"bugfix","project":"web",
     "phase":"implement","model":"m-1","runs":2,"score":0.5,"cost_usd":0.04,"duration_ms":61000.0}

An item is a phase of a request; requests are the same without case and repeated blanks. Where a
phase has several attempts, each counts for its model by its own outcome. ``score``, ``cost_usd``
and ``duration_ms`` are means over the ``runs`` that know them. Items with one model are left out;
the lines come after all records were read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import Any

import orjson

from trajectories.domain.export_facts import MODELS
from trajectories.training.columns import Columns
from trajectories.training.decisions import REWARDS, Decision
from trajectories.training.formats.base import Format, LeftOut, Need, Options, Row
from trajectories.training.formats.of_decisions import CREDIT, NO_REWARD, compared, decisions, request_key
from trajectories.training.run import Run
from trajectories.training.scratch import BY_KEY, Item, Scratch
from trajectories.training.steps import RUN

NO_MODEL = "decision whose model is not known"
ONE_MODEL = "item that one model worked on"
_ITEM = ("item", "request_summary", "request_type", "project", "phase")
_MEANS = ("score", "cost_usd", "duration_ms")


class RoutingTable(Format):
    name = "routing-table"
    options = CREDIT

    def columns(self, options: Options) -> Columns:
        return {**dict.fromkeys(_ITEM, "text"), "model": "text", "runs": "int", **dict.fromkeys(_MEANS, "float")}

    def needs(self, options: Options) -> tuple[Need, ...]:
        return compared(options, MODELS)

    def rows_of(self, run: Run, options: Options, left_out: LeftOut) -> Iterator[Row]:
        for decision in decisions(run, options):
            for model, score, figures in _observed(decision):
                if score is None or model is None:
                    left_out[NO_MODEL if model is None else NO_REWARD] += 1
                else:
                    yield _item(decision) | {"model": model, "score": score} | figures

    def is_combined(self, options: Options) -> bool:
        return True

    def combined(self, rows: Iterable[Row], options: Options, left_out: LeftOut) -> Iterator[Row]:
        with Scratch() as scratch:
            for first, members in scratch.groups(map(_entry, rows), BY_KEY):
                item = {name: first[name] for name in _ITEM}
                for member in members:
                    means = dict(zip(_MEANS, member.means, strict=True))
                    yield item | {"model": member.row["model"], "runs": member.items} | means
            if scratch.alone.groups:
                left_out[ONE_MODEL] += scratch.alone.groups


def _observed(decision: Decision) -> Iterator[tuple[str | None, float | None, Row]]:
    """Yield model, score and figures of each attempt, or of the phase where it has one at most."""
    if decision.action.action != RUN:
        return
    attempts = decision.fields.get("attempts") or ()
    if len(attempts) < 2:
        yield decision.action.model, decision.reward, _figures(decision.fields)
        return
    for attempt in attempts:
        yield attempt["model"], REWARDS.get(attempt["outcome"]), _figures(attempt)


def _figures(of: Any) -> Row:
    return {"cost_usd": of.get("cost_usd"), "duration_ms": of.get("duration_ms")}


def _item(decision: Decision) -> Row:
    context = decision.context
    key = [request_key(context.request_summary), context.request_type, context.project, decision.phase]
    return {
        "item": hashlib.blake2b(orjson.dumps(key), digest_size=16).hexdigest(),
        "request_summary": context.request_summary,
        "request_type": context.request_type,
        "project": context.project,
        "phase": decision.phase,
    }


def _entry(row: Row) -> Item:
    return Item(row["item"].encode(), row["model"].encode(), row, (row["score"], row["cost_usd"], row["duration_ms"]))
