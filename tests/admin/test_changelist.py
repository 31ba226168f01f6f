"""Queries of the admin on tables that grow, and their results."""

from __future__ import annotations

import html
import re
from uuid import UUID

import pytest
from django.contrib.admin import site as admin_site
from django.contrib.auth.models import User
from django.contrib.staticfiles import finders
from django.db import connections
from django.db.models import Model
from django.test import Client, RequestFactory
from django.test.utils import CaptureQueriesContext

from tests.admin.rows import AT_US, address, archived, fill, page, page_of, quarantined
from tests.examples import REFERENCE, body, in_phase, phase
from trajectories.admin.changelist import with_id
from trajectories.domain.clock import now_us
from trajectories.models import ApiKey, Phase, Quarantined, Tenant, Trajectory
from trajectories.storage import search_index

MIRROR = ("trajectory", "phase", "quarantined")
MODELS = (*MIRROR, "tenant", "apikey")
# Every way in which a person may ask a changelist of the mirror for something.
ASKED = [
    *(
        ("trajectory", asked)
        for asked in ("", "?p=2", "?o=7", "?o=9", "?size=25", "?outcome=success", "?tenant=alice", "?days=7")
    ),
    *(("trajectory", asked) for asked in ("?q=my-project", "?q=nothing", f"?q={UUID(int=1)}")),
    *(("phase", asked) for asked in ("", "?p=2", "?outcome=success", f"?q={UUID(int=1)}")),
    *(("quarantined", asked) for asked in ("", "?p=2", "?tenant=alice", f"?q={UUID(int=1)}")),
]


def queries(client: Client, url: str) -> list[str]:
    with CaptureQueriesContext(connections["default"]) as captured:
        page(client, url)
    assert len(captured)
    return [query["sql"] for query in captured.captured_queries]


@pytest.mark.django_db
@pytest.mark.parametrize("model", MODELS)
def test_a_changelist_takes_as_many_queries_for_fifty_rows_as_for_one(model: str, admin_client: Client) -> None:
    fill(1)
    page(admin_client, address(model))  # reads what is read once a process
    for_one = queries(admin_client, address(model))
    fill(50)
    assert len(queries(admin_client, address(model))) == len(for_one)


@pytest.mark.django_db
def test_a_trajectory_takes_as_many_queries_with_two_hundred_phases_as_with_one(admin_client: Client) -> None:
    few, many = archived(in_phase()), archived(body(phases=[phase(tools_used=["grep"])] * 200))
    page(admin_client, page_of(few))
    for_one = queries(admin_client, page_of(few))
    assert len(queries(admin_client, page_of(many))) == len(for_one)
    assert page(admin_client, page_of(many)).count("<td>grep</td>") == 200


@pytest.mark.django_db
@pytest.mark.parametrize(("model", "asked"), ASKED)
def test_no_row_is_counted_and_none_is_skipped(model: str, asked: str, admin_client: Client) -> None:
    fill(60)
    asked_for = queries(admin_client, address(model, asked))
    assert not [sql for sql in asked_for if "COUNT(" in sql or "DISTINCT" in sql]
    assert not [sql for sql in asked_for if "OFFSET" in sql]


@pytest.mark.django_db
@pytest.mark.parametrize("model", MIRROR)
def test_no_changelist_reads_a_body(model: str, admin_client: Client) -> None:
    fill(2)
    for sql in queries(admin_client, address(model)):
        # JSON_EXTRACT is asked for runs without an outcome, and returns one time.
        whole = re.sub(r"(SUBSTR|LENGTH|JSON_EXTRACT)\([^)]*\)", "", sql)
        assert '"body"' not in whole
        assert "request_summary_folded" not in whole


def fill_many(alias: str) -> UUID:
    """So many rows that a database should prefer an index to reading them all; the id of one."""
    row = archived(REFERENCE | {"phases": [phase()]})
    columns = {field.attname: getattr(row, field.attname) for field in row._meta.fields if not field.primary_key}
    more = [
        Trajectory(
            **columns
            | {"trajectory_id": UUID(int=n), "seq": n, "changed": n, "recorded_at_us": AT_US + n, "project": f"p{n}"}
        )
        for n in range(2, 4_000)
    ]
    Trajectory.objects.bulk_create(more)
    Phase.objects.bulk_create(
        Phase(trajectory=one, place=0, phase_name="spec", phase="spec", tools="", outcome="success")
        for one in Trajectory.objects.exclude(pk=row.pk)
    )
    search_index._insert(alias, [(one.pk, [str(one.project)]) for one in more])
    with connections[alias].cursor() as cursor:
        cursor.execute("ANALYZE")
    return row.trajectory_id


def plan(model: type[Model], **asked: str) -> str:
    """Return the query plan of a changelist's first page."""
    request = RequestFactory().get("/", asked)
    request.user = User(is_staff=True, is_superuser=True)
    shown = admin_site.get_model_admin(model).get_changelist_instance(request)
    return str(shown.queryset[: shown.list_per_page].explain())


