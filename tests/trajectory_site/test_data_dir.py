"""Settings in a data directory are used only if no other user can have written them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from trajectory_site import data_dir


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {})


@pytest.fixture
def settings_file(tmp_path: Path) -> Path:
    data_dir.keep_settings(tmp_path, {"SECRET_KEY": "kept"})
    return tmp_path / "environment.json"


def test_own_settings_are_used(settings_file: Path) -> None:
    data_dir.use_settings(settings_file.parent)
    assert os.environ["SECRET_KEY"] == "kept"


@pytest.mark.parametrize("mode", [0o620, 0o602])
def test_settings_that_others_may_write_are_refused(settings_file: Path, mode: int) -> None:
    settings_file.chmod(mode)
    with pytest.raises(data_dir.DataDirUnusable, match="others may write it"):
        data_dir.use_settings(settings_file.parent)
    assert "SECRET_KEY" not in os.environ


def test_settings_of_another_user_are_refused(settings_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = os.geteuid() + 1
    monkeypatch.setattr(os, "geteuid", lambda: other)
    with pytest.raises(data_dir.DataDirUnusable, match="belongs to another user"):
        data_dir.use_settings(settings_file.parent)
    assert "SECRET_KEY" not in os.environ


def test_a_directory_that_every_user_may_write_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with pytest.raises(data_dir.DataDirUnusable, match="chmod 700"), data_dir.locked(tmp_path):
        pytest.fail("it was locked")
    tmp_path.chmod(0o755)
    with data_dir.locked(tmp_path):
        pass


def test_a_directory_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path.stat().st_uid + 1
    monkeypatch.setattr(os, "geteuid", lambda: other)
    with pytest.raises(data_dir.DataDirUnusable, match="Other users may write"), data_dir.locked(tmp_path):
        pytest.fail("it was locked")
