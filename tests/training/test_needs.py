"""Records that an export does not read: they yield and change no line."""

from __future__ import annotations

from io import StringIO
from itertools import chain
from typing import Any
from uuid import UUID

import orjson
import pytest
from django.core.management import call_command
from django.db import connections
from django.test import override_settings
from django.test.utils import CaptureQueriesContext
from hypothesis import event, given, settings
from hypothesis import strategies as st

from tests.strategies import examples
from tests.training.runs import (
    early_fields,
    late_fields,
    late_outcomes,
    loops,
    outcomes,
    phase,
    phases,
    record,
    run_with_choices,
    stored,
)
from trajectories.domain.export_facts import (
    LATE,
    SHARED,
    VARIED,
    PossiblePairs,
    choice_key,
    facts_of,
    request_digest,
    rewards_of,
)
from trajectories.domain.query import parse_query
from trajectories.domain.record import Record
from trajectories.domain.text import fold
from trajectories.models import Trajectory
from trajectories.services import exports
from trajectories.storage import archive_writes
from trajectories.storage.archive_rows import EXPORT_COLUMNS
from trajectories.testing import IsolatedStore, isolated_store
from trajectories.training import export, formats
from trajectories.training.formats.of_decisions import NOTHING_ELSE_EARNED, NOTHING_TO_COMPARE
from trajectories.training.run import Run
from trajectories.training.seen import Seen
from trajectories.training.splits import SPLIT_BY

OPTIONS: dict[str, tuple[str, ...]] = {
    "credit": ("checks", "phase_outcome", "run_outcome"),
    "reward_outcome": ("merged", "rating"),
    "min_reward": ("0.25", "0.5", "0.75", "1"),
    "pair_by": ("request", "type"),
    "kind": ("sft", "dpo"),
    "assume_propensity": ("0.5",),
    "usd_weight": ("1",),
    "calls": ("text",),
}
_words = st.sampled_from(["large", "small"])
_outcomes = st.sampled_from(["success", "failure", "partial", "unknown"])
_attempts = st.lists(st.fixed_dictionaries({"model": _words, "outcome": _outcomes}), max_size=3)
_tried = st.fixed_dictionaries({}, optional={"attempts": _attempts, "attempt": st.integers(0, 2), "model": _words})
_runs = st.builds(
    lambda made, early, late, back, checked: early | late | checked | {"phases": made, "feedback_loops": back},
    st.lists(st.builds(lambda one, tried: one | tried, phases, _tried), max_size=3),
    early_fields,
    late_fields,
    loops,
    st.fixed_dictionaries({}, optional={"build_passed": st.booleans(), "critical_findings": st.integers(0, 1)}),
)
_summaries = st.sampled_from(["Fix it", " fix  IT", "Write it"])


@st.composite
def requests(draw: st.DrawFn) -> tuple[str, dict[str, str]]:
    format_ = formats.get(draw(st.sampled_from(sorted(formats.FORMATS))))
    names = draw(st.lists(st.sampled_from(sorted(format_.options)), unique=True)) if format_.options else []
    return format_.name, {name: draw(st.sampled_from(OPTIONS[name])) for name in names}


def kept(records: list[Record], needs: tuple[exports.Need, ...]) -> list[Record]:
    """Return the records that an export of these reads."""
    bodies = [orjson.loads(one.body) for one in records]
    keys = [request_digest(fold(body["request_summary"]), body.get("request_type")) for body in bodies]
    needed, pairs = exports.Choice(needs).facts, PossiblePairs()
    facts = [
        facts_of(body) | (SHARED if keys.count(key) > 1 else 0) | (LATE if one.outcomes else 0)
        for one, body, key in zip(records, bodies, keys, strict=True)
    ]
    for body, has in zip(bodies, facts, strict=True):
        # As the archive does: one example of each key, and what all runs of that key may have earned.
        pairs.add(body, rewards_of(has, needed))
    alone = pairs.without()
    facts = [has | (choice_key(body) not in alone and VARIED) for body, has in zip(bodies, facts, strict=True)]
    return [one for one, has in zip(records, facts, strict=True) if all(has & need.facts for need in needs)]


