"""An export to disk: complete files or none, with a manifest, and continued after a cut.

While records are read, the lines of each part are appended to a hidden file beside the output, and
a checkpoint says how far the export is. Then the files are encoded and renamed to their names, the
manifest last. A cut in between leaves the output as it was before, and the same call goes on. The
files are the same, byte by byte, as without a cut. Only the user of the process can read them.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from uuid import UUID

import orjson

from trajectories import private_files
from trajectories.exceptions import InvalidInput
from trajectories.services import exports
from trajectories.storage.store import Store
from trajectories.training.checkpoint import Checkpoint
from trajectories.training.encoding import Encoding
from trajectories.training.export import Request, Selection, manifest_of, parse_request
from trajectories.training.formats.base import line
from trajectories.training.manifest import File, Manifest, Tally

_CHECKPOINT_BYTES = 32 * 1024**2
_CHECKPOINT_PAGES = 12
_ROWS = 3
"""The form of what is compared with later records: rows, and what was seen. Increment it when a format
changes them: a release cannot continue an export with another form."""


@dataclass(frozen=True)
class Target:
    """Where an export is written: files of these names in a directory, and their manifest."""

    directory: Path
    names: Mapping[str | None, str]
    manifest_name: str

    def hidden(self, name: str, suffix: str) -> Path:
        return self.directory / f".{name}.{suffix}"

    @property
    def checkpoint(self) -> Path:
        return self.hidden(self.manifest_name, "checkpoint")

    def lines(self, part: str | None) -> Path:
        return self.hidden(self.names[part], "lines")


def target_of(output: Path, request: Request, encoding: Encoding) -> Target:
    """Return the files of an export: one a part in a directory, or one file of this name.

    Raises:
        InvalidInput: several parts need a directory.
    """
    parts: tuple[str | None, ...] = (None,) if request.split is None or request.part else request.split.names
    is_file = bool(output.suffix) and not output.is_dir()
    if is_file and len(parts) > 1:
        raise InvalidInput(
            f"A split writes a file for each part, so the output must be a directory, got {output.name}.",
            param="output",
        )
    if is_file:
        return Target(output.parent, {parts[0]: output.name}, f"{output.name}.manifest.json")
    stem = request.format.name
    chosen = f"-{request.part}" if request.part else ""
    names = {part: f"{stem}{chosen if part is None else f'-{part}'}{encoding.suffix}" for part in parts}
    return Target(output, names, "manifest.json")


def export_to_disk(
    store: Store,
    tenant: str,
    given: Mapping[str, str],
    output: Path,
    *,
    encoding: Encoding,
    actor: str = "code",
    on_records: Callable[[int], None] = lambda count: None,
) -> Manifest:
    """Write an export to a file or a directory, or go on with one that was cut.

    Args:
        given: filters and parameters, as ``parse_request`` takes them.
        output: a file if it has a suffix and is no directory, else a directory.
        on_records: called with the number of records that were read since the last call.

    Raises:
        InvalidInput: a wrong parameter, or ``output`` has an unfinished export of another kind.
        ExportRunning: another process writes the same output.
        OSError: the disk is full, or the directory cannot be written; the output is unchanged.
        NotFound, ExportBehind, ArchiveUnavailable: as for ``exports.export_pages``.
    """
    target = target_of(output, parse_request(given, store.now_us()), encoding)
    private_files.make_folder(target.directory)
    checkpoint = Checkpoint(target.checkpoint)
    try:
        kind = {"tenant": tenant, "store": store.identity, "given": dict(given), "encoding": list(encoding)}
        state = checkpoint.state or {"kind": kind, "now_us": store.now_us(), "rows": _ROWS}
        if state["kind"] != kind:
            raise InvalidInput(
                f"{target.directory} has an unfinished export with other parameters. Repeat that one, or delete"
                f" {target.checkpoint.name} there.",
                param="output",
            )
        # Spans such as since=7d end where they ended when the export began.
        request = parse_request(given, state["now_us"])
        if request.is_whole and state.get("rows") != _ROWS:
            raise InvalidInput(
                f"{target.directory} has an unfinished export of another release, which this one cannot continue."
                f" Delete {target.checkpoint.name} there to begin again.",
                param="output",
            )
        writer = _Writer(store, tenant, request, target, checkpoint, state)
        writer.read(actor, on_records)
        manifest = writer.publish(encoding)
        checkpoint.state = None
    finally:
        if checkpoint.state is None:  # nothing to go on with: it is complete, or had not begun
            checkpoint.delete()
            for part in target.names:
                target.lines(part).unlink(missing_ok=True)
        checkpoint.close()
    return manifest


class _Writer:
    def __init__(
        self,
        store: Store,
        tenant: str,
        request: Request,
        target: Target,
        checkpoint: Checkpoint,
        state: dict[str, Any],
    ) -> None:
        self._store, self._tenant, self._request = store, tenant, request
        self._target, self._checkpoint, self._state = target, checkpoint, state
        self._tally = Tally.from_json(state["tally"]) if "tally" in state else Tally()
        self._selection = Selection(request, self._tally)

    def read(self, actor: str, on_records: Callable[[int], None]) -> None:
        """Append the lines of all records to the hidden files."""
        if self._state.get("is_read"):
            return
        cursor = self._state.get("cursor")
        found = exports.export_pages(
            self._store,
            self._tenant,
            self._request.query,
            choice=self._request.choice(self._checkpoint.seen),
            after=None if cursor is None else UUID(cursor),
            up_to_seq=self._state.get("up_to_seq"),
            actor=actor,
        )
        self._state["up_to_seq"] = found.up_to_seq
        with ExitStack() as stack:
            stack.callback(found.pages.close)  # writes the audit entry
            files = {part: stack.enter_context(self._opened(part)) for part in self._target.names}
            on_records(self._tally.records_read)
            size = 0
            for number, page in enumerate(found.pages, 1):
                size += self._append(page, files)
                on_records(page.count)
                if page.last is not None:
                    self._state["cursor"] = str(page.last)
                if number % _CHECKPOINT_PAGES == 0 or size >= _CHECKPOINT_BYTES:
                    self._keep(files)
                    size = 0
            self._state["is_read"] = True
            self._keep(files)

    def publish(self, encoding: Encoding) -> Manifest:
        """Write the files of the target and its manifest; rename them when all are complete."""
        request, files = self._request, []
        counted = self._tally.copy()
        columns = request.format.columns(request.options)
        for part, name in self._target.names.items():
            lines = _Counted(self._final_lines(part, counted))
            digest, size = hashlib.sha256(), 0
            with private_files.open_new(self._target.hidden(name, "new")) as file:
                for chunk in encoding.encoded(lines, columns):
                    file.write(chunk)
                    digest.update(chunk)
                    size += len(chunk)
                _sync(file)
            counted.lines += lines.count
            files.append(File(name, part, lines.count, size, digest.hexdigest()))
        manifest = manifest_of(self._store, self._tenant, request, counted, files=files)
        new = self._target.hidden(self._target.manifest_name, "new")
        with private_files.open_new(new) as file:
            file.write(orjson.dumps(manifest.as_json(), option=orjson.OPT_INDENT_2) + b"\n")
            _sync(file)
        for name in (*self._target.names.values(), self._target.manifest_name):
            self._target.hidden(name, "new").replace(self._target.directory / name)
        return manifest

    def _append(self, page: exports.Page, files: Mapping[str | None, IO[bytes]]) -> int:
        request, size = self._request, 0
        self._selection.leave_out(page.left_out)
        for run, part in self._selection.select(page.records):
            self._tally.add_policy(run)
            file = files[part if part in files else None]
            lines: Iterator[bytes]
            if request.format.is_combined(request.options):
                lines = (line(row) for row in request.format.rows_of(run, request.options, self._tally.left_out))
            else:
                lines = request.format.lines_of(run, request.options, self._tally.left_out)
            size += sum(file.write(one) for one in lines)
        return size

    def _final_lines(self, part: str | None, counted: Tally) -> Iterator[bytes]:
        request = self._request
        with self._target.lines(part).open("rb") as file:
            if not request.format.is_combined(request.options):
                yield from file
                return
            rows = (orjson.loads(one) for one in file)
            for row in request.format.combined(rows, request.options, counted.left_out):
                yield line(row)

    def _opened(self, part: str | None) -> IO[bytes]:
        """Open a hidden file at the end of what the checkpoint knows of it."""
        path = self._target.lines(part)
        known = self._state.get("sizes", {}).get(path.name, 0)
        if not path.exists() or path.stat().st_size < known:
            if known:
                raise InvalidInput(
                    f"{path.name} is missing or too short, so the export cannot go on. Delete"
                    f" {self._target.checkpoint.name} to begin again.",
                    param="output",
                )
            private_files.make_file(path)
        file = path.open("r+b")
        file.truncate(known)
        file.seek(known)
        return file

    def _keep(self, files: Mapping[str | None, IO[bytes]]) -> None:
        for file in files.values():
            _sync(file)
        sizes = {self._target.lines(part).name: file.tell() for part, file in files.items()}
        self._state |= {"sizes": sizes, "tally": self._tally.as_json()}
        self._checkpoint.commit(self._state)


class _Counted:
    def __init__(self, lines: Iterator[bytes]) -> None:
        self._lines = lines
        self.count = 0

    def __iter__(self) -> Iterator[bytes]:
        for one in self._lines:
            self.count += 1
            yield one


def _sync(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())
