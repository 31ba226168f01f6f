"""The API and its clients have the same endpoints, parameters, fields and errors."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.lockstep import api, codes, command_line, page, python, tools, typescript
from tests.lockstep.facts import Side
from tests.processes import PROJECT
from tests.sdk_ts.conftest import sdk_package as sdk_package

DOCS = PROJECT / "docs"
pytestmark = pytest.mark.outside


@pytest.fixture(scope="module")
def declared(sdk_package: Path) -> dict[str, object]:
    return typescript.declarations(sdk_package)


@pytest.fixture(scope="module")
def of_python() -> dict[str, Side]:
    return {side.name: side for side in python.sides()}


def expect_agreement(side: Side) -> None:
    problems = side.problems(api.facts(api.live()))
    assert not problems, "\n".join(
        ["", *problems, f"To fix: {side.touch}.", "CONTRIBUTING.md lists the further steps."]
    )


def test_the_committed_document_matches_the_code() -> None:
    expect_agreement(api.document_side())


@pytest.mark.parametrize("name", ["Python SDK", "Python SDK, awaited", "Python recorder", "trajectories_sdk.testing"])
def test_the_python_sdk_matches_the_api(name: str, of_python: dict[str, Side]) -> None:
    expect_agreement(of_python[name])


@pytest.mark.parametrize("name", ["TypeScript SDK", "TypeScript recorder"])
def test_the_typescript_sdk_matches_the_api(name: str, declared: dict[str, object]) -> None:
    expect_agreement(next(side for side in typescript.sides(declared) if side.name == name))


def test_the_command_line_matches_the_api() -> None:
    expect_agreement(command_line.side())


def test_both_sdks_have_the_same_error_classes(declared: dict[str, object]) -> None:
    assert typescript.error_names(declared) == python.error_names()


def test_the_mcp_tools_match_the_api() -> None:
    expect_agreement(tools.side())


@pytest.mark.parametrize("sdk", codes.SDKS)
def test_clients_know_only_existing_error_codes(sdk: str) -> None:
    unknown = codes.known_to(sdk) - frozenset().union(*codes.of_the_store().values()) - set(codes.OF_AN_SDK)
    assert not unknown, (
        f"{sdk} has codes that are neither in the store nor in OF_AN_SDK of tests/lockstep/codes.py: {unknown}"
    )


def test_the_in_memory_server_has_the_error_codes_of_the_store() -> None:
    of_store = codes.of_the_store()
    unknown = {status: found - of_store[status] for status, found in codes.of_the_server_for_tests().items()}
    assert not any(unknown.values()), f"trajectories_sdk.testing has codes that the store does not have: {unknown}"


@pytest.fixture(scope="module")
def generated(declared: dict[str, object]) -> str:
    return page.text(declared)


def test_the_page_is_up_to_date(generated: str) -> None:
    kept = (DOCS / "lockstep.md").read_text()
    assert kept == generated, "uv run python docs/generate_lockstep.py"


def test_every_endpoint_is_documented_in_a_section(generated: str) -> None:
    rows = [line for line in generated.splitlines() if re.match(r"\| `[A-Z]+ /", line)]
    assert len(rows) == len(api.operations(api.live()))
    assert [row for row in rows if row.endswith("|  |")] == []


API = frozenset({"operation stats", "parameter stats.tag", "error 404"})


def a_side(*facts: str, **more: Any) -> Side:
    return Side("Side", ("operation", "parameter"), frozenset(facts), "somewhere", **more)


def test_missing_and_extra_facts_are_reported() -> None:
    assert a_side("operation stats", "parameter stats.tag").problems(API) == []
    assert a_side("operation stats").problems(API) == ["Side lacks: parameter stats.tag"]
    assert a_side("operation stats", "parameter stats.tag", "parameter stats.x").problems(API) == [
        "Side has, but the API does not: parameter stats.x"
    ]


def test_an_unused_excuse_is_reported() -> None:
    excuses = {"parameter stats.*": "a reason"}
    assert a_side("operation stats", without=excuses).problems(API) == []
    assert a_side("operation stats", "parameter stats.tag", without=excuses).problems(API) == [
        "Side has a fact that `without` excuses: parameter stats.*"
    ]
