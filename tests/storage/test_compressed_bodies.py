"""COMPRESS_BODIES: Redis and archive hold frames, and every reader finds the same records."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import orjson
import pytest
from django.test import Client
from pytest_django import Settings
from redis import Redis

from tests.admin.rows import address, page, page_of
from tests.storage.hosts import TENANT, WebProcess, made, new_id
from trajectories import persistence, tasks
from trajectories.conf import read_settings
from trajectories.domain.clock import now_us
from trajectories.domain.compression import compress, decompress
from trajectories.domain.query import Query
from trajectories.domain.record import Record, tombstone
from trajectories.models import Phase, Tenant, Trajectory
from trajectories.services import erasure_audit
from trajectories.storage import archive_reads
from trajectories.storage.archive_credit import fill_credit
from trajectories.storage.archive_writes import mirror, record_of
from trajectories.storage.redis_tier import connect
from trajectories.storage.store import get_store

PHASES = [{"phase_name": "spec", "outcome": "success"}]
STORE = "0123456789ab"
Switch = Callable[[bool], None]


@pytest.fixture
def switch(settings: Settings) -> Switch:
    """Turn the setting on or off, as a restart with other settings does."""

    def turn(is_on: bool) -> None:
        settings.TRAJECTORIES = settings.TRAJECTORIES | {"COMPRESS_BODIES": is_on}

    return turn


def record(text: str = "Add authentication", stamp: int = 10**15) -> Record:
    return made(new_id(), stamp, request_summary=text, phases=PHASES, error="x" * 300)


def test_the_archive_holds_a_frame_and_returns_the_record(archive_db: str, switch: Switch) -> None:
    switch(True)
    one = record()
    assert mirror([one]).stored == [one]
    row = Trajectory.objects.get()
    assert (row.body, decompress(bytes(row.compressed_body or b""))) == ("", one.body)
    assert len(row.compressed_body or b"") < len(one.body) / 2
    assert record_of(row) == one
    assert archive_reads.newest(TENANT, Query(), None, 10) == [one]
    assert archive_reads.find(TENANT, one.id) == one
    assert Tenant.objects.get().body_bytes == len(one.body)


def test_rows_of_both_forms_are_read_revised_and_deleted(archive_db: str, switch: Switch) -> None:
    known = [record(), record()]
    for one, is_on in zip(known, (False, True), strict=True):
        switch(is_on)
        mirror([one])
    revised = [made(one.id, one.stamp + 1, request_summary="Another text", phases=PHASES) for one in known]
    for one, is_on in zip(revised, (True, False), strict=True):
        switch(is_on)
        assert mirror([one]).stored == [replace(one, recorded_at_us=10**15)]
    assert [row.body == "" for row in Trajectory.objects.order_by("seq")] == [True, False]
    assert Tenant.objects.get().body_bytes == sum(len(one.body) for one in revised)
    persistence.delete(get_store(), [replace(one, body=b"", digest="") for one in revised])
    assert Tenant.objects.get().body_bytes == 0


def test_a_body_that_an_earlier_release_wrote_over_a_frame_is_the_record(archive_db: str, switch: Switch) -> None:
    switch(True)
    one = record()
    mirror([one])
    newer = record("Written by an earlier release")
    Trajectory.objects.update(body=newer.body.decode())
    assert Trajectory.objects.get().canonical == newer.body


def test_redis_holds_compressed_and_plain_bodies(redis_tier: Redis, switch: Switch) -> None:
    plain, framed = record(stamp=now_us()), record(stamp=now_us())  # Redis drops older ones
    connect(read_settings(), STORE).merge([plain], from_authority=False)
    switch(True)
    tier = connect(read_settings(), STORE)
    tier.merge([framed], from_authority=False)
    keys = [tier._record_key(TENANT, str(one.id)) for one in (plain, framed)]
    assert [redis_tier.hget(key, "body") for key in keys] == [plain.body, compress(framed.body)]
    switch(False)
    tier = connect(read_settings(), STORE)
    assert tier.find_many(TENANT, [plain.id, framed.id]) == [plain, framed]
    assert [change.record for change in tier.changes_for(TENANT, [framed.id])] == [framed]


def test_the_other_tiers_of_a_host_find_the_records(
    redis_tier: Redis, archive_db: str, switch: Switch, tmp_path: Path
) -> None:
    switch(True)
    process = WebProcess(tmp_path / "own.sqlite3")
    known = [process.record(request_summary=f"Request {number}") for number in range(3)]
    process.persist()
    assert Trajectory.objects.filter(body="").count() == 3
    fresh = WebProcess(tmp_path / "other.sqlite3")
    assert fresh.ids() == process.ids() == [one.id for one in reversed(known)]
    assert persistence.rebuild(get_store()) == 3


def test_the_audit_finds_a_text_in_compressed_bodies_of_others(
    redis_tier: Redis, archive_db: str, switch: Switch, tmp_path: Path
) -> None:
    switch(True)
    process = WebProcess(tmp_path / "own.sqlite3")
    process.record(tenant="bob", request_summary="as Alice said")
    process.persist()
    found = list(erasure_audit.find_traces(process.store, "alice", [b"Alice"]))
    assert next(trace.found for trace in found if trace.place == "archive, records of other tenants") == 1
    assert next(trace.found for trace in found if (trace.place, trace.unit) == ("Redis", "values")) == 1


def test_credit_is_filled_from_frames(archive_db: str, switch: Switch) -> None:
    switch(True)
    mirror([record()])
    Phase.objects.update(credited=None)
    assert fill_credit(Trajectory, Phase, archive_db) == 1
    assert Phase.objects.get().credited == "success"


@pytest.mark.parametrize("is_compressing", [True, False])
def test_a_message_holds_bodies_tombstones_and_outcomes(is_compressing: bool) -> None:
    known = [record(), tombstone(TENANT, new_id(), 10**15), replace(record(), body=b'[{"id":"x"}]')]
    message = tasks.message_of(known, is_compressing=is_compressing)
    assert tasks.records_of(orjson.loads(orjson.dumps(message))) == known
    assert ("{" in str(message[0][-1])) is not is_compressing


@pytest.mark.django_db
def test_the_admin_shows_compressed_records(admin_client: Client, switch: Switch) -> None:
    switch(True)
    one = made(new_id(), 10**15, request_summary="Add authentication", error="out of disk")
    mirror([one])
    assert "Add authentication" in page(admin_client, address("trajectory"))
    shown = page(admin_client, page_of(Trajectory.objects.get()))
    assert "Add authentication" in shown
    assert "out of disk" in shown
    assert orjson.loads(one.body)["id"] in shown
