"""No file of a site can be used by other users, whatever the umask."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from django.db import connections
from pytest_django import Settings

from tests.processes import clean_environment, run_python
from trajectories import checks
from trajectories.conf import read_settings
from trajectories.private_files import make_folder

# With the files open, so that SQLite's own files are there too.
SCRIPT = """
import json, os, pathlib
os.umask(0)
import django
django.setup()
from django.db import connection
from trajectories import relay
from trajectories.storage.store import get_store
from trajectory_site import data_dir
root = pathlib.Path(os.environ["DATA_DIR"])
connection.cursor().execute("CREATE TABLE something (x)")
get_store().outbox.remember_key("prefix", "{}")
get_store().outbox.key_changes()
data_dir.kept_secrets(root)
with relay.host_lock(get_store()), data_dir.locked(root):
    print(json.dumps({str(path.relative_to(root.parent)): path.stat().st_mode & 0o777 for path in [root, *root.rglob("*")]}))
"""


def test_every_file_is_private_without_a_umask(tmp_path: Path) -> None:
    environment = clean_environment(
        SECRET_KEY="only for tests",
        DJANGO_SETTINGS_MODULE="trajectory_site.settings",
        DATA_DIR=str(tmp_path / "new" / "data"),
        TRAJECTORIES_OUTBOX_PATH=str(tmp_path / "new" / "data" / "deep" / "outbox.sqlite3"),
    )
    done = run_python(["-c", SCRIPT], environment)
    assert done.returncode == 0, done.stderr
    modes = json.loads(done.stdout)
    folders = {"data", "data/deep"}
    assert {name: oct(mode) for name, mode in modes.items()} == {
        name: oct(0o700 if name in folders else 0o600) for name in modes
    }
    assert {Path(name).name for name in modes} == {
        "data",
        "deep",
        *(f"{name}.sqlite3{end}" for name in ("db", "outbox") for end in ("", "-wal", "-shm")),
        "outbox.sqlite3.keys",
        "outbox.sqlite3.lock",
        "outbox.sqlite3.relay.lock",
        "secrets.json",
        "quickstart.lock",
    }
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    ("file", "folder", "is_exposed"), [(0o644, 0o755, True), (0o644, 0o700, False), (0o600, 0o755, False)]
)
def test_at_deployment_a_file_that_others_can_use_is_a_warning(
    tmp_path: Path, settings: Settings, file: int, folder: int, is_exposed: bool
) -> None:
    outbox = tmp_path / "folder" / "outbox.sqlite3"
    make_folder(outbox.parent)
    outbox.touch()
    outbox.chmod(file)
    outbox.parent.chmod(folder)
    journal = outbox.with_name("outbox.sqlite3-wal")
    journal.touch(file)
    journal.chmod(file)
    settings.TRAJECTORIES = settings.TRAJECTORIES | {"OUTBOX_PATH": str(outbox)}
    assert checks._check_files in checks._DEPLOY_CHECKS
    found = list(checks._check_files(read_settings()))
    assert len(found) == is_exposed
    assert all(message.id == "trajectories.W007" and str(outbox) in message.msg for message in found)
    for message in found:  # a folder of a host project stays as it is
        subprocess.run(["sh", "-c", str(message.hint)], check=True)
    assert list(checks._check_files(read_settings())) == []
    assert outbox.parent.stat().st_mode & 0o777 == folder


def test_at_deployment_the_file_of_the_archive_is_looked_at_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    folder.chmod(0o755)
    file = folder / "db.sqlite3"
    file.touch()
    monkeypatch.setitem(connections["default"].settings_dict, "NAME", str(file))
    monkeypatch.setattr(connections["default"], "vendor", "sqlite")
    for mode, is_exposed in ((0o644, True), (0o600, False)):
        file.chmod(mode)
        assert [str(file) in one.msg for one in checks._check_files(read_settings())] == [True] * is_exposed
