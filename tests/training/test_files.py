"""Exports to disk: complete or absent, the same after a cut, and described by their manifest."""

from __future__ import annotations

import errno
import gzip
import hashlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import orjson
import pyarrow.parquet as pq
import pytest
from django.core.management import CommandError, call_command

from tests.training.conftest import TENANT
from trajectories.exceptions import InvalidInput
from trajectories.models import AuditEntry
from trajectories.services import exports
from trajectories.testing import IsolatedStore
from trajectories.training import checkpoint, files, formats, parquet
from trajectories.training.encoding import Encoding
from trajectories.training.export import export, parse_request
from trajectories.training.files import export_to_disk
from trajectories.training.manifest import Manifest
from trajectories.zstandard import zstd

Archive = Callable[..., None]
KINDS = {
    "lines": ({}, Encoding()),
    "gzip": ({"format": "sft"}, Encoding(compression="gzip")),
    "zstd": ({"format": "decisions"}, Encoding(compression="zstd")),
    "parquet": ({"format": "jsonl"}, Encoding("parquet", "zstd")),
    "combined": ({"format": "dpo"}, Encoding()),
    "split": ({"format": "decisions", "split": "train=0.6,test=0.4"}, Encoding()),
    "dedupe": ({"format": "jsonl", "dedupe": "1"}, Encoding()),
}


def written(store: IsolatedStore, given: dict[str, str], output: Path, encoding: Encoding = Encoding()) -> Manifest:  # noqa: B008
    return export_to_disk(store, TENANT, given, output, encoding=encoding)


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir()) if path.name != "manifest.json"}


