"""Any posted body is refused with a 4xx or exported in its canonical form."""

from __future__ import annotations

from contextlib import suppress
from itertools import count
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from tests import strategies
from tests.api.client import NDJSON, archive_all, client_of, exported, issue, post
from trajectories.domain import answers, dialects
from trajectories.domain.record import Record
from trajectories.domain.schema import canonical
from trajectories.exceptions import InvalidInput, TooLarge
from trajectories.services import ingest
from trajectories.storage.store import get_store

pytestmark = pytest.mark.abuse

BODIES = st.one_of(
    strategies.bodies_of_any_kind,
    strategies.trajectories.map(orjson.dumps),
    strategies.camel_trajectories.map(orjson.dumps),
)
_SUPPRESSED = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]
tenants = (f"tenant-{n}" for n in count())


def as_stored(data: bytes, stored: dict[str, Any]) -> bytes:
    """The export line of a body with what the server adds to it, by nothing but the contract and
    its dialects."""
    trajectory = dialects.read(data)
    body = orjson.loads(canonical(trajectory.model_copy(update={"id": trajectory.id or stored["id"]})))
    return orjson.dumps(body | {key: stored[key] for key in ("recorded_at", "revision", "derived")})


def form_of(data: bytes) -> bytes | None:
    """Return None for a refusal; raise any other error."""
    with suppress(InvalidInput, TooLarge):
        return canonical(dialects.read(data))
    return None


def recorded(tenant: str, data: bytes) -> Record | None:
    """Return None for a refusal; raise any other error."""
    with suppress(InvalidInput, TooLarge):
        return ingest.record(get_store(), tenant, data).record
    return None


@settings(max_examples=60, derandomize=True, database=None, suppress_health_check=_SUPPRESSED)
@given(data=BODIES)
def test_a_posted_body_is_refused_or_exported_in_canonical_form(db: None, data: bytes) -> None:
    north = client_of(issue(next(tenants))[1])
    answer = post(north, data)
    archive_all()
    lines = exported(north)
    event(f"{answer.status_code}")
    if 400 <= answer.status_code < 500:
        assert lines == []
    else:
        assert answer.status_code == 201
        shown = {name: value for name, value in answer.json().items() if name != "warnings"}
        assert lines == [orjson.dumps(shown) + b"\n"]
        assert shown == orjson.loads(as_stored(data, shown))


@settings(max_examples=30, derandomize=True, database=None, suppress_health_check=_SUPPRESSED)
@given(lines=st.lists(BODIES.filter(lambda data: b"\n" not in data), min_size=1, max_size=8))
def test_each_line_is_refused_or_exported_independently_of_the_others(db: None, lines: list[bytes]) -> None:
    north = client_of(issue(next(tenants))[1])
    answer = post(north, b"\n".join(lines), content_type=NDJSON)
    assert answer.status_code == 200
    results = answer.json()["results"]
    assert [result["line"] for result in results] == list(range(1, len(lines) + 1))
    archive_all()
    kept = {record["id"]: record for record in map(orjson.loads, exported(north))}
    taken = {result["id"]: lines[result["line"] - 1] for result in results if result["status"] < 300}
    assert {result["status"] for result in results} <= {200, 201, 400, 413}
    # The last line of a repeated id wins, as in a dict.
    assert kept == {id_: orjson.loads(as_stored(data, kept[id_])) for id_, data in taken.items()}


@settings(max_examples=300, derandomize=True, database=None, suppress_health_check=_SUPPRESSED)
@given(data=BODIES)
def test_a_body_is_refused_with_a_4xx_or_read_back_as_it_is_kept(data: bytes) -> None:
    form = form_of(data)
    assert form is None or canonical(dialects.read(form)) == form


@settings(max_examples=20, derandomize=True, database=None, suppress_health_check=_SUPPRESSED)
@given(bodies=st.lists(BODIES, min_size=1, max_size=20))
def test_many_bodies_come_back_from_the_archive_as_the_bytes_of_their_canonical_form(
    db: None, bodies: list[bytes]
) -> None:
    tenant = next(tenants)
    north = client_of(issue(tenant)[1])
    expected: dict[str, bytes] = {}
    for data in bodies:
        record = recorded(tenant, data)
        if record is not None:
            trajectory = dialects.read(data).model_copy(update={"id": record.id})
            assert record.body == canonical(trajectory)
            expected[str(record.id)] = answers.item(record) + b"\n"
    archive_all()
    assert sorted(exported(north)) == sorted(expected.values())
