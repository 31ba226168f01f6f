"""The quick start as a person has it: one command, real processes, Ctrl-C."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from redis import Redis

from tests.processes import PROJECT, Process, clean_environment, group_lives, run_python, wait_until
from trajectory_site import quickstart as quick_start
from trajectory_site import servers
from trajectory_site.sample import RUNS

pytestmark = pytest.mark.outside

Start = Callable[..., Process]


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "data dir"  # the blank is there on purpose


@pytest.fixture
def start(tmp_path: Path, data_dir: Path) -> Iterator[Start]:
    """Start the quick start; by default, wait until it reports that the store runs."""
    started: list[Process] = []

    def start(*arguments: str, port: int | None = None, is_ready: bool = True) -> Process:
        command = [sys.executable, str(PROJECT / "manage.py"), "quickstart", "--data-dir", str(data_dir)]
        command += ["--port", str(port or servers.free_port()), *arguments]
        log = tmp_path / f"quickstart{len(started)}.log"
        started.append(Process(command, clean_environment(), log))
        if is_ready:
            started[-1].wait_for(lambda: "Record a run:" in started[-1].output, "the store runs")
        return started[-1]

    yield start
    for process in started:
        if process.is_running:
            process.stop()


def facts(data_dir: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((data_dir / "quickstart.json").read_text())
    return read


def pids_of(data_dir: Path) -> dict[str, int]:
    read: dict[str, int] = json.loads((data_dir / "processes.json").read_text())
    return read


def get(data_dir: Path, path: str = "", *, api_key: str | None = None, **headers: str) -> httpx2.Response:
    found = facts(data_dir)
    headers["Authorization"] = f"Bearer {api_key or found['api_key']}"
    return httpx2.get(f"{found['url']}/v1/agent/trajectories{path}", headers=headers, trust_env=False)


def count(data_dir: Path) -> int:
    return int(get(data_dir, "/stats").raise_for_status().json()["count"])


async def runs_by_mcp(found: dict[str, Any]) -> int:
    """How many runs an agent finds."""
    headers = {"Authorization": f"Bearer {found['api_key']}"}
    async with httpx2.AsyncClient(headers=headers, trust_env=False, timeout=120) as http:
        transport = streamable_http_client(found["url"] + "/v1/mcp/connect", http_client=http)
        async with Client(transport) as client:
            answer = await client.call_tool("br_trajectory_query", {"limit": 20})
            return len(answer.structured_content["untrusted_data"]["runs"])


def send_the_printed_curl(quickstart: Process) -> httpx2.Response:
    """Send the request of a curl line as a shell would; a bare machine has no curl."""
    line = next(line for line in quickstart.output.splitlines() if line.startswith("curl "))
    parser = argparse.ArgumentParser()
    parser.add_argument("-sS", action="store_true")
    parser.add_argument("url")
    parser.add_argument("-H", action="append")
    parser.add_argument("-d")
    curl = parser.parse_args(shlex.split(line)[1:])
    headers = dict(header.split(": ", 1) for header in curl.H)
    return httpx2.post(curl.url, headers=headers, content=curl.d, trust_env=False)


def test_it_serves_until_ctrl_c_and_the_next_start_finds_key_admin_and_records(start: Start, data_dir: Path) -> None:
    """One test for what one start can show: each start is three processes that load Django."""
    quickstart = start("--sample", "--cors", "http://page.example", "--cors", "http://localhost:5173")
    serves_and_says_how_and_keeps_its_files_private(quickstart, data_dir)
    second_start_in_the_same_directory_is_one_sentence(start, data_dir)
    commands_beside_it_find_its_settings(data_dir)
    redis_that_was_killed_comes_back_and_nothing_is_lost(quickstart, data_dir)
    before = facts(data_dir)
    assert_ends(quickstart, signal.SIGINT, data_dir)

    again = start("--sample")
    assert {**facts(data_dir), "url": before["url"]} == before
    assert before["admin_password"] not in again.output
    assert count(data_dir) == RUNS + 1
    assert "Access-Control-Allow-Origin" not in get(data_dir, Origin="http://page.example").headers
    assert_ends(again, signal.SIGTERM, data_dir)


def serves_and_says_how_and_keeps_its_files_private(quickstart: Process, data_dir: Path) -> None:
    found = facts(data_dir)
    assert set(found) == {"url", "api_key", "tenant", "admin_user", "admin_password", "redis_url"}
    assert all(found[name] in quickstart.output for name in ("url", "api_key", "admin_user", "admin_password"))
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in data_dir.rglob("*") if path.is_file()}
    assert {path.name for path in modes} >= {"quickstart.json", "secrets.json", "db.sqlite3", "outbox.sqlite3"}
    assert set(modes.values()) == {0o600}
    assert count(data_dir) == RUNS
    assert f"{found['url']}/v1/mcp/connect" in quickstart.output
    assert anyio.run(runs_by_mcp, found) == 20
    for origin in ("http://page.example", "http://localhost:5173"):
        assert get(data_dir, Origin=origin).headers["Access-Control-Allow-Origin"] == origin
    with Redis.from_url(found["redis_url"]) as tier:
        wait_until(
            lambda: sum(1 for key in tier.scan_iter(count=1000) if tier.ttl(key) > 0) >= 6, what="six keys with a TTL"
        )


def assert_ends(quickstart: Process, number: signal.Signals, data_dir: Path) -> None:
    """Ctrl-C goes to the whole group of a terminal, SIGTERM to the command alone; either ends every
    process."""
    pids = pids_of(data_dir)
    assert set(pids) == {"quickstart", "redis", "web", "worker"}
    if number == signal.SIGINT:
        quickstart.signal_group(number)
    else:
        os.kill(quickstart.pid, number)
    assert quickstart.wait() == 0
    assert not [name for name, pid in pids.items() if group_lives(pid)]


def commands_beside_it_find_its_settings(data_dir: Path) -> None:
    environment = clean_environment()
    environment.pop("SECRET_KEY", None)
    command = [str(PROJECT / "manage.py"), "create_api_key", "beside", "--scopes", "read"]
    for where in (["--data-dir", str(data_dir)], []):
        more = {} if where else {"DATA_DIR": str(data_dir)}
        made = run_python([*command, *where], environment | more)
        assert made.returncode == 0, made.stderr
        assert get(data_dir, api_key=made.stdout.strip()).json()["data"] == []


def redis_that_was_killed_comes_back_and_nothing_is_lost(quickstart: Process, data_dir: Path) -> None:
    redis = pids_of(data_dir)["redis"]
    os.kill(redis, signal.SIGKILL)
    posted = send_the_printed_curl(quickstart)
    assert posted.status_code == 201

    def is_exported() -> bool:
        export = get(data_dir, "/export?end=1")
        return export.is_success and posted.json()["id"] in export.text

    quickstart.wait_for(is_exported, "the export answers again")
    assert "redis ended (SIGKILL). It is started again." in quickstart.output
    assert pids_of(data_dir)["redis"] != redis


def test_a_busy_port_is_one_sentence(start: Start, data_dir: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        quickstart = start(port=port, is_ready=False)
        assert quickstart.wait() == 1
    assert quickstart.output.startswith(f"quickstart: Port {port} is in use.")
    assert len(quickstart.output.splitlines()) == 1


def second_start_in_the_same_directory_is_one_sentence(start: Start, data_dir: Path) -> None:
    second = start(is_ready=False)
    assert second.wait() == 1
    assert second.output.startswith(f"quickstart: The data directory {data_dir} is in use")
    assert len(second.output.splitlines()) == 1


def test_processes_left_by_a_killed_start_are_named(start: Start, data_dir: Path) -> None:
    killed = start()
    pids = pids_of(data_dir)
    killed.kill()
    try:
        second = start(is_ready=False)
        assert second.wait() == 1
        named = second.output.strip().rpartition("kill ")[2].split()
        assert sorted(named) == sorted(str(pids[name]) for name in ("redis", "web", "worker"))
    finally:
        for name in ("web", "worker", "redis"):
            os.killpg(pids[name], signal.SIGTERM)
        wait_until(lambda: not any(group_lives(pids[name]) for name in ("web", "worker", "redis")), what="all are gone")


def test_a_redis_that_does_not_answer_is_one_sentence(tmp_path: Path, data_dir: Path) -> None:
    environment = clean_environment(REDIS_URL=f"redis://127.0.0.1:{servers.free_port()}/0")
    done = subprocess.run(
        [sys.executable, str(PROJECT / "manage.py"), "quickstart", "--data-dir", str(data_dir)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("quickstart: The Redis that REDIS_URL names does not answer")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(("cores", "processes"), [(1, "1"), (2, "1"), (3, "1"), (4, "2"), (64, "4")])
def test_web_processes_follow_the_cores(cores: int, processes: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRAJECTORIES_WEB_PROCESSES", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(cores)), raising=False)
    command = quick_start._web(8000)
    assert command[command.index("--workers") + 1] == processes
    monkeypatch.setenv("TRAJECTORIES_WEB_PROCESSES", "3")
    assert quick_start._web(8000)[command.index("--workers") + 1] == "3"


@pytest.mark.parametrize("arguments", [["help", "quickstart"], ["quickstart", "--help"]])
def test_its_help_needs_no_settings(arguments: list[str]) -> None:
    environment = clean_environment()
    environment.pop("SECRET_KEY", None)
    done = subprocess.run(
        [sys.executable, str(PROJECT / "manage.py"), *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "--data-dir" in done.stdout
