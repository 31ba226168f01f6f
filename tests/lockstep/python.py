"""The Python SDK: the requests, parameters and results of its methods."""

from __future__ import annotations

import asyncio
import inspect
import io
from collections.abc import Callable, Mapping
from typing import Any, get_type_hints

from pydantic import BaseModel

from tests.lockstep.api import operation_of
from tests.lockstep.facts import (
    BY_TARGET,
    DECISIONS,
    ERROR,
    MANIFESTS,
    OF_A_TOOL,
    OF_A_TOOL_ANSWERS,
    OF_TRAINING,
    OPERATION,
    PARAMETER,
    REQUEST,
    RESPONSE,
    Side,
    fields,
    operations,
    parameters,
)
from trajectories_sdk import AsyncClient, Client, models, params
from trajectories_sdk.async_resources import AsyncTrajectories
from trajectories_sdk.errors import APIStatusError, ServerError, status_error
from trajectories_sdk.outcomes import AsyncOutcomes, Outcomes
from trajectories_sdk.resources import Trajectories
from trajectories_sdk.testing import InMemoryServer, contract
from trajectories_sdk.testing.facets import FILTERS

RUN: Any = {"id": "29243fa3-f296-5e3b-9266-7052b77cbfe9", "request_summary": "x", "phases": []}
_ARGUMENTS: Mapping[str, Any] = {
    "trajectory": RUN,
    "trajectories": [RUN],
    "patch": {},
    "id": RUN["id"],
    "request_summary": "x",
    "dry_run": True,
    "background": False,
    "tag": "x",
    "name": "merged",
    "value": True,
}
"""Arguments for calling the methods."""
_OF_THE_SDK = (
    *("trajectory", "trajectories", "patch", "if_match", "max_lines", "max_bytes"),
    *("path_or_file", "progress", "resume", "request_summary", "background"),
)
"""Arguments that are not parameters of the API."""
GENERATE = "uv run python packages/sdk-py/generate.py; add a new endpoint to src/trajectories_sdk/resources.py and async_resources.py"
_OTHERS: Mapping[str, Callable[[Any], Any]] = {
    "recommendations.create": lambda client: client.recommendations.create("x", ["m"]),
    "evaluations.create": lambda client: client.evaluations.create({"always": "m"}),
    "alerts": lambda client: client.alerts(),
}
"""Operations beside ``client.trajectories``, by the name of each call."""
_DECIDED = (
    *("RecommendationRequest", "CandidateModel", "EarlierPhase", "QualityFloor"),
    *("EvaluationRequest", "RulePolicy", "Rule"),
)
_SENT = (
    *("Trajectory", "Phase", "Candidate", "FeedbackLoop", "Attempt", "Exploration"),
    *("TrajectoryPatch", "PhasePatch", "ExplorationPatch", "LateOutcome"),
)


def sync_calls() -> Mapping[str, frozenset[str]]:
    found = {
        f"{noun}.{name}": _called(noun, name)
        for noun, resource in (("trajectories", Trajectories), ("outcomes", Outcomes))
        for name in _public(resource)
    }
    with InMemoryServer() as server:
        for name, call in _OTHERS.items():
            before = len(server.requests)
            call(server.client())
            found[name] = _seen(server, before)
    return found


def _public(resource: type) -> list[str]:
    return [name for name, _ in inspect.getmembers(resource, inspect.isfunction) if not name.startswith("_")]


def _called(noun: str, name: str) -> frozenset[str]:
    """Return the operations that a method calls, from the requests that it sends."""
    with InMemoryServer() as server:
        client = server.client()
        client.trajectories.record(RUN)
        before = len(server.requests)
        _use(getattr(getattr(client, noun), name))
        client.queue.flush(timeout_s=120)
        return _seen(server, before)


def _use(method: Callable[..., Any]) -> None:
    answer = method(**_arguments(method))
    if hasattr(answer, "__enter__"):
        with answer:
            pass
    elif hasattr(answer, "__iter__") and not isinstance(answer, BaseModel):
        list(answer)


