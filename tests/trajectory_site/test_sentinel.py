"""A site whose Redis is behind real sentinels."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from redis import Redis
from redis.sentinel import MasterNotFoundError, Sentinel

from tests.processes import OwnRedis, Site, wait_until
from tests.test_whole_path import archived, bodies, ndjson, post
from trajectory_site import redis_url, servers

pytestmark = pytest.mark.outside

SERVICE, SENTINEL_PASSWORD = "records", "of the sentinels"


class Watched:
    """A primary, its replica, and two sentinels that watch them."""

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        self.primary, self.replica = OwnRedis(directory / "primary"), OwnRedis(directory / "replica")
        stack.callback(self.primary.stop)
        stack.callback(self.replica.stop)
        password = self.primary._password
        with self.replica.client() as client:
            client.config_set("requirepass", password)
        with Redis(port=redis_url.port(self.replica.url) or 0, password=password) as client:
            client.config_set("masterauth", password)
            client.replicaof("127.0.0.1", str(redis_url.port(self.primary.url)))
        with self.primary.client() as client:
            client.config_set("masterauth", password)
            wait_until(lambda: "slave0" in client.info("replication"), what="the replica follows")
        self.ports = [self._sentinel(directory / f"sentinel{n}", password, stack) for n in range(2)]
        hosts = ",".join(f"127.0.0.1:{port}" for port in self.ports)
        self.url = f"redis+sentinel://:{password}@{hosts}/{SERVICE}/0?sentinel_password={quote(SENTINEL_PASSWORD)}"
        wait_until(self._is_ready, what="the sentinels know each other and the replica")

    def _sentinel(self, directory: Path, password: str, stack: ExitStack) -> int:
        directory.mkdir()
        port, config, log = servers.free_port(), directory / "sentinel.conf", directory / "log"
        lines = [
            f"port {port}",
            f"dir {directory}",
            f'requirepass "{SENTINEL_PASSWORD}"',
            f"sentinel monitor {SERVICE} 127.0.0.1 {redis_url.port(self.primary.url)} 1",
            f"sentinel auth-pass {SERVICE} {password}",
            f"sentinel down-after-milliseconds {SERVICE} 300",
            f"sentinel failover-timeout {SERVICE} 2000",
        ]
        config.write_text("\n".join(lines) + "\n")
        command = [str(servers.find_redis()[0]), str(config), "--sentinel"]
        process = stack.enter_context(servers.server_process(command, log))
        servers.wait_for_server(process, log, "The sentinel", lambda: "+monitor" in log.read_text())
        return port

    def _is_ready(self) -> bool:
        states = []
        for port in self.ports:
            with Redis(port=port, password=SENTINEL_PASSWORD) as client:
                states.append(client.sentinel_master(SERVICE))
        return all(state["num-slaves"] == 1 for state in states)

    def primary_port(self) -> int | None:
        sentinels = [("127.0.0.1", port) for port in self.ports]
        manager: Any = Sentinel(sentinels, sentinel_kwargs={"password": SENTINEL_PASSWORD})  # type: ignore[no-untyped-call]
        try:
            return int(manager.discover_master(SERVICE)[1])
        except MasterNotFoundError:
            return None


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    with ExitStack() as stack:
        yield Watched(tmp_path, stack)


def test_records_written_before_and_after_a_failover_are_all_archived(watched: Watched, site: Site) -> None:
    site.environment |= {"REDIS_URL": watched.url, "TRAJECTORIES_RESEND_AFTER_S": "1"}
    web, _ = site.web(), site.worker()
    post(web, ndjson(bodies(5)))
    wait_until(lambda: archived(site) == 5, what="the first records are archived")
    with watched.primary.client() as client:
        assert client.keys("*trajectories:*")

    before = watched.primary_port()
    watched.primary.kill()
    post(web, ndjson(bodies(5)))
    wait_until(lambda: watched.primary_port() not in (before, None), what="the replica is the primary")
    post(web, ndjson(bodies(5)))
    wait_until(lambda: archived(site) == 15, what="all records are archived")
    wait_until(lambda: web.http.get("/v1/agent/trajectories").json()["complete"], what="reads follow the new primary")
