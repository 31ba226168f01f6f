"""POST and GET of recommendations, and the cost forecast: what they answer of recorded runs."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
from django.test import Client

from tests.api.client import JSON, archive_all, client_of, error, issue, number, posted
from tests.examples import body, phase
from tests.learning.runs import attempts, many
from trajectories.api import learning_responses
from trajectories.domain.choice_sums import Choice, Sums
from trajectories.domain.choices import MODEL
from trajectories.domain.clock import DAY_US
from trajectories.learning import cells, forecast, older, recommend
from trajectories.learning.estimates import PhaseEstimates
from trajectories.learning.recommend import decide
from trajectories.storage import choice_reads, counting, rollups
from trajectories.storage.store import get_store

PATH = "/v1/agent/recommendations"
FORECAST = "/v1/intelligence/cost-forecast"


def recommended(client: Client, *models: str, **fields: Any) -> dict[str, Any]:
    """Return a recommendation that must be answered."""
    asked = {"phase": "implement", "candidates": [{"model": model} for model in models], "seed": 7} | fields
    response = client.post(PATH, asked, content_type=JSON)
    assert response.status_code == 200, response.content
    learning_responses.Recommendation.model_validate_json(response.content)
    found: dict[str, Any] = response.json()
    return found


def test_a_recommendation_learns_from_attempts_of_recorded_runs(north: Client, south: Client) -> None:
    for run in [
        *many("strong", 7, 3, 1.0),
        attempts(("cheap", "failure", 0.01), ("strong", "success", 0.9)),
        attempts(("cheap", "failure", 0.01), ("strong", "failure", 0.9)),
        *many("cheap", 3, 0),
    ]:
        posted(north, run)
    answer = recommended(north, "cheap", "strong", request_type="bugfix")
    cheap, strong = answer["candidates"]
    assert (cheap["samples"], cheap["success"]["mean"]) == (5, pytest.approx(4 / 7))
    assert (strong["samples"], strong["success"]["mean"]) == (10, pytest.approx(8 / 12))
    (plan,) = answer["plans"]
    assert plan["samples"] == 2
    assert plan["expected_cost_usd"] == pytest.approx(0.01 + 3 / 7 * 0.9)
    assert recommended(south, "cheap", "strong")["candidates"][0]["samples"] == 0


def test_the_same_seed_and_records_give_the_same_answer(north: Client) -> None:
    posted(north, attempts(("a", "success", 0.1)))
    assert recommended(north, "a", "b") == recommended(north, "a", "b")
    assert recommended(north, "a", "b", seed=None)["seed"] != recommended(north, "a", "b", seed=None)["seed"]


def test_a_revision_replaces_the_learned_outcome(north: Client) -> None:
    posted(north, attempts(("a", "success", 0.1), id=number(1)))
    before = recommended(north, "a")["candidates"][0]
    posted(north, attempts(("a", "failure", 0.1), id=number(1)))
    after = recommended(north, "a")["candidates"][0]
    assert (before["samples"], after["samples"]) == (1, 1)
    assert before["success"]["mean"] == pytest.approx(2 / 3)
    assert after["success"]["mean"] == pytest.approx(1 / 3)


def test_a_deleted_run_is_forgotten(north: Client) -> None:
    posted(north, attempts(("a", "success", 0.1), id=number(1)))
    assert recommended(north, "a")["candidates"][0]["samples"] == 1
    archive_all()
    client_of(issue("north", "admin")[1]).delete(f"/v1/agent/trajectories/{number(1)}")
    assert recommended(north, "a")["candidates"][0]["samples"] == 0


def fail(*_: Any, **__: Any) -> None:
    raise AssertionError("the archive is read")


@pytest.fixture
def hot_records(settings: Any, trajectories_settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the hot cache have four records, and count choices in the archive one by one."""
    settings.TRAJECTORIES = trajectories_settings | {"HOT_MAX_RECORDS": 4}
    monkeypatch.setattr(rollups, "COUNT_PAGE", 1)


def counted() -> None:
    archive_all()
    while counting.count("north"):
        pass


