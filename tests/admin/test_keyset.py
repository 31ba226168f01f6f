"""Pages of lists by position: each row is on one page, whatever arrives meanwhile."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from itertools import chain
from typing import Any
from uuid import UUID

import pytest
from django.contrib.auth.models import Permission
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from tests import baker_recipes
from tests.admin.rows import AT_US, address, archived, fill, page, page_of, record
from tests.examples import REFERENCE, body
from trajectories.admin import changelist, keyset
from trajectories.models import AuditEntry, Trajectory
from trajectories.storage.archive_writes import mirror

pytestmark = pytest.mark.django_db

LIST = address("trajectory")
MODELS = ("trajectory", "phase", "quarantined", "auditentry", "apikey", "tenant")
_NAME = re.compile(r">(run-\d+)</a>")


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changelist, "PAGE_SIZES", (3, 50))


def runs(count: int, *, start: int = 0, **fields: Any) -> None:
    """Archive runs of which each two were recorded at one time."""
    mirror(
        [
            record(REFERENCE | {"request_summary": f"run-{at}"} | fields, at_us=AT_US + at // 2)
            for at in range(start, start + count)
        ]
    )


def linked(shown: str, rel: str) -> str | None:
    found = re.search(rf'class="paginator.*?<a href="([^"]*)" rel="{rel}"', shown, re.DOTALL)
    return html.unescape(found[1]) if found else None


def walk(client: Client, asked: str, rel: str = "next", *, model: str = "trajectory") -> Iterator[str]:
    """Yield the pages from ``asked`` on."""
    following: str | None = asked
    while following is not None:
        yield (shown := page(client, address(model, following)))
        following = linked(shown, rel)


@pytest.mark.parametrize("asked", ["?", "?o=9&", "?project=my-project&", "?q=run&", "?o=9&q=run&outcome=success&"])
def test_the_pages_have_each_run_once_in_both_directions(asked: str, admin_client: Client) -> None:
    runs(8)
    whole = _NAME.findall(page(admin_client, f"{LIST}{asked}size=50"))
    assert len(whole) == 8
    shown = [*walk(admin_client, f"{asked}size=3")]
    forward = [_NAME.findall(one) for one in shown]
    assert [len(one) for one in forward] == [3, 3, 2]
    assert [*chain(*forward)] == whole
    assert linked(shown[0], "prev") is None
    back = [_NAME.findall(one) for one in walk(admin_client, linked(shown[2], "prev") or "", "prev")]
    assert back[::-1] == forward[:2]


@pytest.mark.parametrize("model", MODELS)
def test_every_long_list_is_read_by_position(model: str, admin_client: Client) -> None:
    fill(7)
    AuditEntry.objects.note("delete", "user alice", dict.fromkeys("abcdefg", 1))
    key = re.compile(rf"/admin/trajectories/{model}/([^/\"]+)/change/")
    pages = [list(dict.fromkeys(key.findall(one))) for one in walk(admin_client, "?size=3", model=model)]
    rows = [*chain(*pages)]
    assert len(pages) > 2
    assert len(set(rows)) == len(rows)
    assert {*re.findall(key, page(admin_client, address(model, "?size=50")))} <= {*rows}


def test_runs_that_arrive_move_no_page_and_the_way_back_shows_them(admin_client: Client) -> None:
    runs(6)
    first, second = walk(admin_client, "?size=3")
    runs(2, start=6)
    assert _NAME.findall(page(admin_client, LIST + str(linked(first, "next")))) == _NAME.findall(second)
    # Fewer than three runs are before that page's first run, once those of the first page are: a page
    # that would be short is the first one.
    *_, newest = walk(admin_client, str(linked(second, "prev")), "prev")
    assert _NAME.findall(newest)[0] in ("run-6", "run-7")


def test_a_page_after_deleted_runs_is_where_it_was(admin_client: Client) -> None:
    runs(6)
    first, second = walk(admin_client, "?size=3")
    Trajectory.objects.filter(recorded_at_us__gte=AT_US + 1).delete()
    address_of_second = str(linked(first, "next"))
    assert _NAME.findall(page(admin_client, LIST + address_of_second)) == [
        name for name in _NAME.findall(second) if name in ("run-0", "run-1")
    ]
    Trajectory.objects.all().delete()
    assert linked(page(admin_client, LIST + address_of_second), "prev") == "?size=3"


def test_a_page_takes_as_many_queries_wherever_it_is(admin_client: Client) -> None:
    runs(9)
    pages = [*walk(admin_client, "?size=3")]
    addresses = ["?size=3", linked(pages[0], "next"), linked(pages[1], "next"), linked(pages[2], "prev")]
    counts = set()
    for asked in addresses:
        with CaptureQueriesContext(connection) as captured:
            page(admin_client, f"{LIST}{asked}")
        counts.add(len(captured))
    assert len(counts) == 1


@pytest.mark.parametrize("place", ["2", "after.", "after.x", "before.WzFd", "x" * 5_000, "after.WyJhIl0"])
def test_a_place_that_is_none_is_the_first_page(place: str, admin_client: Client) -> None:
    runs(4)
    shown = page(admin_client, f"{LIST}?size=3&p={place}")
    assert _NAME.findall(shown) == _NAME.findall(page(admin_client, f"{LIST}?size=3"))
    assert linked(shown, "prev") is None


def test_a_place_is_read_back_and_only_by_its_own_order() -> None:
    order = ("-recorded_at_us", "-trajectory_id", "-pk")
    place = keyset.Place((AT_US, UUID(int=7), 5), is_before=True)
    assert keyset.parse(str(place), Trajectory, order) == place
    assert keyset.parse(str(place), Trajectory, order[:2]) is None
    assert keyset.parse(str(keyset.Place((AT_US, None, 5))), Trajectory, order) is None
    assert keyset.parse(str(keyset.Place(("\x00",))), AuditEntry, ("actor",)) is None


def test_a_filter_begins_with_its_first_page_and_keeps_the_size(admin_client: Client) -> None:
    runs(7)
    _, second, _ = walk(admin_client, "?size=3")
    links = [html.unescape(one) for one in re.findall(r'href="(\?[^"]*)"', second)]
    others = [one for one in links if one not in (linked(second, "next"), linked(second, "prev"))]
    assert others
    assert not [one for one in others if "p=" in re.sub(r"strip=|_popup=", "", one)]
    strip = next(one for one in others if "strip=" in one)
    assert "size=3" in strip


def test_the_neighbours_of_a_run_are_those_of_its_list(admin_client: Client) -> None:
    for at in range(3):
        archived(body(request_summary=f"run-{at}"), at_us=AT_US + at)
    middle = Trajectory.objects.get(recorded_at_us=AT_US + 1)

    def neighbours(filters: str) -> dict[str, str]:
        shown = page(admin_client, f"{page_of(middle)}?_changelist_filters={filters}")
        found = re.findall(r'<a href="([^"]*)" data-key="([jk])" rel="\w+">(\w+)<', shown)
        pks = {key: (int(re.findall(r"/(\d+)/change", href)[0]), text) for href, key, text in found}
        return {
            key: f"{text} {Trajectory.objects.get(pk=pk).recorded_at_us - AT_US}" for key, (pk, text) in pks.items()
        }

    assert neighbours("") == {"j": "Older 0", "k": "Newer 2"}
    assert neighbours("o%3D9") == {"j": "Newer 2", "k": "Older 0"}


def test_a_selection_may_be_of_every_page(admin_client: Client) -> None:
    runs(5)
    shown = page(admin_client, f"{LIST}?size=3")
    assert "Select all trajectories of this list" in shown
    assert "Select all trajectories of this list" not in page(admin_client, f"{LIST}?size=50")
    place = linked(shown, "next")
    chosen = re.findall(r'name="_selected_action" value="(\d+)"', shown)
    given = {"action": "delete_runs", "_selected_action": chosen, "select_across": "1"}
    assert "Delete 5 runs?" in admin_client.post(f"{LIST}{place}", given).content.decode()
    given["select_across"] = "0"
    assert "Delete 3 runs?" in admin_client.post(f"{LIST}{place}", given).content.decode()


def test_staff_page_through_runs_of_their_tenants_alone(client: Client) -> None:
    runs(4)
    mirror([record(REFERENCE | {"request_summary": "run-9"}, tenant="bob", at_us=AT_US + at) for at in range(4)])
    user = baker_recipes.staff_of("alice", username="charlie")
    user.user_permissions.set(Permission.objects.filter(codename="view_trajectory"))
    client.force_login(user)
    names = [name for one in walk(client, "?size=3") for name in _NAME.findall(one)]
    assert sorted(names) == ["run-0", "run-1", "run-2", "run-3"]
