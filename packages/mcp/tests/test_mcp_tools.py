"""Answers and failures of the tools, with an in-memory store."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import pytest
from mcp_tools import Tools, tools_of

from trajectories_sdk.testing import InMemoryServer

Record = Callable[..., str]
PHASES: list[dict[str, str | float]] = [
    {
        "phase_name": "spec",
        "model": "large",
        "model_selection_method": "explicit",
        "outcome": "success",
        "cost_usd": 0.01,
    },
    {"phase_name": "design", "outcome": "skipped", "skip_reason": "small change"},
    {"phase_name": "review", "model": "small", "outcome": "failure", "error": "no answer"},
]


@pytest.fixture
def store() -> Iterator[InMemoryServer]:
    with InMemoryServer() as server:
        yield server


@pytest.fixture(params=["auto", "legacy"])
def tools(request: pytest.FixtureRequest, store: InMemoryServer) -> Iterator[Tools]:
    """Tools under the MCP revision without sessions, and under the earlier ones."""
    with tools_of(store, request.param) as tools:
        yield tools


@pytest.fixture
def recorded(tools: Tools) -> Record:
    """Return a function that records a run with the given fields and returns its id."""
    return lambda **fields: str(tools.record(**({"request_summary": "Add auth", "phases": []} | fields))["id"])


def test_record_returns_the_id_of_the_stored_run(tools: Tools, store: InMemoryServer) -> None:
    answer = tools.record(request_summary="Add auth", phases=PHASES, tests_passed=True)
    (run,) = store.records
    assert answer["id"] == str(run.id)
    assert answer["revision"] == run.revision
    assert answer["phases"] == 3
    assert [phase.phase_name for phase in run.phases] == ["spec", "design", "review"]


def test_a_run_sent_again_with_its_id_is_stored_once(tools: Tools, store: InMemoryServer, recorded: Record) -> None:
    id_ = recorded()
    assert recorded(id=id_, phases=PHASES) == id_
    (run,) = store.records
    assert len(run.phases) == 3


def test_a_run_is_changed_by_its_id(tools: Tools, store: InMemoryServer, recorded: Record) -> None:
    id_ = recorded(phases=[PHASES[0] | {"phase_id": "a"}, *PHASES[1:]], error="late")
    changes = {"tests_passed": "true", "error": None, "phases": [{"phase_id": "a", "fit": "good_fit"}]}
    answer = tools.update(id=id_, changes=json.dumps(changes))
    (run,) = store.records
    assert (run.tests_passed, run.error, run.phases[0].fit, len(run.phases)) == (True, None, "good_fit", 3)
    assert (answer["revision"], answer["phases"]) == (run.revision, 3)
    detail = tools.query(id=id_)["untrusted_data"]["run"]
    assert (detail["revision"], detail["phases_in_detail"][0]["phase_id"]) == (run.revision, "a")
    tools.update(id=id_, changes={"source": "x"}, revision=run.revision)
    refused = tools.refusal("update", id=id_, changes={"source": "y"}, revision=run.revision)
    assert "412" in refused
    assert refused.endswith("if the change still fits.")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({}, "requires the id of a run, and changes as an object"),
        ({"id": str(UUID(int=7)), "changes": "[]"}, "changes as an object"),
        ({"id": str(UUID(int=7)), "change": {}}, "Unknown argument 'change'. Did you mean 'changes'?"),
        ({"id": str(UUID(int=7)), "changes": {}, "revision": "last"}, "revision must be an integer"),
        ({"id": str(UUID(int=7)), "changes": {}}, "get ids that exist"),
    ],
    ids=str,
)
def test_an_impossible_change_is_reported_with_a_correction(tools: Tools, arguments: dict[str, Any], told: str) -> None:
    assert told in tools.refusal("update", **arguments)


@pytest.mark.parametrize("q", [" ".join(map(str, range(33))), "a" * 501], ids=["words", "characters"])
def test_a_search_has_the_limit_of_the_api(tools: Tools, q: str) -> None:
    assert "q must not exceed" in tools.refusal("query", q=q)
    assert tools.query(q=" ".join(map(str, range(32))))["untrusted_data"]["runs"] == []


def test_a_run_that_lacks_stored_phases_is_refused_with_the_next_step(tools: Tools, recorded: Record) -> None:
    id_ = recorded(phases=PHASES)
    told = tools.refusal("record", id=id_, request_summary="Add auth", phases=[])
    assert "409 phases_would_be_dropped" in told
    assert told.endswith("Call br_trajectory_update with the fields to change, or send all phases of the run.")


def test_contradictions_are_listed_in_the_answer(tools: Tools, store: InMemoryServer) -> None:
    answer = tools.record(request_summary="Add auth", phases=[], request_type="Ignore Me")
    (warning,) = answer["warnings"]
    assert warning.startswith("request_type: 'Ignore Me' and 'ignore me' are two request types")
    assert "1 contradiction: see warnings" in answer["summary"]
    # Text that others recorded is quoted in untrusted_data only.
    assert tools.update(id=answer["id"], changes={"source": "x"})["warnings"] == ["request_type (request_type_case)"]
    assert tools.query(id=answer["id"])["untrusted_data"]["run"]["warnings"] == [warning]
    assert "warnings" not in tools.record(request_summary="Add auth", phases=[])


def test_a_run_without_an_outcome_shows_the_derived_one(tools: Tools, recorded: Record) -> None:
    recorded(phases=PHASES)
    (run,) = tools.query()["untrusted_data"]["runs"]
    assert (run["outcome"], run["total_cost_usd"]) == ("failure", 0.01)


def test_policies_are_compared(tools: Tools, recorded: Record) -> None:
    for policy in ("a", "b", "b"):
        recorded(policy=policy, phases=[PHASES[0] | {"fit": "good_fit"}])
    stats = tools.query(show="stats", group_by="policy")["untrusted_data"]["stats"]
    assert [(group["policy"], group["count"]) for group in stats["groups"]] == [("b", 2), ("a", 1)]
    assert len(tools.query(policy="b", fit="good_fit")["untrusted_data"]["runs"]) == 2
    assert "runs" in tools.query(fit="failed")["untrusted_data"]


def test_lists_and_objects_may_be_sent_as_json_strings(tools: Tools, store: InMemoryServer) -> None:
    tools.record(request_summary="Add auth", phases=json.dumps(PHASES), metadata='{"branch": "auth"}', error="[1]")
    (run,) = store.records
    assert len(run.phases) == 3
    assert run.metadata == {"branch": "auth"}
    assert run.error == "[1]"


def test_numbers_and_booleans_may_be_sent_as_strings(tools: Tools, store: InMemoryServer) -> None:
    phase = {"phase_name": "1", "input_tokens": "120", "cost_usd": "0.25", "selection_probability": "1"}
    tools.record(request_summary="7", phases=[phase], build_passed="True", tests_passed=" false ", files_changed="3")
    (run,) = store.records
    assert (run.request_summary, run.build_passed, run.tests_passed, run.files_changed) == ("7", True, False, 3)
    assert (run.phases[0].phase_name, run.phases[0].input_tokens, run.phases[0].cost_usd) == ("1", 120, 0.25)
    shown = tools.query(build_passed="true", limit="5", min_cost_usd="0.2")["untrusted_data"]["runs"]
    assert [one["id"] for one in shown] == [str(run.id)]


@pytest.mark.parametrize("text", ["many", "1e999", "true", "[1]", ""])
def test_a_string_that_is_not_the_number_it_should_be_is_refused(tools: Tools, text: str) -> None:
    assert "review_findings" in tools.refusal("record", request_summary="x", phases=[], review_findings=text)


def test_record_reports_the_number_of_replaced_credentials(tools: Tools) -> None:
    metadata = {"trajectories:redacted": {"openai-key": 2}}  # as the store reports it
    answer = tools.record(request_summary="Add auth", phases=[], metadata=metadata)
    assert answer["redacted"] == 2
    assert "2 credentials" in answer["summary"]


def test_recent_runs_are_summarized_newest_first(tools: Tools, recorded: Record) -> None:
    older, newer = recorded(project="shop"), recorded(phases=PHASES, build_passed=False)
    answer = tools.query()
    assert [run["id"] for run in answer["untrusted_data"]["runs"]] == [newer, older]
    assert answer["untrusted_data"]["runs"][0]["phases"] == [
        "spec (success, large)",
        "design (skipped)",
        "review (failure, small)",
    ]
    assert answer["untrusted_data"]["runs"][0]["build_passed"] is False
    assert "build_passed" not in answer["untrusted_data"]["runs"][1]


def test_the_cursor_reaches_all_runs(tools: Tools, recorded: Record) -> None:
    ids = {recorded() for _ in range(5)}
    first = tools.query(limit=3)
    second = tools.query(limit="3", cursor=first["next_cursor"])
    assert "next_cursor" not in second
    assert {run["id"] for run in first["untrusted_data"]["runs"] + second["untrusted_data"]["runs"]} == ids


def test_one_run_shows_its_phases_page_by_page(tools: Tools, recorded: Record) -> None:
    id_ = recorded(phases=[{"phase_name": f"phase {at}"} for at in range(30)])
    seen: list[str] = []
    phases_from: int | None = 0
    while phases_from is not None:
        run = tools.query(show="run", id=id_, phases_from=phases_from)["untrusted_data"]["run"]
        seen += [phase["phase_name"] for phase in run["phases_in_detail"]]
        phases_from = run.get("next_phases_from")
    assert seen == [f"phase {at}" for at in range(30)]


def test_an_id_without_show_returns_that_run(tools: Tools, recorded: Record) -> None:
    id_ = recorded(phases=PHASES)
    detail = tools.query(id=id_)["untrusted_data"]["run"]["phases_in_detail"]
    assert detail[1] == {"phase_name": "design", "outcome": "skipped", "skip_reason": "small change"}
    assert detail[2]["error"] == "no answer"


def test_a_run_shows_what_each_phase_earned_beside_what_it_said(tools: Tools, recorded: Record) -> None:
    id_ = recorded(phases=[{"phase_name": f"phase {at}", "outcome": "success"} for at in range(13)], build_passed=False)
    for phases_from, count in ((0, 12), (12, 1)):
        detail = tools.query(id=id_, phases_from=phases_from)["untrusted_data"]["run"]["phases_in_detail"]
        shown = [(phase["outcome"], phase["credited"]) for phase in detail]
        assert shown == [("success", "failure (build_passed)")] * count


def test_stats_group_by_phase_model_and_method_with_wilson_bounds(tools: Tools, recorded: Record) -> None:
    for _ in range(3):
        recorded(phases=PHASES)
    stats = tools.query(show="stats")["untrusted_data"]["stats"]
    assert stats["totals"]["count"] == 3
    spec = next(group for group in stats["groups"] if group["phase"] == "spec")
    assert (spec["model"], spec["selection_method"], spec["count"]) == ("large", "explicit", 3)
    # The review of these runs failed, which the phase did not know when it reported success. Wilson (1927):
    # for 3 successes of 3 at z = 1.96 the lower bound is 3 / (3 + z²).
    assert spec["success_rate_by_phase_outcome"]["low"] == pytest.approx(3 / (3 + 1.96**2))
    assert (spec["success_rate"]["known"], spec["success_rate"]["rate"]) == (3, 0)
    own = tools.query(show="stats", credit="phase_outcome")["untrusted_data"]["stats"]["groups"]
    spec = next(group for group in own if group["phase"] == "spec")
    assert spec["success_rate"] == spec["success_rate_by_phase_outcome"]
    assert spec["value_per_dollar"] == pytest.approx(spec["success_rate"]["low"] / 0.011)


def test_stats_by_phase_include_the_skip_rate(tools: Tools, recorded: Record) -> None:
    recorded(phases=PHASES)
    recorded(phases=[{"phase_name": "design", "outcome": "success"}])
    groups = tools.query(show="stats", group_by="phase")["untrusted_data"]["stats"]["groups"]
    assert {group["phase"]: group["skip_rate"] for group in groups}["design"] == 0.5


def test_stats_by_skips_list_phases_that_some_run_skipped_with_costs(tools: Tools, recorded: Record) -> None:
    ran, skipped = ({"phase_name": "review", "outcome": outcome} for outcome in ("success", "skipped"))
    code = {"phase_name": "implement", "outcome": "success"}
    assert "No run skipped a phase." in tools.query(show="stats", group_by="skips")["summary"]
    for phases, request_type, cost in ([ran], "bugfix", 0.5), ([skipped], "bugfix", 0.25), ([ran], "feature", 1):
        recorded(phases=[code, *phases], request_type=request_type, total_cost_usd=cost)
    answer = tools.query(show="stats", group_by="skips")
    groups = answer["untrusted_data"]["stats"]["groups"]
    assert "A phase that no run skipped is not listed." in answer["summary"]
    assert [(group["phase"], group["request_type"]) for group in groups] == [
        ("review", "bugfix"),
        ("review", "feature"),
    ]
    assert [groups[0][side]["mean_cost_usd"] for side in ("ran", "skipped")] == [0.5, 0.25]


def test_groups_have_the_sum_of_their_cost_and_those_of_runs_its_cost_per_success(
    tools: Tools, recorded: Record
) -> None:
    for outcome in ("success", "success", "failure"):
        recorded(policy="router@1", outcome=outcome, total_cost_usd=0.5)
    (group,) = tools.query(show="stats", group_by="policy")["untrusted_data"]["stats"]["groups"]
    assert (group["sum_cost_usd"], group["cost_per_success_usd"]) == (1.5, 0.75)


def test_stats_of_a_phase_show_only_the_groups_of_that_phase(tools: Tools, recorded: Record) -> None:
    recorded(phases=PHASES)
    groups = tools.query(show="stats", phase="review")["untrusted_data"]["stats"]["groups"]
    assert [(group["phase"], group["model"]) for group in groups] == [("review", "small")]


def test_stats_of_a_phase_alias_show_all_groups(tools: Tools, recorded: Record) -> None:
    recorded(phases=[{"phase_name": "verification", "outcome": "success"}, {"phase_name": "spec"}])
    stats = tools.query(show="stats", phase="verification", group_by="phase")["untrusted_data"]["stats"]
    assert {group["phase"] for group in stats["groups"]} == {"test", "spec"}


def test_groups_of_a_phase_are_sorted_by_the_lower_bound(tools: Tools, recorded: Record) -> None:
    for model, outcome in [("weak", "failure"), ("weak", "failure"), ("weak", "success"), ("good", "success")]:
        recorded(phases=[{"phase_name": "spec", "model": model, "outcome": outcome}])
    groups = tools.query(show="stats")["untrusted_data"]["stats"]["groups"]
    assert [group["model"] for group in groups] == ["good", "weak"]


def test_the_smallest_groups_are_omitted_and_counted(tools: Tools, recorded: Record) -> None:
    for model in ("a", "a", "b", "c"):
        recorded(phases=[{"phase_name": "spec", "model": model}])
    stats = tools.query(show="stats", limit=1)["untrusted_data"]["stats"]
    assert [group["model"] for group in stats["groups"]] == ["a"]
    assert stats["groups_left_out"] == 2


@pytest.mark.parametrize(
    ("filters", "is_found"),
    [
        ({"project": "shop"}, True),
        ({"project": "other"}, False),
        ({"outcome": "failure"}, True),
        ({"build_passed": False}, True),
        ({"build_passed": True}, False),
        ({"max_cost_usd": 0.5}, True),
        ({"min_cost_usd": 0.5}, False),
        ({"since": "2000-01-01T00:00:00Z"}, True),
        ({"until": "2000-01-01T00:00:00Z"}, False),
        ({"since": "7d"}, True),
        ({"since": "2199-01-01"}, False),
        ({"q": "auth add"}, True),
        ({"phase": "review", "model": "small"}, True),
        ({"phase": "review", "model": "large"}, False),
        ({"project": None}, True),
    ],
    ids=str,
)
def test_the_tool_has_the_filters_of_the_api(
    tools: Tools, recorded: Record, filters: dict[str, Any], is_found: bool
) -> None:
    recorded(phases=PHASES, project="shop", build_passed=False)
    assert bool(tools.query(**filters)["untrusted_data"]["runs"]) is is_found
    assert bool(tools.query(show="stats", **filters)["untrusted_data"]["stats"]["totals"]["count"]) is is_found


# --- Late outcomes


@pytest.mark.parametrize(
    ("name", "value", "stored"),
    [
        ("merged", True, True),
        ("merged", "true", True),
        ("merged", " False", False),
        ("rating", 4, 4),
        ("rating", "4.5", 4.5),
        ("fit", "good_fit", "good_fit"),
    ],
    ids=str,
)
def test_a_late_outcome_may_arrive_as_text(
    tools: Tools, store: InMemoryServer, recorded: Record, name: str, value: Any, stored: Any
) -> None:
    id_ = recorded(phases=[{"phase_name": "spec"}])
    answer = tools.call("br_trajectory_outcome", {"name": name, "value": value, "id": id_})
    assert not answer.is_error, answer
    (found,) = store.client().outcomes.list(id_)
    assert (found.name, found.value) == (name, stored)


def test_a_late_outcome_that_the_store_refuses_says_what_to_write(tools: Tools, recorded: Record) -> None:
    id_ = recorded(phases=[{"phase_name": "spec"}])
    told = tools.refusal("outcome", name="merged", value="yes", id=id_)
    assert "'good_fit', 'underpowered'" in told


# --- Failures


@pytest.mark.parametrize("name", ["record", "query"])
def test_an_unavailable_store_tells_when_to_call_again(name: str, tools: Tools, store: InMemoryServer) -> None:
    store.fail_next(503, retry_after_s=7)
    told = tools.refusal(name, **({"request_summary": "Add auth", "phases": []} if name == "record" else {}))
    assert "call again in 7 seconds" in told


def test_a_run_with_a_lost_answer_can_be_sent_again_with_the_reported_id(
    tools: Tools, store: InMemoryServer, recorded: Record
) -> None:
    store.drop_next()
    told = tools.refusal("record", request_summary="Add auth", phases=[])
    id_ = told.rpartition("with the id ")[2].partition(":")[0]
    assert recorded(id=id_) == str(UUID(id_)) == str(store.records[0].id)


def test_a_failed_call_is_not_retried(tools: Tools, store: InMemoryServer) -> None:
    store.fail_next(503)
    tools.refusal("query")
    assert len([seen for seen in store.requests if seen.method == "GET"]) == 1


def test_an_invalid_key_refers_to_the_configuration(tools: Tools, store: InMemoryServer) -> None:
    store.fail_next(401, code="invalid_api_key", message="This API key is not known.")
    told = tools.refusal("query")
    assert "This API key is not known." in told
    assert "TRAJSTORE_API_KEY" in told


def test_a_missing_scope_is_named_in_the_error(tools: Tools, store: InMemoryServer) -> None:
    store.fail_next(403, message="This API key lacks the scope 'read'.")
    assert "scope read" in tools.refusal("query")


def test_a_full_tenant_is_not_a_problem_of_the_key(tools: Tools, store: InMemoryServer) -> None:
    store.fail_next(403, code="quota_exceeded", message="This tenant may have 2 records, and has 2.")
    told = tools.refusal("record", request_summary="Add auth", phases=[])
    assert "larger quota" in told
    assert "API key" not in told


def test_a_rate_limit_error_tells_how_long_to_wait(tools: Tools, store: InMemoryServer) -> None:
    store.fail_next(429, retry_after_s=42)
    assert "in 42 seconds" in tools.refusal("query")


def test_every_invalid_field_is_named_with_its_problem(tools: Tools, store: InMemoryServer) -> None:
    told = tools.refusal("record", request_summary="Add auth", phases=[{"phase_nam": "spec", "cost_usd": -1}])
    assert "phases[0].phase_name: Field required" in told
    assert "phases[0].cost_usd: Input should be greater than or equal to 0" in told
    assert "phases[0].phase_nam" in told
    assert store.records == []


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"phse": "spec"}, "Did you mean 'phase'?"),
        ({"request_typ": "bugfix"}, "Did you mean 'request_type'?"),
        ({"zzz": 1}, "The filters are agent,"),
        ({"show": "stat"}, "Did you mean 'stats'?"),
        ({"show": "run"}, '{"show": "runs"}'),
        ({"show": "stats", "id": "x"}, "id cannot be combined with show 'stats'"),
        (
            {"id": "x", "project": "shop"},
            "project cannot be combined with show 'run', which takes only id, phases_from",
        ),
        ({"id": ""}, "id must be a non-empty string"),
        ({"id": "no-uuid"}, "ids are UUIDs"),
        ({"limit": 21}, "from 1 to 20, got 21"),
        ({"limit": True}, "from 1 to 20, got True"),
        ({"group_by": "phases", "show": "stats"}, "Did you mean 'phase'?"),
        ({"outcome": "good"}, "outcome must be one of success, failure, partial, unknown"),
        ({"since": "yesterday"}, "since must be"),
        ({"cursor": "made up"}, "400 invalid_cursor"),
    ],
    ids=str,
)
def test_invalid_arguments_are_reported_with_a_correction(tools: Tools, arguments: dict[str, Any], told: str) -> None:
    assert told in tools.refusal("query", **arguments)


def test_a_missing_run_is_reported_with_how_to_get_ids(tools: Tools) -> None:
    told = tools.refusal("query", id="29243fa3-f296-5e3b-9266-7052b77cbfe9")
    assert "404" in told
    assert '{"show": "runs"}' in told


def test_an_unknown_tool_is_reported_with_the_nearest_name(tools: Tools) -> None:
    answer = tools.call("br_trajectory_quer", {})
    assert answer.is_error
    assert "Did you mean 'br_trajectory_query'?" in str(answer.content)


def test_a_long_argument_name_is_cut_and_quoted_on_one_line(tools: Tools) -> None:
    told = tools.refusal("query", **{"x\n" * 5_000: 1})
    assert "\n" not in told
    assert len(told) < 1_000


def test_an_internal_error_is_logged_and_its_message_is_not_sent(
    tools: Tools, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("an internal detail")

    monkeypatch.setattr("trajectories_mcp.summaries.run_summary", fail)
    tools.record(request_summary="Add auth", phases=[])
    told = tools.refusal("query")
    assert "an internal detail" not in told
    assert "an internal detail" in caplog.text
