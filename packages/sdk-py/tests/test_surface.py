"""The public surface: names, and that both clients have the same methods."""

from __future__ import annotations

import inspect
import typing
from typing import Any

import pytest

import trajectories_sdk
from trajectories_sdk import AsyncClient, Client
from trajectories_sdk.advice_resources import AsyncEvaluations, AsyncRecommendations, Evaluations, Recommendations
from trajectories_sdk.async_resources import AsyncTrajectories
from trajectories_sdk.outcomes import AsyncOutcomes, Outcomes
from trajectories_sdk.resources import Trajectories
from trajectories_sdk.run_factory import RunFactory
from trajectories_sdk.trajectory_lists import AsyncTrajectoryList, TrajectoryList

# To change it is to change what is public.
ALL = [
    "APIConnectionError",
    "APIStatusError",
    "APITimeoutError",
    "Alerts",
    "AsyncClient",
    "Attempt",
    "AuthenticationError",
    "BackgroundQueue",
    "BadRequestError",
    "Client",
    "Config",
    "ConflictError",
    "Counters",
    "DeletedTrajectories",
    "DeletedTrajectory",
    "DroppedPhasesError",
    "ExportBrokenError",
    "ExportProgress",
    "Exported",
    "LineResult",
    "MatchingTrajectories",
    "NotFoundError",
    "PayloadTooLargeError",
    "PermissionDeniedError",
    "Phase",
    "PolicyEvaluation",
    "PreconditionFailedError",
    "RateLimitError",
    "Readiness",
    "Recommendation",
    "RecordedMany",
    "RequestTimeoutError",
    "Run",
    "ServerError",
    "ServiceUnavailableError",
    "Stats",
    "StoredOutcome",
    "StoredTrajectory",
    "TrajectoryError",
    "TrajectoryPage",
    "UnsupportedMediaTypeError",
    "__version__",
    "thompson_propensity",
]

HALVES: list[tuple[type, type]] = [
    (Client, AsyncClient),
    (Trajectories, AsyncTrajectories),
    (TrajectoryList, AsyncTrajectoryList),
    (Recommendations, AsyncRecommendations),
    (Evaluations, AsyncEvaluations),
    (Outcomes, AsyncOutcomes),
]
RENAMED = {"close": "aclose", "__enter__": "__aenter__", "__exit__": "__aexit__", "__iter__": "__aiter__"}
TYPES = {
    "Iterator": "AsyncIterator",
    "TrajectoryList": "AsyncTrajectoryList",
    "Trajectories": "AsyncTrajectories",
    "Recommendations": "AsyncRecommendations",
    "Evaluations": "AsyncEvaluations",
    "Outcomes": "AsyncOutcomes",
    "Client": "AsyncClient",
    "Driver": "AsyncDriver",
    "httpx2.BaseTransport | None": "httpx2.AsyncBaseTransport | None",
    "Iterable[AnyTrajectory]": "Iterable[AnyTrajectory] | AsyncIterable[AnyTrajectory]",
}


def test_the_public_names_are_these() -> None:
    assert sorted(trajectories_sdk.__all__) == sorted(ALL)
    assert all(hasattr(trajectories_sdk, name) for name in ALL)


def members(half: type) -> dict[str, Any]:
    return {
        name: value
        for name, value in vars(half).items()
        if not name.startswith("_") or name in (*RENAMED, *RENAMED.values())
    }


@pytest.mark.parametrize(("blocking", "awaited"), HALVES, ids=lambda half: half.__name__)
def test_the_halves_have_the_same_members(blocking: type, awaited: type) -> None:
    assert sorted(RENAMED.get(name, name) for name in members(blocking)) == sorted(members(awaited))


@pytest.mark.parametrize(("blocking", "awaited"), HALVES, ids=lambda half: half.__name__)
def test_the_halves_have_the_same_signatures(blocking: type, awaited: type) -> None:
    pairs = [(vars(blocking)["__init__"], vars(awaited)["__init__"])]
    for name, member in members(blocking).items():
        pairs.append((_function(member), _function(members(awaited)[RENAMED.get(name, name)])))
    for one, other in pairs:
        assert _shape(one, is_blocking=True) == _shape(other, is_blocking=False), one.__qualname__


def test_overloads_are_the_same_on_both_halves() -> None:
    for name in ("delete_matching",):
        one, other = (typing.get_overloads(getattr(half, name)) for half in (Trajectories, AsyncTrajectories))
        assert [str(inspect.signature(each)) for each in one] == [str(inspect.signature(each)) for each in other]
        assert one


@pytest.mark.parametrize(
    "half", [RunFactory, *(half for pair in HALVES for half in pair)], ids=lambda half: half.__name__
)
def test_every_public_member_has_a_docstring(half: type) -> None:
    undocumented = [name for name, member in members(half).items() if not name.startswith("_") and not member.__doc__]
    assert undocumented == []


def test_only_methods_that_send_a_request_are_coroutines() -> None:
    for name, member in members(Trajectories).items():
        is_awaited = name not in ("list", "iter_export", "run", "enqueue")
        assert inspect.iscoroutinefunction(getattr(AsyncTrajectories, name)) is is_awaited, member


def _function(member: Any) -> Any:
    return member.fget if isinstance(member, property) else member


def _shape(function: Any, *, is_blocking: bool) -> list[tuple[str, Any, Any, str]]:
    """Parameters with kind, default and type, and the type that is returned; of the blocking half
    as the awaited one says it."""
    signature = inspect.signature(function)
    shape = [
        (parameter.name, parameter.kind, parameter.default, _type(parameter.annotation, is_blocking=is_blocking))
        for parameter in signature.parameters.values()
    ]
    return [*shape, ("return", None, None, _type(signature.return_annotation, is_blocking=is_blocking))]


def _type(annotation: Any, *, is_blocking: bool) -> str:
    text = str(annotation)
    if not is_blocking:
        return text
    head, bracket, rest = text.partition("[")
    return TYPES.get(text) or TYPES.get(head, head) + bracket + rest
