"""A filter that few runs match asks the words of the search first, and finds what a walk of all
runs finds."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connections
from django.test.utils import CaptureQueriesContext

from tests.storage.hosts import TENANT, made, new_id
from tests.storage.test_plans import fill_many
from trajectories.domain import search_words
from trajectories.domain.query import parse_query
from trajectories.models import SearchEntry, Trajectory
from trajectories.storage import archive_reads, rare_condition, search_index
from trajectories.storage.archive_writes import mirror

FILTERS = ("tag", "tool", "agent", "model", "policy")
AT_US = 10**12


def archive(**fields: Any) -> None:
    mirror([made(new_id(), AT_US, **fields)])


def of(value: str, name: str = "spec") -> dict[str, Any]:
    """A run that has ``value`` for each of FILTERS."""
    phase = {"phase_name": name, "agent": value, "model": value, "tools_used": ["read", value]}
    return {"tags": ["nightly", value], "policy": value, "phases": [phase]}


def found(**filters: str) -> int:
    """The runs of a list, which are those of stats, of an export and of a deletion."""
    query = parse_query(filters, 0)
    listed = len(archive_reads.newest(TENANT, query, None, 100))
    assert archive_reads.summary(TENANT, query, None).as_json()["count"] == listed
    assert len(archive_reads.exported(archive_reads.in_order(TENANT, query), 0, 10**12, 100)) == listed
    assert archive_reads.count_until(TENANT, query, 10**15) == listed
    return listed


def statements(name: str, value: str, alias: str) -> list[str]:
    with CaptureQueriesContext(connections[alias]) as queries:
        archive_reads.newest(TENANT, parse_query({name: value}, 0), None, 100)
    return [one["sql"] for one in queries]


@pytest.mark.parametrize("name", ["tag", "tool"])
def test_an_export_and_a_deletion_of_a_value_that_no_run_has_read_no_run(archive_db: str, name: str) -> None:
    archive(**of("some"))
    query = parse_query({name: "none"}, 0)
    with CaptureQueriesContext(connections[archive_db]) as queries:
        assert archive_reads.exported(archive_reads.in_order(TENANT, query), 0, 10**12, 100) == []
        assert archive_reads.count_until(TENANT, query, 10**15) == 0
    assert not [one["sql"] for one in queries if 'FROM "trajectories_trajectory"' in one["sql"]]


def test_large_records_that_lack_a_common_word_are_not_compared(
    archive_db: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search_index, "RARE", 1)
    monkeypatch.setattr(rare_condition, "LARGE_BYTES", 1)
    for value in ("common", "common", "other", "common more"):
        archive(**of(value))
    query = parse_query({"tool": "common"}, 0)
    rows = rare_condition.narrowed(Trajectory.objects.all(), query, TENANT)
    assert rows.count() == 3
    assert rare_condition.narrowed(Trajectory.objects.all(), query).count() == 4
    assert found(tool="common") == 2
    monkeypatch.setattr(search_index, "WALKED", 2)
    assert rare_condition.narrowed(Trajectory.objects.all(), query, TENANT).count() == 4
    assert found(tool="common") == 2


def explained(sql: str, alias: str) -> str:
    words = "EXPLAIN" if alias == "postgres" else "EXPLAIN QUERY PLAN"
    with connections[alias].cursor() as cursor:
        cursor.execute(f"{words} {sql.replace('%', '%%')}")
        return "\n".join(str(row) for row in cursor.fetchall())


@pytest.mark.abuse  # rows by the thousand
def test_a_rare_value_enters_the_index_of_words_and_then_that_of_keys(archive_db: str) -> None:
    fill_many(archive_db)
    common = [f"word{number}" for number in range(40)]
    pks = Trajectory.objects.values_list("pk", flat=True)
    search_index.put([(pk, [*common, f"own{pk}"]) for pk in pks], archive_db)
    archive(**of("rare/value"))
    is_postgres = archive_db == "postgres"
    with connections[archive_db].cursor() as cursor:
        if is_postgres:  # as a vacuum does
            cursor.execute("SELECT gin_clean_pending_list('trajectories_search_words')")
        cursor.execute("ANALYZE")
    of_words = "trajectories_search_words" if is_postgres else "VIRTUAL TABLE INDEX"
    of_keys = "trajectories_trajectory_pkey" if is_postgres else "PRIMARY KEY (rowid=?)"
    for name in FILTERS:
        words, _, rows = statements(name, "rare/value", archive_db)
        assert of_words in explained(words, archive_db)
        assert of_keys in explained(rows, archive_db)
        assert found(**{name: "rare/value"}) == 1
        assert not [sql for sql in statements(name, "none", archive_db) if '"trajectories_trajectory"' in sql]


@pytest.mark.parametrize("rare", [search_index.RARE, 1])
@pytest.mark.parametrize("large_bytes", [rare_condition.LARGE_BYTES, 1])
@pytest.mark.parametrize("value", ["Claude-4 (new)", "ÉCHO straße", "---", "x" * 100, "日本 model", "a_b"])
def test_a_value_is_found_whatever_its_words_are(
    archive_db: str, value: str, rare: int, large_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search_index, "RARE", rare)
    monkeypatch.setattr(rare_condition, "LARGE_BYTES", large_bytes)
    for one in (value, value, value.swapcase() + "!", f"{value} more"):
        archive(**of(one))
    assert [found(**{name: value}) for name in FILTERS] == [2] * len(FILTERS)
    assert found(tag=value, agent=value, outcome="unknown") == 2
    assert found(tag=value, agent="other") == 0


def test_a_run_whose_words_are_cut_is_found(archive_db: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search_words, "MAX_WORDS", 3)
    archive(**of("last", name="one two three four"))
    assert search_index.candidates(["anything"], archive_db) != []
    assert [found(**{name: "last"}) for name in FILTERS] == [1] * len(FILTERS)


def test_a_run_of_before_the_index_is_found(archive_db: str) -> None:
    archive(**of("value"))
    SearchEntry.objects.all()._raw_delete(archive_db)
    assert found(tag="value") == 0
    search_index._insert(archive_db, [(search_index.BACKLOG, [])])
    assert found(tag="value") == 1
    search_index.fill(archive_db)
    assert rare_condition.narrowed(Trajectory.objects.all(), parse_query({"tag": "none"}, 0)).count() == 0
    assert found(tag="value") == 1


@pytest.mark.parametrize("length", [2, 300])
def test_entries_that_an_earlier_release_has_cut_are_marked(
    archive_db: str, length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the number of words, and by their size."""
    monkeypatch.setattr(search_index, "MAX_WORDS", 4_000)
    monkeypatch.setattr(search_index, "MAX_BYTES", 58_600)
    words = [f"{number:0{4 if length < 9 else length}d}"[-64:] + "x" for number in range(4_000 if length < 9 else 900)]
    for _ in range(2):
        archive()
    cut, whole = Trajectory.objects.order_by("pk").values_list("pk", flat=True)
    search_index.put([(cut, words), (whole, ["short"])], archive_db)
    assert search_index.candidates(["anything"], archive_db) == []
    with connections[archive_db].schema_editor() as editor:
        search_index.mark_cut(editor)
    assert search_index.candidates(["anything"], archive_db) == [cut]
    assert search_index.candidates([words[0]], archive_db) == [cut]
