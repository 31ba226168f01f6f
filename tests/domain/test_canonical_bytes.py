"""Bodies of the first contract keep their canonical bytes: a digest that changes makes a new
version of every stored record that is sent again."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from tests.examples import CAMEL, REFERENCE, body, camel, in_phase
from tests.sdk import scenario
from trajectories.domain import dialects
from trajectories.domain.record import digest_of
from trajectories.domain.schema import canonical

_FAILED = {name: value for name, value in scenario.RUNS[2].items() if name != "policy"} | {
    "phases": [{name: value for name, value in one.items() if name != "fit"} for one in scenario.RUNS[2]["phases"]]
}
# Computed before the fields of a decision were added to the contract.
DIGESTS: dict[str, tuple[dict[str, Any], str]] = {
    "the reference body": (REFERENCE, "981b681822621cd26e6fd6b10570ea7d"),
    "a body of the CLI's dialect": (CAMEL, "08085fb8ed3870cb1ee63bb94e9c63a8"),
    "the smallest body": (body(), "33d72ee4a85929342d2f47cba8c7a541"),
    "the smallest phase": (in_phase(), "7e9a44ef843769badf09e62de3c8d215"),
    "the smallest body of the CLI's dialect": (camel(), "33d72ee4a85929342d2f47cba8c7a541"),
    "a run of one phase": (scenario.RUNS[0], "580b839b9e408d92c1531a1376db35e4"),
    "a run of many fields": (scenario.RUNS[1], "50b0044933ff8aeef5ad702d0656597a"),
    "a failed run": (_FAILED, "02078cbbbbdddef8ab4d8512d601eb48"),
}


@pytest.mark.parametrize(("given", "digest"), DIGESTS.values(), ids=DIGESTS.keys())
def test_an_earlier_body_has_the_digest_that_it_had(given: dict[str, Any], digest: str) -> None:
    assert digest_of(canonical(dialects.read(orjson.dumps(given)))) == digest
