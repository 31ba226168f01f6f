"""The command line: the requests of its commands, and the options in their help."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from click.testing import CliRunner

from tests.lockstep.api import operation_of
from tests.lockstep.facts import (
    BY_TARGET,
    OF_A_TOOL,
    OF_TRAINING,
    OPERATION,
    PARAMETER,
    Side,
    operations,
    parameters,
)
from tests.lockstep.python import RUN
from trajectories_sdk import Client
from trajectories_sdk.cli.commands import trajectory
from trajectories_sdk.cli.exits import Exit, exit_for_status
from trajectories_sdk.testing import InMemoryServer

_GIVEN: Mapping[str, tuple[str, ...]] = {
    "record": ("-",),
    "show": (RUN["id"],),
    "update": (RUN["id"], "-"),
    "export": ("--output", "-"),
    "outcome": ("merged", "true", "--id", RUN["id"]),
    "recommend": ("spec", "small", "large"),
    "evaluate": ("small",),
}
_ABOUT_THE_COMMAND = (
    *("json", "base-url", "api-key", "timeout-s", "max-retries", "help"),
    *("ndjson", "output", "resume", "no-resume", "no-progress", "if-match"),
)
_OF_PIPELINES = "the admin and the metrics show alerts; programs ask by the SDKs"
_IRREVERSIBLE = "deletion is permanent and needs a dry run first; only the SDKs offer it"


def calls() -> Mapping[str, frozenset[str]]:
    return {f"trajectories {name}": _called(name) for name in trajectory.commands}


def _called(command: str) -> frozenset[str]:
    with InMemoryServer() as server:
        server.client().trajectories.record(RUN)
        before = len(server.requests)

        def make(**connection: Any) -> Client:
            return server.client()

        done = CliRunner().invoke(trajectory, [command, *_GIVEN.get(command, ())], input=json.dumps(RUN), obj=make)
        # The server in memory refuses to evaluate, which is an answer.
        assert done.exit_code == (Exit.REFUSED if command == "evaluate" else Exit.DONE), (
            f"{command} failed. Add its arguments to tests/lockstep/command_line.py. {done.output}"
        )
        return frozenset(operation_of(request.method, request.path) for request in server.requests[before:])


def _parameters(called: Mapping[str, frozenset[str]]) -> frozenset[str]:
    """Return the parameters that the options and arguments in the help stand for."""
    found: frozenset[str] = frozenset()
    for name, operations_ in called.items():
        command = name.removeprefix("trajectories ")
        shown = CliRunner().invoke(trajectory, [command, "--help"]).stdout
        options = set(re.findall(r"--([a-z][a-z-]*)", shown.partition("Options:")[2])) - set(_ABOUT_THE_COMMAND)
        named = {option.replace("-", "_") for option in options if option.removeprefix("no-") not in options - {option}}
        arguments = {word.lower() for word in re.findall(r"\b(ID)\b", shown.splitlines()[0])}
        for operation in operations_:
            found |= parameters(operation, named | arguments)
    return found


def side() -> Side:
    called = calls()
    return Side(
        name="Command line",
        kinds=(OPERATION, PARAMETER),
        facts=operations(called) | _parameters(called),
        touch="FILTERS of src/trajectories_sdk/cli/options.py, or a command of cli/commands.py, in packages/sdk-py",
        without={
            f"{PARAMETER} list.cursor": "the command iterates over the pages",
            f"{PARAMETER} export.end": "the SDK requests the end line itself and verifies it",
            **OF_TRAINING,
            **BY_TARGET,
            f"{OPERATION} list_outcomes": "show --json has them",
            f"{PARAMETER} list_outcomes.id": "show --json has them",
            **OF_A_TOOL,
            f"{OPERATION} alerts": _OF_PIPELINES,
            f"{PARAMETER} alerts.*": _OF_PIPELINES,
            f"{OPERATION} delete_*": _IRREVERSIBLE,
            f"{PARAMETER} delete_*": _IRREVERSIBLE,
        },
        own={
            f"{PARAMETER} {name}.*": "options are fields of the body"
            for name in ("record_outcomes", "recommend", "evaluate")
        },
        calls=called,
    )


def exit_codes() -> dict[int, int]:
    """Return the exit code of each status."""
    return {status: int(exit_for_status(status)) for status in range(400, 600)}
