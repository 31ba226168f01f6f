"""Nothing exists on one side only: endpoints, query parameters, fields of requests and answers, errors."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.lockstep import api, command_line, python, typescript
from tests.lockstep.facts import Side
from tests.sdk_ts.conftest import sdk_package as sdk_package


@pytest.fixture(scope="module")
def declared(sdk_package: Path) -> dict[str, object]:
    return typescript.declarations(sdk_package)


@pytest.fixture(scope="module")
def of_python() -> dict[str, Side]:
    return {side.name: side for side in python.sides()}


def expect_agreement(side: Side) -> None:
    problems = side.problems(api.facts(api.live()))
    assert not problems, "\n".join(["", *problems, f"Touch: {side.touch}.", "CONTRIBUTING.md says what else to touch."])


def test_the_kept_document_has_what_the_code_answers_to() -> None:
    expect_agreement(api.document_side())


@pytest.mark.parametrize("name", ["Python SDK", "Python SDK, awaited", "Python recorder", "trajectory_sdk.testing"])
def test_the_python_sdk_has_what_the_api_has(name: str, of_python: dict[str, Side]) -> None:
    expect_agreement(of_python[name])


@pytest.mark.parametrize("name", ["TypeScript SDK", "TypeScript recorder"])
def test_the_typescript_sdk_has_what_the_api_has(name: str, declared: dict[str, object]) -> None:
    expect_agreement(next(side for side in typescript.sides(declared) if side.name == name))


def test_the_command_line_has_what_the_api_has() -> None:
    expect_agreement(command_line.side())


def test_both_sdks_name_their_errors_alike(declared: dict[str, object]) -> None:
    assert typescript.error_names(declared) == python.error_names()