async def _use_awaited(method: Callable[..., Any]) -> None:
    answer = method(**_arguments(method))
    if inspect.isawaitable(answer):
        await answer
    elif hasattr(answer, "__aenter__"):
        async with answer:
            pass
    elif hasattr(answer, "__aiter__"):
        async for _ in answer:
            pass


def _arguments(method: Callable[..., Any]) -> dict[str, Any]:
    taken = inspect.signature(method).parameters
    given = {
        name: value for name, value in _ARGUMENTS.items() if name in taken or (name == "tag" and "dry_run" in taken)
    }
    if "fields" in taken and "name" in taken:
        given["trajectory_id"] = RUN["id"]
    return given | ({"path_or_file": io.BytesIO()} if "path_or_file" in taken else {})


def async_calls() -> Mapping[str, frozenset[str]]:
    found = {
        f"{noun}.{name}": asyncio.run(_called_awaited(noun, name))
        for noun, resource in (("trajectories", AsyncTrajectories), ("outcomes", AsyncOutcomes))
        for name in _public(resource)
    }
    return found | {name: asyncio.run(_other_awaited(call)) for name, call in _OTHERS.items()}


async def _other_awaited(call: Callable[[Any], Any]) -> frozenset[str]:
    with InMemoryServer() as server:
        async with server.async_client() as client:
            await call(client)
        return _seen(server, 0)


async def _called_awaited(noun: str, name: str) -> frozenset[str]:
    with InMemoryServer() as server:
        async with server.async_client() as client:
            await client.trajectories.record(RUN)
            before = len(server.requests)
            await _use_awaited(getattr(getattr(client, noun), name))
            await asyncio.to_thread(client.queue.flush, timeout_s=120)
        return _seen(server, before)


def _seen(server: InMemoryServer, before: int) -> frozenset[str]:
    """Return the operations of the requests after the first ``before``."""
    return frozenset(operation_of(request.method, request.path) for request in server.requests[before:])


def _parameters(resources: Mapping[str, type], calls: Mapping[str, frozenset[str]]) -> frozenset[str]:
    """Return the URL parameters that the methods accept."""
    found: frozenset[str] = frozenset()
    for name, called in calls.items():
        if name in _OTHERS:
            continue
        noun, _, verb = name.partition(".")
        method = getattr(resources[noun], verb)
        if name.endswith((".run", ".enqueue")) or name == "outcomes.record":
            continue  # their arguments are fields
        names = [one for one in inspect.signature(method).parameters if one not in ("self", *_OF_THE_SDK)]
        taken = [one for one in names if one != "filters"]
        taken += params.Filters.__annotations__ if "filters" in names else ()
        for operation in called:
            found |= parameters(operation, taken)
    alerts: Callable[..., Any] = Client.alerts if Trajectories in resources.values() else AsyncClient.alerts
    return found | parameters("alerts", [one for one in inspect.signature(alerts).parameters if one != "self"])


def _errors() -> frozenset[str]:
    """Return the statuses with their own error class."""
    own = {status: type(status_error(status, b"")) for status in range(400, 600)}
    return frozenset(f"{ERROR} {status}" for status, kind in own.items() if kind not in (APIStatusError, ServerError))


def error_names() -> dict[int, str]:
    """Return the error class of each status."""
    return {status: type(status_error(status, b"")).__name__ for status in range(400, 600)}


def _sent() -> frozenset[str]:
    found: frozenset[str] = frozenset()
    for name in (*_SENT, *_DECIDED):
        found |= fields(REQUEST, name, getattr(params, name).__annotations__)
    return found


def _answered() -> frozenset[str]:
    found: frozenset[str] = frozenset()
    for name, model in inspect.getmembers(models, inspect.isclass):
        if issubclass(model, BaseModel) and model.__module__ == models.__name__:
            found |= fields(RESPONSE, name, (one.alias or key for key, one in model.model_fields.items()))
    return found


