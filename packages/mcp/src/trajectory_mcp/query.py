"""``br_trajectory_query``: what earlier runs have shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, cast

from mcp_types import Tool, ToolAnnotations

from trajectory_mcp import briefs, results
from trajectory_mcp.advice import ToolFailure, counted, failure_of, nearest, quoted
from trajectory_mcp.contract import FILTERS
from trajectory_mcp.plain import plain
from trajectory_sdk import AsyncClient, TrajectoryError

NAME: Final = "br_trajectory_query"
DEFAULT_ITEMS: Final = 10
_SHOWN: Final = ("runs", "run", "stats")
_MAX_PHASES_FROM: Final = 10_000

_OWN: Final[Mapping[str, Mapping[str, Any]]] = {
    "show": {
        "type": "string",
        "enum": list(_SHOWN),
        "default": "runs",
        "description": "runs: recent runs, newest first. run: the one with this id. stats: success rates, cost and duration of"
        " all that the filters find, by group.",
    },
    "id": {"type": "string", "format": "uuid", "description": "Of the run to show; given, show may be left out."},
    "group_by": {
        "type": "string",
        "enum": list(briefs.GROUPINGS),
        "default": "phase_model",
        "description": "Of stats. phase_model (phase by model by selection method) before you pick a model; phase, with its"
        " skip_rate, before you skip one.",
    },
    "limit": {
        "type": "integer",
        "minimum": 1,
        "maximum": results.MAX_ITEMS,
        "default": DEFAULT_ITEMS,
        "description": "Runs, or groups of stats.",
    },
    "cursor": {"type": "string", "description": "next_cursor of the answer before, with the same filters: older runs."},
    "phases_from": {
        "type": "integer",
        "minimum": 0,
        "default": 0,
        "description": "Of one run: next_phases_from of the answer before.",
    },
}
_DESCRIPTION: Final = f"""\
Look at what earlier runs of orchestrated work have shown, before you pick a model for a phase or skip one.
Success rates come with Wilson bounds: compare models by `low`, which is cautious where cases are few; {{"known": 3, "rate": 1}} is little.
Examples: {{"show": "stats", "phase": "review"}} · {{"show": "stats", "group_by": "phase", "request_type": "bugfix"}} ·
{{"outcome": "failure", "limit": 5}} · {{"id": "…"}}
All filters given must hold; phase, model, selection_method, agent and tool in one phase. Times are RFC 3339 with an offset.
An answer has at most {results.MAX_RESULT_CHARS:,} characters: long texts are cut, and it says how to ask for what is left out.\
"""

TOOL: Final = Tool(
    name=NAME,
    title="Ask what earlier runs have shown",
    description=_DESCRIPTION,
    input_schema={"type": "object", "properties": {**_OWN, **FILTERS}, "additionalProperties": False},
    output_schema=plain(results.Answer.model_json_schema(mode="serialization")),
    annotations=ToolAnnotations(read_only_hint=True, idempotent_hint=True, open_world_hint=False),
)


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked, of arguments that make sense together."""

    show: Literal["runs", "run", "stats"]
    filters: Mapping[str, Any]
    id: str | None = None
    group_by: str = "phase_model"
    limit: int = DEFAULT_ITEMS
    cursor: str | None = None
    phases_from: int = 0


async def query(client: AsyncClient, arguments: Mapping[str, Any]) -> results.Answer:
    """What was asked for.

    Raises:
        ToolFailure: it cannot be answered; the message says what to try.
    """
    question = read(arguments)
    try:
        match question.show:
            case "run":
                return await _run(client, question)
            case "stats":
                return await _stats(client, question)
            case "runs":
                return await _runs(client, question)
    except (TrajectoryError, ValueError, TypeError) as error:
        raise failure_of(error) from error


