"""The server of the SDK's tests answers as the store does."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel

from tests.examples import REFERENCE, body
from trajectories_sdk import APIStatusError, Client
from trajectories_sdk.testing import InMemoryServer

SPEC = {
    "phase_name": "spec",
    "model": "large",
    "model_selection_method": "thompson",
    "cost_usd": 0.012,
    "outcome": "success",
}
CODE = {
    "phase_name": "code",
    "agent": "dev",
    "tools_used": ["grep"],
    "duration_ms": 1.5,
    "input_tokens": 7,
    "outcome": "failure",
}
DECIDED = {
    "phase_name": "implement",
    "phase_id": "a",
    "model": "large",
    "requested_model": "small",
    "candidates": [{"model": "small", "probability": 0.6}, {"model": "large", "probability": 0.3}],
    "selection_probability": 0.5,
    "keep_probability": 0.9,
    "attempts": [{"model": "small", "outcome": "failure"}],
    "depends_on": ["nowhere"],
    "cost_usd": 0.25,
    "output_tokens": 9,
    "outcome": "success",
    "fit": "overprovisioned",
    "evidence": {"log": "a.txt"},
}
GOOD: list[dict[str, Any]] = [
    REFERENCE,
    body(request_summary="\uff21dd ÄUTH", phases=[SPEC, CODE, CODE | {"outcome": "success"}], tags=["a", "b"]),
    body(phases=[SPEC, {"phase_name": "design", "outcome": "skipped"}], build_passed=False, source="s"),
    body(phases=[CODE], total_cost_usd=5.0, total_duration_ms=10, started_at="2026-01-05T10:00:00+02:00"),
    body(outcome="partial", metadata={"b": 1, "a": {"c": [1.0, None]}}, external_refs={"pull": "7"}, error="é\n"),
    body(phases=[SPEC | {"input_tokens": 1000.0}], review_findings=2.0),
    body(phases=[DECIDED, SPEC | {"fit": "good_fit"}], policy="router@1", total_cost_usd=0.2, request_type="Bugfix"),
    body(phases=[DECIDED | {"outcome": "skipped"}] * 12, policy="router@2", outcome="success", tests_passed=False),
]
BAD: list[Any] = [
    {},
    body(colour="red"),
    body(phases=[{"phase_name": 7}, {"model": "m"}]),
    body(total_cost_usd=-1),
    body(total_cost_usd="1"),
    body(started_at="yesterday"),
    body(id="nonsense"),
    body(request_summary="a\x00b"),
    body(phases=[{"phase_name": "x" * 513}]),
    body(phases=[{"phase_name": "spec", "outcome": "done"}]),
    body(**{"k" * 300: 1}),
    body(external_refs={"k" * 300: 1}),
    body(phases=[{"phase_name": "spec", "cost_usd": -1}] * 120),
    body(error="e" * 1_100_000),
    body(error="e" * (2**20 - len(json.dumps(body(error=""), separators=(",", ":"))) + 73)),
]
OUTCOMES: list[tuple[int, str, Any, dict[str, Any]]] = [
    (1, "merged", True, {}),
    (2, "merged", False, {"evidence": {"pr": "7"}}),
    (2, "rating", 4.25, {}),
    (3, "rating", -1, {}),
    (7, "merged", True, {"phase_id": "a"}),
    (7, "fit", "underpowered", {"phase_id": "a"}),
    (7, "fit", "good_fit", {"phase_id": "nowhere"}),
    (8, "merged", False, {}),  # whose phases were skipped
    (8, "rating", 0.1 + 0.2, {"phase_id": "a"}),
]
"""Late outcomes: the number of the run, name, value and other fields."""
FILTERS: list[dict[str, Any]] = [
    {},
    {"outcome": "success"},
    {"outcome": "failure"},
    {"outcome": "unknown"},
    {"build_passed": True},
    {"source": "s"},
    {"project": "my-project"},
    {"phase": "implement"},
    {"phase": "code", "tool": "grep", "agent": "dev"},
    {"phase": "spec", "tool": "grep"},
    {"model": "large", "selection_method": "thompson_sampling"},
    {"tag": "b"},
    {"policy": "router@1"},
    {"credited": "success"},
    {"credited": "none"},
    {"fit": "overprovisioned"},
    {"policy": "router@1", "phase": "spec", "fit": "overprovisioned"},
    {"q": "auth add"},
    {"min_cost_usd": 0.012, "max_cost_usd": 0.057},
    {"min_duration_ms": 3, "max_duration_ms": 10},
    {"started_since": "2026-01-05T08:00:00Z", "started_until": "2026-01-05T08:00:01Z"},
    {"since": "2026-01-01T00:00:00Z", "until": "2199-01-01T00:00:00Z"},
    {"until": "2026-01-01T00:00:00Z"},
    {"since": "2w", "started_until": "2026-01-06"},
    {"until": "1d"},
]
PATCHES: list[dict[str, Any]] = [
    {},
    {"tests_passed": False, "error": None, "policy": "router@2", "metadata": {"a": None, "b": {"c": 1}}},
    {"phases": [{"phase_id": "a", "fit": None, "evidence": {"log": None, "at": "b.txt"}, "candidates": None}]},
    {"phases": [{"phase_id": "b", "phase_name": "review"}, {"phase_id": "b", "outcome": "failure"}]},
    {"phases": [{"phase_id": "a", "exploration": {"strategy": "softmax", "seed": 3}}], "tags": ["c"]},
    {"total_cost_usd": None, "request_type": "bugfix", "recorded_at": "2026-01-05T10:00:00Z", "revision": 7},
]
BAD_PATCHES: list[dict[str, Any]] = [
    {"colour": "red"},
    {"request_summary": None},
    {"phases": None},
    {"phases": [{"fit": "good_fit"}]},
    {"phases": [{"phase_id": "z"}]},
    {"phases": [{"phase_id": "a", "phase_name": None}, {"phase_id": "a", "fit": "tight"}]},
    {"phases": [{"phase_id": "a", "exploration": {"seed": 3}}]},
    {"id": str(UUID(int=98))},
    {"total_cost_usd": -1},
    {"phases": {"phase_id": "a"}},
    {"phases": ["a"], "tags": 1},
    {"error": "e" * 1_100_000},
]
WRONG: list[Callable[[Any], Any]] = [
    lambda trajectories: list(trajectories.list(limit=0)),
    lambda trajectories: list(trajectories.list(cursor="nonsense")),
    lambda trajectories: list(trajectories.list(colour="red")),
    lambda trajectories: trajectories.stats(outcome="red"),
    lambda trajectories: trajectories.readiness(max_runs=0),
    lambda trajectories: trajectories.readiness(max_runs="two"),
    lambda trajectories: trajectories.stats(since="yesterday"),
    lambda trajectories: trajectories.stats(since="2026-02-30"),
    lambda trajectories: trajectories.stats(min_cost_usd=-1),
    lambda trajectories: trajectories.stats(build_passed="yes"),
    lambda trajectories: trajectories.stats(q="x" * 501),
    lambda trajectories: trajectories.stats(q="\ufdfa" * 28),
    lambda trajectories: trajectories.stats(q=" ".join(map(str, range(33)))),
    lambda trajectories: trajectories.retrieve(UUID(int=99)),
    lambda trajectories: trajectories.delete(UUID(int=99)),
    lambda trajectories: trajectories.delete_matching(dry_run=True),
    lambda trajectories: trajectories.delete_matching(token="nonsense", project="a"),
    lambda trajectories: list(trajectories.iter_export(after=UUID(int=99))),
    lambda trajectories: trajectories.stats(fit="tight"),
    lambda trajectories: trajectories.update(UUID(int=99), {}),
    lambda trajectories: trajectories.update(UUID(int=1), {"project": "p"}, if_match=1),
    lambda trajectories: trajectories.record(body(id=str(UUID(int=2)), phases=[SPEC])),
    lambda trajectories: trajectories.record(body(id=str(UUID(int=7)), phases=[SPEC, SPEC])),
]


@pytest.fixture(scope="module")
def clients(web: Any, api_key: str) -> Iterator[tuple[Client, Client]]:
    """Clients of the store and of the server in memory, with the same records."""
    with InMemoryServer() as server, Client(web.url, api_key) as store:
        memory = server.client()
        for client in (store, memory):
            for at, given in enumerate(GOOD):
                client.trajectories.record(as_given({**given, "id": str(UUID(int=at + 1))}))
            for at, name, value, fields in OUTCOMES:
                given = {"at": "2026-02-01T00:00:00Z", "idempotency_key": f"{at} {name} {value}"} | fields
                client.outcomes.record(name, value, trajectory_id=UUID(int=at), **as_given(given))
        yield store, memory


@pytest.mark.parametrize("filters", FILTERS, ids=str)
def test_list_and_export_are_the_same(clients: tuple[Client, Client], filters: dict[str, Any]) -> None:
    store, memory = (listed(client, filters) for client in clients)
    assert memory == store
    of_store, of_memory = (exported(client, filters) for client in clients)
    assert of_memory == of_store


@pytest.mark.parametrize("filters", FILTERS, ids=str)
def test_stats_are_the_same(clients: tuple[Client, Client], filters: dict[str, Any]) -> None:
    store, memory = (figures(client.trajectories.stats(**filters).model_dump(exclude={"window"})) for client in clients)
    assert memory == store
    if not filters:
        assert [(group["name"], group["count"]) for group in store["late_outcomes"]] == [
            ("merged", 4),
            ("rating", 3),
            ("fit", 2),
        ]


@pytest.mark.parametrize("filters", [*FILTERS, {"max_runs": 2}, {"max_runs": len(GOOD)}], ids=str)
def test_readiness_is_the_same(clients: tuple[Client, Client], filters: dict[str, Any]) -> None:
    store, memory = (client.trajectories.readiness(**filters).model_dump(exclude={"as_of"}) for client in clients)
    assert memory == store
    assert store["complete"] is (filters.get("max_runs") != 2)


def test_answers_with_one_record_have_the_same_derived_values_and_warnings(clients: tuple[Client, Client]) -> None:
    for at in range(len(GOOD)):
        store, memory = (answered(client.trajectories.retrieve(UUID(int=at + 1))) for client in clients)
        assert memory == store
    assert len(store["warnings"]) == 20


def test_results_of_lines_have_the_same_warnings(clients: tuple[Client, Client]) -> None:
    lines = [as_given({**given, "id": str(UUID(int=at + 1))}) for at, given in enumerate(GOOD)]
    store, memory = (
        [answered(result) for result in client.trajectories.record_many(lines).results] for client in clients
    )
    assert memory == store
    assert any("warnings" in result for result in store)


@pytest.mark.parametrize("at", range(len(PATCHES)))
def test_a_change_gives_the_same_record(clients: tuple[Client, Client], at: int) -> None:
    id_ = UUID(int=200 + at)
    store, memory = (changed(client, id_, PATCHES[at]) for client in clients)
    assert memory == store


def changed(client: Client, id_: UUID, patch: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the answers to a change, to a repeat of it, and to a version with fewer phases."""
    given = body(id=str(id_), phases=[DECIDED], error="e", metadata={"a": 1, "b": 2}, request_type="Bugfix")
    first = client.trajectories.record(as_given(given))
    second = client.trajectories.update(id_, as_given(patch), if_match=first.revision)
    third = client.trajectories.update(id_, as_given(patch))
    assert third.revision == second.revision
    replaced = client.trajectories.record(as_given(body(id=str(id_), phases=[])), replace=True)
    assert client.trajectories.delete(id_).deleted
    return [answered(stored) for stored in (first, second, third, replaced)]


