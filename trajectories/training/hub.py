"""Push an export to a data set repository of the Hugging Face Hub, one commit a push.

The watermark is in the repository itself (``hub_state``), so a push continues wherever the last one
ran. Only ranges of records that are new, or of which a record was deleted or revised, are written.
A push that is cut commits nothing. The next one makes the same files, and the Hub has those that
were uploaded.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from trajectories.domain.clock import rfc3339
from trajectories.exceptions import ArchiveUnavailable, InvalidInput
from trajectories.models import AuditEntry
from trajectories.services import exports
from trajectories.storage import archive_reads
from trajectories.storage.archive_errors import ArchiveError
from trajectories.storage.store import Store
from trajectories.training.encoding import JSONL, parse_encoding
from trajectories.training.export import Request
from trajectories.training.hub_card import card
from trajectories.training.hub_errors import HubError, hub_errors
from trajectories.training.hub_state import PATH, Range, State, fingerprint, read_state, state_of
from trajectories.training.manifest import File
from trajectories.training.shards import SHARD_BYTES, Builder, Built, OnRecords

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd, HfApi

_CARD = "README.md"
_OWN = (PATH, _CARD, ".gitattributes")
_OPEN = 0.5
"""A last range smaller than this share of SHARD_BYTES is written again with the records after it,
so that frequent pushes do not make many small files."""
_RETRIED = ("hub_unavailable", "unreachable")


@dataclass(frozen=True)
class Target:
    """The repository. ``license`` None: as in the last push, ``other`` in the first.

    ``is_replaced``: what another export or another store has pushed there is removed.
    """

    repo_id: str
    is_private: bool = True
    license: str | None = None
    is_replaced: bool = False


class Pushed(NamedTuple):
    """The result of a push, or of its dry run. ``commit`` is None if nothing changed, and in a dry
    run."""

    commit: str | None
    is_new: bool
    added: list[File]
    removed: list[str]
    state: State
    card: str


def push(
    store: Store,
    tenant: str,
    request: Request,
    target: Target,
    *,
    file: str = JSONL,
    is_dry: bool = False,
    shard_bytes: int = SHARD_BYTES,
    actor: str = "code",
    on_records: OnRecords = lambda count: None,
) -> Pushed:
    """Push what the repository lacks, and remove what the store has deleted.

    ``HF_TOKEN`` and ``HF_ENDPOINT`` are read as huggingface_hub does.

    Args:
        file: jsonl or parquet, which needs the extra ``training``.
        is_dry: make the files and the card, and send nothing.
        on_records: called with the number of records that were read.

    Raises:
        HubError: the Hub, or the state of the repository, does not allow it; nothing was committed.
        ExportBehind, ArchiveUnavailable: 503, as for an export.
    """
    encoding, hub = parse_encoding({"file": file}), _Hub(target)
    repository = hub.repository()
    known = hub.known_state() if repository else None
    state = state_of(store.identity, tenant, request, encoding.file)
    _check(target, repository, known, state)
    kept = known if known is not None and not target.is_replaced else None
    exports.wait_until_archived(store, tenant)
    try:
        with tempfile.TemporaryDirectory(prefix="trajectories-hub-") as directory:
            builder = Builder(
                Path(directory), tenant, request, encoding, shard_bytes=shard_bytes, on_records=on_records
            )
            upload = _Upload(hub, is_dry=is_dry)
            up_to_seq = archive_reads.last_seq(tenant)
            if known is None and not _has_records(tenant, request, 0, up_to_seq):
                raise HubError("No record matches the filters, so there is nothing to push.", code="nothing_to_push")
            if repository is None and not is_dry:
                hub.create()
            chosen = _ranges(builder, tenant, request, kept, hub.files, up_to_seq, shard_bytes)
            ranges = tuple(upload.range(one) for one in chosen)
            state = replace(
                state,
                ranges=tuple(one for one in ranges if one.records or one.files),
                license=target.license or (known.license if known else None),
                as_of=rfc3339(store.now_us()).decode(),
            )
            example = builder.example(up_to_seq) or upload.example
            done = _commit(hub, upload, known, state, card(state, target.repo_id, example), is_dry=is_dry)
            if done.commit:
                AuditEntry.objects.note("export", actor, {tenant: state.records}, target=target.repo_id)
            return done
    except ArchiveError as error:
        raise ArchiveUnavailable("Exports are read from the archive, which is unavailable.") from error


def _ranges(
    builder: Builder,
    tenant: str,
    request: Request,
    known: State | None,
    there: frozenset[str],
    up_to_seq: int,
    shard_bytes: int,
) -> Iterator[Range | Built]:
    """Yield the ranges of the data set: those that stay, and those whose files were written."""
    old = list(known.ranges) if known else []

    def stays(one: Range, until_seq: int) -> bool:
        is_complete = all(file.name in there for file in one.files)
        return is_complete and fingerprint(tenant, request, one.after_seq, until_seq)[0] == one.fingerprint

    if request.is_whole:
        yield old[0] if len(old) == 1 and stays(old[0], up_to_seq) else builder.whole(up_to_seq)
        return
    after_seq = old[-1].up_to_seq if old else 0
    has_new = _has_records(tenant, request, after_seq, up_to_seq)
    if old and has_new and old[-1].bytes < shard_bytes * _OPEN:
        after_seq = old.pop().after_seq
    for one in old:
        yield one if stays(one, one.up_to_seq) else builder.rebuilt(one.after_seq, one.up_to_seq)
    if has_new:
        yield from builder.new(after_seq, up_to_seq)


def _has_records(tenant: str, request: Request, after_seq: int, up_to_seq: int) -> bool:
    return bool(archive_reads.export_keys(archive_reads.in_order(tenant, request.query), after_seq, up_to_seq, 1))


def _check(target: Target, repository: Any, known: State | None, state: State) -> None:
    """Refuse what would mix two exports, or publish what should be private."""
    repo_id = target.repo_id
    if repository is None:
        if not target.is_private and target.license is None:
            raise InvalidInput(
                "A public data set needs a licence: name it with --license, such as cc-by-4.0.", param="license"
            )
        return
    if repository.private is False and target.is_private:
        raise HubError(f"{repo_id} is public: pass --public to publish there, or use another name.", code="is_public")
    if repository.private and not target.is_private:
        raise HubError(f"{repo_id} is private: change that on the Hub, or leave --public out.", code="is_private")
    others = [file.rfilename for file in repository.siblings or () if file.rfilename not in _OWN]
    if target.is_replaced:
        return
    if known is None:
        if others:
            raise HubError(
                f"{repo_id} exists with other files ({', '.join(sorted(others)[:3])}) and no {PATH}: use another name, or"
                " --replace to remove them.",
                code="not_ours",
            )
        return
    differences = known.differences(state)
    if {"store", "tenant"} & set(differences):
        of = "another store" if "store" in differences else "another tenant"
        raise HubError(
            f"{repo_id} was pushed from {of}: use another name, or --replace to remove what is there.",
            code="another_store",
        )
    if differences:
        said = "; ".join(f"{name} was {_shown(was)} and is {_shown(now)}" for name, (was, now) in differences.items())
        raise HubError(
            f"{repo_id} exists with another schema or selection: {said}. Use the same options, another name, or --replace"
            " to write it anew.",
            code="another_schema",
        )


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}…"


class _Hub:
    """The calls of huggingface_hub, for one repository."""

    def __init__(self, target: Target) -> None:
        try:
            import huggingface_hub
        except ImportError as error:
            raise HubError(
                "Pushing needs huggingface_hub: install django-trajectories[hub].", code="extra_missing"
            ) from error
        self.target, self.sha = target, ""
        self.files: frozenset[str] = frozenset()
        self.is_new = False
        # Read now and not when the library was imported.
        self.endpoint = os.environ.get("HF_ENDPOINT") or huggingface_hub.constants.ENDPOINT
        self.api: HfApi = huggingface_hub.HfApi(endpoint=self.endpoint, library_name="django-trajectories")
        self._ours: dict[str, Any] = {"repo_id": target.repo_id, "repo_type": "dataset"}
        if not sys.stderr.isatty():
            from huggingface_hub.utils.tqdm import disable_progress_bars

            disable_progress_bars()

    def errors(self) -> Any:
        return hub_errors(self.target.repo_id, self.endpoint)

    def repository(self) -> Any:
        """Return what the Hub says of the repository; None if there is none that the token sees."""
        from huggingface_hub.errors import RepositoryNotFoundError

        with self.errors():
            try:
                found = self.api.dataset_info(self.target.repo_id)
            except RepositoryNotFoundError as error:
                if error.response.status_code == 404:
                    self.is_new = True
                    return None
                raise
        self.sha = found.sha or ""
        self.files = frozenset(file.rfilename for file in found.siblings or ())
        return found

    def known_state(self) -> State | None:
        from huggingface_hub.errors import EntryNotFoundError

        with self.errors(), tempfile.TemporaryDirectory() as directory:
            try:
                path = self.api.hf_hub_download(filename=PATH, revision=self.sha, local_dir=directory, **self._ours)
            except EntryNotFoundError:
                return None
            data = Path(path).read_bytes()
        try:
            return read_state(data)
        except ValueError as error:
            if self.target.is_replaced:
                return None
            raise HubError(
                f"{PATH} of {self.target.repo_id} cannot be used: {error}. Use --replace to write it anew.",
                code="invalid_state",
            ) from error

    def create(self) -> None:
        with self.errors():
            self.api.create_repo(**self._ours, private=self.target.is_private, exist_ok=True)
            self.repository()

    def upload(self, addition: CommitOperationAdd) -> None:
        with self.errors():
            self.api.preupload_lfs_files(additions=[addition], **self._ours)

    def commit(self, operations: list[Any], message: str) -> str:
        with self.errors():
            done = self.api.create_commit(
                operations=operations, commit_message=message, parent_commit=self.sha or None, **self._ours
            )
        return str(done.oid)


class _Upload:
    """The files of a push: uploaded as they are made, and committed at the end."""

    def __init__(self, hub: _Hub, *, is_dry: bool) -> None:
        self.added: list[File] = []
        self.operations: list[Any] = []
        self.example: bytes | None = None
        self._hub, self._is_dry = hub, is_dry

    def range(self, one: Range | Built) -> Range:
        """Upload the files of a range that was written, and delete them here."""
        if isinstance(one, Range):
            return one
        for file in one.range.files:
            self._file(file, one.paths[file.name])
        return one.range

    def _file(self, file: File, path: Path) -> None:
        from huggingface_hub import CommitOperationAdd

        if self.example is None and path.suffix == f".{JSONL}":
            with path.open("rb") as lines:
                self.example = lines.readline()
        self.added.append(file)
        if not self._is_dry:
            addition = CommitOperationAdd(file.name, path)
            self._hub.upload(addition)
            self.operations.append(addition)
            if not addition._is_uploaded:  # the Hub wants a small file in the commit itself
                return
        path.unlink()


def _commit(hub: _Hub, upload: _Upload, known: State | None, state: State, text: str, *, is_dry: bool) -> Pushed:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    # Files that people have added stay, unless all is replaced.
    ours = hub.files.difference(_OWN) if hub.target.is_replaced or known is None else hub.files & known.files.keys()
    removed = sorted(ours - state.files.keys())
    added = [file for file in upload.added if file.name not in hub.files]
    done = Pushed(None, hub.is_new, added, removed, state, text)
    is_same = known is not None and (known.ranges, known.license) == (state.ranges, state.license)
    if is_dry or (is_same and not removed and not added):
        return done
    operations = [
        *upload.operations,
        *(CommitOperationDelete(name) for name in removed),
        CommitOperationAdd(PATH, state.dump()),
        CommitOperationAdd(_CARD, text.encode()),
    ]
    try:
        return done._replace(commit=hub.commit(operations, f"Push {state.lines} rows of {state.records} runs"))
    except HubError as error:
        # The Hub may have committed although its answer was lost.
        if error.code in _RETRIED and (commit := _committed(hub, state)):
            return done._replace(commit=commit)
        raise


def _committed(hub: _Hub, state: State) -> str | None:
    try:
        hub.repository()
        return hub.sha if hub.known_state() == state else None
    except HubError:
        return None
