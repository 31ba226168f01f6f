"""``br_trajectory_record``: record a run."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from types import MappingProxyType
from typing import Any, Final, cast
from uuid import uuid4

from mcp_types import Tool, ToolAnnotations

from trajectories_mcp import results, summaries
from trajectories_mcp.contract import TRAJECTORY
from trajectories_mcp.error_hints import ToolFailure, counted, failure_of
from trajectories_mcp.schema_minify import schema_of
from trajectories_sdk import AsyncClient, StoredTrajectory, TrajectoryError

NAME: Final = "br_trajectory_record"
_REDACTED: Final = "trajectories:redacted"
_PARSED: Final[Mapping[str, tuple[type, ...]]] = MappingProxyType(
    {"array": (list,), "object": (dict,), "integer": (int, float), "number": (int, float), "boolean": (bool,)}
)
"""Types of JSON that a string may hold, by the type that the contract asks for."""
MAX_VALUES: Final = 100_000
"""Values in the strings of a call that are parsed: as many as a record may have."""
_TEXT: Final = re.compile(r'(?s)"[^"\\]*+(?:\\.[^"\\]*+)*+"?')
"""A text in JSON, also one without an end, so that no character is read twice."""
_DESCRIPTION: Final = """\
Record one orchestrated run: the phases that ran, the phases that were skipped and why, the model of each phase and how it was picked,
tools, tokens, cost, duration and outcome. Later runs use these records to pick models and to decide which phases to skip.
Omit unknown values; do not send 0 for them. A phase that did not run has the outcome skipped and a skip_reason.
Say how a model was chosen: model_selection_method, selection_rule, the candidates (with eligible and reason), selection_probability
as the policy computed it (never 1/n), keep_probability of a phase that may be skipped, attempts where a model failed and another one took over.
Record a run when it ends, or while it runs: send the whole run again with the id from the first answer, with all its phases. For
what is known later, such as tests_passed, call br_trajectory_update. Record what happened as data, without instructions to a
reader: agents read these texts later.
Example: {"request_summary": "Add user authentication", "request_type": "feature", "phases": [{"phase_name": "implement", "model": "large",
"model_selection_method": "explicit", "input_tokens": 1500, "output_tokens": 800, "cost_usd": 0.012, "outcome": "success"},
{"phase_name": "design", "outcome": "skipped", "skip_reason": "small change"}], "build_passed": true, "tests_passed": true}\
"""

TOOL: Final = Tool(
    name=NAME,
    title="Record a run",
    description=_DESCRIPTION,
    input_schema=dict(TRAJECTORY),
    output_schema=schema_of(results.Recorded),
    # Destructive: a known id replaces the recorded run. Not idempotent: without an id, each call records another run.
    annotations=ToolAnnotations(
        read_only_hint=False, destructive_hint=True, idempotent_hint=False, open_world_hint=False
    ),
)


async def record(client: AsyncClient, arguments: Mapping[str, Any]) -> results.Recorded:
    """Record a run. Only the store validates it, so that there is one contract.

    Raises:
        ToolFailure: The store refused the run, or it is unknown whether the store has it. The
            message gives the next step, with the id to use.
    """
    fields = parsed(arguments, TRAJECTORY)
    if fields.get("id") is None:
        fields["id"] = str(uuid4())
    try:
        stored = await client.trajectories.record(cast(Any, fields))
    except (TrajectoryError, ValueError, TypeError, RecursionError) as error:
        raise failure_of(error, id_=str(fields["id"])[:40]) from error
    return recorded(stored, "Recorded", summaries.warnings(stored))


def parsed(value: Any, schema: Mapping[str, Any]) -> Any:
    """Parse values other than text that a client sent as JSON strings, as several clients do.

    A string that is not of the type of ``schema`` stays, so that the store says what is wrong.

    Raises:
        ToolFailure: The strings have more than MAX_VALUES values. They are counted before each is
            parsed.
    """
    return _Parser().parsed(value, schema)


class _Parser:
    """``parsed`` of one value, with a bound for all of its strings together."""

    def __init__(self) -> None:
        self._left = MAX_VALUES

    def parsed(self, value: Any, schema: Mapping[str, Any]) -> Any:
        if isinstance(value, str) and (kinds := _PARSED.get(schema.get("type", ""))):
            self._expect_few(value)
            with suppress(ValueError, RecursionError):
                found = json.loads(value.strip().lower() if bool in kinds else value)
                json.dumps(found, allow_nan=False)  # raises for numbers such as NaN and 1e999
                if type(found) in kinds:
                    value = found
        if isinstance(value, Mapping):
            known = schema.get("properties", {})
            return {name: self.parsed(one, known.get(name, {})) for name, one in value.items()}
        if isinstance(value, list):
            return [self.parsed(one, schema.get("items", {})) for one in value]
        return value

    def _expect_few(self, text: str) -> None:
        # Each value but the first follows one of these, or a key that does. Most texts have few of
        # them, also within their own texts, which are removed only if they have many.
        found = 1 + sum(text.count(separator) for separator in ",[{")
        if found > self._left:
            found = 1 + sum(_TEXT.sub("", text).count(separator) for separator in ",[{")
        if found > self._left:
            raise ToolFailure(
                f"The strings of a call must not have more than {MAX_VALUES:,} JSON values. Send a long list as one text,"
                " or name a file that has it, and call again."
            )
        self._left -= found


def recorded(stored: StoredTrajectory, what: str, warnings: list[str] | None) -> results.Recorded:
    """Return the answer of a call that stored a run."""
    redacted = (stored.metadata or {}).get(_REDACTED)
    count = sum(redacted.values()) if isinstance(redacted, dict) else 0
    warning = f" The store replaced {counted(count, 'credential')}. Do not send credentials." if count else ""
    contradictions = f" It has {counted(len(warnings), 'contradiction')}: see warnings." if warnings else ""
    return results.Recorded(
        id=stored.id,
        recorded_at=stored.recorded_at.isoformat().replace("+00:00", "Z"),
        revision=stored.revision,
        phases=len(stored.phases),
        redacted=count,
        warnings=warnings,
        summary=f"{what} a run with {counted(len(stored.phases), 'phase')}.{warning}{contradictions} To change it, call"
        " br_trajectory_update with this id.",
    )
