"""GET of exports in formats: parameters, compression, Parquet and the manifest."""

from __future__ import annotations

import gzip
import hashlib
import io
from typing import Any

import orjson
import pyarrow.parquet as pq
import pytest
from django.test import Client

from tests.api.client import PATH, archive_all, error, exported, number, post
from tests.training.runs import run_with_choices
from trajectories.training import formats
from trajectories.zstandard import zstd


@pytest.fixture
def runs(north: Client) -> None:
    """Six archived runs, in turn of two models and in three sessions."""
    records = [run_with_choices(of, "large" if of % 2 else "small", session_id=f"s{of % 3 + 6}") for of in range(1, 7)]
    assert post(north, b"\n".join(one.body for one in records), content_type="application/x-ndjson").status_code == 200
    archive_all()


pytestmark = pytest.mark.usefixtures("runs")


def end_of(lines: list[bytes]) -> dict[str, Any]:
    end: dict[str, Any] = orjson.loads(lines[-1])["end"]
    assert end["count"] == len(lines) - 1
    assert end["sha256"] == hashlib.sha256(b"".join(lines[:-1])).hexdigest()
    return end


def manifest(client: Client, **parameters: str) -> dict[str, Any]:
    response = client.get(f"{PATH}/export/manifest", parameters)
    assert response.status_code == 200, response.content
    found: dict[str, Any] = response.json()
    return found


@pytest.mark.parametrize("name", formats.FORMATS)
def test_every_format_is_exported_with_a_verifiable_end_and_its_manifest(north: Client, name: str) -> None:
    lines = exported(north, format=name, end="1")
    end = end_of(lines)
    found = manifest(north, format=name)
    assert (found["sha256"], found["lines"], found["records"]) == (end["sha256"], end["count"], 6)
    assert found["first"]["id"] == number(1)
    assert found["last"]["id"] == end["cursor"] == number(6)
    assert found["policies"] == {"router@1": 6}
    assert found["columns"]


def test_the_lines_of_decisions_go_on_behind_a_record(north: Client) -> None:
    whole = exported(north, format="decisions")
    rest = exported(north, format="decisions", after=number(4))
    assert whole[-len(rest) :] == rest
    assert {orjson.loads(line)["trajectory_id"] for line in rest} == {number(5), number(6)}


@pytest.mark.parametrize("given", [{"format": "dpo"}, {"dedupe": "1"}, {"format": "openai", "kind": "dpo"}])
def test_an_export_that_compares_records_does_not_go_on_behind_one(north: Client, given: dict[str, str]) -> None:
    response = north.get(f"{PATH}/export", given | {"after": number(1)})
    assert "compares all records" in error(response, 400, "invalid_parameter").message


def test_the_parts_of_a_split_are_the_whole(north: Client) -> None:
    split = {"split": "train=0.5,test=0.5", "split_by": "session"}
    parts = [exported(north, part=part, **split) for part in ("train", "test")]
    assert sorted(line for part in parts for line in part) == sorted(exported(north))
    assert [{orjson.loads(line)["session_id"] for line in part} for part in parts] == [{"s6"}, {"s7", "s8"}]
    found = manifest(north, part="train", **split)
    assert found["lines"] == len(parts[0])
    assert found["left_out"] == {"in another part of the split": len(parts[1])}


def test_duplicates_are_left_out_and_counted(north: Client) -> None:
    assert len(exported(north, dedupe="1")) == 2
    assert manifest(north, dedupe="1")["left_out"] == {"duplicate": 4}


def test_options_of_a_format_are_parameters(north: Client) -> None:
    lines = exported(north, format="sft", calls="text", min_reward="1", credit="phase_outcome")
    assert all(set(orjson.loads(line)) == {"messages", "weight", "trajectory_id", "phase_index"} for line in lines)
    assert {orjson.loads(line)["weight"] for line in lines} == {1.0}


@pytest.mark.parametrize(("name", "decompress"), [("gzip", gzip.decompress), ("zstd", zstd.decompress)])
def test_a_compressed_export_says_so_and_has_the_same_lines(north: Client, name: str, decompress: Any) -> None:
    response = north.get(f"{PATH}/export", {"compression": name, "end": "1"})
    assert response["Content-Encoding"] == name
    lines = decompress(response.getvalue()).splitlines(keepends=True)
    assert lines == exported(north, end="1")


def test_parquet_is_streamed_with_the_rows_of_the_lines(north: Client) -> None:
    response = north.get(f"{PATH}/export", {"format": "decisions", "file": "parquet"})
    assert response["Content-Type"] == "application/vnd.apache.parquet"
    assert not response.has_header("Content-Encoding")
    rows = pq.read_table(io.BytesIO(response.getvalue())).to_pylist()
    lines = [orjson.loads(line) for line in exported(north, format="decisions")]
    assert [(row["trajectory_id"], row["phase_index"], row["reward"]) for row in rows] == [
        (line["trajectory_id"], line["phase_index"], line["reward"]) for line in lines
    ]
    assert [orjson.loads(row["actions"]) for row in rows] == [line["actions"] for line in lines]


@pytest.mark.parametrize(
    ("given", "code", "param"),
    [
        ({"format": "sfr"}, "unknown_format", "format"),
        ({"format": "jsonl", "credit": "checks"}, "unknown_option", "credit"),
        ({"format": "kto", "credit": "luck"}, "invalid_parameter", "credit"),
        ({"split": "train=0.9,test=0.1"}, "invalid_parameter", "part"),
        ({"split": "train=0.9,test=0.1", "part": "valid"}, "invalid_parameter", "part"),
        ({"part": "train"}, "invalid_parameter", "part"),
        ({"split": "train=0.9", "split_by": "day", "part": "train"}, "invalid_parameter", "split_by"),
        ({"dedupe": "yes"}, "invalid_parameter", "dedupe"),
        ({"file": "csv"}, "invalid_parameter", "file"),
        ({"compression": "br"}, "invalid_parameter", "compression"),
        ({"file": "parquet", "end": "1"}, "invalid_parameter", "end"),
        ({"frmat": "sft"}, "unknown_parameter", "frmat"),
    ],
)
def test_a_request_that_cannot_be_is_refused_by_the_name_of_its_parameter(
    north: Client, given: dict[str, str], code: str, param: str
) -> None:
    assert error(north.get(f"{PATH}/export", given), 400, code).param == param


def test_a_tenant_sees_nothing_of_anothers(south: Client) -> None:
    for name in formats.FORMATS:
        assert exported(south, format=name) == []
    assert (manifest(south)["records"], manifest(south)["policies"]) == (0, {})
