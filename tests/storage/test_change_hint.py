"""Processes know of changed keys without a query for each request."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.storage.outboxes import opened
from trajectories.storage.change_hint import ChangeHint
from trajectories.storage.outbox import Outbox


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "outbox.sqlite3"


def queries_of(outbox: Outbox, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    asked: list[str] = []
    read = outbox._file.read

    def counted(sql: str, *values: Any) -> Any:
        asked.append(sql)
        return read(sql, *values)

    monkeypatch.setattr(outbox._file, "read", counted)
    return asked


def test_a_change_of_another_process_is_seen_at_once_and_costs_one_query(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trajectories.storage.outbox._KEYS_KNOWN_S", 3600.0)
    own, other = opened(path), opened(path)
    asked = queries_of(own, monkeypatch)
    assert [own.key_changes() for _ in range(5)] == [0] * 5
    other.forget_keys(["prefix"])
    assert [own.key_changes() for _ in range(5)] == [1] * 5
    own.forget_keys(["prefix"])
    other.erase("digest of a tenant", 1)
    assert own.key_changes() == other.key_changes() == 3
    assert len(asked) == 3


def test_a_change_without_a_mark_is_seen_when_the_time_is_over(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own, earlier = opened(path), opened(path)
    monkeypatch.setattr(earlier, "_hint_at_keys", lambda: None)  # as the release before did
    assert own.key_changes() == 0
    earlier.forget_keys(["prefix"])
    monkeypatch.setattr("trajectories.storage.outbox.time.monotonic", lambda: own._key_changes[2])
    assert own.key_changes() == 1


def test_keys_are_forgotten_where_the_mark_cannot_be_written(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.with_name("outbox.sqlite3.keys").mkdir()
    own, other = opened(path), opened(path)
    asked = queries_of(own, monkeypatch)
    assert [own.key_changes(), own.key_changes()] == [0, 0]
    other.forget_keys(["prefix"])
    assert own.key_changes() == 1
    assert len(asked) == 3


def test_each_change_gives_another_mark_to_all(tmp_path: Path) -> None:
    own, other = (ChangeHint(str(tmp_path / "mark")) for _ in range(2))
    marks = [own.read()]
    for hint in (other, own, other):
        hint.change()
        assert own.read() == other.read()
        marks.append(own.read())
    assert len(set(marks)) == len(marks)
    own.close()
    assert own.read() == marks[-1]