def test_each_changelist_filter_uses_an_index(archive_db: str) -> None:
    id_ = str(fill_many(archive_db))
    assert "trajectories_recorded" in plan(Trajectory)
    assert "trajectories_recorded" in plan(Trajectory, days="90", outcome="success")
    assert re.search("trajectories_(recorded|of_tenant)", plan(Trajectory, tenant="alice"))
    # The search of words has its own statement; a row is then sought by its key.
    entries = search_index.matching("p77")
    assert entries is not None
    assert re.search("trajectories_search_words|VIRTUAL TABLE INDEX 0:M0", entries.explain())
    assert re.search("trajectories_trajectory_pkey|USING INTEGER PRIMARY KEY", plan(Trajectory, q="p77"))
    # SQLite gives the indexes of its constraints names of its own.
    of_id = "trajectories_once_per_tenant|autoindex_trajectories_trajectory_1"
    assert re.search(of_id, with_id(Trajectory.objects.all(), id_).explain())
    assert re.search("trajectories_phase_place|autoindex_trajectories_phase_1", plan(Phase, q=id_))
    assert re.search("trajectories_phase_pkey|SCAN trajectories_phase$", plan(Phase), re.MULTILINE)


@pytest.mark.django_db
@pytest.mark.parametrize("name", ["trajectory", "phase", "quarantined", "tenant", "apikey"])
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (2_000, "The search must not exceed 500 characters, got 8889; use fewer words."),
        (33, "The search must not exceed 32 words, got 33; use fewer words."),
    ],
)
def test_a_search_for_too_many_words_finds_nothing_and_says_why(
    words: int, said: str, name: str, admin_client: Client
) -> None:
    archived(body())
    assert said in page(admin_client, address(name, "?q=" + "+".join(map(str, range(words)))))


@pytest.mark.django_db
def test_phases_and_quarantined_records_are_found_by_the_id_of_their_trajectory(admin_client: Client) -> None:
    wanted = archived(body(phases=[phase(phase_name="wanted")]))
    archived(body(phases=[phase(phase_name="unwanted")]))
    shown = page(admin_client, address("phase", f"?q={wanted.trajectory_id}"))
    assert ">wanted<" in shown
    assert ">unwanted<" not in shown
    refused, other = quarantined(body(), "wanted"), quarantined(body(), "unwanted")
    shown = page(admin_client, address("quarantined", f"?q={refused.trajectory_id}"))
    assert str(refused.trajectory_id) in shown
    assert str(other.trajectory_id) not in shown
    assert "0 phases" in page(admin_client, address("phase", "?q=nonsense"))


@pytest.mark.django_db
def test_the_filters_hold(admin_client: Client) -> None:
    archived(body(request_summary="old", outcome="failure"))
    archived(body(request_summary="new", outcome="success"), tenant="bob", at_us=now_us())

    def found(asked: str) -> list[str]:
        return sorted(re.findall(r">(old|new)</a>", page(admin_client, address("trajectory", asked))))

    assert found("") == ["new", "old"]
    assert found("?days=1") == ["new"]
    assert found("?outcome=failure") == ["old"]
    assert found("?tenant=bob") == ["new"]
    assert found("?tenant=bob&outcome=failure") == []


@pytest.mark.django_db
def test_the_newest_come_first_and_may_come_last(admin_client: Client) -> None:
    for number, name in enumerate(("first", "second", "third")):
        archived(body(request_summary=name), at_us=AT_US + number)

    def order(asked: str) -> list[str]:
        return re.findall(r">(first|second|third)</a>", page(admin_client, address("trajectory", asked)))

    assert order("") == ["third", "second", "first"]
    header = re.search(r'column-recorded.*?href="(\?o=\d+)"', page(admin_client, address("trajectory")), re.DOTALL)
    assert header
    assert order(header[1]) == ["first", "second", "third"]


def test_the_stylesheet_is_where_the_pages_look_for_it() -> None:
    assert finders.find("trajectories/admin.css")


def test_every_page_opens_on_each_database(archive_db: str, admin_client: Client) -> None:
    fill(60)
    for model, asked in ASKED:
        assert page(admin_client, address(model, asked))
    for model in MIRROR:
        asked = html.unescape(page(admin_client, address(model, "?size=25")))
        following = re.findall(r'href="([^"]*)" rel="next"', asked)
        assert 'rel="prev"' in page(admin_client, address(model, following[0]))
    for kind in (Trajectory, Phase, Quarantined, Tenant, ApiKey):
        assert page(admin_client, page_of(kind._default_manager.all()[0]))
    for model, asked in (("tenant", "?q=a"), ("apikey", "?q=a"), ("apikey", "?state=good"), ("apikey", "add/")):
        assert page(admin_client, address(model, asked))
    made = admin_client.post(address("apikey", "add/"), {"tenant": "alice", "scopes": ["read"]})
    assert "Authorization: Bearer" in made.content.decode()
