"""Parts of an export: stable, and nothing that belongs together lies apart."""

from __future__ import annotations

from collections import Counter
from typing import Any
from uuid import UUID

import pytest

from tests.training.runs import record
from trajectories.exceptions import InvalidInput
from trajectories.training.run import Run
from trajectories.training.splits import parse_split

SPLIT = parse_split("train=0.8,test=0.2")


def part(by: str = "session", **fields: Any) -> str | None:
    return parse_split("train=0.8,test=0.2", by).part_of(Run(record(**fields)))


def test_shares_are_kept_and_a_run_is_always_in_the_same_part() -> None:
    parts = [part(number=number) for number in range(2_000)]
    assert Counter(parts)["train"] == pytest.approx(1_600, abs=60)
    assert parts == [part(number=number) for number in range(2_000)]
    # The hash decides, so these values must not change between releases.
    assert [number for number in range(40) if parts[number] == "test"] == [18, 28, 39]


@pytest.mark.parametrize(("by", "fields"), [("session", {"session_id": "s"}), ("project", {"project": "p"})])
def test_runs_of_a_session_or_project_are_in_one_part(by: str, fields: dict[str, str]) -> None:
    assert len({part(by, number=number, **fields) for number in range(200)}) == 1


def test_a_split_keeps_projects_together_and_sessions_without_a_project() -> None:
    assert len({part("project", number=of, project="p", session_id=f"s{of}") for of in range(200)}) == 1
    assert len({part("project", number=of, session_id="s") for of in range(200)}) == 1


def test_a_run_is_in_the_part_of_the_run_that_it_is_part_of() -> None:
    for number in range(200):
        child = part(number=number + 1_000, parent_id=str(UUID(int=number)))
        assert child == part(number=number)


def test_shares_below_one_leave_runs_out() -> None:
    small = parse_split("train=0.1")
    found = Counter(small.part_of(Run(record(number=number))) for number in range(1_000))
    assert set(found) == {"train", None}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must be names and shares"),
        ("train", "must be names and shares"),
        ("train=x", "must be names and shares"),
        ("../x=0.5", "must be names and shares"),
        ("train=-1", "must be names and shares"),
        ("train=1e9", "must be names and shares"),
        ("train=0.9,test=0.2", "must have shares above 0 that add up to at most 1"),
        ("train=0", "must have shares above 0 that add up to at most 1"),
        ("a=0.5,a=0.5", "has the part a twice"),
        (",".join(f"p{of}=0.01" for of in range(11)), "must have at most 10 parts"),
    ],
    ids=["empty", "no share", "word", "path", "negative", "exponent", "sum", "nothing", "twice", "many"],
)
def test_shares_that_cannot_be_are_refused(text: str, message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_split(text)
    assert message in str(caught.value)
    assert caught.value.param == "split"


def test_ten_shares_of_a_tenth_are_a_whole() -> None:
    whole = parse_split(",".join(f"p{of}=0.1" for of in range(10)))
    assert all(whole.part_of(Run(record(number=number))) for number in range(100))
