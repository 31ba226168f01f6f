"""The supervisor of the quick start, with small programs."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from tests.processes import Process, clean_environment, group_lives, wait_until

_RUN = """
import json, sys
from pathlib import Path
from trajectory_site.supervisor import Program, Supervisor
pids = Path("pids.json")
def note(found):
    pids.with_suffix(".draft").write_text(json.dumps(found))
    pids.with_suffix(".draft").replace(pids)
with Supervisor(note) as supervisor:
    for name, script in json.loads(sys.argv[1]).items():
        log = Path("its.log") if name == "logged" else None
        supervisor.start(Program(name, ["sh", "-c", script], log=log))
    def meanwhile():
        supervisor.say("All run.")
        for name, script in json.loads(sys.argv[2]).items():
            supervisor.fail("") if name == "end" else supervisor.add(Program(name, ["sh", "-c", script]))
    sys.exit(supervisor.run(meanwhile))
"""
_SERVER = "trap 'echo stopping; exit 0' TERM; echo up; while :; do sleep 0.02; done"

Run = Callable[..., Process]


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    """Runs a supervisor of shell scripts, by name; ``later`` are added, and ``end`` among them is a
    failure."""
    started: list[Process] = []

    def run(later: Mapping[str, str] | None = None, **scripts: str) -> Process:
        environment = clean_environment(PYTHONPATH=str(Path(__file__).parents[2]))
        command = [sys.executable, "-c", _RUN, json.dumps(scripts), json.dumps(later or {})]
        started.append(Process(command, environment, tmp_path / "log", directory=tmp_path))
        return started[-1]

    yield run
    for process in started:
        process.kill()


def pids(tmp_path: Path) -> dict[str, int]:
    path = tmp_path / "pids.json"
    return json.loads(path.read_text()) if path.exists() else {}


def test_a_program_that_was_killed_is_started_again_and_its_children_are_ended(run: Run, tmp_path: Path) -> None:
    supervisor = run(server=f"sleep 600 & {_SERVER}")
    supervisor.wait_for(lambda: "| up" in supervisor.output, "it runs")
    first = pids(tmp_path)["server"]
    os.kill(first, signal.SIGKILL)
    supervisor.wait_for(lambda: supervisor.output.count("| up") == 2, "it runs again")
    assert "server ended (SIGKILL). It is started again." in supervisor.output
    assert pids(tmp_path)["server"] != first
    assert not group_lives(first)
    os.kill(supervisor.pid, signal.SIGTERM)
    assert supervisor.wait() == 0


@pytest.mark.parametrize("name", ["printed", "logged"])
def test_a_program_that_keeps_ending_ends_the_rest_with_its_last_lines(name: str, run: Run, tmp_path: Path) -> None:
    supervisor = run(server=_SERVER, **{name: "echo no such host; exit 3"})
    assert supervisor.wait() == 1
    assert supervisor.output.count(f"{name} ended (exit code 3). It is started again.") == 2
    last = (
        f"{name} keeps ending (exit code 3): 3 times soon after its start. Its last lines:\n" + "  no such host\n" * 3
    )
    assert last in supervisor.output
    wait_until(lambda: not group_lives(pids(tmp_path)["server"]), what="the other program has ended")


def test_programs_stop_in_the_reverse_order_of_their_start(run: Run) -> None:
    scripts = {name: _SERVER.replace("stopping", f"{name} stops") for name in ("first", "second", "third")}
    supervisor = run(**scripts)
    supervisor.wait_for(lambda: supervisor.output.count("| up") == 3, "all run")
    supervisor.signal_group(signal.SIGINT)
    assert supervisor.wait() == 0
    stops = [line.rpartition("| ")[2] for line in supervisor.output.splitlines() if "stops" in line]
    assert stops == ["third stops", "second stops", "first stops"]


def test_a_program_may_be_added_later_and_not_during_the_end(run: Run, tmp_path: Path) -> None:
    supervisor = run({"added": _SERVER, "end": "", "late": _SERVER}, server=_SERVER)
    assert supervisor.wait() == 1
    assert set(pids(tmp_path)) == {"server", "added"}
    assert not [name for name, pid in pids(tmp_path).items() if group_lives(pid)]
