"""Canonical → ATIF → canonical and canonical → Parquet → canonical lose nothing."""

from __future__ import annotations

import io
from typing import Any
from uuid import uuid4

import atif
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import strategies
from tests.training import runs
from tests.training.runs import run_with_choices, stored
from trajectories.domain.record import Record
from trajectories.domain.schema import Trajectory, canonical, parse
from trajectories.training import formats, parquet
from trajectories.training.columns import of_contract
from trajectories.training.formats.atif import document, fields_of
from trajectories.training.formats.jsonl import canonical as canonical_of
from trajectories.training.run import Run

runs_of_choices = st.builds(
    lambda phases, early, late, loops: (
        {"request_summary": "s", "phases": phases, "feedback_loops": loops} | early | late
    ),
    st.lists(runs.phases, max_size=4),
    runs.early_fields,
    runs.late_fields,
    runs.loops,
)
any_run = strategies.trajectories | runs_of_choices


def as_stored(given: dict[str, Any]) -> Record:
    return stored(given | {"id": given.get("id") or str(uuid4())})


@settings(max_examples=50)
@given(any_run)
def test_canonical_to_atif_and_back_is_the_same_bytes(given: dict[str, Any]) -> None:
    record = as_stored(given)
    made = orjson.loads(orjson.dumps(document(str(record.id), Run(record).fields)))
    checked = atif.Trajectory.model_validate(made)
    assert canonical(parse(orjson.dumps(fields_of(made)))) == record.body
    # The package keeps every field that it knows, so its own JSON can be read back too.
    assert canonical(parse(orjson.dumps(fields_of(checked.to_json_dict())))) == record.body


@settings(max_examples=50)
@given(st.lists(any_run, min_size=1, max_size=3))
def test_canonical_to_parquet_and_back_is_the_same_bytes(given: list[dict[str, Any]]) -> None:
    records = [as_stored(one) for one in given]
    format_ = formats.get("jsonl")
    file = b"".join(parquet.encoded(format_.lines(records, {}), format_.columns({}), "zstd"))
    rows = pq.read_table(io.BytesIO(file)).to_pylist()
    assert [canonical_of(row) for row in rows] == [record.body for record in records]


def test_parquet_has_a_column_of_every_field_of_the_contract_in_its_order() -> None:
    schema = parquet.schema_of(of_contract())
    assert schema.names == list(Trajectory.model_fields)
    phase = schema.field("phases").type.value_type
    assert [field.name for field in phase] == list(orjson.loads(orjson.dumps(of_contract()["phases"]))[0])
    assert (phase.field("cost_usd").type, phase.field("metadata").type) == (pa.float64(), pa.string())
    assert schema.field("started_at").type == pa.timestamp("us", "UTC")


def test_an_atif_document_has_an_agent_step_a_phase_and_a_system_step_a_skip() -> None:
    record = run_with_choices()
    checked = atif.Trajectory.model_validate(document(str(record.id), Run(record).fields))
    assert [step.source for step in checked.steps] == ["user", "agent", "agent", "system", "agent"]
    assert checked.steps[3].message == "Skipped review: small change"
    assert [one.trajectory_id for one in checked.subagent_trajectories or ()] == [
        f"{record.id}/{at}" for at in (0, 1, 3)
    ]
    spec = (checked.subagent_trajectories or [])[0]
    assert (spec.agent.name, spec.agent.model_name) == ("analyst", "small")
    assert [call.function_name for call in spec.steps[1].tool_calls or ()] == ["grep"]
    assert checked.final_metrics is not None
    assert checked.final_metrics.total_cost_usd == pytest.approx(0.21)