@pytest.fixture
def short_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two records a page, and a checkpoint after each."""
    monkeypatch.setattr(exports, "_PAGE", 2)
    monkeypatch.setattr(files, "_CHECKPOINT_PAGES", 1)


# Whole exports.


@pytest.fixture
def no_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.usefixtures("short_pages", "no_umask")
@pytest.mark.parametrize("kind", ["lines", "gzip", "parquet", "split", "dedupe"])
def test_other_users_can_read_no_file_of_an_export(
    store: IsolatedStore, archive: Archive, tmp_path: Path, kind: str
) -> None:
    archive(5)
    output, modes = tmp_path / "new" / "out", dict[str, int]()

    def note(records: int = 0) -> None:
        modes.update({path.name: path.stat().st_mode & 0o777 for path in output.iterdir()})

    given, encoding = KINDS[kind]
    export_to_disk(store, TENANT, given, output, encoding=encoding, on_records=note)
    note()
    assert {".manifest.json.checkpoint", "manifest.json"} < set(modes)
    assert {name: oct(mode) for name, mode in modes.items()} == dict.fromkeys(modes, oct(0o600))
    assert [path.stat().st_mode & 0o777 for path in (output, output.parent)] == [0o700, 0o700]


@pytest.mark.usefixtures("no_umask")
def test_a_later_export_makes_the_files_of_an_earlier_one_private(
    store: IsolatedStore, archive: Archive, tmp_path: Path
) -> None:
    archive(1)
    for name in ("jsonl.jsonl", ".jsonl.jsonl.new"):
        (tmp_path / name).touch()
    written(store, {}, tmp_path)
    assert (tmp_path / "jsonl.jsonl").stat().st_mode & 0o777 == 0o600


def test_a_file_has_the_lines_of_the_api_and_its_manifest_says_so(
    store: IsolatedStore, archive: Archive, tmp_path: Path
) -> None:
    archive(5)
    for name in formats.FORMATS:
        manifest = written(store, {"format": name}, tmp_path / name)
        (file,) = manifest.files
        data = (tmp_path / name / file.name).read_bytes()
        assert data == b"".join(export(store, TENANT, parse_request({"format": name}, store.now_us())))
        assert (file.sha256, file.bytes) == (hashlib.sha256(data).hexdigest(), len(data))
        assert file.lines == manifest.lines == data.count(b"\n") > 0
        assert orjson.loads((tmp_path / name / "manifest.json").read_bytes()) == orjson.loads(
            orjson.dumps(manifest.as_json())
        )
        assert (manifest.records, manifest.store, manifest.policies) == (5, store.identity, {"router@1": 5})
        assert [path.name for path in tmp_path.joinpath(name).iterdir() if path.name.startswith(".")] == []


def test_compressed_files_have_the_same_lines(store: IsolatedStore, archive: Archive, tmp_path: Path) -> None:
    archive(3)
    written(store, {}, tmp_path / "a.jsonl")
    written(store, {}, tmp_path / "a.jsonl.gz", Encoding(compression="gzip"))
    written(store, {}, tmp_path / "a.jsonl.zst", Encoding(compression="zstd"))
    lines = (tmp_path / "a.jsonl").read_bytes()
    assert gzip.decompress((tmp_path / "a.jsonl.gz").read_bytes()) == lines
    assert zstd.decompress((tmp_path / "a.jsonl.zst").read_bytes()) == lines
    assert (tmp_path / "a.jsonl.manifest.json").exists()


def test_the_parts_of_a_split_have_every_record_once_and_no_session_on_both_sides(
    store: IsolatedStore, archive: Archive, tmp_path: Path
) -> None:
    archive(12)
    manifest = written(store, {"split": "train=0.5,test=0.5"}, tmp_path)
    sessions: list[set[str]] = []
    ids: list[str] = []
    for name in ("jsonl-train.jsonl", "jsonl-test.jsonl"):
        found = [orjson.loads(line) for line in (tmp_path / name).read_bytes().splitlines()]
        sessions.append({one["session_id"] for one in found})
        ids += [one["id"] for one in found]
    assert sessions == [{"s6"}, {"s7", "s8"}]
    assert len(ids) == len(set(ids)) == manifest.lines == 12


def test_duplicates_are_left_out_and_counted(store: IsolatedStore, archive: Archive, tmp_path: Path) -> None:
    archive(6)
    manifest = written(store, {"dedupe": "1"}, tmp_path)
    assert (manifest.records_read, manifest.records, manifest.left_out) == (6, 2, {"duplicate": 4})


def test_an_export_of_no_records_is_an_empty_file_with_a_manifest(store: IsolatedStore, tmp_path: Path) -> None:
    for kind, (given, encoding) in KINDS.items():
        manifest = written(store, given, tmp_path / kind, encoding)
        assert (manifest.lines, manifest.first, manifest.last) == (0, None, None)
        assert (tmp_path / kind / "manifest.json").exists()
    assert pq.read_table(next((tmp_path / "parquet").glob("*.parquet"))).num_rows == 0


def test_a_later_export_replaces_the_files(store: IsolatedStore, archive: Archive, tmp_path: Path) -> None:
    archive(1)
    written(store, {}, tmp_path)
    archive(3)
    assert written(store, {}, tmp_path).lines == 3
    assert (tmp_path / "jsonl.jsonl").read_bytes().count(b"\n") == 3


# Cuts.


class Cut(Exception):
    pass


@pytest.mark.usefixtures("short_pages")
@pytest.mark.parametrize("kind", KINDS)
def test_a_resumed_export_has_the_same_bytes(store: IsolatedStore, archive: Archive, tmp_path: Path, kind: str) -> None:
    archive(9)
    given, encoding = KINDS[kind]
    written(store, given, tmp_path / "whole", encoding)
    for cut_after in range(1, 10):
        seen = 0

        def count(records: int, cut_after: int = cut_after) -> None:
            nonlocal seen
            seen += records
            if seen >= cut_after:
                raise Cut

        output = tmp_path / f"cut{cut_after}"
        with pytest.raises(Cut):
            export_to_disk(store, TENANT, given, output, encoding=encoding, on_records=count)
        assert [path.name for path in output.iterdir() if not path.name.startswith(".")] == []
        written(store, given, output, encoding)
        assert contents(output) == contents(tmp_path / "whole")


@pytest.mark.usefixtures("short_pages")
def test_records_after_the_snapshot_are_not_in_the_export(
    store: IsolatedStore, archive: Archive, tmp_path: Path
) -> None:
    archive(4)

    def cut(records: int) -> None:
        if records:
            raise Cut

    with pytest.raises(Cut):
        export_to_disk(store, TENANT, {}, tmp_path, encoding=Encoding(), on_records=cut)
    archive(8)
    # Nothing was committed before the cut, so the export begins again.
    assert written(store, {}, tmp_path).lines == 8


@pytest.mark.usefixtures("short_pages")
def test_a_cut_while_the_files_are_written_keeps_the_earlier_ones(
    store: IsolatedStore, archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive(2)
    written(store, {}, tmp_path)
    before = contents(tmp_path)
    archive(4)
    with monkeypatch.context() as patched:
        patched.setattr(files, "manifest_of", _raise_cut)
        with pytest.raises(Cut):
            written(store, {}, tmp_path)
    assert {name: data for name, data in contents(tmp_path).items() if not name.startswith(".")} == before
    assert written(store, {}, tmp_path).lines == 4


def _raise_cut(*args: Any, **kwargs: Any) -> Any:
    raise Cut


@pytest.mark.usefixtures("short_pages")
def test_an_unfinished_export_is_not_continued_with_other_parameters(
    store: IsolatedStore, archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive(2)
    with monkeypatch.context() as patched:
        patched.setattr(files, "manifest_of", _raise_cut)
        with pytest.raises(Cut):
            written(store, {}, tmp_path)
    with pytest.raises(InvalidInput, match=r"unfinished export with other parameters"):
        written(store, {"format": "kto"}, tmp_path)
    assert written(store, {}, tmp_path).lines == 2


@pytest.mark.usefixtures("short_pages")
def test_an_unfinished_comparison_of_another_release_is_refused_and_other_formats_go_on(
    store: IsolatedStore, archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive(4)
    comparing = {"dpo": {"format": "dpo"}, "dedupe": {"dedupe": "1"}}
    for name, given in (comparing | {"sft": {"format": "sft"}}).items():
        with monkeypatch.context() as patched:
            patched.setattr(files, "manifest_of", _raise_cut)
            patched.setattr(files, "_ROWS", 2)
            with pytest.raises(Cut):
                written(store, given, tmp_path / name)
    for name, given in comparing.items():
        with pytest.raises(InvalidInput, match=r"of another release.* Delete \.manifest\.json\.checkpoint"):
            written(store, given, tmp_path / name)
    assert written(store, {"format": "sft"}, tmp_path / "sft").lines == 16
    (tmp_path / "dpo" / ".manifest.json.checkpoint").unlink()
    assert written(store, {"format": "dpo"}, tmp_path / "dpo").lines


def test_two_exports_do_not_write_the_same_files(store: IsolatedStore, archive: Archive, tmp_path: Path) -> None:
    archive(1)
    other = checkpoint.Checkpoint(tmp_path / ".manifest.json.checkpoint")
    with pytest.raises(checkpoint.ExportRunning):
        written(store, {}, tmp_path)
    other.close()
    assert written(store, {}, tmp_path).lines == 1


# The command.


def test_the_command_writes_its_selection_and_an_audit_entry(
    store: IsolatedStore, archive: Archive, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archive(4)
    call_command(
        *["export_trajectories", TENANT, "--output", str(tmp_path), "--format", "dsjson", "--request-type", "bugfix"],
        *["--option", "usd_weight=1", "--compression", "gzip"],
    )
    lines = gzip.decompress((tmp_path / "dsjson.jsonl.gz").read_bytes()).splitlines()
    assert capsys.readouterr().out.splitlines()[1:] == [
        "4 of 4 trajectories exported.",
        "Left out: decision with one action: 8.",
    ]
    assert len(lines) == 8
    manifest = orjson.loads((tmp_path / "manifest.json").read_bytes())
    assert (manifest["filters"], manifest["options"]["usd_weight"]) == ({"request_type": "bugfix"}, 1.0)
    entry = AuditEntry.objects.get(action="export")
    assert (entry.tenant, entry.count, entry.actor.split()[0]) == (TENANT, 4, "command")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "There is no tenant 'nowhere'."),
        ([TENANT, "--format", "sfr"], "Unknown format 'sfr'. Did you mean 'sft'?"),
        (
            [TENANT, "--format", "kto", "--option", "calls=text"],
            "The format kto has no option 'calls'; it has credit, reward_outcome.",
        ),
        ([TENANT, "--option", "nonsense"], "--option must be NAME=VALUE"),
        ([TENANT, "--split", "train=2"], "split must have shares above 0 that add up to at most 1, got 'train=2'."),
        ([TENANT, "--since", "yesterday"], "since must be a time"),
        ([TENANT, "--credited", "good"], "credited must be one of success, failure, partial, none"),
    ],
)
def test_a_failing_command_names_the_problem(
    store: IsolatedStore, tmp_path: Path, arguments: list[str], message: str
) -> None:
    with pytest.raises(CommandError) as caught:
        call_command("export_trajectories", *arguments, "--output", str(tmp_path / "out"))
    assert message in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_split_into_one_file_is_refused(store: IsolatedStore, tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=r"the output must be a directory, got a\.jsonl"):
        call_command("export_trajectories", TENANT, "--split", "a=0.5,b=0.5", "--output", str(tmp_path / "a.jsonl"))


def test_the_suffix_of_a_file_chooses_its_encoding(store: IsolatedStore, archive: Archive, tmp_path: Path) -> None:
    archive(2)
    for name in ("a.parquet", "a.jsonl", "a.jsonl.gz"):
        call_command("export_trajectories", TENANT, "--output", str(tmp_path / name))
    assert pq.read_table(tmp_path / "a.parquet").num_rows == 2
    lines = (tmp_path / "a.jsonl").read_bytes()
    assert lines.count(b"\n") == 2
    assert gzip.decompress((tmp_path / "a.jsonl.gz").read_bytes()) == lines


@pytest.mark.parametrize(
    ("name", "option"),
    [("a.parquet", ("--file", "jsonl")), ("a.jsonl", ("--file", "parquet")), ("a.gz", ("--compression", "zstd"))],
)
def test_a_suffix_that_contradicts_an_option_is_refused(
    store: IsolatedStore, tmp_path: Path, name: str, option: tuple[str, str]
) -> None:
    with pytest.raises(CommandError, match=name):
        call_command("export_trajectories", TENANT, *option, "--output", str(tmp_path / name))
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_changes_nothing_and_the_same_command_resumes(
    store: IsolatedStore, archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive(2)
    written(store, {}, tmp_path)
    before = contents(tmp_path)
    archive(3)

    def full(file: IO[bytes]) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(files, "_sync", full)
        with pytest.raises(CommandError, match=r"The disk is full. Nothing there"):
            call_command("export_trajectories", TENANT, "--output", str(tmp_path))
    assert contents(tmp_path) == before
    call_command("export_trajectories", TENANT, "--output", str(tmp_path))
    assert (tmp_path / "jsonl.jsonl").read_bytes().count(b"\n") == 3


def test_a_really_full_disk_is_reported(store: IsolatedStore, archive: Archive, small_disk: Path) -> None:
    archive(2)
    (small_disk / "rest").write_bytes(b"x" * (16 * 1024**2 - 16 * 1024))
    with pytest.raises(CommandError, match=r"The disk is full. Nothing there"):
        call_command("export_trajectories", TENANT, "--output", str(small_disk / "out"), "--format", "sft")
    assert [path.name for path in small_disk.glob("out/*") if not path.name.startswith(".")] == []


@pytest.fixture
def without_pyarrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)


@pytest.mark.usefixtures("without_pyarrow")
def test_without_the_extra_parquet_names_it_and_lines_are_written(
    store: IsolatedStore, archive: Archive, tmp_path: Path
) -> None:
    archive(1)
    with pytest.raises(CommandError, match=r"install django-trajectories\[training\]"):
        call_command("export_trajectories", TENANT, "--output", str(tmp_path), "--file", "parquet")
    for name in formats.FORMATS:
        call_command("export_trajectories", TENANT, "--output", str(tmp_path), "--format", name)


def test_a_large_export_has_row_groups(
    store: IsolatedStore, archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive(5)
    monkeypatch.setattr(parquet, "ROW_GROUP_ROWS", 2)
    written(store, {}, tmp_path / "a.parquet", Encoding("parquet", "zstd"))
    file = pq.ParquetFile(tmp_path / "a.parquet")
    assert [file.metadata.row_group(index).num_rows for index in range(file.num_row_groups)] == [2, 2, 1]
