"""The wire contract: which bodies it accepts, and their canonical form."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import strategies
from tests.examples import REFERENCE, body, nested, phase
from trajectories.domain.contract_types import MAX_DURATION_MS, MAX_FREE_DEPTH, MAX_INT, MAX_NAME
from trajectories.domain.schema import canonical, parse

SOAR = Path(__file__).resolve().parents[3] / "shared/data/soar.jsonl"
NUL = "a\0b"


def form_of(value: Any) -> bytes:
    return canonical(parse(json.dumps(value).encode()))


def stored(value: Any) -> Any:
    return orjson.loads(form_of(value))


def test_the_reference_body_is_accepted_unchanged() -> None:
    assert stored(REFERENCE) == REFERENCE


@pytest.mark.skipif(not SOAR.exists(), reason="the real runs are not beside this checkout")
def test_the_real_runs_are_accepted_whole_and_in_their_own_words() -> None:
    bodies = [orjson.loads(line) for line in SOAR.read_bytes().splitlines()]
    records = [stored(sent) for sent in bodies]
    outcomes = Counter(phase["outcome"] for record in records for phase in record["phases"])
    assert (len(records), outcomes) == (244, {"success": 1269, "skipped": 328, "failure": 183})
    assert [record["id"] for record in records] == [sent["id"] for sent in bodies]
    # Null is left out; everything else is there.
    for sent, record in zip(bodies, records, strict=True):
        assert record["phases"] == [{k: v for k, v in phase.items() if v is not None} for phase in sent["phases"]]
        assert record["metadata"] == sent["metadata"]


def test_a_body_needs_nothing_but_a_summary_and_a_list_of_phases() -> None:
    assert form_of(body()) == b'{"request_summary":"x","phases":[]}'


@given(strategies.trajectories)
def test_the_canonical_form_of_the_canonical_form_is_itself(given: dict[str, Any]) -> None:
    form = form_of(given)
    assert canonical(parse(form)) == form


@given(strategies.trajectories, st.randoms(use_true_random=False))
def test_the_order_of_keys_and_nulls_do_not_change_the_canonical_form(given: dict[str, Any], random: Any) -> None:
    def shuffled(value: Any) -> Any:
        if isinstance(value, list):
            return [shuffled(item) for item in value]
        if not isinstance(value, dict):
            return value
        return {key: shuffled(value[key]) for key in random.sample(sorted(value), len(value))}

    assert form_of(shuffled(given) | {"error": given.get("error")}) == form_of(given)


def test_null_is_the_same_as_left_out_but_stays_in_the_clients_own_data() -> None:
    given = body(project=None, phases=[phase(model=None)], metadata={"a": None, "b": [None]})
    assert stored(given) == body(phases=[phase()], metadata={"a": None, "b": [None]})


def test_server_fields_are_ignored_so_that_an_export_can_be_posted_back() -> None:
    given = body(
        recorded_at="2026-01-05T23:58:46.000000Z",
        revision=1767657526000000,
        derived={"outcome": "success"},
        warnings=[{"path": "outcome"}],
    )
    assert form_of(given) == form_of(body())


@pytest.mark.parametrize(
    ("given", "normal"),
    [
        ("thompson", "thompson-sampling"),
        ("thompson_sampling", "thompson-sampling"),
        ("Thompson-Sampling", "thompson-sampling"),
        ("pattern", "pattern-recommendation"),
        ("PATTERN_RECOMMENDATION", "pattern-recommendation"),
        ("Explicit", "explicit"),
        ("Round_Robin", "Round_Robin"),
    ],
)
def test_selection_methods_get_their_one_name_and_other_words_are_kept(given: str, normal: str) -> None:
    assert stored(body(phases=[phase(model_selection_method=given)]))["phases"][0]["model_selection_method"] == normal


@pytest.mark.parametrize("one", [b"1", b"1.0", b"1e0", b"10e-1"])
def test_a_number_has_one_form_however_it_is_written(one: bytes) -> None:
    data = b'{"request_summary":"x","phases":[],"total_cost_usd":%b,"metadata":{"n":[%b,-0.0]}}' % (one, one)
    assert canonical(parse(data)) == b'{"request_summary":"x","phases":[],"total_cost_usd":1,"metadata":{"n":[1,0]}}'


@pytest.mark.parametrize(
    ("given", "normal"),
    [
        ("2026-01-05T23:58:46Z", "2026-01-05T23:58:46Z"),
        ("2026-01-05t23:58:46z", "2026-01-05T23:58:46Z"),
        ("2026-01-05 23:58:46+00:00", "2026-01-05T23:58:46Z"),
        ("2026-01-05T18:58:46.5-05:00", "2026-01-05T23:58:46.500000Z"),
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z"),
    ],
)
def test_times_are_kept_in_utc(given: str, normal: str) -> None:
    record = stored(body(started_at=given, ended_at=given, phases=[phase(started_at=given)]))
    assert {record["started_at"], record["ended_at"], record["phases"][0]["started_at"]} == {normal}


def test_keys_of_free_objects_are_sorted_so_that_their_order_makes_no_new_version() -> None:
    one = form_of(body(metadata={"b": {"d": 1, "c": 2}, "a": 1}, external_refs={"pr": "1", "commit": "2"}))
    other = form_of(body(metadata={"a": 1, "b": {"c": 2, "d": 1}}, external_refs={"commit": "2", "pr": "1"}))
    assert one == other


def test_the_largest_values_are_accepted() -> None:
    given = body(
        total_phases=MAX_INT,
        total_duration_ms=MAX_DURATION_MS,
        project="p" * MAX_NAME,
        phases=[phase()] * 200,
        metadata=nested(MAX_FREE_DEPTH - 1) | {"n": -MAX_INT},
    )
    assert stored(given) == given
