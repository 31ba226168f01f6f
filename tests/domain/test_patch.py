"""The merge patch of a trajectory: RFC 7396 for the run, and phases by their phase_id."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import strategies
from tests.examples import REFERENCE, body, phase
from tests.storage.hosts import made_body, new_id
from trajectories.domain import patch, redaction, schema
from trajectories.domain.schema import Phase, Trajectory
from trajectories.exceptions import InvalidInput

ID = UUID(int=5)


def patched(stored: dict[str, Any], changes: Any) -> dict[str, Any]:
    """The record that ``changes`` make of ``stored``, without its id."""
    data = changes if isinstance(changes, bytes) else orjson.dumps(changes)
    result: dict[str, Any] = orjson.loads(patch.apply(made_body(ID, **stored), patch.parse(data, ID)))
    assert result.pop("id") == str(ID)
    return result


def refused(stored: dict[str, Any], changes: Any) -> InvalidInput:
    with pytest.raises(InvalidInput) as error:
        patched(stored, changes)
    return error.value


# Appendix A of RFC 7396: original, patch, result.
RFC_7396: list[tuple[Any, Any, Any]] = [
    ({"a": "b"}, {"a": "c"}, {"a": "c"}),
    ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
    ({"a": "b"}, {"a": None}, {}),
    ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
    ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
    ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
    ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
    ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
    (["a", "b"], ["c", "d"], ["c", "d"]),
    ({"a": "b"}, ["c"], ["c"]),
    ({"a": "foo"}, "bar", "bar"),
    ({"e": None}, {"a": 1}, {"a": 1, "e": None}),
    ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
    ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
]


@pytest.mark.parametrize(("original", "change", "result"), RFC_7396)
def test_the_clients_own_data_is_merged_as_the_rfc_says(original: Any, change: Any, result: Any) -> None:
    found = patched(body(metadata={"v": original, "kept": 1}), {"metadata": {"v": change}})
    assert found["metadata"] == {"kept": 1, "v": result}


def test_fields_are_set_replaced_and_deleted_and_the_others_stay() -> None:
    found = patched(REFERENCE, {"tests_passed": False, "project": None, "tags": ["a"], "outcome": "failure"})
    expected = REFERENCE | {"tests_passed": False, "tags": ["a"], "outcome": "failure"}
    del expected["project"]
    assert found == expected


def test_a_list_is_replaced_and_an_object_merged() -> None:
    stored = body(tags=["a", "b"], external_refs={"pr": "1", "commit": "c"})
    found = patched(stored, {"tags": ["c"], "external_refs": {"pr": None, "issue": "2"}})
    assert (found["tags"], found["external_refs"]) == (["c"], {"commit": "c", "issue": "2"})


def test_a_field_is_kept_in_its_canonical_form() -> None:
    found = patched(body(), b'{"started_at":"2026-01-05T23:58:46+01:00","total_phases":1e3}')
    assert (found["started_at"], found["total_phases"]) == ("2026-01-05T22:58:46Z", 1000)


# Phases.

TWO = body(phases=[phase(phase_id="1", model="a", cost_usd=1), phase(phase_name="test", phase_id="2"), phase()])


def test_a_phase_is_changed_by_its_id_and_the_others_stay() -> None:
    found = patched(TWO, {"phases": [{"phase_id": "2", "outcome": "failure"}, {"phase_id": "1", "model": None}]})
    assert found["phases"] == [
        phase(phase_id="1", cost_usd=1),
        {"phase_name": "test", "phase_id": "2", "outcome": "failure"},
        phase(),
    ]


def test_a_phase_with_a_new_id_is_appended_once() -> None:
    changes = {"phases": [{"phase_id": "3", "phase_name": "review", "model": None}, {"phase_id": "3", "cost_usd": 2}]}
    once = patched(TWO, changes)
    assert once["phases"][3:] == [{"phase_name": "review", "phase_id": "3", "cost_usd": 2}]
    assert patched(once, changes) == once


def test_objects_of_a_phase_are_merged() -> None:
    stored = body(phases=[phase(phase_id="1", exploration={"strategy": "s", "seed": 3}, evidence={"log": "a"})])
    changes = {"exploration": {"samples": 9, "seed": None}, "evidence": {"log": None, "report": "b"}}
    (found,) = patched(stored, {"phases": [{"phase_id": "1"} | changes]})["phases"]
    assert (found["exploration"], found["evidence"]) == ({"strategy": "s", "samples": 9}, {"report": "b"})


def test_every_object_of_the_contract_takes_a_part_of_it() -> None:
    """A new field with an object must be merged too, so ``patch`` has to allow a part of it."""
    objects = {
        (model.__name__, name)
        for model in (Trajectory, Phase)
        for name, field in model.model_json_schema()["properties"].items()
        if {"object"} & {one.get("type", "$ref" in one and "object") for one in field.get("anyOf", [field])}
    }
    assert objects == {
        ("Trajectory", "external_refs"),
        ("Trajectory", "metadata"),
        ("Phase", "evidence"),
        ("Phase", "exploration"),
        ("Phase", "metadata"),
    }


def test_a_phase_whose_id_lost_a_credential_is_found_by_it() -> None:
    key = "ghp_" + "aB3" * 12
    kept = redaction.replace_text(key)
    assert kept != key
    stored = body(phases=[phase(phase_id=kept)])
    assert len(patched(stored, {"phases": [{"phase_id": key, "cost_usd": 1}]})["phases"]) == 1


# Refusals.


@pytest.mark.parametrize(
    ("changes", "param", "code", "message"),
    [
        ({"request_summary": None}, "request_summary", "required", "cannot delete"),
        ({"phases": None}, "phases", "required", "cannot delete"),
        ({"id": None}, "id", "required", "cannot delete"),
        ({"id": str(UUID(int=6))}, "id", "other_id", str(ID)),
        ({"phases": [{"cost_usd": 1}]}, "phases[0]", "phase_id_missing", "POST the whole record"),
        ({"phases": [{"phase_id": None}]}, "phases[0].phase_id", "required", "cannot delete"),
        ({"phases": [{"phase_id": "1", "phase_name": None}]}, "phases[0].phase_name", "required", "cannot delete"),
        ({"phases": [{"phase_id": "1"}, {"phase_id": "9"}]}, "phases[1].phase_name", "unknown_phase_id", "'9'"),
        ({"phases": [{"phase_id": "2", "cost_usd": -1}]}, "phases[0].cost_usd", "greater_than_equal", "0"),
        ({"phases": [7]}, "phases[0]", "model_type", "object"),
        ({"phses": []}, "phses", "unknown_key", "'phases'"),
        ({"phases": [phase(phase_id=str(n)) for n in range(200)]}, "phases", "too_long", "200"),
        (
            {"phases": [phase(phase_id="9", exploration={"samples": 1})]},
            "phases[3].exploration.strategy",
            "missing",
            "required",
        ),
        ({"request": "x"}, "request", "unknown_key", "'request'"),
        (b'{"error":"a","error":"b"}', None, "repeated_key", "'error'"),
        (b'{"total_cost_usd":NaN}', "total_cost_usd", "finite_number", "finite"),
        (b"[]", None, "model_type", "object"),
        (b"{", None, "json_invalid", "JSON"),
        (b"[" * 5_000, None, "json_invalid", "recursion"),
    ],
)
def test_a_refusal_names_the_place_and_a_remedy(changes: Any, param: str | None, code: str, message: str) -> None:
    error = refused(TWO, changes)
    assert (error.param, error.details[0].code) == (param, code)
    assert message in error.message


def test_only_a_refused_phase_id_is_put_into_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redaction, "quoted", None)
    stored = orjson.dumps(body(phases=[phase(phase_id="a")]))
    changes = {"phases": [{"phase_id": "a", "steps_taken": 1}, {"phase_id": "b", "phase_name": "code"}]}
    assert len(orjson.loads(patch.apply(stored, changes))["phases"]) == 2


def test_a_phase_id_that_several_phases_have_is_refused() -> None:
    error = refused(body(phases=[phase(phase_id="1")] * 2), {"phases": [{"phase_id": "1", "cost_usd": 1}]})
    assert (error.details[0].code, error.param) == ("ambiguous_phase_id", "phases[0].phase_id")


# Properties.

_NULLABLE = [name for name in Trajectory.model_fields if name not in ("id", "request_summary", "phases")]


@settings(max_examples=50)
@given(stored=strategies.trajectories, other=strategies.trajectories, deleted=st.sets(st.sampled_from(_NULLABLE)))
def test_a_patch_gives_a_canonical_record_and_repeated_the_same(
    stored: dict[str, Any], other: dict[str, Any], deleted: set[str]
) -> None:
    known = schema.canonical(schema.parse(orjson.dumps(stored | {"id": str(new_id())})))
    id_ = UUID(orjson.loads(known)["id"])
    assert patch.apply(known, patch.parse(b"{}", id_)) == known
    changes = {name: value for name, value in other.items() if name not in ("id", "phases")}
    changes |= dict.fromkeys(deleted)
    parsed = patch.parse(orjson.dumps(changes), id_)
    once = patch.apply(known, parsed)
    assert schema.canonical(schema.parse(once)) == once
    assert patch.apply(once, parsed) == once
    assert orjson.loads(once)["phases"] == orjson.loads(known)["phases"]
    assert not deleted & set(orjson.loads(once))


# Fields that a whole record lacks.


@pytest.mark.parametrize(
    ("before", "after", "found"),
    [
        ([], [], ""),
        ([phase()], [phase(), phase()], ""),
        ([phase()], [phase(cost_usd=1)], ""),
        ([phase(), phase()], [phase()], "2 phases are stored, and this body has 1"),
        ([phase(phase_id="a")], [phase(), phase()], "'a'"),
        ([phase(phase_id="a"), phase()], [phase(phase_id="b"), phase(phase_id="a")], ""),
        ([phase(phase_id="a"), phase()], [phase(), phase(phase_id="c")], "1 of the stored phases"),
        ([phase(), phase()], [phase(phase_name="x"), phase(phase_name="y")], "2 of the stored phases, such as 'spec'"),
        ([phase(phase_name="code")], [phase(phase_name="Implement", phase_id="a")], ""),
        ([phase(phase_id="a")], [phase(phase_id="a", phase_name="x")], ""),
        ([phase(phase_id="a"), phase()], [phase(phase_id="a"), phase(phase_name="x")], "1 of the stored phases"),
    ],
)
def test_dropped_phases_are_fewer_ones_or_a_missing_id_or_name(before: list[Any], after: list[Any], found: str) -> None:
    said = patch.dropped_phases(made_body(ID, phases=before), made_body(ID, phases=after))
    assert found in said
    assert bool(said) == bool(found)
