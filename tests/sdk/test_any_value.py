"""Whatever a caller records in the background, the store accepts it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import PurePosixPath
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests import strategies
from trajectories.domain import schema
from trajectories.exceptions import InvalidInput
from trajectories_sdk import Client
from trajectories_sdk.adjustments import Adjustments
from trajectories_sdk.models import ErrorProblem
from trajectories_sdk.repair import MAX_ROUNDS, repaired
from trajectories_sdk.testing import InMemoryServer


class _Unprintable:
    """Has no text for the SDK. Hypothesis, which prints failing examples, gets one."""

    def __repr__(self) -> str:
        if "trajectories_sdk" in str(sys._getframe(1).f_globals.get("__name__")):
            raise RuntimeError("no text")
        return "_Unprintable()"


_scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(st.characters()),
    st.binary(max_size=20),
    st.decimals(),
    st.datetimes(),
    st.dates(),
    st.timedeltas(),
    st.uuids(),
    st.fractions(),
    st.complex_numbers(),
    st.sampled_from(["\0", "\ud800", 2**80, Decimal("sNaN"), PurePosixPath("a"), ValueError("\0"), len]),
    st.builds(_Unprintable),
)
_keys = st.one_of(st.text(st.characters()), st.integers(), st.none(), st.tuples(st.integers()), st.binary(max_size=5))
_objects = st.recursive(
    _scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(_keys, inner, max_size=4),
        st.frozensets(st.integers() | st.uuids() | st.builds(_Unprintable), max_size=3),
    ),
    max_leaves=12,
)
_PHASE_FIELDS = sorted(schema.Phase.model_fields)
_RUN_FIELDS = sorted(set(schema.Trajectory.model_fields) - {"id", "phases"})
_phases = st.lists(st.dictionaries(st.sampled_from(_PHASE_FIELDS), _objects, max_size=5) | _objects, max_size=3)
_odd_runs = st.builds(
    lambda fields, phases: {**fields, "phases": phases},
    st.dictionaries(st.sampled_from(_RUN_FIELDS), _objects, max_size=6),
    _phases | _objects,
)


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with InMemoryServer() as server:
        yield server.client()


def _accepted(body: bytes) -> schema.Trajectory:
    """Return the record as the store parses it, after the repairs of the background queue."""
    for attempt in range(MAX_ROUNDS):
        try:
            schema.refuse_repeated_keys(body)
            return schema.parse(body)
        except InvalidInput as refused:
            problems = [ErrorProblem(path=one.path, code=one.code, message=one.message) for one in refused.details]
        mended = repaired(body, problems, attempt)
        assert mended is not None, problems
        body = mended[0]
    return schema.parse(body)


@given(_odd_runs)
@settings(max_examples=strategies.examples(150), suppress_health_check=[HealthCheck.too_slow])
def test_any_object_in_any_field_is_stored_without_an_error(client: Client, run: Any) -> None:
    before = client.queue.counters.refused
    client.trajectories.enqueue(run)
    assert client.queue.counters.refused == before
    _accepted(Adjustments().kept(run)[1])


@given(_objects)
@settings(max_examples=strategies.examples(150), suppress_health_check=[HealthCheck.too_slow])
def test_metadata_of_any_objects_needs_no_repair(value: Any) -> None:
    fields: Any = {"request_summary": "Add auth", "phases": [], "metadata": {"it": value}}
    schema.parse(Adjustments().kept(fields)[1])


@given(strategies.trajectories)
@settings(max_examples=strategies.examples(50))
def test_a_valid_record_is_not_changed(given: Any) -> None:
    adjustments = Adjustments()
    _, body = adjustments.kept(given)
    assert adjustments.replaced == 0
    assert orjson.loads(body) | {"id": None} == given | {"id": None}
