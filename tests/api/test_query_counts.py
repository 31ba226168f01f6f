"""How often an answer asks the database."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client

from tests.api.client import ID, PATH, archive_all, exported, ids, number, post, posted, stats
from tests.examples import body
from trajectories.services import quotas

pytestmark = pytest.mark.usefixtures("redis_tier")

STATS_OF_THE_ARCHIVE = 3 + 1 + 2  # the version of the records, before and at the same moment
"""The runs, the words of their shapes, once of runs and once of phases, and whether there are late
outcomes."""

AUDIT_ENTRY = 4
"""A transaction with the search for an erasure, and the insert."""


@pytest.fixture
def hold_two(settings: Any, trajectories_settings: dict[str, Any]) -> None:
    settings.TRAJECTORIES = trajectories_settings | {"HOT_MAX_RECORDS": 2}


def test_recording_reads_the_key_once(north: Client, django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(4):  # three note that the key was used
        posted(north, body(id=ID))
    with django_assert_num_queries(0):
        posted(north, body(id=ID))
        posted(north, body())


def test_a_tenant_below_its_quotas_records_without_a_query(
    north: Client,
    settings: Any,
    trajectories_settings: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    django_assert_num_queries: Any,
) -> None:
    monkeypatch.setattr(quotas, "_in_thread", lambda look: None)
    monkeypatch.setattr(quotas, "LOOK_AGAIN_EVERY_S", 3_600.0)
    settings.TRAJECTORIES = trajectories_settings | {"QUOTA_RECORDS": {"*": 3}, "QUOTA_BYTES": {"*": 10_000}}
    posted(north, body(id=ID))
    with django_assert_num_queries(0):
        posted(north, body(id=ID, project="p"))
        posted(north, body(id=number(1)))
        posted(north, body())
    # Their ids are new, so nothing is searched. But the archive may know runs that were counted as new.
    for queries in (2, 0, 0):
        with django_assert_num_queries(queries):
            assert post(north, body()).status_code == 403


def test_a_cold_process_fills_itself_with_one_query(north: Client, django_assert_num_queries: Any) -> None:
    posted(north, body(id=ID))
    archive_all()
    with django_assert_num_queries(1):
        assert ids(north) == [ID]
    with django_assert_num_queries(0):
        assert ids(north) == [ID]
        assert ids(north, project="p") == []
        assert stats(north)["count"] == 1
        assert north.get(f"{PATH}/{ID}").status_code == 200
        assert north.get(f"{PATH}/{number(1)}").status_code == 404


@pytest.mark.usefixtures("hold_two")
@pytest.mark.parametrize("count", [3, 30])
def test_a_page_below_the_hot_cache_has_constant_queries(
    north: Client, django_assert_num_queries: Any, count: int
) -> None:
    for of in range(count):
        posted(north, body(id=number(of), phases=[{"phase_name": "spec"}] * 3))
    archive_all()
    ids(north)
    with django_assert_num_queries(0):
        assert len(ids(north, limit=1)) == 1
    with django_assert_num_queries(1):
        assert len(ids(north, limit=1_000)) == count
    with django_assert_num_queries(STATS_OF_THE_ARCHIVE):
        assert stats(north)["count"] == count
    with django_assert_num_queries(1):
        assert stats(north)["count"] == count
    with django_assert_num_queries(STATS_OF_THE_ARCHIVE - 2):  # the scan, and the search for runs with this word
        assert stats(north, tool="none")["count"] == 0


def test_an_export_queries_its_end_once_and_then_each_page_once(north: Client, django_assert_num_queries: Any) -> None:
    for of in range(3):
        posted(north, body(id=number(of)))
    archive_all()
    # The last page is known by the one behind it being empty.
    with django_assert_num_queries(3 + AUDIT_ENTRY):
        assert len(exported(north)) == 3
    with django_assert_num_queries(4 + AUDIT_ENTRY):
        assert len(exported(north, after=number(0))) == 2
