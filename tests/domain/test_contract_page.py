"""docs/contract.md names every field, derived value and warning."""

from __future__ import annotations

import ast
import inspect
import re

import pytest
from pydantic import BaseModel

from tests.domain.test_warnings import CONTRADICTIONS
from tests.processes import PROJECT
from trajectories.api.responses import Derived
from trajectories.domain import schema, warnings

PAGE = (PROJECT / "docs" / "contract.md").read_text()
NAMED = set(re.findall(r"`(\w+)`", PAGE))


@pytest.mark.parametrize(
    "model",
    [
        schema.Trajectory,
        schema.Phase,
        schema.Candidate,
        schema.Exploration,
        schema.Attempt,
        schema.FeedbackLoop,
        Derived,
    ],
)
def test_every_field_is_on_the_page(model: type[BaseModel]) -> None:
    assert set(model.model_fields) <= NAMED


def test_every_warning_is_on_the_page_and_has_an_example_in_the_tests() -> None:
    calls = [node for node in ast.walk(ast.parse(inspect.getsource(warnings))) if isinstance(node, ast.Call)]
    made = [call.args[1] for call in calls if isinstance(call.func, ast.Name) and call.func.id == "Contradiction"]
    codes = {code.value for code in made if isinstance(code, ast.Constant)}
    assert len(made) == len([code for code in made if isinstance(code, ast.Constant)])
    assert {code for _, _, code, _ in CONTRADICTIONS} == codes
    assert set(re.findall(r"^\| `(\w+)` \|", PAGE.partition("## Warnings")[2], re.M)) == codes
    assert int(re.findall(r"list at\s+most\s+(\d+) `warnings`", PAGE)[0]) == warnings.MAX_WARNINGS