@settings(max_examples=examples(200))
@given(st.lists(st.tuples(_runs, _summaries, late_outcomes), min_size=1, max_size=4), requests())
def test_a_record_that_lacks_what_a_format_needs_changes_no_line(
    runs: list[tuple[dict[str, Any], str, list[tuple[str, Any, str | None]]]], request: tuple[str, dict[str, str]]
) -> None:
    records = [
        stored(run | {"id": str(UUID(int=number)), "request_summary": summary}).with_outcomes(outcomes(late))
        for number, (run, summary, late) in enumerate(runs, 1)
    ]
    format_ = formats.get(request[0])
    options = format_.read_options(request[1])
    read = kept(records, format_.needs(options))
    assert list(format_.lines(read, options)) == list(format_.lines(records, options))


_choices = st.fixed_dictionaries(
    {"phase_name": st.sampled_from(["implement", "Code", "spec"]), "outcome": _outcomes | st.just("skipped")},
    optional={"model": _words, "requested_model": _words, "agent": _words, "attempts": _attempts},
)
_of_types = st.builds(
    lambda phase, more, kind: {"phases": [phase, *more]} | kind,
    _choices,
    st.lists(_choices, max_size=1),
    st.fixed_dictionaries({}, optional={"request_type": _words, "outcome": st.sampled_from(["success", "failure"])}),
)


@settings(max_examples=examples(300))
@given(
    st.lists(st.tuples(_of_types, late_outcomes), min_size=2, max_size=6),
    st.fixed_dictionaries(
        {"pair_by": st.just("type")},
        optional={"credit": st.sampled_from(OPTIONS["credit"]), "reward_outcome": st.just("rating")},
    ),
    st.sampled_from([{}, {"spec": "implement"}, {"code": "spec"}]),
)
def test_a_run_in_whose_phases_nothing_else_was_earned_is_in_no_pair(
    runs: list[tuple[dict[str, Any], list[tuple[str, Any, str | None]]]],
    given: dict[str, str],
    aliases: dict[str, str],
) -> None:
    records = [
        stored(run | {"id": str(UUID(int=number)), "request_summary": "Fix it"}).with_outcomes(outcomes(late))
        for number, (run, late) in enumerate(runs, 1)
    ]
    format_ = formats.get("dpo")
    options = format_.read_options(given)
    with override_settings(TRAJECTORIES={"PHASE_ALIASES": aliases}):
        read = kept(records, format_.needs(options))
        found = list(format_.lines(records, options))
        assert list(format_.lines(read, options)) == found
    event(f"{bool(found)} pairs, {len(read) < len(records)} left out")


TENANT = "north"
BARE, FAILED, CHOSEN = (
    record(phase("implement", "unknown", model="m"), number=1, request_summary="one"),
    record(phase("implement", "failure", model="m"), number=2, request_summary="two"),
    run_with_choices(3),
)
EARLIER = dict.fromkeys(EXPORT_COLUMNS)
"""The columns of a row that a process of an earlier release has written."""
REQUESTS = ({"format": "dpo"}, {"format": "routing-table"}, {"format": "kto"}, {"format": "verl"}, {"format": "dsjson"})


@pytest.fixture
def store(archive_db: str) -> Any:
    with isolated_store() as store:
        yield store


def archived(*records: Record) -> None:
    archive_writes.mirror([*records])


def lines(store: IsolatedStore, given: dict[str, str]) -> bytes:
    return b"".join(export.export(store, TENANT, export.parse_request(given, store.now_us())))


@pytest.mark.parametrize("given", REQUESTS, ids=lambda given: given["format"])
def test_an_export_has_the_same_bytes_and_reads_only_what_it_needs(
    store: IsolatedStore, given: dict[str, str], archive_db: str
) -> None:
    archived(BARE, FAILED, CHOSEN)
    request = export.parse_request(given, store.now_us())
    expected = b"".join(request.format.lines([BARE, FAILED, CHOSEN], request.options))
    with CaptureQueriesContext(connections[archive_db]) as captured:
        assert lines(store, given) == expected
    assert expected or given["format"] == "routing-table"
    pages = list(exports.export_pages(store, TENANT, parse_query({}, 0), choice=request.choice(Seen())).pages)
    read = [one.id.int for page in pages for one in page.records]
    assert 1 not in read
    assert 3 in read
    assert sum(page.count for page in pages) == 3
    assert pages[-1].last == CHOSEN.id
    assert all("LIMIT 400" not in one["sql"] for one in captured.captured_queries)


