"""GET of lists and of single records."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any
from uuid import uuid4

import pytest
from django.db import OperationalError, connection
from django.test import Client

from tests.api.client import ID, PATH, archive_all, client_of, error, ids, issue, listed, number, post, posted, stats
from tests.examples import body, in_phase
from tests.processes import wait_until
from trajectories import persistence
from trajectories.domain.query import FILTERS
from trajectories.domain.record import Record
from trajectories.services import reads
from trajectories.storage.store import get_store

WithoutTables = Callable[..., AbstractContextManager[None]]

# Each filter with a body that it takes, and one that it leaves.
FILTERED: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "project": ("p", body(project="p"), body(project="P")),
    "source": ("s", body(source="s"), body()),
    "request_type": ("bug", body(request_type="bug"), body(request_type="feature")),
    "policy": ("router@2", body(policy="router@2"), body(policy="router@1")),
    "outcome": ("failure", body(build_passed=False), body()),
    "phase": ("verify", in_phase(phase_name="test"), in_phase()),
    "model": ("m", in_phase(model="m"), in_phase(model="n")),
    "selection_method": ("thompson", in_phase(model_selection_method="thompson-sampling"), in_phase()),
    "agent": ("a", in_phase(agent="a"), in_phase()),
    "tool": ("grep", in_phase(tools_used=["grep"]), in_phase(tools_used=["egrep"])),
    "credited": (
        "failure",
        in_phase(phase_name="implement", outcome="success") | {"tests_passed": False},
        in_phase(phase_name="implement", outcome="success") | {"tests_passed": True},
    ),
    "fit": ("underpowered", in_phase(fit="underpowered"), in_phase(fit="good_fit")),
    "build_passed": ("true", body(build_passed=True), body()),
    "tests_passed": ("false", body(tests_passed=False), body(tests_passed=True)),
    "tag": ('t"1', body(tags=['t"1']), body(tags=["t"])),
    "since": ("2000-01-01T00:00:00Z", body(), {}),
    "until": ("2100-01-01T00:00:00Z", body(), {}),
    "started_since": ("2026-01-05T00:00:00Z", body(started_at="2026-01-05T00:00:00Z"), body()),
    "started_until": ("2026-01-05T00:00:00Z", body(started_at="2026-01-04T00:00:00Z"), body()),
    "min_cost_usd": ("0.5", body(total_cost_usd=0.5), body(total_cost_usd=0.4)),
    "max_cost_usd": ("0.5", body(total_cost_usd=0.5), body()),
    "min_duration_ms": ("100", body(total_duration_ms=100), body(total_duration_ms=99.9)),
    "max_duration_ms": ("100", in_phase(duration_ms=100), body(total_duration_ms=101)),
    "q": ("LOGIN api", body(request_summary="Add a login to the API"), body(request_summary="Add a login")),
}


@pytest.fixture
def hold(settings: Any, trajectories_settings: dict[str, Any]) -> Callable[[int], None]:
    """Lets the hot cache hold so many records only, so that what is older comes out of the archive."""

    def so_many(records: int) -> None:
        settings.TRAJECTORIES = trajectories_settings | {"HOT_MAX_RECORDS": records}

    return so_many


def post_many(client: Client, count: int) -> list[str]:
    """Ids of the posted records, newest first."""
    return [posted(client, body(id=number(of)))["id"] for of in range(1, count + 1)][::-1]


def pages(client: Client, **parameters: Any) -> list[list[str]]:
    """Every page, by its cursors."""
    found, page = [], listed(client, **parameters)
    while True:
        found.append([record["id"] for record in page["data"]])
        assert page["has_more"] is (page["next_cursor"] is not None)
        if page["next_cursor"] is None:
            return found
        page = listed(client, **parameters, cursor=page["next_cursor"])


# Pages.


def test_a_list_is_newest_first_and_a_revision_does_not_move_a_record(north: Client) -> None:
    newest_first = post_many(north, 3)
    posted(north, body(id=newest_first[-1], project="p"))
    assert ids(north) == newest_first


@pytest.mark.parametrize("held", [3, 10, 10_000])
@pytest.mark.parametrize("limit", [1, 3, 4, 7, 8])
def test_paging_yields_each_record_once_for_any_hot_cache_size(
    north: Client, hold: Callable[[int], None], held: int, limit: int
) -> None:
    hold(held)
    newest_first = post_many(north, 5)
    archive_all()
    newest_first = [posted(north, body(id=number(of)))["id"] for of in (7, 6)][::-1] + newest_first
    found = pages(north, limit=limit)
    assert [id_ for page in found for id_ in page] == newest_first
    assert all(len(page) == limit for page in found[:-1])


def test_new_records_do_not_shift_the_next_page(north: Client) -> None:
    third, second, first = post_many(north, 3)
    page = listed(north, limit=2)
    posted(north, body())
    assert ids(north, limit=2, cursor=page["next_cursor"]) == [first]
    assert [record["id"] for record in page["data"]] == [third, second]


def test_a_cursor_continues_behind_a_record_that_no_longer_matches(north: Client) -> None:
    post_many(north, 3)
    cursor = listed(north, limit=1)["next_cursor"]
    posted(north, body(id=number(3), project="p"))
    assert ids(north, cursor=cursor, project="p") == []
    assert ids(north, cursor=cursor) == [number(2), number(1)]


def test_a_full_last_page_is_marked_as_the_last(north: Client) -> None:
    post_many(north, 2)
    page = listed(north, limit=2)
    assert (len(page["data"]), page["has_more"], page["next_cursor"]) == (2, False, None)


def test_a_page_has_fifty_records_by_default(north: Client) -> None:
    post_many(north, 51)
    assert len(ids(north)) == 50
    assert len(ids(north, limit=1_000)) == 51


def test_a_page_ends_at_its_bytes_and_still_has_one_record(
    north: Client, settings: Any, trajectories_settings: dict[str, Any]
) -> None:
    settings.TRAJECTORIES = trajectories_settings | {"LIST_MAX_BYTES": 500}
    for of in range(3):
        posted(north, body(id=number(of), error="e" * (1_000 if of == 1 else 200)))
    assert pages(north, limit=10) == [[number(2)], [number(1)], [number(0)]]


def test_a_page_reads_no_records_far_beyond_its_bytes(
    north: Client, settings: Any, trajectories_settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.TRAJECTORIES = trajectories_settings | {"LIST_MAX_BYTES": 1_000}
    for of in range(9):
        posted(north, body(id=number(of), error="e" * 600))
    read, from_hot = [], reads._from_hot

    def counted(*args: Any) -> Iterator[Record]:
        for record in from_hot(*args):
            read.append(record)
            yield record

    monkeypatch.setattr(reads, "_from_hot", counted)
    assert ids(north, limit=10) == [number(8)]
    assert len(read) == 2  # the second one says that there are more


@pytest.mark.parametrize("limit", ["0", "-1", "1001", "ten", "1.0", "", "1e2", "٣", " 5"])
def test_a_limit_that_is_none_is_refused_by_name(north: Client, limit: str) -> None:
    assert error(north.get(PATH, {"limit": limit}), 400, "invalid_parameter").param == "limit"


@pytest.mark.parametrize("cursor", ["", "nonsense", "A" * 33, "ä", "_" * 32])
def test_a_cursor_of_other_making_is_refused_by_name(north: Client, cursor: str) -> None:
    assert error(north.get(PATH, {"cursor": cursor}), 400, "invalid_cursor").param == "cursor"


# Filters.


def test_every_filter_is_tried_here() -> None:
    assert set(FILTERED) == set(FILTERS)


@pytest.mark.parametrize("held", [1, 10_000])
@pytest.mark.parametrize("parameter", FILTERS)
def test_list_stats_and_export_take_the_same_by_every_filter(
    north: Client, hold: Callable[[int], None], parameter: str, held: int
) -> None:
    hold(held)
    text, hit, miss = FILTERED[parameter]
    posted(north, hit | {"id": ID})
    for other in (miss, miss, miss):
        if other:
            posted(north, other)
    archive_all()
    assert ids(north, **{parameter: text}) == [ID]
    assert stats(north, **{parameter: text})["count"] == 1
    lines = north.get(f"{PATH}/export", {parameter: text}).getvalue().splitlines()
    assert len(lines) == 1
    assert ID.encode() in lines[0]


@pytest.mark.parametrize("operation", ["", "/stats", "/readiness", "/export"])
def test_a_value_that_cannot_be_read_is_refused_by_name(north: Client, operation: str) -> None:
    refused = error(north.get(PATH + operation, {"since": "now", "outcome": "good"}), 400, "invalid_parameter")
    assert refused.param == "since"
    assert [problem.path for problem in refused.details or []] == ["since", "outcome"]


@pytest.mark.parametrize("operation", ["", "/stats", "/readiness", "/export"])
@pytest.mark.parametrize("q", [" ".join(map(str, range(33))), "a" * 501], ids=["words", "characters"])
def test_a_search_has_a_limit_of_words_and_characters(north: Client, operation: str, q: str) -> None:
    assert error(north.get(PATH + operation, {"q": q}), 400, "invalid_parameter").param == "q"
    assert north.get(PATH + operation, {"q": " ".join(map(str, range(32)))}).status_code == 200


@pytest.mark.parametrize("operation", ["", "/stats", "/readiness", "/export"])
def test_a_failing_statement_is_a_server_error_and_logged_with_its_class(
    north: Client, operation: str, caplog: pytest.LogCaptureFixture
) -> None:
    def damaged(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        return execute(sql.replace("SELECT", "SELECT nonsense(", 1), params, many, context)

    with connection.execute_wrapper(damaged):
        error(north.get(PATH + operation), 500, "server_error")
    (record,) = [record for record in caplog.records if record.name == "trajectories.api.exception_handler"]
    assert record.exc_info
    assert record.exc_info[0] is OperationalError


@pytest.mark.parametrize("operation", ["", "/stats", "/readiness", "/export", f"/{ID}"])
def test_an_unknown_parameter_is_refused_by_name(north: Client, operation: str) -> None:
    refused = error(north.get(PATH + operation, {"projct": "p"}), 400, "unknown_parameter")
    assert refused.param == "projct"
    assert ("'project'" in refused.message) is (operation != f"/{ID}")


def test_a_parameter_of_another_operation_is_unknown(north: Client) -> None:
    for operation, parameter in (("/stats", "limit"), ("/stats", "cursor"), ("/export", "cursor"), ("", "after")):
        assert error(north.get(PATH + operation, {parameter: "1"}), 400, "unknown_parameter").param == parameter


def test_a_parameter_given_twice_is_refused_by_name(north: Client) -> None:
    assert error(north.get(f"{PATH}?project=a&project=b"), 400, "invalid_parameter").param == "project"


# Single records.


def test_a_record_is_found_in_whichever_tier_it_is(north: Client, hold: Callable[[int], None]) -> None:
    hold(1)
    response = post(north, body(id=ID))
    posted(north, body())
    for _ in range(2):
        assert north.get(f"{PATH}/{ID}").content == response.content
        archive_all()


def test_the_newest_version_is_found_while_the_archive_has_an_older_one(
    north: Client, hold: Callable[[int], None]
) -> None:
    hold(1)
    posted(north, body(id=ID))
    archive_all()
    posted(north, body())
    newer = posted(north, body(id=ID, project="p"))
    assert north.get(f"{PATH}/{ID}").json() == newer


@pytest.mark.parametrize("id_", [ID, "nonsense", "1", "stats1", "%00", "a.b"])
def test_a_missing_record_is_404(north: Client, id_: str) -> None:
    assert error(north.get(f"{PATH}/{id_}"), 404, "not_found").type == "not_found_error"


# Tiers.


def test_without_redis_the_answer_is_whole_and_says_that_it_may_lack_other_hosts(north: Client) -> None:
    posted(north, body())
    page = listed(north)
    assert (len(page["data"]), page["tiers"], page["complete"]) == (1, ["hot"], False)


@pytest.mark.usefixtures("redis_tier")
def test_the_answer_is_complete_with_a_redis_that_has_lost_nothing(north: Client) -> None:
    posted(north, body())
    page = listed(north)
    assert (len(page["data"]), page["tiers"], page["complete"]) == (1, ["hot", "redis"], False)
    persistence.rebuild(get_store())
    page = wait_until(lambda: (found := listed(north))["complete"] and found)
    assert (len(page["data"]), page["tiers"]) == (1, ["hot", "redis"])


@pytest.mark.usefixtures("redis_tier")
def test_an_answer_from_below_the_hot_cache_names_the_archive(north: Client, hold: Callable[[int], None]) -> None:
    hold(2)
    post_many(north, 3)
    archive_all()
    assert listed(north)["tiers"] == ["hot", "redis", "archive"]
    assert listed(north, limit=1)["tiers"] == ["hot", "redis"]


def test_during_an_archive_outage_the_list_shows_hot_records_as_incomplete(
    north: Client, hold: Callable[[int], None], without_tables: WithoutTables
) -> None:
    hold(2)
    newest_first = post_many(north, 3)
    archive_all()
    ids(north)
    with without_tables("trajectory"):
        page = listed(north)
        assert [record["id"] for record in page["data"]] == newest_first[:2]
        assert (page["complete"], page["has_more"]) == (False, True)
        refused = north.get(PATH, {"cursor": page["next_cursor"]})
        error(refused, 503, "archive_unavailable")
        # This host has not yet forgotten the third, but only the archive could say that another does not exist.
        assert north.get(f"{PATH}/{newest_first[2]}").status_code == 200
        error(north.get(f"{PATH}/{uuid4()}"), 503, "archive_unavailable")
    assert ids(north, cursor=page["next_cursor"]) == newest_first[2:]


def test_a_process_started_during_an_outage_lists_the_records_of_its_host(
    north: Client, without_tables: WithoutTables
) -> None:
    with without_tables("trajectory", "apikey"):
        error(north.get(PATH), 503, "key_lookup_unavailable")
    newest_first = post_many(north, 2)
    with without_tables("trajectory"):
        page = listed(north)
        assert [record["id"] for record in page["data"]] == newest_first
        assert page["complete"] is False


def test_a_limit_and_filters_apply_to_hot_and_archived_records(north: Client, hold: Callable[[int], None]) -> None:
    hold(3)
    for of in range(1, 9):
        posted(north, body(id=number(of), project="even" if of % 2 == 0 else "odd"))
    archive_all()
    assert pages(north, project="even", limit=2) == [[number(8), number(6)], [number(4), number(2)]]
    assert client_of(issue("south")[1]).get(PATH).json()["data"] == []