def read(arguments: Mapping[str, Any]) -> Question:
    """The question in ``arguments``; null is as if it were left out. Values of filters are for the store to judge.

    Raises:
        ToolFailure: an argument is not known, or does not go with the others.
    """
    given = {name: value for name, value in arguments.items() if value is not None}
    for name in given:
        if name not in TOOL.input_schema["properties"]:
            hint = nearest(name, TOOL.input_schema["properties"])
            raise ToolFailure(
                f"{quoted(name)} is no argument of this tool.{hint} The filters are {', '.join(FILTERS)}. Call again without"
                " it, or with the right name."
            )
    filters = {name: given.pop(name) for name in list(given) if name in FILTERS}
    show = _one_of("show", given.pop("show", "run" if "id" in given else "runs"), _SHOWN)
    _expect_to_go_together(show, given, filters)
    return Question(
        show=cast(Any, show),
        filters=filters,
        id=_text("id", given.get("id")),
        group_by=_one_of("group_by", given.get("group_by", "phase_model"), tuple(briefs.GROUPINGS)),
        limit=_number("limit", given.get("limit", DEFAULT_ITEMS), 1, results.MAX_ITEMS),
        cursor=_text("cursor", given.get("cursor")),
        phases_from=_number("phases_from", given.get("phases_from", 0), 0, _MAX_PHASES_FROM),
    )


_GO_WITH: Final = {
    "runs": ("limit", "cursor"),
    "run": ("id", "phases_from"),
    "stats": ("group_by", "limit"),
}


def _expect_to_go_together(show: str, given: Mapping[str, Any], filters: Mapping[str, Any]) -> None:
    foreign = [name for name in given if name not in _GO_WITH[show]]
    foreign += list(filters) if show == "run" else []
    if foreign:
        whole = "an id stands alone" if show == "run" else f"it takes filters, {' and '.join(_GO_WITH[show])}"
        raise ToolFailure(f"{', '.join(foreign)} does not go with show {show!r}: {whole}. Call again without it.")
    if show == "run" and "id" not in given:
        raise ToolFailure('show "run" needs the id of a run. Call again with {"show": "runs"} to see ids.')


async def _runs(client: AsyncClient, question: Question) -> results.Answer:
    pages = client.trajectories.list(limit=question.limit, cursor=question.cursor, **cast(Any, question.filters))
    page = await anext(pages.pages())
    more = " There are older ones: ask again with next_cursor." if page.next_cursor else ""
    found = f"{counted(len(page.data), 'run')}, newest first.{more} Ask for an id to see one in full."
    return results.Answer(
        show="runs",
        summary=found if page.data else f"No run {_filtered(question.filters)}. Try fewer filters.",
        complete=page.complete,
        runs=[briefs.run_brief(run) for run in page.data],
        next_cursor=page.next_cursor,
    )


async def _run(client: AsyncClient, question: Question) -> results.Answer:
    run = await client.trajectories.retrieve(question.id or "")
    detail = briefs.run_detail(run, question.phases_from)
    more = " Ask again with phases_from for those behind." if detail.next_phases_from else ""
    summary = f"{len(detail.phases_in_detail)} of {len(run.phases)} phases, from {question.phases_from} on.{more}"
    return results.Answer(show="run", summary=summary, complete=True, run=detail)


async def _stats(client: AsyncClient, question: Question) -> results.Answer:
    found = await client.trajectories.stats(**cast(Any, question.filters))
    stats = briefs.stats(found, question.group_by, question.filters, question.limit)
    summary = f"{counted(found.count, 'run')} {_filtered(question.filters)}; "
    summary += f"{counted(len(stats.groups), 'group')} by {question.group_by}."
    if stats.groups_left_out:
        summary += f" {counted(stats.groups_left_out, 'smaller group')} left out: narrow the filters."
    return results.Answer(show="stats", summary=summary, complete=found.window.complete, stats=stats)


def _filtered(filters: Mapping[str, Any]) -> str:
    return f"with these filters ({', '.join(filters)})" if filters else "without any filter"


def _one_of(name: str, value: object, known: tuple[str, ...]) -> str:
    if isinstance(value, str) and value in known:
        return value
    hint = nearest(value, known) if isinstance(value, str) else ""
    raise ToolFailure(f"{name} must be one of {', '.join(known)}.{hint} Call again with one of them.")


def _number(name: str, value: object, least: int, most: int) -> int:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= len(str(most)):
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and least <= value <= most:
        return value
    raise ToolFailure(f"{name} must be a whole number from {least} to {most}. Call again with one.")


def _text(name: str, value: object) -> str | None:
    if value is None or (isinstance(value, str) and value):
        return value
    raise ToolFailure(
        f"{name} must be a text, as an earlier answer has given it. Call again with it, or without {name}."
    )