def test_a_manifest_counts_records_that_were_not_read(store: IsolatedStore) -> None:
    archived(BARE, FAILED, CHOSEN)
    found = export.manifest(store, TENANT, export.parse_request({"format": "dpo"}, store.now_us()))
    assert (found.records_read, found.records) == (3, 1)
    assert found.left_out["run without a decision whose reward is known"] == 1
    assert found.left_out["run of one model whose request no other run has"] == 1


@pytest.mark.parametrize("by", SPLIT_BY)
@pytest.mark.parametrize("part", ["train", "test", None])
@pytest.mark.parametrize("shares", ["train=0.6,test=0.4", "train=0.3,test=0.3"], ids=["all", "some"])
def test_a_part_of_a_split_reads_its_own_runs_only(
    store: IsolatedStore, archive_db: str, by: str, part: str | None, shares: str
) -> None:
    sessions = ({"session_id": f"s{n % 7}"} if n % 2 else {"parent_id": str(UUID(int=n + 1))} for n in range(1, 41))
    projects = ({"project": f"p{n % 5}"} if n % 4 else {} for n in range(1, 41))
    records = [
        record(phase("implement"), number=n, **session, **project)
        for n, (session, project) in enumerate(zip(sessions, projects, strict=True), 1)
    ]
    archived(*records)
    rows = Trajectory.objects.using(archive_db)
    rows.filter(trajectory_id=records[7].id).update(**EARLIER)
    rows.filter(trajectory_id=records[8].id).update(project_bucket=None)
    given = {"split": shares, "split_by": by} | ({"part": part} if part else {})
    request = export.parse_request(given, store.now_us())
    assert request.split is not None
    parts = {one.id: request.split.part_of(Run(one)) for one in records}
    wanted = [one for one in records if parts[one.id] is not None and part in (None, parts[one.id])]
    assert lines(store, given) == b"".join(request.format.lines(wanted, request.options))
    pages = list(exports.export_pages(store, TENANT, parse_query({}, 0), choice=request.choice(Seen())).pages)
    assert {one.id for page in pages for one in page.records} == {one.id for one in wanted}
    found = export.manifest(store, TENANT, request)
    assert (found.records_read, found.records) == (40, len(wanted))
    assert found.left_out.get("in no part of the split", 0) == list(parts.values()).count(None)


def test_two_runs_of_one_request_are_compared(store: IsolatedStore) -> None:
    good, bad = (
        record(phase("implement", outcome, model=model), number=number)
        for number, model, outcome in ((1, "m", "success"), (2, "n", "failure"))
    )
    archived(good, bad)
    assert lines(store, {"format": "dpo"}).count(b"\n") == 1
    assert lines(store, {"format": "routing-table"}).count(b"\n") == 2


def test_what_exports_decide_by_is_computed_for_rows_of_an_earlier_release(
    store: IsolatedStore, archive_db: str
) -> None:
    archived(BARE, FAILED, CHOSEN)
    rows = Trajectory.objects.using(archive_db).order_by("seq")
    known = list(rows.values_list(*EXPORT_COLUMNS))
    rows.filter(seq=1).update(**EARLIER)
    rows.filter(seq=2).update(export_facts=511)  # a worker of that release has replaced the body
    rows.filter(seq=3).update(**EARLIER)
    request = export.parse_request({"format": "dpo"}, store.now_us())

    def read() -> list[int]:
        pages = exports.export_pages(store, TENANT, parse_query({}, 0), choice=request.choice(Seen())).pages
        return [one.id.int for one in chain.from_iterable(page.records for page in pages)]

    assert read() == [2, 3]
    call_command("fill_credit", stdout=(answer := StringIO()))
    assert "facts of 3 trajectories" in answer.getvalue()
    assert list(rows.values_list(*EXPORT_COLUMNS)) == known
    assert read() == [3]


