"""The fixtures of conftest.py."""

from __future__ import annotations

import importlib
import os
import sys
import threading
from collections.abc import Callable

import psycopg
import pytest
from django.conf import settings
from django.core.cache import caches
from django.db import connections, router
from redis import Redis

from tests import baker_recipes, bytecode
from tests.processes import Site, wait_until
from trajectories.models import Tenant, Trajectory
from trajectory_site import redis_url
from trajectory_site.celery import app


def test_the_archive_is_where_the_router_says_in_every_thread(archive_db: str) -> None:
    baker_recipes.tenant.make()
    found: list[str] = []
    thread = threading.Thread(target=lambda: found.append(router.db_for_write(Trajectory)))
    thread.start()
    thread.join()
    assert found == [archive_db]
    assert Tenant.objects.using(archive_db).filter(slug="alice").exists()
    assert connections[archive_db].vendor == {"default": "sqlite", "postgres": "postgresql"}[archive_db]


def test_the_cache_alias_leads_to_the_tier_that_the_client_sees(redis_tier: Redis) -> None:
    assert redis_tier.dbsize() == 0
    caches["trajectories"].set("key", "value")
    assert redis_tier.dbsize() == 1


def test_tasks_are_published_to_the_broker_and_not_to_the_tier(redis_tier: Redis, celery_broker: str) -> None:
    app.send_task("nothing", queue="trajectories")
    with Redis.from_url(celery_broker) as broker:
        assert broker.llen("trajectories") == 1
    assert redis_tier.dbsize() == 0
    assert celery_broker == redis_url.broker(settings.CACHES["trajectories"]["LOCATION"])


def test_processes_of_a_site_work_together(make_site: Callable[..., Site], postgres_database: str) -> None:
    site = make_site(DATABASE_URL=postgres_database)
    site.worker()
    web = site.web()
    posted = web.http.post("/v1/agent/trajectories", json={"request_summary": "x", "phases": []})
    assert posted.status_code == 201
    listed = web.http.get("/v1/agent/trajectories").json()
    assert [record["id"] for record in listed["data"]] == [posted.json()["id"]]

    with psycopg.connect(postgres_database, autocommit=True) as archive:
        wait_until(lambda: archive.execute("SELECT count(*) FROM trajectories_trajectory").fetchone() == (1,))
    with site.redis.client() as tier:
        assert tier.dbsize()


def test_compiled_modules_are_kept_although_the_environment_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    importlib.reload(bytecode)
    assert not sys.dont_write_bytecode
    assert "PYTHONDONTWRITEBYTECODE" not in os.environ
