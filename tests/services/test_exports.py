"""The pages of an export."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.training.runs import run_with_choices
from trajectories import record
from trajectories.domain.query import parse_query
from trajectories.models import Tenant
from trajectories.services import exports
from trajectories.testing import IsolatedStore, isolated_store

TENANT = "north"


@pytest.fixture
def store(db: None) -> Iterator[IsolatedStore]:
    with isolated_store() as store:
        Tenant.objects.get_or_create(slug=TENANT)
        yield store


def test_pages_have_as_many_records_as_the_size_of_the_last_ones_allows(
    store: IsolatedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    small, large = 5, 4
    for number in range(1, small + large + 1):
        text = "x" * (1 if number <= small else 9_000)
        record(TENANT, run_with_choices(number, metadata={"text": text}).body)
    store.deliver()
    monkeypatch.setattr(exports, "_FIRST_PAGE", 2)
    monkeypatch.setattr(exports, "_PAGE", 3)
    monkeypatch.setattr(exports, "_PAGE_BYTES", 20_000)
    pages = list(exports.export_pages(store, TENANT, parse_query({}, store.now_us())).pages)
    assert [page.count for page in pages] == [2, 3, 3, 1]
    assert [one.id.int for page in pages for one in page.records] == list(range(1, small + large + 1))
    monkeypatch.setattr(exports, "_FIRST_PAGE", small + 1)
    monkeypatch.setattr(exports, "_PAGE", small + 1)
    monkeypatch.setattr(exports, "_PAGE_BYTES", 1)
    pages = list(exports.export_pages(store, TENANT, parse_query({}, store.now_us())).pages)
    assert [page.count for page in pages] == [small + 1, 1, 1, 1]
