"""Errors of refused lines by the server of the SDK's tests, as long as those of the store."""

from __future__ import annotations

import json
from typing import Any

import httpx2
import pytest

from trajectories_sdk.testing import InMemoryServer
from trajectories_sdk.testing.server import API_KEY

PHASE = {"phase_name": "spec", "cost_usd": -1}
RECORDS = "/v1/agent/trajectories"
OUTCOMES = "/v1/agent/outcomes"


def results(address: str, line: dict[str, Any], count: int) -> list[dict[str, Any]]:
    server = InMemoryServer()
    request = httpx2.Request(
        "POST",
        f"http://localhost{address}",
        content="\n".join([json.dumps(line)] * count).encode(),
        headers={"Content-Type": "application/x-ndjson", "Authorization": f"Bearer {API_KEY}"},
    )
    with server:
        answer = server.handle_request(request)
    assert answer.status_code == 200, answer.content
    found: list[dict[str, Any]] = answer.json()["results"]
    return found


@pytest.mark.parametrize(("address", "line"), [(RECORDS, {"request_summary": "x"}), (OUTCOMES, {"name": "a"})])
def test_the_first_hundred_lines_get_a_full_error_and_later_ones_a_short_one(
    address: str, line: dict[str, Any]
) -> None:
    errors = [result["error"] for result in results(address, line, 150)]
    assert ["details" in error for error in errors] == [True] * 100 + [False] * 50
    assert max(len(error["message"]) for error in errors[100:]) <= 60


@pytest.mark.parametrize(
    ("address", "line", "most"),
    [(RECORDS, {"request_summary": "x", "phases": [PHASE] * 50}, 10), (OUTCOMES, {"name": "a", "b": 1, "c": 2}, 1)],
)
def test_a_line_lists_its_first_problems(address: str, line: dict[str, Any], most: int) -> None:
    (result,) = results(address, line, 1)
    assert len(result["error"]["details"]) == most


def test_full_errors_have_a_limit_of_bytes() -> None:
    line = {"request_summary": "x", "phases": [PHASE | {"evidence": {"k" * 100: number}} for number in range(50)]}
    errors = [result["error"] for result in results(RECORDS, line, 100)]
    assert 10 < sum("details" in error for error in errors) < 50
