"""Exports without duplicates, and all that decides on a record without its body, against exports that
read everything."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from django.core.management import call_command
from django.db import connections
from django.test.utils import CaptureQueriesContext
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from tests.strategies import examples
from tests.training.runs import late_outcomes, outcomes, phase, phases, record, stored
from tests.training.test_needs import EARLIER, requests
from trajectories.domain.export_facts import content_key_of, request_key
from trajectories.domain.outcomes import phase_group
from trajectories.domain.record import Record
from trajectories.models import Trajectory
from trajectories.services import exports
from trajectories.storage import archive_writes
from trajectories.testing import IsolatedStore, isolated_store
from trajectories.training import export, seen
from trajectories.training.checkpoint import Checkpoint
from trajectories.training.run import Run
from trajectories.training.seen import Seen

TENANT = "north"


@pytest.fixture
def store(archive_db: str) -> Iterator[IsolatedStore]:
    with isolated_store() as store:
        yield store


def lines(store: IsolatedStore, given: dict[str, str], tenant: str = TENANT) -> bytes:
    return b"".join(export.export(store, tenant, export.parse_request(given, store.now_us())))


def content(run: Run) -> tuple[Any, ...]:
    """Return what duplicates have in common."""
    of_phases = [
        (phase_group(one["phase_name"]), one.get("agent"), one.get("model"), one.get("outcome"))
        for one in run.fields["phases"]
    ]
    return request_key(run.fields["request_summary"]), run.fields.get("request_type"), tuple(of_phases)


def selected(records: Sequence[Record], request: export.Request) -> tuple[list[Record], Counter[str]]:
    """Return the records of an export that reads all bodies, and the reasons of the others."""
    chosen, left_out, known = list[Record](), Counter[str](), set[tuple[Any, ...]]()
    for one in records:
        run = Run(one)
        part = request.split and request.split.part_of(run)
        if request.split and part is None:
            left_out["in no part of the split"] += 1
        elif request.part not in (None, part):
            left_out["in another part of the split"] += 1
        elif request.is_deduplicated and content(run) in known:
            left_out["duplicate"] += 1
        else:
            known.add(content(run))
            chosen.append(one)
    return chosen, left_out


_runs = st.fixed_dictionaries(
    {
        "request_summary": st.sampled_from(["Fix it", " fix  IT", "Write it"]),
        "phases": st.lists(
            st.sampled_from([phase("spec"), phase("test", "unknown"), phase("Code", model="m")]) | phases
        ),
    },
    optional={
        "request_type": st.sampled_from(["a", "b"]),
        "session_id": st.sampled_from("abc"),
        "project": st.sampled_from("abc"),
    },
)
_selections = st.fixed_dictionaries({}, optional={"dedupe": st.just("1")})
_splits: st.SearchStrategy[dict[str, str]] = st.just({}) | st.fixed_dictionaries(
    {"split": st.sampled_from(["train=0.5,test=0.5", "train=0.4,test=0.3"])},
    optional={"part": st.sampled_from(["train", "test"]), "split_by": st.sampled_from(["session", "project"])},
)
_tenants = (f"tenant-{number}" for number in count())


@settings(max_examples=examples(40), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(_runs, late_outcomes, st.sampled_from([0, 0, 0, 1])), max_size=6),
    requests() | st.just(("jsonl", {})),
    _selections,
    _splits,
)
def test_an_export_has_the_lines_of_one_that_reads_all_records(
    store: IsolatedStore,
    archive_db: str,
    runs: list[tuple[dict[str, Any], list[tuple[str, Any, str | None]], int]],
    form: tuple[str, dict[str, str]],
    selection: dict[str, str],
    split: dict[str, str],
) -> None:
    tenant, lacking = next(_tenants), [number for number, (*_, lacks) in enumerate(runs, 1) if lacks]
    records = [
        replace(stored(run | {"id": str(UUID(int=number))}).with_outcomes(outcomes(late)), tenant=tenant)
        for number, (run, late, _) in enumerate(runs, 1)
    ]
    archive_writes.mirror(records)
    Trajectory.objects.using(archive_db).filter(tenant=tenant, seq__in=lacking).update(**EARLIER)
    given = {"format": form[0], **form[1], **selection, **split}
    request = export.parse_request(given, store.now_us())
    chosen, left_out = selected(records, request)
    assert lines(store, given, tenant) == b"".join(request.format.lines(chosen, request.options))
    found = export.manifest(store, tenant, request)
    assert found.records_read == len(runs)
    assert {name: found.left_out.get(name, 0) for name in left_out} == left_out
    event(f"{left_out['duplicate']} duplicates")


def test_a_duplicate_is_left_out_without_reading_its_body(store: IsolatedStore, archive_db: str) -> None:
    runs = [record(phase("implement"), number=number, error=f"{number}") for number in range(1, 4)]
    archive_writes.mirror(runs)
    request = export.parse_request({"dedupe": "1"}, store.now_us())
    with CaptureQueriesContext(connections[archive_db]) as captured:
        pages = list(exports.export_pages(store, TENANT, request.query, choice=request.choice(Seen())).pages)
    assert [one.id.int for page in pages for one in page.records] == [1]
    assert sum((page.left_out for page in pages), Counter()) == {"duplicate": 2}
    assert sum("compressed_body" in one["sql"] for one in captured.captured_queries) == 1


def test_a_record_without_a_line_is_what_a_later_one_repeats(store: IsolatedStore) -> None:
    unknown, known, other = (
        record(phase("spec", "unknown"), number=number, request_summary=summary, **more)
        for number, summary, more in ((1, "a", {}), (2, "A", {"tests_passed": True}), (3, "b", {"tests_passed": True}))
    )
    archive_writes.mirror([unknown, known, other])
    given = {"format": "kto", "dedupe": "1"}
    request = export.parse_request(given, store.now_us())
    assert lines(store, given) == b"".join(request.format.lines([other], request.options)) != b""
    found = export.manifest(store, TENANT, request)
    assert (found.records_read, found.records) == (3, 1)
    assert found.left_out == {"duplicate": 1, "run without a decision whose reward is known": 1}


def test_duplicates_are_of_one_part(store: IsolatedStore) -> None:
    records = [record(phase("spec"), number=number, project=f"p{number}") for number in range(1, 9)]
    archive_writes.mirror(records)
    for part in ("train", "test"):
        given = {"split": "train=0.5,test=0.5", "split_by": "project", "part": part, "dedupe": "1"}
        assert lines(store, given).count(b"\n") == 1
    assert lines(store, {"split": "train=0.5,test=0.5", "split_by": "project", "dedupe": "1"}).count(b"\n") == 1


def test_phases_are_grouped_as_they_were_when_they_were_recorded(
    store: IsolatedStore, settings: Any, trajectories_settings: dict[str, Any]
) -> None:
    archive_writes.mirror([record(phase("qa"), number=1), record(phase("verify"), number=2)])
    assert lines(store, {"dedupe": "1"}).count(b"\n") == 2
    settings.TRAJECTORIES = trajectories_settings | {"PHASE_ALIASES": {"qa": "test"}}
    assert lines(store, {"dedupe": "1"}).count(b"\n") == 2
    call_command("fill_credit")
    assert lines(store, {"dedupe": "1"}).count(b"\n") == 1
    archive_writes.mirror([record(phase("test"), number=3)])
    assert lines(store, {"dedupe": "1"}).count(b"\n") == 1


def test_selected_runs_are_exported_without_duplicates(store: IsolatedStore) -> None:
    runs = [record(phase("implement"), number=number, error=f"{number}") for number in range(1, 4)]
    request = export.parse_request({"dedupe": "1"}, store.now_us())
    pages = (exports.Page([one]) for one in runs)
    assert b"".join(export.export_selected(store, TENANT, request, pages)).count(b"\n") == 1


def test_contents_differ_by_what_is_compared() -> None:
    one: dict[str, Any] = {"request_summary": "Fix  it", "phases": [phase("spec", agent="a", model="m")]}
    same = {"request_summary": "fix it", "phases": [phase("Spec ", agent="a", model="m", cost_usd=1)], "project": "p"}
    other: list[dict[str, Any]] = [
        {"request_summary": "Fix"},
        {"request_type": "bugfix"},
        {"phases": []},
        {"phases": [phase("test", agent="a", model="m")]},
        {"phases": [phase("spec", agent="b", model="m")]},
        {"phases": [phase("spec", agent="a", model="n")]},
        {"phases": [phase("spec", agent="m", model="a")]},
        {"phases": [phase("spec", "failure", agent="a", model="m")]},
        {"phases": [*one["phases"], *one["phases"]]},
    ]
    assert content_key_of(one) == content_key_of(same)
    assert len({content_key_of(one), *(content_key_of(one | more) for more in other)}) == 1 + len(other)


# What was seen.

KEYS = [7, -7, 2**63 - 1, -(2**63), 0, 1, 2]


def test_more_keys_than_memory_may_have_are_in_a_temporary_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seen, "_MOST", 3)
    with Seen() as known:
        assert [known.is_new(key) for key in KEYS * 2] == [True] * len(KEYS) + [False] * len(KEYS)


def test_an_export_that_goes_on_has_seen_what_was_committed(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"
    one = Checkpoint(path)
    assert [one.seen.is_new(key) for key in (1, 2)] == [True, True]
    one.commit({})
    assert [one.seen.is_new(key) for key in (2, 3)] == [False, True]
    one.close()
    other = Checkpoint(path)
    assert [other.seen.is_new(key) for key in (1, 2, 3, 3)] == [False, False, True, False]
    other.delete()
