"""One scenario through every way to the store: a failure, a skip, a repeat, a fallback, a change;
then list, stats and export."""

from __future__ import annotations

from contextlib import closing

import pytest
from pydantic import BaseModel

from tests.sdk.scenario import CHANGES, FILTERS, RUNS, Http, Json, Seen, canonical, changed
from tests.sdk.served import ServedStore
from tests.sdk.ways import WAYS
from trajectories.domain import schema


def recorded_and_seen(served_store: ServedStore, name: str) -> tuple[Seen, list[str]]:
    """The answers of the way, and the canonical bodies that the archive has of it."""
    access = served_store.access()
    way = WAYS[name](access)
    way.record(RUNS)
    with closing(Http(access)) as http:
        way.update(*http.newest(), CHANGES)
        # First, since it waits for the archive; a way without an export has none of its own to wait with.
        archived = http.exported()
    return way.see(), archived


@pytest.mark.outside  # several languages
def test_every_client_gives_the_same_canonical_records_lists_and_stats(served_store: ServedStore) -> None:
    with closing(Http(served_store.access())) as http:
        http.record(RUNS)
        http.update(*http.newest(), CHANGES)
        expected = http.see()
    assert expected.exported == [canonical(run) for run in (*RUNS[:-1], changed(RUNS[-1]))], (
        "the runs of the scenario are not canonical as written"
    )
    for name in WAYS:
        seen, archived = recorded_and_seen(served_store, name)
        assert archived == expected.exported, f"{name}: other records"
        assert seen.listed == expected.listed, f"{name}: another list"
        assert seen.found == expected.found, f"{name}: the filters find others"
        assert seen.groups == expected.groups, f"{name}: other stats"
        assert seen.exported in (None, expected.exported), f"{name}: another export"


@pytest.mark.parametrize(
    ("model", "given"),
    [
        (schema.Phase, [phase for run in RUNS for phase in run["phases"]]),
        *(
            (model, [one for run in RUNS for phase in run["phases"] for one in phase.get(name, ())])
            for model, name in ((schema.Candidate, "candidates"), (schema.Attempt, "attempts"))
        ),
        (
            schema.Exploration,
            [phase["exploration"] for run in RUNS for phase in run["phases"] if "exploration" in phase],
        ),
        (schema.FeedbackLoop, [loop for run in RUNS for loop in run.get("feedback_loops", ())]),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_the_scenario_has_every_field_of_a_decision(model: type[BaseModel], given: list[Json]) -> None:
    assert set().union(*given) == set(model.model_fields)


def test_the_scenario_distinguishes_its_clients() -> None:
    phases = RUNS[1]["phases"]
    names = [phase["phase_name"] for phase in phases]
    assert {"failure", "skipped", "success"} == {phase["outcome"] for phase in phases}
    assert names.count("implement") == 2
    assert phases[-1]["requested_model"] != phases[-1]["model"]
    assert {type(value) for value in FILTERS.values()} == {str, bool}