_EXPORT_END = {
    f"{PARAMETER} export.end": "the SDK requests the end line itself and verifies it",
    **OF_TRAINING,
    **OF_A_TOOL,
}


def sides() -> list[Side]:
    blocking, awaited = sync_calls(), async_calls()
    return [
        Side(
            name="Python SDK",
            kinds=(OPERATION, PARAMETER, REQUEST, RESPONSE, ERROR),
            facts=operations(blocking)
            | _parameters({"trajectories": Trajectories, "outcomes": Outcomes}, blocking)
            | _sent()
            | _answered()
            | _errors(),
            touch=f"{GENERATE}; a new status is a class of src/trajectories_sdk/errors.py",
            without={**_EXPORT_END, **MANIFESTS, **BY_TARGET, **OF_A_TOOL_ANSWERS},
            own={f"{RESPONSE} Trajectory.*": "a model for building a body"},
            calls=blocking,
        ),
        Side(
            name="Python SDK, awaited",
            kinds=(OPERATION, PARAMETER),
            facts=operations(awaited)
            | _parameters({"trajectories": AsyncTrajectories, "outcomes": AsyncOutcomes}, awaited),
            touch="src/trajectories_sdk/async_resources.py of packages/sdk-py",
            without={**_EXPORT_END, **BY_TARGET},
            calls=awaited,
        ),
        _recorder(),
        _in_memory(),
    ]


def _recorder() -> Side:
    facts = fields(REQUEST, "Trajectory", get_type_hints(params.RunFields)) | fields(
        REQUEST, "Phase", get_type_hints(params.PhaseFields)
    )
    return Side(
        name="Python recorder",
        kinds=(REQUEST,),
        facts=facts,
        touch="uv run python packages/sdk-py/generate.py: RunFields and PhaseFields are the arguments of run.set and phase.set",
        without={
            f"{REQUEST} Trajectory.id": "an argument of run(); it never changes",
            f"{REQUEST} Trajectory.phases": "created by run.phase() and run.skip()",
            f"{REQUEST} Phase.phase_name": "an argument of run.phase()",
            f"{REQUEST} Candidate.*": "the caller passes a mapping",
            f"{REQUEST} Exploration.*": "the caller passes a mapping",
            f"{REQUEST} Attempt.*": "the caller passes a mapping, or phase.attempt() creates it",
            f"{REQUEST} FeedbackLoop.*": "the caller passes a mapping, or run.feedback() creates it",
            f"{REQUEST} *Patch.*": "update() changes a recorded run",
            f"{REQUEST} LateOutcome.*": "created by run.outcome()",
            **DECISIONS,
        },
    )


def _in_memory() -> Side:
    facts: frozenset[str] = frozenset()
    for operation in ("list", "stats", "readiness", "export", "delete_matching"):
        facts |= parameters(operation, FILTERS)
    for name in _SENT:
        facts |= fields(REQUEST, name, getattr(contract, name).model_fields)
    return Side(
        name="trajectories_sdk.testing",
        kinds=(PARAMETER, REQUEST),
        facts=facts,
        touch="uv run python packages/sdk-py/generate.py, and FILTERS of src/trajectories_sdk/testing/facets.py",
        without={
            f"{PARAMETER} {name}": "not a filter"
            for name in (
                *("list.cursor", "list.limit", "retrieve.id", "update.id", "delete_one.id", "record.replace"),
                *("export.after", "export.end", "delete_matching.dry_run", "delete_matching.token"),
                *("readiness.max_runs", "stats.bucket", "stats.credit", "alerts.weeks"),
                *("list_outcomes.id", "record_outcome.id", "recommend_models.*", "forecast_cost.*"),
            )
        }
        | DECISIONS
        | {name: reason for name, reason in OF_TRAINING.items() if name.startswith(PARAMETER)},
    )