@pytest.mark.parametrize("at", range(len(BAD_PATCHES)))
def test_impossible_changes_get_the_same_errors(clients: tuple[Client, Client], at: int) -> None:
    id_ = UUID(int=len(GOOD) - 1)
    store, memory = (
        refusal(lambda trajectories: trajectories.update(id_, as_given(BAD_PATCHES[at])), client) for client in clients
    )
    assert memory == store


@pytest.mark.parametrize("at", range(len(BAD)))
def test_invalid_records_get_the_same_errors(clients: tuple[Client, Client], at: int) -> None:
    store, memory = (refusal(lambda trajectories: trajectories.record(as_given(BAD[at])), client) for client in clients)
    assert memory == store


@pytest.mark.parametrize("at", range(len(WRONG)))
def test_invalid_parameters_get_the_same_errors(clients: tuple[Client, Client], at: int) -> None:
    store, memory = (refusal(WRONG[at], client) for client in clients)
    assert memory == store


def answered(answer: BaseModel) -> dict[str, Any]:
    """An answer as it was sent, so that the order of keys and null count too."""
    return unstamped(answer.model_dump(mode="json", exclude_unset=True))


def listed(client: Client, filters: dict[str, Any]) -> list[dict[str, Any]]:
    pages = list(client.trajectories.list(limit=2, **filters).pages())
    assert all(len(page.data) == 2 for page in pages[:-1])
    return [unstamped(record.model_dump(mode="json", exclude_none=True)) for page in pages for record in page.data]


