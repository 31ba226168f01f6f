"""The TypeScript SDK: its declarations, and the requests of its methods."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.lockstep.api import live, operation_of
from tests.lockstep.facts import (
    BY_TARGET,
    DECISIONS,
    ERROR,
    OF_A_TOOL,
    OF_TRAINING,
    OPERATION,
    PARAMETER,
    REQUEST,
    RESPONSE,
    Side,
    fields,
    operations,
    parameters,
)

_OF_THE_SDK = (
    *("trajectory", "trajectories", "patch", "ifMatch", "maxLines", "maxBytes"),
    *("signal", "progress"),
)
"""Arguments that are not parameters of the API."""
GENERATE = "npm run generate in packages/sdk-ts; add a new endpoint to src/trajectories.ts"


def declarations(package: Path) -> dict[str, Any]:
    """Return the declarations and requests of the built package."""
    script = Path(__file__).with_name("declarations.mjs")
    done = subprocess.run(["node", str(script), str(package)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def error_names(declared: Mapping[str, Any]) -> dict[int, str]:
    """Return the error class of each status."""
    return {int(status): name for status, name in declared["errors"].items()}


def sides(declared: Mapping[str, Any]) -> list[Side]:
    calls = {
        name: frozenset(operation_of(*request.split(" ")) for request in requests)
        for name, requests in declared["calls"].items()
    }
    others = {
        name: frozenset(operation_of(*request.split(" ")) for request in requests)
        for name, requests in declared["others"].items()
    }
    taken = parameters("alerts", declared["alerts"])
    for name, called in calls.items():
        if name not in (
            "trajectories.run",
            "trajectories.start",
            "trajectories.enqueue",
            "outcomes.enqueue",
            "outcomes.record",
        ):  # their arguments are fields
            names = [one for one in declared["methods"][name] if one not in _OF_THE_SDK]
            taken = taken.union(*(parameters(operation, names) for operation in called))
    objects = {name for name, schema in live()["components"]["schemas"].items() if "properties" in schema}
    sent = frozenset[str]().union(*(fields(REQUEST, name, names) for name, names in declared["sent"].items()))
    answered = frozenset[str]().union(
        *(fields(RESPONSE, name, names) for name, names in declared["schemas"].items() if name in objects)
    )
    own = frozenset(
        f"{ERROR} {status}"
        for status, name in error_names(declared).items()
        if name not in ("APIStatusError", "ServerError")
    )
    return [
        Side(
            name="TypeScript SDK",
            kinds=(OPERATION, PARAMETER, REQUEST, RESPONSE, ERROR),
            facts=operations(calls | others) | taken | sent | answered | own,
            touch=f"{GENERATE}; a new status is a class of src/errors.ts",
            without={
                f"{PARAMETER} export.end": "the SDK requests the end line itself and verifies it",
                **OF_TRAINING,
                **BY_TARGET,
                **OF_A_TOOL,
                **dict.fromkeys(_PARTS, "a part of a request"),
            },
            own={f"{RESPONSE} {name}.*": reason for name, reason in _ALL_SCHEMAS.items()},
            calls=calls | others,
        ),
        _recorder(declared["recorder"]),
    ]


_PARTS = [f"{REQUEST} {name}.*" for name in ("EarlierPhase", "QualityFloor", "RulePolicy", "Rule")]
"""Schemas within a request, whose types have no name of their own in the SDK."""
_ALL_SCHEMAS = {
    **dict.fromkeys(
        ("RecommendationRequest", "EvaluationRequest", "CandidateModel", "EarlierPhase", "QualityFloor", "Rule*"),
        "the generator writes every schema, including those of bodies",
    ),
    "Trajectory": "the generator writes every schema, including those of bodies",
    "*Patch": "the generator writes every schema, including those of bodies",
    "LateOutcome": "the generator writes every schema, including those of bodies",
    "Camel*": "the generator writes every schema; no export uses the camelCase ones",
}


def _recorder(declared: Mapping[str, list[str]]) -> Side:
    return Side(
        name="TypeScript recorder",
        kinds=(REQUEST,),
        facts=fields(REQUEST, "Trajectory", declared["RunFields"]) | fields(REQUEST, "Phase", declared["PhaseFields"]),
        touch="RunFields and PhaseFields of src/recorder.ts and src/phase.ts in packages/sdk-ts",
        without={
            f"{REQUEST} Trajectory.id": "an option of run(); it never changes",
            f"{REQUEST} Trajectory.phases": "created by run.phase() and run.skip()",
            f"{REQUEST} Phase.phase_name": "an argument of run.phase()",
            f"{REQUEST} Candidate.*": "the caller passes an object",
            f"{REQUEST} Exploration.*": "the caller passes an object",
            f"{REQUEST} Attempt.*": "the caller passes an object, or phase.attempt() creates it",
            f"{REQUEST} FeedbackLoop.*": "the caller passes an object, or run.feedback() creates it",
            f"{REQUEST} *Patch.*": "update() changes a recorded run",
            f"{REQUEST} LateOutcome.*": "run.outcome() and outcomes.record() take them",
            **DECISIONS,
        },
    )
