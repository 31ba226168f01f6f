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
from trajectories.training.decisions import REWARDS, Decision, Phase
from trajectories.training.formats.base import Format, LeftOut, Need, Options, Row
from trajectories.training.formats.of_decisions import CREDIT, NO_REWARD, compared, decisions, request_key
from trajectories.training.run import Run
from trajectories.training.scratch import BY_KEY, Item, Scratch

NO_MODEL = "decision whose model is not known"
ONE_MODEL = "item that one model worked on"
_OF_RUN = ("request_summary", "request_type", "project")
_ITEM = ("item", *_OF_RUN, "phase")
_MEANS = ("score", "cost_usd", "duration_ms")


class RoutingTable(Format):
    name = "routing-table"
    options = CREDIT

    def columns(self, options: Options) -> Columns:
        return {**dict.fromkeys(_ITEM, "text"), "model": "text", "runs": "int", **dict.fromkeys(_MEANS, "float")}

    def needs(self, options: Options) -> tuple[Need, ...]:
        return compared(options, MODELS)

    def rows_of(self, run: Run, options: Options, left_out: LeftOut) -> Iterator[Row]:
        observed, items = list[Any](), dict[str, str]()
        fields = run.fields
        item = [request_key(fields["request_summary"]), fields.get("request_type"), fields.get("project")]
        for decision in decisions(run, options):
            if decision.is_skip:
                continue
            phase = decision.phase
            for model, score, of in _observed(decision):
                if score is None or model is None:
                    left_out[NO_MODEL if model is None else NO_REWARD] += 1
                    continue
                if phase not in items:
                    items[phase] = hashlib.blake2b(orjson.dumps([*item, phase]), digest_size=16).hexdigest()
                observed.append([items[phase], phase, model, score, of.get("cost_usd"), of.get("duration_ms")])
        if observed:
            yield {name: fields.get(name) for name in _OF_RUN} | {"observed": observed}

    def is_combined(self, options: Options) -> bool:
        return True

    def combined(self, rows: Iterable[Row], options: Options, left_out: LeftOut) -> Iterator[Row]:
        with Scratch() as scratch:
            for first, members in scratch.groups(_items(rows, scratch), BY_KEY):
                of_run = orjson.loads(scratch.kept(first["run"]))
                item = {"item": first["item"], **of_run, "phase": first["phase"]}
                for member in members:
                    means = dict(zip(_MEANS, member.means, strict=True))
                    yield item | {"model": member.row["model"], "runs": member.items} | means
            if scratch.alone.groups:
                left_out[ONE_MODEL] += scratch.alone.groups


def _observed(decision: Decision) -> Iterable[tuple[str | None, float | None, Phase]]:
    """Return model, score and figures of each attempt, or of the phase where it has one at most."""
    attempts = decision.fields.get("attempts") or ()
    if len(attempts) < 2:
        return ((decision.model, decision.reward, decision.fields),)
    return [(attempt["model"], REWARDS.get(attempt["outcome"]), attempt) for attempt in attempts]


def _items(rows: Iterable[Row], scratch: Scratch) -> Iterator[Item]:
    """Yield an item of each line that was observed. Fields of a run are kept once."""
    for row in rows:
        run = scratch.keep(orjson.dumps({name: row[name] for name in _OF_RUN}))
        for item, phase, model, *values in row["observed"]:
            of_item = {"run": run, "item": item, "phase": phase, "model": model}
            yield Item(bytes.fromhex(item), model.encode(), of_item, tuple(values))
