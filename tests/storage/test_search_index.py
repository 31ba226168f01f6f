"""Full-text search in both databases, kept by the writer of the archive."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO

import orjson
import pytest
from django.core.management import call_command
from django.db import connections, transaction

from tests.admin.rows import AT_US, archived, record
from tests.examples import body, phase
from tests.text.injections import INJECTIONS
from trajectories.domain import schema
from trajectories.domain.record import digest_of, tombstone
from trajectories.models import SearchEntry, Trajectory
from trajectories.storage import archive_files, archive_writes, search_index
from trajectories.storage.archive_writes import mirror
from trajectories.workspace import Annotation

pytestmark = pytest.mark.usefixtures("archive_db")


def found(text: str) -> list[str]:
    entries = search_index.matching(text)
    assert entries is not None
    rows = Trajectory.objects.filter(pk__in=entries.values("pk")).order_by("seq")
    assert list(search_index.walked(Trajectory.objects.order_by("seq"), entries)) == list(rows)
    return [orjson.loads(row.body)["request_summary"] for row in rows]


def test_a_run_is_found_by_all_words_of_which_the_last_may_go_on() -> None:
    archived(body(request_summary="first", phases=[phase(model="anthropic/claude-sonnet-4", tools_used=["file_read"])]))
    archived(body(request_summary="second", error="The disk is full", tags=["Écho"]))
    assert found("claude") == found("sonnet file") == found("FILE_READ") == found("first") == ["first"]
    assert found("disk full") == found("ful") == found("écho") == ["second"]
    assert found("clau sonnet") == found("disk claude") == found("echo") == []


def test_nothing_that_is_typed_is_an_operator() -> None:
    for text in INJECTIONS.values():
        archived(body(request_summary=text))
        assert text in found(text)
        assert found(f"{text} otherwise") == []
    assert found('x" OR "NEAR(a b)* -y :*|!&') == []
    assert search_index.matching(" \u202e'\"* ") is None


def test_a_new_version_is_found_by_its_own_words_only() -> None:
    before = record(body(request_summary="before"))
    mirror([before])
    text = schema.canonical(schema.parse(orjson.dumps(body(id=str(before.id), request_summary="after"))))
    mirror([replace(before, body=text, digest=digest_of(text), stamp=AT_US + 1, revision=AT_US + 1)])
    assert (found("before"), found("after")) == ([], ["after"])


def test_a_deleted_run_leaves_no_words_and_no_annotations(archive_db: str) -> None:
    row, other = archived(body(request_summary="gone")), archived(body(request_summary="kept"))
    for one in (row, other):
        Annotation.objects.create(tenant_id="alice", trajectory_id=one.trajectory_id, note="look", author="olga")
    mirror([tombstone("alice", row.trajectory_id, AT_US + 1)])
    assert list(SearchEntry.objects.values_list("pk", flat=True)) == [other.pk]
    assert [note.trajectory_id for note in Annotation.objects.all()] == [other.trajectory_id]


def test_an_erased_tenant_leaves_no_words_and_no_annotations(archive_db: str) -> None:
    row = archived(body(request_summary="gone"))
    Annotation.objects.create(tenant_id="alice", trajectory_id=row.trajectory_id, note="look", author="olga")
    archive_writes.begin_erasure("alice", AT_US)
    while archive_writes.erase_some("alice", 10):
        pass
    archive_writes.end_erasure("alice", AT_US)
    assert not SearchEntry.objects.exists()
    assert not Annotation.objects.exists()
    assert archive_files.compact(is_full=False)


def test_a_batch_that_fails_leaves_no_words() -> None:
    with transaction.atomic(using=archive_writes.alias()):
        archived(body(request_summary="never"))
        transaction.set_rollback(True, using=archive_writes.alias())
    assert not SearchEntry.objects.exists()


def test_rows_from_before_the_index_are_added_by_the_command(archive_db: str) -> None:
    for name in ("old", "older"):
        archived(body(request_summary=name))
    with connections[archive_db].schema_editor() as editor:
        search_index.drop(editor)
        search_index.create(editor, is_backlog=True)
    archived(body(request_summary="new"))
    assert (found("old"), found("new"), search_index.is_complete()) == ([], ["new"], False)
    call_command("fill_search", stdout=(answer := StringIO()))
    assert answer.getvalue() == "Added 2 trajectories to the search.\n"
    assert (found("old"), search_index.is_complete()) == (["old", "older"], True)


def test_a_record_of_many_words_is_archived() -> None:
    errors = [" ".join(f"{'語x' * 30}{at}x{number}" for number in range(3_000)) for at in range(8)]
    archived(body(phases=[phase(error="é" * 60 + error) for error in errors]))
    archived(body(phases=[phase(error=" ".join(f"{'ⴰ' * 55}{number}" for number in range(6_000)))]))
    assert found("ⴰ" * 55) == ["x"]


def test_a_flush_of_the_database_leaves_no_words(archive_db: str) -> None:
    archived(body(request_summary="gone"))
    call_command("flush", interactive=False, database=archive_db, verbosity=0)
    assert not SearchEntry.objects.exists()
