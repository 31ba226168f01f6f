"""``br_trajectory_query``: read earlier runs and their statistics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, cast

from mcp_types import Tool, ToolAnnotations

from trajectories_mcp import results, summaries
from trajectories_mcp.contract import FILTERS
from trajectories_mcp.error_hints import ToolFailure, counted, failure_of, nearest, quoted
from trajectories_mcp.schema_minify import schema_of
from trajectories_sdk import AsyncClient, TrajectoryError

NAME: Final = "br_trajectory_query"
DEFAULT_ITEMS: Final = 10
_SHOWN: Final = ("runs", "run", "stats", "readiness")
_RULES: Final = ("checks", "phase_outcome", "run_outcome")
_MAX_PHASES_FROM: Final = 10_000

_OWN: Final[Mapping[str, Mapping[str, Any]]] = {
    "show": {
        "type": "string",
        "enum": list(_SHOWN),
        "default": "runs",
        "description": "runs: recent runs, newest first. run: one run, by its id. stats: success rates, cost and duration by group."
        " readiness: whether the runs are worth training on, and what to do where not.",
    },
    "id": {
        "type": "string",
        "format": "uuid",
        "description": "Id of the run to show. With an id, show defaults to run.",
    },
    "group_by": {
        "type": "string",
        "enum": list(summaries.GROUPINGS),
        "default": "phase_model",
        "description": "For stats. Use phase_model (phase, model and selection method) before you pick a model. Use skips"
        " before you skip a phase: how runs ended where it ran and where it was skipped, by request type.",
    },
    "credit": {
        "type": "string",
        "enum": list(_RULES),
        "description": "For stats: how a phase's success is counted: by the checks of its run (default), its own outcome, or that of its run.",
    },
    "limit": {
        "type": "integer",
        "minimum": 1,
        "maximum": results.MAX_ITEMS,
        "default": DEFAULT_ITEMS,
        "description": "Most runs, or groups in stats.",
    },
    "cursor": {
        "type": "string",
        "description": "For older runs: next_cursor of the previous answer, with the same filters.",
    },
    "phases_from": {
        "type": "integer",
        "minimum": 0,
        "default": 0,
        "description": "For one run: next_phases_from of the previous answer.",
    },
}
_DESCRIPTION: Final = f"""\
Read the results of earlier orchestrated runs before you pick a model for a phase or skip a phase.
Success of a phase is by credit: what the tests, builds and reviews of its run said of it, not what it said of itself.
Success rates have Wilson bounds (z = 1.96), but none without known cases. Compare models by `low`, the lower bound: it is low when there
are few cases, as in {{"known": 3, "rate": 1}}.
Examples: {{"show": "stats", "phase": "implement"}} · {{"show": "stats", "group_by": "skips", "request_type": "bugfix"}} ·
{{"outcome": "failure", "limit": 5}} · {{"id": "…"}}
A run must match all filters. One phase must match phase, model, selection_method, agent, tool, credited and fit together.
An answer has at most {results.MAX_RESULT_CHARS:,} characters. Long texts are cut; the answer says how to get the rest.\
"""

TOOL: Final = Tool(
    name=NAME,
    title="Query earlier runs",
    description=_DESCRIPTION,
    input_schema={"type": "object", "properties": {**_OWN, **FILTERS}},
    output_schema=schema_of(results.Answer),
    annotations=ToolAnnotations(read_only_hint=True, idempotent_hint=True, open_world_hint=False),
)


@dataclass(frozen=True, slots=True)
class Question:
    """Validated arguments of one call."""

    show: Literal["runs", "run", "stats", "readiness"]
    filters: Mapping[str, Any]
    id: str | None = None
    group_by: str = "phase_model"
    limit: int = DEFAULT_ITEMS
    cursor: str | None = None
    phases_from: int = 0
    credit: str | None = None


async def query(client: AsyncClient, arguments: Mapping[str, Any]) -> results.Answer:
    """Answer one call of the tool.

    Raises:
        ToolFailure: The call failed. The message gives the next step.
    """
    question = read(arguments)
    try:
        match question.show:
            case "run":
                return await _run(client, question)
            case "stats":
                return await _stats(client, question)
            case "readiness":
                return await _readiness(client, question)
            case "runs":
                return await _runs(client, question)
    except (TrajectoryError, ValueError, TypeError) as error:
        raise failure_of(error) from error


def read(arguments: Mapping[str, Any]) -> Question:
    """Return the question in ``arguments``. Null counts as omitted; the store validates the values
    of filters.

    Raises:
        ToolFailure: An argument is unknown, or cannot be combined with the others.
    """
    given = {name: value for name, value in arguments.items() if value is not None}
    for name in given:
        if name not in TOOL.input_schema["properties"]:
            hint = nearest(name, TOOL.input_schema["properties"])
            raise ToolFailure(
                f"Unknown argument {quoted(name)}.{hint} The filters are {', '.join(FILTERS)}. Correct the name or remove the"
                " argument, and call again."
            )
    filters = {name: given.pop(name) for name in list(given) if name in FILTERS}
    show = _one_of("show", given.pop("show", "run" if "id" in given else "runs"), _SHOWN)
    _check_combination(show, given, filters)
    return Question(
        show=cast(Any, show),
        filters=filters,
        id=_text("id", given.get("id")),
        group_by=_one_of("group_by", given.get("group_by", "phase_model"), tuple(summaries.GROUPINGS)),
        limit=_number("limit", given.get("limit", DEFAULT_ITEMS), 1, results.MAX_ITEMS),
        cursor=_text("cursor", given.get("cursor")),
        credit=_one_of("credit", given["credit"], _RULES) if "credit" in given else None,
        phases_from=_number("phases_from", given.get("phases_from", 0), 0, _MAX_PHASES_FROM),
    )


_ALLOWED_WITH: Final = {
    "runs": ("limit", "cursor"),
    "run": ("id", "phases_from"),
    "stats": ("group_by", "limit", "credit"),
    "readiness": (),
}


def _check_combination(show: str, given: Mapping[str, Any], filters: Mapping[str, Any]) -> None:
    excess = [name for name in given if name not in _ALLOWED_WITH[show]]
    excess += list(filters) if show == "run" else []
    if excess:
        allowed = ("filters", *_ALLOWED_WITH[show]) if show != "run" else _ALLOWED_WITH[show]
        raise ToolFailure(
            f"{', '.join(excess)} cannot be combined with show {show!r}, which takes only {', '.join(allowed)}. Call again without"
            " the others."
        )
    if show == "run" and "id" not in given:
        raise ToolFailure('show "run" requires an id. Call again with {"show": "runs"} to get ids.')


async def _runs(client: AsyncClient, question: Question) -> results.Answer:
    pages = client.trajectories.list(limit=question.limit, cursor=question.cursor, **cast(Any, question.filters))
    page = await anext(pages.pages())
    more = " There are older runs: call again with next_cursor as cursor." if page.next_cursor else ""
    found = f"{counted(len(page.data), 'run')}, newest first.{more} To see one run in full, call again with its id."
    return results.Answer(
        show="runs",
        summary=found if page.data else f"No runs {_filtered(question.filters)}. Call again with fewer filters.",
        complete=page.complete,
        next_cursor=page.next_cursor,
        untrusted_data=results.UntrustedData(runs=[summaries.run_summary(run) for run in page.data]),
    )


async def _run(client: AsyncClient, question: Question) -> results.Answer:
    run = await client.trajectories.retrieve(question.id or "")
    detail = summaries.run_detail(run, question.phases_from)
    more = " For the next phases, call again with next_phases_from as phases_from." if detail.next_phases_from else ""
    summary = f"{len(detail.phases_in_detail)} of {len(run.phases)} phases, from index {question.phases_from}.{more}"
    return results.Answer(show="run", summary=summary, complete=True, untrusted_data=results.UntrustedData(run=detail))


async def _stats(client: AsyncClient, question: Question) -> results.Answer:
    found = await client.trajectories.stats(credit=question.credit, **cast(Any, question.filters))
    stats = summaries.stats(found, question.group_by, question.filters, question.limit)
    summary = f"{counted(found.count, 'run')} {_filtered(question.filters)}; "
    summary += f"{counted(len(stats.groups), 'group')} by {question.group_by}. "
    summary += f"Success of phases is by credit rule {found.credit_rule}; of runs by their outcome."
    if question.group_by == "skips":
        summary += " A phase that no run skipped is not listed." if stats.groups else " No run skipped a phase."
    if stats.groups_left_out:
        summary += f" {counted(stats.groups_left_out, 'smaller group')} omitted: add filters to see them."
    return results.Answer(
        show="stats",
        summary=summary,
        complete=found.window.complete,
        untrusted_data=results.UntrustedData(stats=stats),
    )


async def _readiness(client: AsyncClient, question: Question) -> results.Answer:
    found = await client.trajectories.readiness(**cast(Any, question.filters))
    failed = sum(not check.passed for check in found.checks)
    summary = (
        f"{counted(found.runs, 'run')} {_filtered(question.filters)}; {failed} of {len(found.checks)} checks failed."
    )
    if found.matching is not None and found.matching > found.runs:
        summary += f" This is a sample: {counted(found.matching, 'run')} match."
    summary += " Each of to_do says what to record or send." if failed else " The runs are ready for training."
    return results.Answer(
        show="readiness",
        summary=summary,
        complete=found.complete,
        untrusted_data=results.UntrustedData(readiness=summaries.readiness(found)),
    )


def _filtered(filters: Mapping[str, Any]) -> str:
    return f"matching the filters ({', '.join(filters)})" if filters else "without filters"


def _one_of(name: str, value: object, known: tuple[str, ...]) -> str:
    if isinstance(value, str) and value in known:
        return value
    hint = nearest(value, known) if isinstance(value, str) else ""
    raise ToolFailure(
        f"{name} must be one of {', '.join(known)}, got {_shown(value)}.{hint} Correct it and call again."
    )


def _number(name: str, value: object, least: int, most: int) -> int:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= len(str(most)):
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and least <= value <= most:
        return value
    raise ToolFailure(
        f"{name} must be an integer from {least} to {most}, got {_shown(value)}. Correct it and call again."
    )


def _text(name: str, value: object) -> str | None:
    if value is None or (isinstance(value, str) and value):
        return value
    raise ToolFailure(
        f"{name} must be a non-empty string from an earlier answer, got {_shown(value)}. Correct it, or omit {name}, and call again."
    )


def _shown(value: object) -> str:
    """Quote a value of the caller on one line, cut to a bound."""
    return quoted(value) if isinstance(value, str) else quoted(repr(value))[1:-1]
