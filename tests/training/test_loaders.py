"""Each format in the hands of what loads it.

A test imports its loader itself: each process of a run imports this module, and most run none of
its tests.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.training.runs import phase, record, run_with_choices
from trajectories.domain.record import Record
from trajectories.training import formats, parquet
from trajectories.training.formats.base import Format

os.environ["HF_DATASETS_OFFLINE"] = os.environ["HF_HUB_OFFLINE"] = "1"  # read at the import of datasets

KINDS = [*((name, "") for name in formats.FORMATS), *((name, "dpo") for name in ("openai", "axolotl", "llama-factory"))]
IDS = [f"{name} {kind}".strip() for name, kind in KINDS]


def records() -> list[Record]:
    """Runs whose objects of the client's own have other types in each."""
    mixed: list[Any] = [{"a": 1}, {"a": "one"}, {"a": [1, {"b": None}]}, {}]
    found = [
        run_with_choices(number, "large" if number % 2 else "small", metadata=value, started_at="2026-01-05T23:58:46Z")
        for number, value in enumerate(mixed, 1)
    ]
    return [*found, record(phase("spec", evidence={"log": "x"}), number=9, external_refs={"pr": "1"})]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with each format as lines and as Parquet."""
    directory = tmp_path_factory.mktemp("exports")
    for (name, kind), stem in zip(KINDS, IDS, strict=True):
        format_ = formats.get(name)
        options = format_.read_options({"kind": kind} if kind else {})
        lines = list(format_.lines(records(), options))
        (directory / f"{stem}.jsonl").write_bytes(b"".join(lines))
        data = b"".join(parquet.encoded(lines, format_.columns(options), "zstd"))
        (directory / f"{stem}.parquet").write_bytes(data)
    return directory


@pytest.fixture(params=IDS)
def stem(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def lines_of(directory: Path, stem: str) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in (directory / f"{stem}.jsonl").read_bytes().splitlines()]


def known(value: Any) -> Any:
    """Return a value without the nulls that a table adds, and without objects that they leave
    empty."""
    if isinstance(value, dict):
        return {key: known(one) for key, one in value.items() if known(one) not in (None, {})}
    if isinstance(value, float):
        return round(value, 12)  # datasets' reader of JSON is not exact in the last bit
    return [known(one) for one in value] if isinstance(value, list) else value


def test_datasets_loads_the_lines_as_they_are(directory: Path, stem: str, tmp_path: Path) -> None:
    import datasets

    datasets.disable_progress_bars()
    loaded = datasets.load_dataset(
        "json", data_files=str(directory / f"{stem}.jsonl"), split="train", cache_dir=str(tmp_path)
    )
    expected = lines_of(directory, stem)
    assert len(loaded) == len(expected) > 0
    if stem != "jsonl":  # its times become timestamps
        assert [known(row) for row in loaded] == [known(row) for row in expected]


def test_datasets_loads_parquet(directory: Path, stem: str, tmp_path: Path) -> None:
    import datasets

    datasets.disable_progress_bars()
    loaded = datasets.load_dataset(
        "parquet", data_files=str(directory / f"{stem}.parquet"), split="train", cache_dir=str(tmp_path)
    )
    assert len(loaded) == len(lines_of(directory, stem))


def test_pyarrow_pandas_polars_and_duckdb_read_parquet(directory: Path, stem: str) -> None:
    import duckdb
    import pandas as pd
    import polars as pl

    path, count = directory / f"{stem}.parquet", len(lines_of(directory, stem))
    assert pq.read_table(path).num_rows == count
    assert len(pd.read_parquet(path)) == count
    assert pl.read_parquet(path).height == pl.scan_parquet(path).collect().height == count
    assert duckdb.execute(f"SELECT count(*) FROM read_parquet('{path}')").fetchall() == [(count,)]


def test_pandas_and_duckdb_read_lines(directory: Path, stem: str) -> None:
    import duckdb
    import pandas as pd

    path, count = directory / f"{stem}.jsonl", len(lines_of(directory, stem))
    assert len(pd.read_json(path, lines=True)) == count
    assert duckdb.execute(f"SELECT count(*) FROM read_json('{path}')").fetchall() == [(count,)]


def test_the_columns_of_decisions_are_numbers_and_words_for_a_table(directory: Path) -> None:
    import polars as pl

    frame = pl.read_parquet(directory / "decisions.parquet")
    by_model = frame.filter(pl.col("phase") == "implement").group_by("model").agg(pl.col("reward").mean()).sort("model")
    assert by_model.rows() == [("large", 1.0), ("small", 0.0)]
    nested = [name for name, kind in frame.schema.items() if kind.is_nested()]
    assert nested == ["planned_phases", "tools", "outcomes"]


@pytest.fixture
def workspace() -> Iterator[Any]:
    import vowpalwabbit

    workspace = vowpalwabbit.Workspace("--cb_explore_adf --dsjson --quiet --random_seed 1")
    yield workspace
    workspace.finish()


def test_vowpal_wabbit_learns_which_model_is_better(directory: Path, workspace: Any) -> None:
    lines = (directory / "dsjson.jsonl").read_text().splitlines()
    for _ in range(20):
        for line in lines:
            examples = workspace.parse(line)
            assert len(examples) == 1 + len(orjson.loads(line)["a"])
            workspace.learn(examples)
            workspace.finish_example(examples)
    examples = workspace.parse(lines[0])
    large, small, _ = workspace.predict(examples)
    workspace.finish_example(examples)
    assert large > small


# TRL's own rules (trl.data_utils.is_conversational, and the columns of its dataset types), without torch.

_TYPES = {
    "sft": {"messages"},
    "prompt-completion": {"prompt", "completion"},
    "dpo": {"prompt", "chosen", "rejected"},
    "kto": {"prompt", "completion", "label"},
}
_ROLES = {"system", "user", "assistant"}


@pytest.mark.parametrize("name", _TYPES)
def test_rows_are_of_a_conversational_type_of_trl(directory: Path, name: str) -> None:
    for row in lines_of(directory, name):
        assert _TYPES[name] <= set(row)
        for key in _TYPES[name] - {"label"}:
            assert isinstance(row[key], list)
            assert all(set(message) >= {"role", "content"} and message["role"] in _ROLES for message in row[key])
        assert isinstance(row.get("label", True), bool)


def test_rows_of_stepwise_have_a_label_a_step(directory: Path) -> None:
    for row in lines_of(directory, "stepwise"):
        assert len(row["completions"]) == len(row["labels"]) > 0
        assert all(isinstance(label, bool) for label in row["labels"])


@pytest.mark.parametrize("name", ["parquet"])
def test_a_schema_does_not_depend_on_the_rows(directory: Path, name: str) -> None:
    for format_name, kind in KINDS:
        format_: Format = formats.get(format_name)
        options = format_.read_options({"kind": kind} if kind else {})
        empty = b"".join(parquet.encoded([], format_.columns(options), "none"))
        stem = f"{format_name} {kind}".strip()
        assert pq.read_schema(pa.BufferReader(empty)) == pq.read_schema(directory / f"{stem}.{name}")
