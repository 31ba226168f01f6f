"""Records: which version wins, which facets are derived, and which bytes are served."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import reduce
from typing import Any
from uuid import UUID

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import strategies
from tests.examples import REFERENCE, body, phase
from trajectories.domain.clock import epoch_us, rfc3339
from trajectories.domain.outcomes import phase_group
from trajectories.domain.record import (
    Facets,
    Record,
    added_together,
    digest_of,
    facets_of,
    merge,
    merge_all,
    tombstone,
)
from trajectories.domain.schema import canonical, parse
from trajectories.domain.text import fold
from trajectories.domain.warnings import Contradiction

ID = UUID("29243fa3-f296-5e3b-9266-7052b77cbfe9")
BODIES = [b'{"request_summary":"%d","phases":[]}' % number for number in range(3)]


def version(stamp: int, data: bytes = BODIES[0], *, recorded_at_us: int = 1, revision: int | None = None) -> Record:
    return Record("t", ID, stamp, digest_of(data), revision or stamp, recorded_at_us, data)


def facets(**fields: Any) -> Facets:
    return facets_of(canonical(parse(orjson.dumps(body(**fields)))))


# The winning version.

versions = st.lists(
    st.builds(
        version,
        st.integers(1, 5),
        st.sampled_from(BODIES),
        recorded_at_us=st.integers(1, 5),
        revision=st.integers(1, 5),
    ),
    min_size=1,
    max_size=6,
)


def standing(arrived: list[Record]) -> tuple[int, str, bytes, int]:
    """The fields that must not depend on the order."""
    stands = reduce(lambda known, one: merge(known, one, from_authority=False), arrived[1:], arrived[0])
    return stands.stamp, stands.digest, stands.body, stands.recorded_at_us


@given(versions, st.randoms(use_true_random=False))
def test_the_same_versions_leave_the_same_record_in_any_order_and_however_often(
    given: list[Record], order: random.Random
) -> None:
    newest = max(given, key=lambda record: record.rank)
    shuffled = given + order.choices(given, k=2)
    order.shuffle(shuffled)
    expected = (newest.stamp, newest.digest, newest.body, min(record.recorded_at_us for record in given))
    assert standing(given) == standing(shuffled) == expected


@given(versions, versions)
def test_two_tiers_that_saw_other_versions_agree_once_they_have_met(ours: list[Record], theirs: list[Record]) -> None:
    def known(arrived: list[Record]) -> Record:
        return reduce(lambda held, one: merge(held, one, from_authority=False), arrived[1:], arrived[0])

    def met(one: Record, other: Record) -> tuple[int, str, bytes, int]:
        record = merge(one, other, from_authority=True)
        return record.stamp, record.digest, record.body, record.recorded_at_us

    assert met(known(ours), known(theirs)) == met(known(theirs), known(ours)) == standing(ours + theirs)


def test_a_repeat_of_the_same_body_moves_the_stamp_alone() -> None:
    known = version(10, recorded_at_us=5)
    repeat = version(20, recorded_at_us=20)
    assert merge(known, repeat, from_authority=False) == replace(known, stamp=20)


def test_a_repeat_out_of_a_tier_that_knows_better_brings_its_revision() -> None:
    known, settled = version(20, revision=20), version(20, revision=10)
    assert merge(known, settled, from_authority=True).revision == 10
    assert merge(known, settled, from_authority=False).revision == 20


def test_a_late_older_version_changes_only_the_time_of_first_acceptance() -> None:
    known, late = version(20, BODIES[1], recorded_at_us=20), version(10, recorded_at_us=10)
    assert merge(known, late, from_authority=False) == replace(known, recorded_at_us=10)


def test_at_the_same_stamp_the_greater_digest_wins() -> None:
    one, other = sorted((version(10, data) for data in BODIES[:2]), key=lambda record: record.digest)
    assert merge(one, other, from_authority=False).body == other.body
    assert merge(other, one, from_authority=False).body == other.body


def addition(outcome: int, form: int) -> Record:
    given = {"id": str(UUID(int=outcome)), "recorded_at": rfc3339(outcome // 2).decode(), "value": form}
    return Record("t", ID, outcome, UUID(int=outcome).hex, outcome, outcome, orjson.dumps([given]))


any_versions = st.lists(
    st.one_of(
        versions.map(lambda given: given[0]),
        st.builds(addition, st.integers(1, 5), st.integers(1, 2)),
        st.builds(tombstone, st.just("t"), st.just(ID), st.integers(1, 5)),
    ),
    min_size=1,
    max_size=8,
)


@given(any_versions)
def test_additions_of_one_record_merge_together_as_they_do_one_after_another(given: list[Record]) -> None:
    together = [*added_together(given)]
    assert sum(one.is_addition for one in together) <= 1
    one_by_one = reduce(lambda known, one: merge(known, one, from_authority=False), given[1:], given[0])
    assert merge_all(None, given) == merge_all(given[0], given[1:]) == one_by_one


def test_additions_of_different_records_stay_apart() -> None:
    other = replace(addition(2, 1), id=UUID(int=1))
    given = [addition(1, 1), other, version(3), addition(2, 1)]
    record, *added = added_together(given)
    assert record == given[2]
    assert [(one.id, len(orjson.loads(one.body))) for one in added] == [(ID, 2), (other.id, 1)]


# Bytes.


def test_the_shown_record_is_the_stored_bytes_and_the_two_stamps_behind_them() -> None:
    record = version(30, revision=20, recorded_at_us=1_767_657_526_000_000)
    added = b',"recorded_at":"2026-01-05T23:58:46.000000Z","revision":20,"derived":{"outcome":"success"}'
    derived = {"outcome": "success"}
    assert record.json(derived) == BODIES[0][:-1] + added + b"}"
    warning = Contradiction("outcome", "c", "m")
    shown = b',"warnings":[{"path":"outcome","code":"c","message":"m"}]}'
    assert record.json(derived, [warning]) == BODIES[0][:-1] + added + shown


def test_times_are_shown_with_six_decimals_so_that_texts_sort_as_times_do() -> None:
    assert rfc3339(1_767_657_526_000_001) == b"2026-01-05T23:58:46.000001Z"
    assert rfc3339(1_767_657_526_000_000) == b"2026-01-05T23:58:46.000000Z"


@given(st.datetimes(timezones=st.just(UTC)))
def test_microseconds_since_1970_are_exact(at: datetime) -> None:
    assert datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=epoch_us(at)) == at


# Facets.


def phases(*outcomes: str, **fields: Any) -> dict[str, Any]:
    """Phases with these outcomes, each another one."""
    return {"phases": [phase(phase_name=str(at), outcome=outcome) for at, outcome in enumerate(outcomes)]} | fields


@pytest.mark.parametrize(
    ("given", "outcome"),
    [
        (phases("failure", outcome="success", build_passed=False), "success"),  # given, so it is kept
        (phases("success", outcome="unknown"), "unknown"),
        (phases("success", "success"), "success"),
        (phases("success", "skipped"), "success"),
        (phases("success", "failure"), "failure"),
        (phases("success", "partial"), "unknown"),
        (phases("success", "unknown"), "unknown"),
        (phases("success", "cancelled"), "unknown"),
        (phases("success", "paused"), "unknown"),
        ({"phases": [phase(outcome="paused"), phase(outcome="success", attempt=2)]}, "success"),
        (phases("skipped", "skipped"), "unknown"),
        (phases(), "unknown"),
        (phases("success", build_passed=False), "failure"),
        (phases("success", tests_passed=False), "failure"),
        (phases("success", build_passed=True, tests_passed=True), "success"),
        (phases(build_passed=True, tests_passed=True), "unknown"),
        ({"phases": [phase()]}, "unknown"),
        ({"phases": [phase(outcome="failure"), phase(outcome="success", attempt=2)]}, "success"),
        ({"phases": [phase(outcome="success"), phase(outcome="failure", attempt=2)]}, "failure"),
        # An alias is the same phase, so its last attempt counts.
        (
            {"phases": [phase(phase_name="verify", outcome="failure"), phase(phase_name="test", outcome="success")]},
            "success",
        ),
    ],
)
def test_the_outcome_is_derived_where_it_is_not_given(given: dict[str, Any], outcome: str) -> None:
    assert facets(**given).outcome == outcome


def test_given_totals_stand_where_the_phases_add_up_to_others() -> None:
    reference = facets_of(canonical(parse(orjson.dumps(REFERENCE))))
    assert (reference.cost_nano_usd, reference.duration_us) == (57_000_000, 17_500_000)


def test_totals_that_are_not_given_are_sums_over_the_phases_that_know_them() -> None:
    found = facets(phases=[phase(cost_usd=0.1, input_tokens=3), phase(cost_usd=0.2, output_tokens=4), phase()])
    assert found.cost_nano_usd == 300_000_000
    assert (found.input_tokens, found.output_tokens, found.tokens) == (3, 4, 7)
    assert found.duration_us is None


def test_a_value_that_no_phase_has_is_unknown_and_not_zero() -> None:
    found = facets(phases=[phase(), phase()])
    assert {found.cost_nano_usd, found.duration_us, found.input_tokens, found.output_tokens, found.tokens} == {None}
    assert facets(phases=[phase(cost_usd=0)]).cost_nano_usd == 0


def test_fractions_below_a_nano_usd_and_a_microsecond_are_rounded() -> None:
    found = facets(total_cost_usd=0.0000000016, total_duration_ms=0.0014)
    assert (found.cost_nano_usd, found.duration_us) == (2, 1)


@given(strategies.trajectories)
def test_facets_are_made_of_every_accepted_body_and_of_nothing_else(given: dict[str, Any]) -> None:
    form = canonical(parse(orjson.dumps(given)))
    assert facets_of(form) == facets_of(canonical(parse(form)))
    assert len(facets_of(form).phases) == len(given["phases"])


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("architecture", "design"),
        ("implementation", "implement"),
        ("code", "implement"),
        ("verify", "test"),
        ("verification", "test"),
        (" Verify ", "test"),
        ("Spec", "spec"),
    ],
)
def test_phases_are_grouped_by_the_alias_table(name: str, group: str) -> None:
    assert phase_group(name) == group


def test_a_project_adds_aliases_of_its_own_and_may_change_ours(
    settings: Any, trajectories_settings: dict[str, Any]
) -> None:
    settings.TRAJECTORIES = trajectories_settings | {"PHASE_ALIASES": {"qa": "test", "verify": "review"}}
    assert [phase_group(name) for name in ("QA", "verify", "code")] == ["test", "review", "implement"]


@pytest.mark.parametrize(
    ("one", "other"), [("STRASSE", "straße"), ("ﬁx", "FIX"), ("\uff21pi", "api"), ("É", "e\u0301"), ("Σ", "ς")]
)
def test_case_and_compatibility_forms_are_folded_away(one: str, other: str) -> None:
    assert fold(one) == fold(other)


@given(strategies.texts)
def test_folding_twice_is_folding_once(text: str) -> None:
    assert fold(fold(text)) == fold(text)
