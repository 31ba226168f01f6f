"""Nothing exists on one side only: endpoints, query parameters, fields of requests and answers, errors."""

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


def test_the_mcp_tools_have_what_the_api_has() -> None:
    expect_agreement(tools.side())


@pytest.mark.parametrize("sdk", codes.SDKS)
def test_an_sdk_knows_no_code_that_no_store_answers_with(sdk: str) -> None:
    unknown = codes.known_to(sdk) - frozenset().union(*codes.of_the_store().values()) - set(codes.OF_AN_SDK)
    assert not unknown, (
        f"{sdk} names codes that neither the store nor OF_AN_SDK of tests/lockstep/codes.py has: {unknown}"
    )


def test_the_server_for_tests_refuses_as_the_store_does() -> None:
    of_store = codes.of_the_store()
    unknown = {status: found - of_store[status] for status, found in codes.of_the_server_for_tests().items()}
    assert not any(unknown.values()), (
        f"trajectory_sdk.testing refuses with codes that the store does not have: {unknown}"
    )


def test_the_page_is_what_the_sides_say(declared: dict[str, object]) -> None:
    kept = (DOCS / "lockstep.md").read_text()
    assert kept == page.text(declared), "uv run python docs/generate_lockstep.py"


def test_every_endpoint_is_documented_in_a_section(declared: dict[str, object]) -> None:
    rows = [line for line in page.text(declared).splitlines() if re.match(r"\| `[A-Z]+ /", line)]
    assert len(rows) == len(api.operations(api.live()))
    assert [row for row in rows if row.endswith("|  |")] == []


# The comparison itself.


API = frozenset({"operation stats", "parameter stats.tag", "error 404"})


def a_side(*facts: str, **more: Any) -> Side:
    return Side("Side", ("operation", "parameter"), frozenset(facts), "somewhere", **more)


def test_what_one_side_lacks_or_has_alone_is_named() -> None:
    assert a_side("operation stats", "parameter stats.tag").problems(API) == []
    assert a_side("operation stats").problems(API) == ["Side lacks: parameter stats.tag"]
    assert a_side("operation stats", "parameter stats.tag", "parameter stats.x").problems(API) == [
        "Side alone has: parameter stats.x"
    ]


def test_an_excuse_without_a_need_is_named_too() -> None:
    excuses = {"parameter stats.*": "a reason"}
    assert a_side("operation stats", without=excuses).problems(API) == []
    assert a_side("operation stats", "parameter stats.tag", without=excuses).problems(API) == [
        "Side has, against what is written: parameter stats.*"
    ]