def alike(pair_by: str) -> list[Record]:
    """Return runs of a model for each phase: whatever they earned, no action is better than another."""
    return [
        record(
            phase("spec", model="a"),
            phase("implement", outcome, model="b"),
            number=number,
            request_summary="one" if pair_by == "request" else f"{number}",
        )
        for number, outcome in enumerate(("success", "failure", "partial"), 1)
    ]


@pytest.mark.parametrize("pair_by", ["request", "type"])
@pytest.mark.parametrize(
    ("more", "is_read"),
    [
        ({}, []),
        ({"model": "c", "outcome": "success", "request_type": "other"}, []),
        ({"model": "c", "outcome": "success"}, [1, 2, 3, 9]),
        ({"model": "b", "outcome": "success", "agent": "other"}, [1, 2, 3, 9]),
        ({"model": "b", "outcome": "success", "phase_name": "Code"}, [1, 2, 3, 9]),
        ({"outcome": "skipped"}, [1, 2, 3, 9]),
    ],
)
def test_pairs_read_the_runs_of_which_another_action_has_earned_something_else(
    store: IsolatedStore, archive_db: str, more: dict[str, Any], is_read: list[int], pair_by: str
) -> None:
    fields = {name: more[name] for name in more if name == "request_type"}
    of_phase = {"phase_name": "implement"} | {name: more[name] for name in more if name not in fields}
    outcome = "failure" if of_phase.get("outcome") == "skipped" else "success"
    other = record(phase("spec", model="a"), of_phase, number=9, outcome=outcome, request_summary="one", **fields)
    runs = [*alike(pair_by), *([other] if more else ())]
    archived(*runs)
    given = {"format": "dpo", "pair_by": pair_by}
    request = export.parse_request(given, store.now_us())
    pages = list(exports.export_pages(store, TENANT, parse_query({}, 0), choice=request.choice(Seen())).pages)
    assert [one.id.int for page in pages for one in page.records] == is_read
    expected = b"".join(request.format.lines(runs, request.options))
    assert lines(store, given) == expected
    left_out = export.manifest(store, TENANT, request).left_out
    reasons = NOTHING_ELSE_EARNED, NOTHING_TO_COMPARE
    assert sum(left_out.get(reason, 0) for reason in reasons) == len(runs) - len(is_read)
    if not is_read:
        again = export.parse_request(given | {"dedupe": "1"}, store.now_us())
        assert sum(export.manifest(store, TENANT, again).left_out.values()) == len(runs)
    Trajectory.objects.using(archive_db).filter(seq=1).update(**EARLIER)
    assert lines(store, given) == expected


@pytest.mark.parametrize("pair_by", ["request", "type"])
@pytest.mark.parametrize("more", [{}, {"split": "train=1"}], ids=["whole", "split"])
def test_runs_without_a_pair_are_counted_from_any_run_on(
    store: IsolatedStore, archive_db: str, pair_by: str, more: dict[str, str]
) -> None:
    runs = alike(pair_by)
    request = export.parse_request({"format": "dpo", "pair_by": pair_by} | more, store.now_us())
    assert export.manifest(store, TENANT, request).left_out == {}
    archived(*runs)
    for at in range(len(runs) + 1):
        after, choice = runs[at - 1].id if at else None, request.choice(Seen())
        pages = list(exports.export_pages(store, TENANT, parse_query({}, 0), choice=choice, after=after).pages)
        assert sum(page.count for page in pages) == len(runs) - at
        assert pages[-1].last == (runs[-1].id if runs[at:] else None)


@pytest.mark.parametrize("pair_by", ["request", "type"])
def test_pairs_read_all_runs_where_choices_vary(store: IsolatedStore, pair_by: str) -> None:
    runs = [record(phase("implement", model=f"m{number}"), number=number) for number in range(1, 31)]
    archived(*runs)
    request = export.parse_request({"format": "dpo", "pair_by": pair_by}, store.now_us())
    pages = exports.export_pages(store, TENANT, parse_query({}, 0), choice=request.choice(Seen())).pages
    assert sum(len(page.records) for page in pages) == 30
