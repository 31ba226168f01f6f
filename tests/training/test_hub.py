"""Pushes by the real huggingface_hub to a server that speaks the Hub's HTTP, byte by byte."""

from __future__ import annotations

import hashlib
import html
import re
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson
import pyarrow
import pyarrow.parquet
import pytest
from django.core.management import CommandError, call_command
from huggingface_hub import RepoCard
from huggingface_hub.utils._http import close_session

from tests.api.client import archive_all
from tests.hub_server import HubServer, Repository
from tests.training.ready_runs import good_run
from trajectories.domain.record import tombstone
from trajectories.domain.text import visible
from trajectories.exceptions import InvalidInput
from trajectories.models import AuditEntry, Tenant
from trajectories.services import ingest
from trajectories.storage.archive_writes import mirror
from trajectories.storage.store import get_store
from trajectories.training import hub, tasks
from trajectories.training.export import export, parse_request
from trajectories.training.hub import Pushed, Target
from trajectories.training.hub_errors import HubError

pytestmark = [
    pytest.mark.django_db,
    # huggingface_hub sends a file to httpx2 as data=.
    pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning"),
]

REPO = "org/runs"
SMALL = 6_000
"""Size at which a range ends: about eight records."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubServer]:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
    monkeypatch.setenv("HF_TOKEN", "hf_writer")
    with HubServer().running() as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        yield running


@pytest.fixture
def store(db: None) -> None:
    Tenant.objects.create(slug="north")


def record(*numbers: int, **fields: Any) -> None:
    for at in numbers:
        body = good_run(at) | {"id": str(UUID(int=at + 1)), "session_id": f"s{at}"} | fields
        ingest.record(get_store(), "north", orjson.dumps(body))
    archive_all()


def push(given: dict[str, str] | None = None, target: Target | None = None, **more: Any) -> Pushed:
    request = parse_request(given or {}, get_store().now_us())
    return hub.push(get_store(), "north", request, target or Target(REPO), **{"shard_bytes": SMALL} | more)


def exported(given: dict[str, str] | None = None) -> list[bytes]:
    request = parse_request(given or {}, get_store().now_us())
    return b"".join(export(get_store(), "north", request)).splitlines(keepends=True)


def data_of(repository: Repository, part: str = "train") -> bytes:
    return b"".join(data for name, data in sorted(repository.files.items()) if name.startswith(f"data/{part}/"))


def parquet_rows(data: bytes) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pyarrow.parquet.read_table(pyarrow.BufferReader(data)).to_pylist()
    return rows


# Push, push again, push after deletions.


def test_a_push_creates_a_private_repository_with_the_rows_of_the_export(server: HubServer, store: None) -> None:
    record(*range(20))
    done = push()
    repository = server.repositories[REPO]
    assert repository.is_private
    assert len(repository.commits) == 1
    assert data_of(repository) == b"".join(exported())
    assert len(done.added) > 1
    state = orjson.loads(repository.files["trajectories.json"])
    for file in (file for one in state["ranges"] for file in one["files"]):
        data = repository.files[file["name"]]
        assert (file["bytes"], file["lines"]) == (len(data), data.count(b"\n"))
        assert file["sha256"] == hashlib.sha256(data).hexdigest()
    assert done.commit == repository.sha


def test_a_second_push_without_changes_commits_nothing(server: HubServer, store: None) -> None:
    record(*range(20))
    push()
    before = len(server.requests)
    again = push()
    assert (again.commit, again.added, again.removed) == (None, [], [])
    assert not [asked for asked in server.requests[before:] if not asked.startswith(("GET", "HEAD"))]


def test_new_records_are_sent_and_full_files_are_not_sent_again(server: HubServer, store: None) -> None:
    record(*range(20))
    push()
    before = dict(server.repositories[REPO].files)
    server.requests.clear()
    record(*range(20, 30))
    push()
    repository = server.repositories[REPO]
    assert data_of(repository) == b"".join(exported())
    assert len(repository.commits) == 2
    kept = [name for name in before if name.startswith("data/") and name in repository.files]
    assert len(kept) >= 1
    changed = {operation["value"]["path"] for operation in repository.commits[1]}
    assert changed.isdisjoint(kept)
    assert changed >= {"README.md", "trajectories.json"}


def test_deleted_records_leave_and_only_their_file_is_written_again(server: HubServer, store: None) -> None:
    record(*range(40))
    push()
    files = dict(server.repositories[REPO].files)
    mirror([tombstone("north", UUID(int=3), get_store().now_us())])
    done = push()
    repository = server.repositories[REPO]
    assert data_of(repository) == b"".join(exported())
    assert str(UUID(int=3)).encode() not in b"".join(repository.files.values())
    assert (len(done.added), len(done.removed)) == (1, 1)
    assert str(UUID(int=3)).encode() in files[done.removed[0]]


def test_a_revised_record_is_replaced(server: HubServer, store: None) -> None:
    record(*range(20))
    push()
    record(3, outcome="partial")
    done = push()
    assert data_of(server.repositories[REPO]) == b"".join(exported())
    assert b'"partial"' in data_of(server.repositories[REPO])
    assert len(done.removed) == 1


def test_when_all_records_are_deleted_no_row_stays(server: HubServer, store: None) -> None:
    record(*range(20))
    push()
    mirror([tombstone("north", UUID(int=at + 1), get_store().now_us()) for at in range(20)])
    push()
    assert set(server.repositories[REPO].files) == {".gitattributes", "README.md", "trajectories.json"}
    record(30)
    push()
    assert data_of(server.repositories[REPO]) == b"".join(exported())


@pytest.mark.parametrize("format_", ["decisions", "sft", "dpo", "routing-table"])
def test_other_formats_are_pushed_as_they_are_exported(server: HubServer, store: None, format_: str) -> None:
    record(*range(12))
    push({"format": format_})
    assert data_of(server.repositories[REPO]) == b"".join(exported({"format": format_}))
    record(12)
    push({"format": format_})
    assert data_of(server.repositories[REPO]) == b"".join(exported({"format": format_}))


@pytest.mark.parametrize("format_", ["jsonl", "decisions"])
def test_parquet_has_the_rows_of_the_lines(server: HubServer, store: None, format_: str) -> None:
    given = {"format": format_}
    record(*range(20))
    push(given, file="parquet")
    record(*range(20, 30))
    done = push(given, file="parquet")
    files = sorted(done.state.files.values(), key=lambda file: file.name)
    assert len(files) > 1
    rows = [row for file in files for row in parquet_rows(server.repositories[REPO].files[file.name])]
    assert sum(file.lines for file in files) == len(rows)
    expected = [orjson.loads(line) for line in exported(given)]
    name = "id" if format_ == "jsonl" else "trajectory_id"
    assert [row[name] for row in rows] == [row[name] for row in expected]
    assert "container was 'parquet' and is 'jsonl'" in refused(given=given).message


def test_the_parts_of_a_split_have_folders_of_their_own(server: HubServer, store: None) -> None:
    given = {"split": "train=0.7,test=0.3"}
    record(*range(30))
    push(given)
    record(*range(30, 40))
    push(given)
    repository = server.repositories[REPO]
    for part in ("train", "test"):
        assert data_of(repository, part) == b"".join(exported(given | {"part": part}))
        assert data_of(repository, part)


def test_a_file_that_was_removed_by_hand_is_written_again(server: HubServer, store: None) -> None:
    record(*range(20))
    first = push()
    del server.repositories[REPO].files[first.added[0].name]
    server.repositories[REPO].files["LICENSE"] = b"of a person"
    push()
    assert data_of(server.repositories[REPO]) == b"".join(exported())
    assert server.repositories[REPO].files["LICENSE"] == b"of a person"


def test_a_dry_run_sends_nothing_and_shows_plan_and_card(server: HubServer, store: None) -> None:
    record(*range(20))
    planned = push(is_dry=True)
    assert server.repositories == {}
    assert not [asked for asked in server.requests if not asked.startswith(("GET", "HEAD"))]
    done = push()
    assert [file.name for file in planned.added] == [file.name for file in done.added]
    assert planned.card.splitlines()[:20] == done.card.splitlines()[:20]


# The card.


def test_recorded_text_in_the_card_is_text(server: HubServer, store: None) -> None:
    hostile = "![x](https://evil.example/pixel) [a](//b) `c` www.d.example @e \x1b]0;t\x07\u202e"
    record(1, policy=hostile, request_summary="\x9b31m\u202e")
    card = push(is_dry=True).card
    (row,) = (line for line in card.splitlines() if "evil" in line and "Policy" not in line and line.startswith("|"))
    assert not re.search(r"[][`!@:*]|//|www\.", row)
    assert html.unescape(row) == f"| {visible(hostile)} | 1 |"
    assert visible(card) == card


def test_the_card_has_figures_columns_an_example_and_the_splits(server: HubServer, store: None) -> None:
    record(*range(40), policy="router@1|x", request_summary="Close ```` the fence")
    push({"split": "train=0.7,test=0.3", "project": "project-1"}, Target(REPO, license="cc-by-4.0"))
    text = server.repositories[REPO].files["README.md"].decode()
    data: Any = vars(RepoCard(text).data)
    assert (data["license"], data["size_categories"]) == ("cc-by-4.0", "n<1K")
    assert [one["split"] for one in data["configs"][0]["data_files"]] == ["train", "test"]
    for said in (
        "10 rows of 10 runs",
        "router&#64;1&#124;x",
        "`phases[].cost_usd`",
        "project=project-1",
        "train=0.7,test=0.3",
    ):
        assert said in text
    assert text.count("`````") == 2
    assert "north" not in text + server.repositories[REPO].files["trajectories.json"].decode()


# Refusals of the Hub and the repository.


def refused(**more: Any) -> HubError:
    with pytest.raises(HubError) as found:
        push(**more)
    return found.value


@pytest.mark.parametrize(
    ("pattern", "status", "headers", "code", "said"),
    [
        (
            "POST .*/commit/",
            401,
            {"X-Error-Message": "Invalid credentials in Authorization header"},
            "invalid_token",
            "set HF_TOKEN",
        ),
        ("POST .*/commit/", 402, {}, "quota", "storage of org is full"),
        ("POST .*/commit/", 403, {"X-Error-Message": "Private repository storage limit reached"}, "quota", "is full"),
        ("POST .*/commit/", 403, {}, "may_not_write", "may not write to org/runs"),
        ("POST .*/create", 404, {}, "not_found", "does not know org/runs, or org"),
        ("POST .*/commit/", 409, {}, "conflict", "Someone else changed org/runs"),
        ("POST .*/commit/", 412, {}, "conflict", "Repeat the command"),
        ("POST .*/commit/", 413, {}, "too_large", "too large"),
        ("POST .*/commit/", 422, {}, "refused", "The Hub says: by the test"),
        ("POST .*/create", 429, {"Retry-After": "7"}, "rate_limited", "in 7 seconds"),
        ("POST .*/commit/", 500, {}, "hub_unavailable", "fault (500)"),
        ("PUT /objects/", 503, {}, "hub_unavailable", "not sent again"),
        ("PUT /objects/", None, {}, "unreachable", "does not answer"),
        ("GET /api/datasets/", None, {}, "unreachable", "check the network and HF_ENDPOINT"),
        ("POST .*/batch", 507, {}, "hub_unavailable", "fault (507)"),
    ],
)
def test_each_refusal_of_the_hub_is_one_sentence(
    server: HubServer, store: None, pattern: str, status: int | None, headers: dict[str, str], code: str, said: str
) -> None:
    record(*range(10))
    server.fail(pattern, status, times=100, headers=headers)
    error = refused()
    assert (error.code, said in error.message) == (code, True), error.message
    assert all(not repository.commits for repository in server.repositories.values())


@pytest.mark.parametrize(
    ("token", "code", "said"),
    [
        ("hf_unknown", "invalid_token", "does not accept the token"),
        ("", "no_token", "set HF_TOKEN to a token that may write to org"),
        ("hf_reader", "may_not_write", "may not write to org/runs"),
    ],
)
def test_a_token_that_may_not_write_is_refused_before_anything_is_sent(
    server: HubServer, store: None, monkeypatch: pytest.MonkeyPatch, token: str, code: str, said: str
) -> None:
    record(*range(10))
    server.writers["hf_reader"] = ""
    monkeypatch.setenv("HF_TOKEN", token)
    error = refused()
    assert (error.code, said in error.message) == (code, True), error.message
    assert server.objects == {}


def test_offline_mode_and_a_wrong_name_are_refused(
    server: HubServer, store: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(1)
    assert refused(target=Target("org/a/b")).code == "invalid_repository"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    close_session()
    assert refused().code == "offline"


def test_a_repository_of_others_another_schema_or_store_is_not_touched(
    server: HubServer, store: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(*range(10))
    server.repositories[REPO] = Repository(is_private=True, files={"data.csv": b"1"})
    assert "exists with other files (data.csv)" in refused().message
    push(target=Target(REPO, is_replaced=True))
    assert "data.csv" not in server.repositories[REPO].files
    before = dict(server.repositories[REPO].files)
    error = refused(given={"format": "sft"})
    assert error.code == "another_schema"
    assert "format was 'jsonl' and is 'sft'" in error.message
    assert "filters was {} and is {'project': 'project-1'}" in refused(given={"project": "project-1"}).message
    monkeypatch.setattr(type(get_store()), "identity", "0" * 12)
    assert "was pushed from another store" in refused().message
    assert server.repositories[REPO].files == before
    push({"format": "sft"}, Target(REPO, is_replaced=True))
    assert data_of(server.repositories[REPO]) == b"".join(exported({"format": "sft"}))


def test_visibility_is_never_changed_by_accident(server: HubServer, store: None) -> None:
    record(1)
    with pytest.raises(InvalidInput, match="needs a licence"):
        push(target=Target(REPO, is_private=False))
    push(target=Target(REPO, is_private=False, license="mit"))
    assert not server.repositories[REPO].is_private
    assert "org/runs is public: pass --public" in refused().message
    server.repositories[REPO].is_private = True
    assert "is private: change that on the Hub" in refused(target=Target(REPO, is_private=False)).message


def test_a_damaged_state_is_refused(server: HubServer, store: None) -> None:
    record(1)
    push()
    server.repositories[REPO].files["trajectories.json"] = b'{"version": 9}'
    assert "it has the version 9" in refused().message
    server.repositories[REPO].files["trajectories.json"] = b"{"
    assert "cannot be used" in refused().message
    push(target=Target(REPO, is_replaced=True))
    assert data_of(server.repositories[REPO]) == b"".join(exported())


def test_without_a_record_nothing_is_pushed(server: HubServer, store: None) -> None:
    record(1)
    assert refused(given={"project": "none"}).code == "nothing_to_push"
    assert server.repositories.get(REPO) is None


# Cuts.


def test_a_push_that_was_cut_is_resumed_and_sends_no_object_twice(server: HubServer, store: None) -> None:
    record(*range(40))
    server.fail("PUT /objects/", None, times=100, skip=3)
    assert refused().code == "unreachable"
    assert server.repositories[REPO].commits == []
    sent = set(server.objects)
    assert len(sent) == 3
    server.faults.clear()
    server.requests.clear()
    push()
    assert data_of(server.repositories[REPO]) == b"".join(exported())
    assert not {f"PUT /objects/{oid}" for oid in sent} & set(server.requests)


@pytest.mark.parametrize("status", [None, 504])
def test_a_commit_whose_answer_is_lost_is_a_push(server: HubServer, store: None, status: int | None) -> None:
    record(*range(10))
    server.fail("POST .*/commit/", status, is_after=True)
    done = push()
    assert done.commit == server.repositories[REPO].sha
    assert len(server.repositories[REPO].commits) == 1


# The command, the task.


def said_by(*arguments: str) -> str:
    out = StringIO()
    call_command("push_to_hub", *arguments, stdout=out)
    return out.getvalue()


def test_the_command_pushes_and_plans(server: HubServer, store: None) -> None:
    record(*range(5))
    planned = said_by(REPO, "--dry-run", "--format", "decisions", "--project", "project-1")
    assert "org/runs would be created, private." in planned
    assert re.search(r"^\+ data/train/0{12}-\w{16}.jsonl  \d+ rows, \d+ bytes$", planned, re.MULTILINE)
    assert "size_categories" in planned
    assert server.repositories == {}
    assert "org/runs has" in said_by(REPO, "--tenant", "north", "--public", "--license", "mit")
    assert "org/runs is up to date: 5 rows of 5 runs." in said_by(REPO, "--public")
    assert AuditEntry.objects.filter(action="export", target=REPO).get().count == 5


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--format", "csv"), "Unknown format 'csv'"),
        (("--tenant", "missing"), "There is no tenant 'missing'"),
        (("--split", "train=2"), "split must have shares"),
        (("--outcome", "red"), "outcome must be one of"),
        (("--public",), "needs a licence"),
    ],
)
def test_the_command_names_the_problem(server: HubServer, store: None, arguments: tuple[str, ...], said: str) -> None:
    record(1)
    with pytest.raises(CommandError, match=said):
        said_by(REPO, *arguments)


def test_the_task_pushes_and_logs_a_failure(
    server: HubServer, store: None, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(*range(5))
    monkeypatch.setattr(type(get_store()), "is_eager", True)
    tasks.enqueue("north", {"format": "sft"}, Target(REPO), actor="user alice")
    assert data_of(server.repositories[REPO]) == b"".join(exported({"format": "sft"}))
    assert AuditEntry.objects.get(target=REPO).actor == "user alice"
    tasks.enqueue("north", {}, Target(REPO), actor="user alice")
    assert "A push to org/runs failed: org/runs exists with another schema" in caplog.text


def test_a_message_of_more_than_a_day_ago_pushes_nothing(
    server: HubServer, store: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    record(*range(5))
    monkeypatch.setattr(type(get_store()), "is_eager", True)
    # A broker may repeat a message, and the export would then have later records.
    monkeypatch.setattr(tasks, "_EXPIRES_US", -1)
    tasks.enqueue("north", {"format": "sft"}, Target(REPO), actor="user alice")
    assert server.repositories == {}
    assert "too old. Push again." in caplog.text


# The consumer.


def test_load_dataset_finds_the_splits(
    server: HubServer, store: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In this process: another one would import pandas, pyarrow and datasets for this test alone."""
    import datasets
    import huggingface_hub.constants

    given = {"split": "train=0.7,test=0.3", "format": "decisions"}
    record(*range(30))
    push(given)
    datasets.disable_progress_bars()
    monkeypatch.setattr(datasets.config, "HF_ENDPOINT", server.url)
    for module in (datasets.config, huggingface_hub.constants):
        monkeypatch.setattr(module, "HF_HUB_OFFLINE", False)  # read at the import
    found = datasets.load_dataset(REPO, cache_dir=str(tmp_path / "datasets"))
    rows = {part: len(exported(given | {"part": part})) for part in ("train", "test")}
    assert {name: part.num_rows for name, part in found.items()} == rows