def test_records_below_the_hot_cache_count_too_without_a_scan(
    north: Client, hot_records: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for run in many("a", 10, 2, 0.5):
        posted(north, run)
    counted()
    monkeypatch.setattr(older, "part_of", fail)
    (found,) = recommended(north, "a", request_type="bugfix")["candidates"]
    assert found["samples"] == 12
    assert found["expected_cost_usd"] == 0.5
    assert found["success"]["mean"] == pytest.approx(11 / 14)


@pytest.mark.parametrize("is_counted", [True, False], ids=["counted", "behind"])
def test_older_records_have_their_project_and_attempts(north: Client, hot_records: None, is_counted: bool) -> None:
    mine = attempts(("cheap", "failure", 0.01), ("strong", "success", 0.9), project="mine")
    for run in [mine, mine, *many("cheap", 3, 0, project="other"), *many("strong", 1, 3, project="other")]:
        posted(north, run | {"id": str(uuid4())})
    if is_counted:
        counted()
    else:
        archive_all()
    answer = recommended(north, "cheap", "strong", request_type="bugfix", project="mine")
    cheap, strong = answer["candidates"]
    assert (cheap["own_samples"], cheap["samples"]) == (2, 5)
    assert (strong["own_samples"], strong["samples"]) == (0, 4)
    assert cheap["success"]["mean"] == pytest.approx(4 / 7)
    (plan,) = answer["plans"]
    assert (plan["own_samples"], plan["samples"]) == (2, 2)
    assert plan["expected_cost_usd"] == pytest.approx(0.01 + 3 / 7 * 0.9)
    of_other = recommended(north, "cheap", "strong", request_type="bugfix", project="other")["candidates"]
    assert [one["own_samples"] for one in of_other] == [3, 4]


def test_old_outcomes_below_the_hot_cache_count_less(
    north: Client, hot_records: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for run in many("a", 0, 10):
        posted(north, run)
    counted()
    later_us = get_store().now_us() + 90 * DAY_US
    monkeypatch.setattr(recommend, "decide", lambda asked, cells, _, *more: decide(asked, cells, later_us, *more))
    (found,) = recommended(north, "a", half_life_days=45)["candidates"]
    assert found["samples"] == 10
    assert found["success"]["mean"] == pytest.approx(1 / (2 + 10 * 0.25), abs=0.04)


def test_records_that_leave_the_hot_cache_stay_in_the_sums(
    north: Client, hot_records: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for run in many("a", 4, 2, 0.5):
        posted(north, run)
    counted()
    assert recommended(north, "a")["candidates"][0]["samples"] == 6
    with monkeypatch.context() as patched:
        patched.setattr(choice_reads, "read", fail)
        for run in many("a", 0, 3, 0.5):
            posted(north, run)
        (found,) = recommended(north, "a")["candidates"]
        assert found["samples"] == 9
        assert found["success"]["mean"] == pytest.approx(5 / 11)
    for run in many("a", 0, 5, 0.5):
        posted(north, run)
    counted()
    # One of them came and left, so older records are read again.
    assert recommended(north, "a")["candidates"][0]["samples"] == 14
    monkeypatch.setattr(cells, "OLDER_S", 0.0)
    monkeypatch.setattr(older, "part_of", fail)
    assert recommended(north, "a")["candidates"][0]["samples"] == 14


def test_a_revised_or_deleted_record_is_replaced_once_whether_it_is_counted_or_not(
    north: Client, hot_records: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rollups, "COUNT_PAGE", 3)
    for at, run in enumerate(many("a", 8, 0), start=1):
        posted(north, run | {"id": number(at)})
    counted()  # the first six
    assert recommended(north, "a")["candidates"][0]["samples"] == 8
    for at in (6, 8):
        posted(north, attempts(("a", "failure", 0.1), id=number(at)))
    client_of(issue("north", "admin")[1]).delete(f"/v1/agent/trajectories/{number(7)}")
    for is_archived in (False, True):
        if is_archived:
            counted()
            monkeypatch.setattr(cells, "OLDER_S", 0.0)
        (found,) = recommended(north, "a")["candidates"]
        assert found["samples"] == 7
        assert found["success"]["mean"] == pytest.approx(6 / 9)


def test_versions_that_the_archive_lacks_are_not_counted_twice(
    north: Client, settings: Any, trajectories_settings: dict[str, Any]
) -> None:
    settings.TRAJECTORIES = trajectories_settings | {"HOT_MAX_RECORDS": 2}
    for at, run in enumerate(many("a", 4, 0, 0.5), start=1):
        posted(north, run | {"id": number(at)})
    archive_all()
    posted(north, attempts(("a", "failure", 0.1), id=number(4)))
    posted(north, attempts(("a", "failure", 0.1), id=number(5)))
    (found,) = recommended(north, "a")["candidates"]
    assert found["samples"] == 5
    assert found["success"]["mean"] == pytest.approx(4 / 7)


def test_while_the_archive_is_far_behind_older_records_are_missing(
    north: Client, settings: Any, trajectories_settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.TRAJECTORIES = trajectories_settings | {"HOT_MAX_RECORDS": 2}
    monkeypatch.setattr(older, "MAX_UNDER_WAY", 0)
    for run in many("a", 4, 0, 0.5):
        posted(north, run)
    answer = recommended(north, "a")
    assert (answer["candidates"][0]["samples"], answer["complete"]) == (2, False)
    archive_all()
    assert recommended(north, "a")["candidates"][0]["samples"] == 4


def test_an_unchanged_tenant_is_not_read_again(
    north: Client, settings: Any, trajectories_settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.TRAJECTORIES = trajectories_settings | {"HOT_MAX_RECORDS": 1}
    for run in many("a", 2, 0):
        posted(north, run)
    archive_all()
    before = recommended(north, "a")
    monkeypatch.setattr(choice_reads, "read", fail)
    assert recommended(north, "a") == before


def test_fields_of_a_recommendation_record_the_decision(north: Client) -> None:
    answer = recommended(north, "a", "b", allow_skip=True)
    record = posted(
        north,
        body(request_type="bugfix", phases=[phase(phase_name="implement", outcome="success") | answer["record"]]),
    )
    (stored,) = record["phases"]
    assert stored["model"] == answer["choice"]["model"]
    assert stored["selection_probability"] == pytest.approx(answer["choice"]["propensity"])
    assert sum(one["probability"] for one in stored["candidates"]) == pytest.approx(1)
    assert stored["metadata"]["trajectories:recommendation"]["id"] == answer["recommendation_id"]
    assert "warnings" not in record


def test_choices_beyond_the_bound_are_left_out_oldest_first(north: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cells, "MAX_CHOICES", 6)
    ids = [posted(north, attempts((model, "success", 0.1)))["id"] for model in "baaa"]
    answer = recommended(north, "a", "b")
    known = get_store().part(cells._TenantsCells).of("north")
    assert (known.size, known._is_cut) == (6, True)
    assert [one["samples"] for one in answer["candidates"]] == [3, 0]
    admin = client_of(issue("north", "admin")[1])
    for id_ in ids[2:]:
        assert admin.delete(f"/v1/agent/trajectories/{id_}").status_code == 503, "there is no Redis; this host deletes"
    answer = recommended(north, "a", "b")
    assert (known.size, known._is_cut) == (4, False)
    assert [one["samples"] for one in answer["candidates"]] == [1, 1]


def test_the_best_models_of_a_type_are_estimated_from_the_sums_of_these_models(
    north: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Those of all models, for each type of task, took minutes where a tenant has many of both.
    for of in range(30):
        phases = [phase(model=f"m{of}-{at}", outcome="success") for at in range(2)]
        posted(north, body(request_type=f"t{of % 15}", phases=phases))
    sizes, estimates = list[int](), PhaseEstimates

    def noted(request: Any, cells: Any, now_us: int) -> Any:
        sizes.append(len(cells.total))
        return estimates(request, cells, now_us)

    monkeypatch.setattr(forecast, "PhaseEstimates", noted)
    assert len(north.get(PATH).json()) == 15
    assert sizes == [4] * 15


def test_of_models_with_as_many_outcomes_the_one_that_was_chosen_first_is_first() -> None:
    def choice(model: str, week: int) -> Choice:
        return Choice(MODEL, model, None, week, None)

    cell = {
        choice("a", 1): Sums(1),
        choice("b", 2): Sums(3, 3, 6),
        choice("a", 2): Sums(3, 3, 6),
        choice("c", 2): Sums(1),
    }
    assert forecast._most_known(forecast._counts([("feature", cell)])["feature"]) == ["a", "b"]


def test_the_best_model_of_a_type_is_one_of_the_ten_with_the_most_known_outcomes(north: Client) -> None:
    counts = {f"m{at}": 1 + at % 3 for at in range(12)}
    for model, count in counts.items():
        phases = [phase(model=model, outcome="success")] * count
        posted(north, body(request_type="feature", phases=phases))
    (found,) = north.get(PATH, {"taskType": "feature"}).json()
    compared = {found["recommendedModel"], *(one["model"] for one in found["alternatives"])}
    assert len(compared) == 10
    assert {model for model, count in counts.items() if count > 1} < compared


def test_best_models_are_a_bare_array_by_type(north: Client) -> None:
    for run in [*many("good", 9, 1, 0.02), *many("poor", 2, 8, 0.02)]:
        posted(north, run)
    response = north.get(PATH, {"taskType": "bugfix"})
    learning_responses.ModelRecommendations.model_validate_json(response.content)
    (found,) = response.json()
    assert set(found) == {"taskType", "recommendedModel", "confidence", "reasoning", "alternatives"}
    assert (found["taskType"], found["recommendedModel"]) == ("bugfix", "good")
    assert found["confidence"] > 0.9
    assert [one["model"] for one in found["alternatives"]] == ["poor"]
    assert north.get(PATH).json() == [found]
    assert north.get(PATH, {"taskType": "implementation"}).json()[0]["recommendedModel"] == "good"
    assert north.get(PATH, {"taskType": "none"}).json() == []
    assert north.get(PATH, {"taskType": "bugfix", "framework": "none"}).json() == []


def test_a_cost_forecast_has_median_range_and_samples(north: Client) -> None:
    for at in range(1, 11):
        tags = ["complexity:high"] if at > 8 else []
        posted(north, body(request_type="bugfix", total_cost_usd=at / 10, tags=tags))
    found = north.get(FORECAST, {"taskType": "bugfix"}).json()
    learning_responses.CostForecast.model_validate(found)
    assert (found["taskType"], found["complexity"], found["basedOnSamples"]) == ("bugfix", None, 10)
    assert found["estimatedCost"] == pytest.approx(0.5, rel=0.011)
    assert found["range"] == [pytest.approx(0.1, rel=0.011), pytest.approx(0.9, rel=0.011)]
    high = north.get(FORECAST, {"taskType": "bugfix", "complexity": "high"}).json()
    assert (high["basedOnSamples"], high["estimatedCost"]) == (2, pytest.approx(0.9, rel=0.011))
    unknown = north.get(FORECAST, {"taskType": "none"}).json()
    assert (unknown["estimatedCost"], unknown["range"], unknown["basedOnSamples"]) == (None, [None, None], 0)


@pytest.mark.parametrize(
    ("path", "param"), [(FORECAST, "taskType"), (f"{PATH}?nonsense=1", "nonsense")], ids=["missing", "unknown"]
)
def test_an_invalid_parameter_is_named(north: Client, path: str, param: str) -> None:
    response = north.get(path)
    assert error(response, 400, response.json()["error"]["code"]).param == param


def test_an_invalid_body_is_named(north: Client) -> None:
    response = north.post(PATH, {"phase": "x", "candidates": [{"model": "a", "cost_usd": -1}]}, content_type=JSON)
    assert error(response, 400, "invalid_input").param == "candidates[0].cost_usd"


def test_a_recommendation_needs_the_scope_read(bound_host: None) -> None:
    recorder = client_of(issue("north", "record")[1])
    error(recorder.get(PATH), 403, "scope_missing")
