"""A batch in the archive: its statements do not depend on its tenants, and batches never wait for
each other."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connections, transaction
from django.test.utils import CaptureQueriesContext

from tests.processes import wait_until
from tests.storage.hosts import made, new_id
from trajectories.domain.record import tenant_digest, tombstone
from trajectories.models import Erasure, Phase, Tenant, Trajectory
from trajectories.storage import archive_batch, archive_rows
from trajectories.storage.archive_writes import mirror

PHASES = [{"phase_name": "spec", "tools_used": ["grep"]}, {"phase_name": "test", "outcome": "success"}]

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "postgres"])


def statements(alias: str, tenants: int) -> int:
    """Return how many statements it takes to write a new record and another version for each of
    ``tenants`` tenants."""
    slugs = [f"tenant-{tenants}-{number:03}" for number in range(tenants)]
    old = [made(new_id(), 5, tenant=slug, phases=PHASES) for slug in slugs]
    mirror(old)
    news = [made(one.id, 6, tenant=one.tenant, phases=PHASES[:1], error="late") for one in old]
    with CaptureQueriesContext(connections[alias]) as captured:
        stored = mirror([*news, *(made(new_id(), 7, tenant=slug, phases=PHASES) for slug in slugs)]).stored
    assert len(stored) == 2 * tenants
    rows = Trajectory.objects.filter(tenant__in=slugs)
    assert sorted(rows.values_list("tenant", "seq", "changed")) == [
        found for slug in slugs for found in [(slug, 1, 2), (slug, 2, 3)]
    ]
    assert Phase.objects.filter(trajectory__tenant__in=slugs).count() == 3 * tenants
    assert {(one.record_count, one.last_seq, one.last_changed) for one in Tenant.objects.filter(pk__in=slugs)} == {
        (2, 2, 3)
    }
    return len({query["sql"].partition("(")[0] for query in captured.captured_queries})


def test_a_batch_of_many_tenants_takes_the_statements_of_one(archive_db: str) -> None:
    assert statements(archive_db, 40) == statements(archive_db, 1)


def test_one_batch_deletes_and_stores_for_tenants_that_are_new_known_and_erased(archive_db: str) -> None:
    known, gone = made(new_id(), 1, tenant="alice", phases=PHASES), made(new_id(), 1, tenant="bob", phases=PHASES)
    mirror([known, gone])
    Erasure.objects.create(digest=tenant_digest("erased"), stamp=1)
    late, first = made(new_id(), 2, tenant="erased"), made(known.id, 2, tenant="carol", phases=PHASES)
    written = mirror([first, late, known, tombstone("bob", gone.id, 3), made(gone.id, 4, tenant="alice")])
    assert [(one.tenant, one.id) for one in written.stored] == [
        ("alice", known.id),
        ("alice", gone.id),
        ("carol", known.id),
    ]
    assert (written.deleted, written.erased) == ([tombstone("bob", gone.id, 3)], [late])
    assert (written.gone.archive, Phase.objects.count()) == (1, 4)
    assert not Tenant.objects.filter(pk="erased").exists()
    counts = dict(Tenant.objects.values_list("pk", "record_count"))
    assert counts == {"alice": 2, "bob": 0, "carol": 1}
    assert Tenant.objects.get(pk="bob").body_bytes == 0


def test_a_row_is_found_by_its_key_among_any_rows(archive_db: str) -> None:
    mirror([made(new_id(), 1, tenant="alice") for _ in range(500)])
    with connections[archive_db].cursor() as cursor:
        cursor.execute("ANALYZE")
        clause, values = archive_rows.wanted([("alice", new_id()), ("bob", new_id())])
        explain = "EXPLAIN QUERY PLAN" if cursor.db.vendor == "sqlite" else "EXPLAIN"
        cursor.execute(f"{explain} {clause} SELECT held.id {archive_rows.of_wanted(Trajectory)}", values)
        plan = str(cursor.fetchall())
    assert "(tenant_id=? AND trajectory_id=?)" in plan or "trajectories_once_per_tenant" in plan


@pytest.mark.parametrize("archive_db", ["postgres"], indirect=True)
def test_tenants_are_locked_in_order_of_their_slugs(archive_db: str) -> None:
    Tenant.objects.bulk_create(Tenant(pk=slug) for slug in ("zoe", "alice"))

    def write() -> None:
        try:
            mirror([made(new_id(), 1, tenant="zoe"), made(new_id(), 1, tenant="alice")])
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic(using=archive_db):
            archive_batch.locked(["alice"])
            writing = pool.submit(write)
            with connections[archive_db].cursor() as cursor:

                def is_waiting() -> bool:
                    cursor.execute("SELECT pg_stat_clear_snapshot()")
                    cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
                    return bool(cursor.fetchone()[0])

                wait_until(is_waiting, 30, "the other batch waits")
            # The other batch waits for the first slug and has not locked the second one.
            Tenant.objects.select_for_update(nowait=True).get(pk="zoe")
        writing.result(timeout=30)
    assert Trajectory.objects.count() == 2
