"""The hot cache's estimate of its memory, against what CPython allocates."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import orjson
import pytest
from hypothesis import given, settings

from tests import strategies
from tests.examples import REFERENCE, body, phase
from trajectories.domain import dialects, schema
from trajectories.domain.record import Record, digest_of
from trajectories.storage.tenant_cache import TenantCache

pytestmark = pytest.mark.abuse

RECORDS = 15
FULL = phase(
    agent="product-manager",
    model="anthropic/claude-sonnet-4",
    model_selection_method="thompson-sampling",
    tools_used=["file_read", "grep"],
    input_tokens=1500,
    output_tokens=800,
    cost_usd=0.012,
    duration_ms=2500,
    outcome="success",
)


def rows(given: Sequence[dict[str, Any]]) -> Sequence[Any]:
    """Return rows of records, as a tier stores them."""
    forms = [schema.canonical(dialects.read(orjson.dumps(one))) for one in given]
    return [
        (
            "north",
            UUID(int=number).bytes,
            str(10**15 + number),
            digest_of(form),
            str(10**15),
            str(10**15 + number),
            form,
        )
        for number, form in enumerate(forms)
    ]


def sizes(given: Sequence[dict[str, Any]]) -> tuple[int, int]:
    """Return the estimate for some records, and the memory that they take."""
    stored = rows(given)
    TenantCache().apply(Record.from_row(stored[0]), from_authority=True)  # what the first call alone allocates
    gc.collect()
    tracemalloc.start()
    try:
        cache = TenantCache()
        for *columns, form in stored:
            cache.apply(Record.from_row([*columns, bytes(bytearray(form))]), from_authority=True)
        snapshot = cache.snapshot(is_following=True)
        gc.collect()
        return cache.size, tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
        assert len(snapshot.held) == len(given)


def is_close(given: Sequence[dict[str, Any]]) -> bool:
    estimate, allocated = sizes(given)
    return allocated / 1.3 <= estimate <= allocated * 1.3


@pytest.mark.parametrize(
    "given",
    [
        body(),
        REFERENCE,
        body(phases=[FULL] * 8),
        body(phases=[FULL] * 200),
        body(phases=[phase()] * 200),
        body(phases=[phase(tools_used=["x"] * 500)] * 3),
        body(phases=[phase(tools_used=[f"tool {number}" for number in range(500)])]),
        body(tags=[f"{number}" for number in range(200)]),
        body(request_summary="\ufdfa" * 2_000),
        body(request_summary="\U0001f600" * 2_000),
        body(metadata={"a": "x" * 10_000}),
    ],
    ids=["empty", "reference", "eight", "full", "phases", "letters", "tools", "tags", "ligatures", "emoji", "metadata"],
)
def test_the_estimate_of_a_known_shape_is_close_to_its_memory(given: dict[str, Any]) -> None:
    assert is_close([given] * RECORDS)


@settings(max_examples=strategies.examples(25))
@given(strategies.trajectories)
def test_the_estimate_of_any_shape_is_close_to_its_memory(given: dict[str, Any]) -> None:
    assert is_close([{name: value for name, value in given.items() if name != "id"}] * RECORDS)


def test_the_estimate_of_records_with_names_of_their_own_is_close_to_their_memory() -> None:
    def own(number: int) -> dict[str, Any]:
        tools = [f"{number} tool {at}" for at in range(500)]
        return body(phases=[phase(model=f"model {number}", tools_used=tools)], tags=[f"tag {number}"])

    assert is_close([own(number) for number in range(RECORDS)])