def exported(client: Client, filters: dict[str, Any]) -> list[str]:
    file = io.BytesIO()
    client.trajectories.export_jsonl(file, **filters)
    # As text, so that the order of keys and the form of numbers count too.
    return [json.dumps(unstamped(json.loads(line))) for line in file.getvalue().splitlines()]


def unstamped(record: dict[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in record.items() if name not in ("recorded_at", "revision")}
    if "outcomes" in kept:
        # Their order is that of acceptance, and lines of one run are accepted in the order of OUTCOMES.
        own = ("id", "recorded_at")
        kept["outcomes"] = [{name: one[name] for name in sorted(one) if name not in own} for one in kept["outcomes"]]
    return kept


def figures(value: Any) -> Any:
    """Sums to the last digits of a double; percentiles within the share that the store may be off."""
    if isinstance(value, dict):
        return {
            name: _near(item) if name in ("p50", "p90", "p95", "p99") else figures(item) for name, item in value.items()
        }
    if isinstance(value, list):
        return [figures(item) for item in value]
    return pytest.approx(value) if isinstance(value, float) else value


def _near(value: float | None) -> Any:
    return value if value is None else pytest.approx(value, rel=0.011)


def as_given(given: Any) -> Any:
    """Any, since not all that is sent is what the types allow."""
    return given


def refusal(call: Callable[[Any], Any], client: Client) -> tuple[int, str, str | None, list[tuple[str, str]]]:
    with pytest.raises(APIStatusError) as raised:
        call(client.trajectories)
    error = raised.value
    return error.status, error.code, error.param, [(problem.path, problem.code) for problem in error.details]
