"""The accept side: which id a record gets, and how a bad line affects the others."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import orjson
import pytest

from tests.examples import CAMEL, REFERENCE, body, phase
from trajectories.domain import answers
from trajectories.domain.record import ID_BYTES, SERVER_FIELDS_BYTES, Record
from trajectories.exceptions import (
    InvalidInput,
    NotRead,
    OutboxUnavailable,
    PhasesDropped,
    TooLarge,
    TrajectoriesError,
)
from trajectories.services import ingest, lines
from trajectories.services.ingest import Accepted, Line
from trajectories.storage.store import get_store

ID = UUID("29243fa3-f296-5e3b-9266-7052b77cbfe9")


def record(given: dict[str, Any], *, tenant: str = "north", key: str | None = None) -> Accepted:
    return ingest.record(get_store(), tenant, orjson.dumps(given), idempotency_key=key)


def accepted(line: Line) -> Accepted:
    assert isinstance(line.outcome, Accepted)
    return line.outcome


def rows() -> list[Record]:
    """Return the bodies in the outbox, in commit order."""
    return [row.record for row in get_store().outbox.rows_after(0, 1_000)]


def test_an_accepted_record_is_in_the_outbox_with_its_canonical_bytes() -> None:
    taken = record(REFERENCE | {"id": str(ID)})
    assert taken.is_new
    assert rows() == [taken.record]
    assert orjson.loads(taken.record.body) == REFERENCE | {"id": str(ID)}


def test_a_repeated_id_with_the_same_body_is_the_same_revision_with_a_newer_stamp() -> None:
    first, again = record(body(id=str(ID))), record(body(id=str(ID)))
    assert (first.is_new, again.is_new) == (True, False)
    assert again.record.stamp > first.record.stamp
    assert answers.item(again.record) == answers.item(first.record)


def test_a_repeated_id_with_another_body_is_a_new_revision_at_the_old_place() -> None:
    first, other = record(body(id=str(ID))), record(body(id=str(ID), project="p"))
    assert not other.is_new
    assert other.record.revision > first.record.revision
    assert other.record.position == first.record.position


def test_a_body_that_comes_back_after_another_is_a_new_revision_again() -> None:
    revisions = [record(body(id=str(ID), project=project)).record.revision for project in ("a", "b", "a")]
    assert revisions == sorted(set(revisions))


def test_a_body_without_an_id_gets_one_and_another_one_each_time() -> None:
    one, other = record(body()).record, record(body()).record
    assert one.id != other.id
    assert orjson.loads(one.body)["id"] == str(one.id)


def test_an_idempotency_key_decides_the_id_of_a_body_without_one() -> None:
    first, again = record(body(), key="k"), record(body(), key="k")
    assert first.record.id == again.record.id
    assert not again.is_new
    assert record(body(), key="other").record.id != first.record.id
    assert record(body(), key="k", tenant="south").record.id != first.record.id
    assert record(body(id=str(ID)), key="k").record.id == ID


def test_each_line_has_an_id_of_its_own_under_one_idempotency_key() -> None:
    line = orjson.dumps(body())
    first, again = (ingest.record_many(get_store(), "north", [line, line], idempotency_key="k") for _ in range(2))
    assert first[0].id != first[1].id
    assert [line.id for line in again] == [line.id for line in first]
    assert record(body(), key="k").record.id == first[0].id


def test_the_cli_that_posts_a_run_twice_has_one_record_with_the_later_totals() -> None:
    first, second = record(CAMEL), record(CAMEL | {"totalCost": 0.03})
    assert (first.is_new, second.is_new) == (True, False)
    assert first.record.id == second.record.id
    assert orjson.loads(second.record.body)["total_cost_usd"] == 0.03


def test_a_bad_line_fails_alone_and_with_its_number() -> None:
    lines = [orjson.dumps(body(id=str(ID))), b"", b"{", b"  \r", orjson.dumps(body(project=7)), orjson.dumps(body())]
    first, broken, wrong, last = ingest.record_many(get_store(), "north", lines)
    assert [line.number for line in (first, broken, wrong, last)] == [1, 3, 5, 6]
    assert isinstance(broken.outcome, InvalidInput)
    assert isinstance(wrong.outcome, InvalidInput)
    assert (broken.outcome.code, wrong.outcome.param) == ("invalid_json", "project")
    assert (first.id, broken.id) == (ID, None)
    assert [record.id for record in rows()] == [ID, last.id]


def test_an_id_twice_in_one_request_is_one_record_as_the_later_line_says() -> None:
    given = [body(id=str(ID)), body(id=str(ID), project="p")]
    first, second = map(accepted, ingest.record_many(get_store(), "north", map(orjson.dumps, given)))
    assert (first.is_new, second.is_new) == (True, False)
    assert second.record.revision > first.record.revision
    assert second.record.recorded_at_us == first.record.recorded_at_us


def test_good_lines_are_accepted_in_one_commit_and_in_order() -> None:
    lines = [orjson.dumps(body(project=str(number))) for number in range(20)]
    taken = [accepted(line).record for line in ingest.record_many(get_store(), "north", lines)]
    assert rows() == taken
    assert [record.stamp for record in taken] == sorted({record.stamp for record in taken})


def test_nothing_but_blank_lines_is_nothing() -> None:
    assert ingest.record_many(get_store(), "north", [b"", b" ", b"\r"]) == []
    assert rows() == []


def test_a_record_at_the_limit_is_accepted_and_a_larger_one_refused(
    settings: Any, trajectories_settings: dict[str, Any]
) -> None:
    limit = 1_000
    settings.TRAJECTORIES = trajectories_settings | {"MAX_RECORD_BYTES": limit}
    room = limit - len(orjson.dumps(body(error="")))
    at_limit = orjson.dumps(body(error="e" * room))
    stored = ingest.record(get_store(), "north", at_limit)
    assert stored.is_new
    assert len(stored.record.body) == limit + ID_BYTES
    shown = answers.whole(stored.record)
    assert not ingest.record(get_store(), "north", shown).is_new
    largest = shown.ljust(limit + SERVER_FIELDS_BYTES)
    assert not ingest.record(get_store(), "north", largest).is_new
    too_large = largest + b" "
    with pytest.raises(TooLarge) as refused:
        ingest.record(get_store(), "north", too_large)
    assert refused.value.code == "record_too_large"
    small, large = ingest.record_many(get_store(), "north", [orjson.dumps(body()), too_large])
    assert accepted(small).is_new
    assert isinstance(large.outcome, TooLarge)


@pytest.mark.parametrize("growing", [{"error": "a://:b@" * 100}, {"metadata": {"a": [1e15] * 100}}])
def test_the_limit_holds_for_the_stored_form_too(
    settings: Any, trajectories_settings: dict[str, Any], growing: dict[str, Any]
) -> None:
    given = orjson.dumps(body(**growing)).replace(b"1000000000000000.0", b"1e15")
    stored = ingest.record(get_store(), "north", given).record
    needed = len(stored.body) - ID_BYTES
    assert needed > len(given)
    settings.TRAJECTORIES = trajectories_settings | {"MAX_RECORD_BYTES": needed}
    assert not ingest.record(get_store(), "north", answers.whole(stored)).is_new
    settings.TRAJECTORIES = trajectories_settings | {"MAX_RECORD_BYTES": needed - 1}
    with pytest.raises(TooLarge, match="the stored form of this one has") as refused:
        ingest.record(get_store(), "north", given)
    assert refused.value.code == "record_too_large"
    assert {row.id for row in rows()} == {stored.id}


def test_a_record_of_too_many_json_values_is_refused_and_a_line_of_them_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trajectories.domain.json_values.MAX_VALUES", 200)
    at_limit, over = (orjson.dumps(body(metadata={"a": [0] * size})) for size in (100, 200))
    with pytest.raises(TooLarge, match="more than 200 JSON values"):
        ingest.record(get_store(), "north", over)
    small, large = ingest.record_many(get_store(), "north", [at_limit, over])
    assert accepted(small).is_new
    assert isinstance(large.outcome, TooLarge)


def test_a_record_with_more_credentials_than_may_be_replaced_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trajectories.domain.redaction.MAX_CREDENTIALS", 3)
    ingest.record(get_store(), "north", orjson.dumps(body(error="a://:b@ " * 3)))
    with pytest.raises(TooLarge, match="more than 3 credentials"):
        ingest.record(get_store(), "north", orjson.dumps(body(error="a://:b@ " * 4)))
    # Two that are only found percent-decoded count with two that are not encoded.
    with pytest.raises(TooLarge, match="more than 3 credentials"):
        ingest.record(get_store(), "north", orjson.dumps(body(error="a://:b@ " * 2 + "a%3A%2F%2F%3Ab%40 " * 2)))


def test_a_record_with_too_many_texts_in_the_place_of_a_credential_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trajectories.domain.redaction.MAX_CANDIDATES", 3)
    ingest.record(get_store(), "north", orjson.dumps(body(error="a://:$PASSWORD@ " * 3)))
    with pytest.raises(TooLarge, match="3 texts in the places of some"):
        ingest.record(get_store(), "north", orjson.dumps(body(error="a://:$PASSWORD@ " * 4)))


def test_the_same_id_belongs_to_each_tenant_by_itself() -> None:
    ours, theirs = record(body(id=str(ID))), record(body(id=str(ID), project="p"), tenant="south")
    assert ours.is_new
    assert theirs.is_new
    assert rows() == [ours.record, theirs.record]
    assert not record(body(id=str(ID))).is_new
    assert rows()[-1].revision == ours.record.revision


def test_a_refused_body_leaves_nothing_behind() -> None:
    with pytest.raises(InvalidInput):
        record(body(project=7))
    assert rows() == []


def test_an_outbox_that_cannot_be_written_takes_nothing_of_a_request(
    settings: Any, trajectories_settings: dict[str, Any]
) -> None:
    settings.TRAJECTORIES = trajectories_settings | {"OUTBOX_MAX_BYTES": 200_000}
    line = orjson.dumps(body(error="e" * 20_000))
    with pytest.raises(OutboxUnavailable) as full:
        ingest.record_many(get_store(), "north", [line] * 50)
    assert isinstance(full.value, TrajectoriesError)
    assert (full.value.status, full.value.code) == (503, "outbox_full")
    assert rows() == []
    assert record(body()).is_new


def test_short_lines_read_a_bounded_part_of_the_large_records_that_they_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "MAX_KNOWN_BYTES", 50_000)
    ids = [str(uuid4()) for _ in range(10)]
    large = [orjson.dumps(body(id=id_, error="e" * 20_000, phases=[phase()])) for id_ in ids]
    ingest.record_many(get_store(), "north", large)
    short = [orjson.dumps(body(id=id_)) for id_ in ids]
    results = [line.outcome for line in ingest.record_many(get_store(), "north", short)]
    assert [type(one) for one in results] == [PhasesDropped] * 3 + [NotRead] * 7
    # Lines as long as what they replace are all compared, and equal ones need not be.
    longer = [orjson.dumps(body(id=id_, error="f" * 20_000, phases=[phase()])) for id_ in ids]
    for given in (longer, longer):
        assert all(isinstance(line.outcome, Accepted) for line in ingest.record_many(get_store(), "north", given))


@pytest.mark.django_db
def test_what_waits_for_the_lock_holds_known_bodies_compressed() -> None:
    first = record(body(error="e" * 100_000))
    get_store().hot_cache.snapshot("north")
    known = get_store().hot_cache.known("north", first.id)
    assert known is not None
    assert len(known.body) < 1_000
    assert not record(body(id=str(first.id), error="f", phases=[])).is_new
