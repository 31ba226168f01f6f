"""Limits per key: one count for all processes, shown in every answer, off unless set, and never
slower than Redis's 50 ms."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from threading import Event, Thread
from typing import Any

import orjson
import pytest
from django.core.cache import caches
from django.test import Client, RequestFactory
from pytest_django import Settings
from redis import Redis

from tests.api.client import ID, JSON, NDJSON, PATH, archive_all, client_of, error, ids, issue, post, posted
from tests.examples import REFERENCE, body
from tests.processes import OwnRedis, Site, Web, wait_until
from trajectories.api import throttling
from trajectories.api.authentication import Caller
from trajectories.api.sliding_window import Use
from trajectories.api.throttling import ASK_S, Limiter, SharedCounts
from trajectories.api.views import TrajectoryViewSet
from trajectories.conf import read_settings
from trajectories.storage import store
from trajectories.storage.store import get_store

HEADERS = ("X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset", "X-RateLimit-Resource")
SetLimits = Callable[..., None]


@pytest.fixture
def set_limits(settings: Settings, trajectories_settings: dict[str, Any]) -> SetLimits:
    def set_(*, requests: int | None = None, bytes_: int | None = None, cpu_ms: int | None = None, **more: Any) -> None:
        given = {"requests_per_minute": requests, "bytes_per_minute": bytes_, "read_cpu_ms_per_minute": cpu_ms}
        known = {name: limit for name, limit in given.items() if limit is not None}
        settings.TRAJECTORIES = trajectories_settings | {"RATE_LIMITS": known} | more

    return set_


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a test is about the count, a slow machine is no outage."""
    monkeypatch.setattr(throttling, "ASK_S", 30.0)


@pytest.fixture
def own_redis(tmp_path: Path, settings: Settings) -> Iterator[OwnRedis]:
    """A Redis of the test's own, as the tier."""
    redis = OwnRedis(tmp_path / "redis")
    settings.CACHES = settings.CACHES | {"trajectories": settings.CACHES["trajectories"] | {"LOCATION": redis.url}}
    yield redis
    caches["trajectories"].close()
    redis.stop()


def shared_counts() -> SharedCounts:
    shared = get_store().part(Limiter).shared
    assert shared is not None
    return shared


def told(response: Any) -> tuple[int, int, str]:
    """Limit, remaining and which limit."""
    assert 0 < int(response["X-RateLimit-Reset"]) <= 61
    return int(response["X-RateLimit-Limit"]), int(response["X-RateLimit-Remaining"]), response["X-RateLimit-Resource"]


def scripts_run(redis: Redis) -> int:
    """How often Redis was asked for a count, since its start."""
    said: Any = redis.info("commandstats")
    return int(said.get("cmdstat_evalsha", {}).get("calls", 0))


# Headers.


@pytest.mark.usefixtures("redis_tier", "patient")
def test_every_answer_of_a_limited_key_has_limit_and_remainder(set_limits: SetLimits, north: Client) -> None:
    set_limits(requests=10, EXPORT_WAIT_S=0.1)
    answers = [
        post(north, body(id=ID)),
        north.get(PATH),
        north.get(f"{PATH}/{ID}"),
        north.get(f"{PATH}/stats"),
        north.get(f"{PATH}/export"),
        post(north, b"{"),
        north.get(f"{PATH}/nothing"),
        client_of(issue(scopes="admin")[1]).get(PATH),
    ]
    assert [response.status_code for response in answers] == [201, 200, 200, 200, 503, 400, 404, 403]
    resource = "requests_per_minute"
    assert [told(response) for response in answers] == [(10, left, resource) for left in (9, 8, 7, 6, 5, 4, 3, 9)]


@pytest.mark.usefixtures("redis_tier", "patient")
def test_over_the_limit_is_429_with_the_time_to_wait_and_stores_nothing(set_limits: SetLimits, north: Client) -> None:
    set_limits(requests=2)
    posted(north, body(id=ID))
    assert ids(north) == [ID]
    for response in (post(north, body()), north.get(PATH)):
        refused = error(response, 429, "rate_limited")
        assert refused.type == "rate_limit_error"
        assert told(response) == (2, 0, "requests_per_minute")
        assert 0 < int(response["Retry-After"]) <= 61
    set_limits()
    assert ids(north) == [ID]


@pytest.mark.usefixtures("patient")
def test_refused_requests_are_not_counted(set_limits: SetLimits, north: Client, redis_tier: Redis) -> None:
    set_limits(requests=1)
    for _ in range(5):
        north.get(PATH)
    (name,) = redis_tier.keys("*limits*")
    assert sum(map(int, redis_tier.hvals(name))) == 1


@pytest.mark.usefixtures("redis_tier", "patient", "db")
def test_the_keys_of_a_tenant_have_a_limit_each(set_limits: SetLimits) -> None:
    set_limits(requests=1)
    one, other, elsewhere = (client_of(issue(tenant)[1]) for tenant in ("north", "north", "south"))
    assert [client.get(PATH).status_code for client in (one, one, other, elsewhere)] == [200, 429, 200, 200]


@pytest.mark.usefixtures("redis_tier", "patient")
def test_health_metrics_and_the_document_are_not_limited(set_limits: SetLimits, north: Client) -> None:
    set_limits(requests=1, METRICS_ACCESS="open")
    assert [north.get(PATH).status_code for _ in range(2)] == [200, 429]
    for address in ("/health/live", "/health/ready", "/metrics", "/v1/openapi.json"):
        response = north.get(address)
        assert response.status_code == 200
        assert not [name for name in HEADERS if name in response]


# Whose requests are counted together.


@pytest.mark.usefixtures("redis_tier", "patient", "db")
def test_a_host_projects_tenant_has_one_limit_and_each_caller_key_another(
    set_limits: SetLimits, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_limits(requests=1, TENANT_FROM_REQUEST="tests.api.tenants.slug")
    north, south = (Client(headers={"X-Team": team}) for team in ("north", "south"))
    assert [client.get(PATH).status_code for client in (north, north, south)] == [200, 429, 200]
    callers = iter([Caller("west", frozenset({"read"}), user) for user in ("ann", "ann", "ben")])
    monkeypatch.setattr("tests.api.tenants.slug", lambda _: next(callers))
    assert [Client().get(PATH).status_code for _ in range(3)] == [200, 429, 200]


def test_a_caller_needs_no_key() -> None:
    assert Caller("north", frozenset({"read"})).key is None


# Bytes.


@pytest.mark.usefixtures("redis_tier", "patient")
def test_bytes_of_bodies_have_a_limit_of_their_own_which_reads_do_not_use(set_limits: SetLimits, north: Client) -> None:
    data = orjson.dumps(body(id=ID))
    set_limits(bytes_=2 * len(data) + 5)
    assert [told(post(north, data)) for _ in range(2)] == [
        (2 * len(data) + 5, left, "bytes_per_minute") for left in (len(data) + 5, 5)
    ]
    response = post(north, data)
    error(response, 429, "rate_limited")
    assert told(response) == (2 * len(data) + 5, 5, "bytes_per_minute")
    assert ids(north) == [ID]


# CPU of reads.


@pytest.fixture
def slow_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor on which a second passes between two looks at its clock."""
    seconds = count()
    monkeypatch.setattr(time, "thread_time", lambda: float(next(seconds)))


@pytest.mark.usefixtures("redis_tier", "patient", "slow_cpu")
@pytest.mark.parametrize("path", [PATH, f"{PATH}/stats", f"{PATH}/export", f"{PATH}/{ID}"])
def test_reads_are_limited_by_cpu_and_recording_continues(set_limits: SetLimits, north: Client, path: str) -> None:
    posted(north, body(id=ID))
    archive_all()
    set_limits(cpu_ms=5_000)
    answers = []
    for _ in range(7):
        answers.append(north.get(path))
        answers[-1].getvalue()
    said = [answer.status_code for answer in answers]
    assert said[:2] == [200, 200]
    assert said[-2:] == [429, 429]
    assert told(answers[-1])[::2] == (5_000, "read_cpu_ms_per_minute")
    assert post(north, orjson.dumps(body())).status_code == 201


@pytest.mark.usefixtures("redis_tier", "patient", "slow_cpu")
def test_reads_by_post_are_limited_by_cpu_too(set_limits: SetLimits, north: Client) -> None:
    set_limits(cpu_ms=1)
    addresses = ("/v1/agent/recommendations", "/v1/agent/evaluations")
    said = [north.post(address, b"{}", content_type=JSON).status_code for address in addresses * 2]
    assert said == [400, 429, 429, 429]


@pytest.mark.usefixtures("redis_tier", "patient", "slow_cpu")
def test_a_refused_read_uses_no_cpu_of_the_limit(set_limits: SetLimits, north: Client) -> None:
    set_limits(cpu_ms=1)
    assert north.get(PATH).status_code == 200
    limiter = get_store().part(Limiter)
    before = {key: local.unsynced for key, local in limiter.local._keys.items()}
    assert north.get(PATH).status_code == 429
    assert [local.unsynced for local in limiter.local._keys.values()] == [Use()]  # sent, and nothing new
    assert [use.read_cpu_ms > 0 for use in before.values()] == [True]


class Untouched:
    """A body that must not be read."""

    def read(self, size: int = -1) -> bytes:
        raise AssertionError("the body was read")


@pytest.mark.usefixtures("redis_tier", "patient", "db")
def test_a_request_that_is_over_is_refused_before_its_body_is_read(set_limits: SetLimits) -> None:
    set_limits(requests=10, bytes_=1_000)
    view = TrajectoryViewSet.as_view({"post": "record"})
    key = issue()[1]
    request = RequestFactory().post(PATH, content_type=JSON, headers={"authorization": f"Bearer {key}"})
    request.META.update(CONTENT_LENGTH="1001", **{"wsgi.input": Untouched()})
    request._stream = Untouched()  # type: ignore[assignment]
    response = view(request)
    error(response, 429, "rate_limited")
    # With room for it, it would have been.
    set_limits(bytes_=1_001)
    request = RequestFactory().post(PATH, content_type=JSON, headers={"authorization": f"Bearer {key}"})
    request.META.update(CONTENT_LENGTH="1001")
    request._stream = Untouched()  # type: ignore[assignment]
    error(view(request), 400, "body_malformed")


@pytest.mark.usefixtures("redis_tier", "patient")
def test_a_body_that_is_too_large_anyway_is_413_and_uses_no_bytes(set_limits: SetLimits, north: Client) -> None:
    set_limits(bytes_=90_000, MAX_REQUEST_BYTES=10_000, MAX_RECORD_BYTES=10_000)
    response = post(north, b" " * 80_000)
    error(response, 413, "body_too_large")
    assert response["X-RateLimit-Remaining"] == "90000"


@pytest.fixture
def limited_site(make_site: Callable[..., Site]) -> Callable[..., Site]:
    def make(**rate_limits: int) -> Site:
        given = {"TRAJECTORIES_RATE_LIMITS": orjson.dumps(rate_limits).decode(), "TRAJECTORIES_REDIS_RETRY_S": "0"}
        return make_site(**given)

    return make


def record(web: Web, content: Any) -> Any:
    return web.http.post(PATH, content=content, headers={"Content-Type": NDJSON})


def test_chunked_bodies_are_counted_once_they_were_read(limited_site: Callable[..., Site]) -> None:
    limit = 16 * 1024**2
    web = limited_site(bytes_per_minute=limit).web()
    line = orjson.dumps(REFERENCE) + b"\n"
    chunks = [line * 100] * 10
    size = sum(map(len, chunks))
    answers = [record(web, iter(chunks)) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 200]
    # The first request had reserved one byte only; the second one reports the size that the first has read.
    assert [limit - int(answer.headers["X-RateLimit-Remaining"]) for answer in answers] == [1, size + 1]
    last = web.http.get(PATH)
    assert limit - int(last.headers["X-RateLimit-Remaining"]) == 2 * size


# One count.


def test_two_processes_share_one_count(limited_site: Callable[..., Site]) -> None:
    site = limited_site(requests_per_minute=40)
    webs = site.web(), site.web()
    statuses: list[int] = []
    while statuses[-2:] != [429, 429]:
        statuses += [web.http.get(f"{PATH}/nothing").status_code for web in webs]
        assert len(statuses) <= 80, "each counts for itself"
    # One more for each time that Redis took longer than its 50 ms on a busy machine, so the process itself decided.
    assert 40 <= statuses.count(404) < 60


@pytest.mark.usefixtures("patient")
def test_hosts_share_one_count_without_losing_any(set_limits: SetLimits, redis_tier: Redis) -> None:
    set_limits(requests=100)
    get_store()._become("0123456789ab")
    key = throttling._Key("north", "k")
    hosts = [Limiter(read_settings()) for _ in range(4)]
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda at: hosts[at % 4].count(key, Use(1)), range(160)))
    assert sum(said.retry_after_s is None for said in answers) == 100
    for host in hosts:
        host.close()


# Commands sent to Redis.


@pytest.mark.usefixtures("patient")
def test_a_request_makes_one_redis_round_trip(set_limits: SetLimits, north: Client, redis_tier: Redis) -> None:
    set_limits(requests=1_000, bytes_=10**8)
    posted(north, body())  # connects, and loads the script
    before, asked_before = scripts_run(redis_tier), _commands(redis_tier)
    for _ in range(5):
        posted(north, body())
    assert scripts_run(redis_tier) - before == 5
    # Redis also counts the commands of the script itself, but there is no other command of a client.
    assert not {"ping", "get", "set", "incr", "eval", "hello", "auth", "select"} & (
        _commands(redis_tier).keys() - asked_before.keys()
    )


def _commands(redis: Redis) -> dict[str, int]:
    said: Any = redis.info("commandstats")
    return {name.removeprefix("cmdstat_"): int(stat["calls"]) for name, stat in said.items()}


def test_without_limits_recording_makes_no_redis_call_and_sends_no_limit_headers(
    north: Client, redis_tier: Redis
) -> None:
    before = _commands(redis_tier)
    response = post(north, body())
    after = _commands(redis_tier)
    assert {name: calls - before.get(name, 0) for name, calls in after.items() if calls != before.get(name, 0)} == {
        "info": 1
    }
    assert not [name for name in HEADERS if name in response]
    assert Limiter not in get_store()._parts


# Redis is away.


def test_during_a_redis_outage_each_process_counts_on_its_own(
    set_limits: SetLimits, north: Client, own_redis: OwnRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(throttling, "ASK_S", 30.0)
    set_limits(requests=3, REDIS_RETRY_S=3600.0)
    assert told(north.get(PATH))[1] == 2
    own_redis.kill()
    assert [told(post(north, body()))[1] for _ in range(2)] == [1, 0]
    response = post(north, body())
    error(response, 429, "rate_limited")
    assert told(response) == (3, 0, "requests_per_minute")


def test_after_an_outage_redis_counts_again(
    set_limits: SetLimits, north: Client, own_redis: OwnRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(throttling, "ASK_S", 30.0)
    set_limits(requests=100, REDIS_RETRY_S=0.0)
    own_redis.kill()
    assert post(north, body()).status_code == 201
    own_redis.start()
    wait_until(lambda: told(post(north, body()))[1] > 0 and own_redis.client().keys("*limits*"))


def test_a_redis_that_hangs_is_asked_once_and_then_left_alone(
    set_limits: SetLimits, north: Client, own_redis: OwnRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_limits(requests=100, REDIS_RETRY_S=3600.0)
    shared, asked = shared_counts(), []
    ask = SharedCounts.ask

    def noted(self: SharedCounts, *args: Any, **kwargs: Any) -> Any:
        asked.append(args)
        return ask(self, *args, **kwargs)

    monkeypatch.setattr(SharedCounts, "ask", noted)
    with own_redis.client() as client:
        sha = client.script_load(throttling._TAKE)
        assert sha == shared._take.sha
        counts = shared_counts()
        wait_until(lambda: counts.ask(counts.name_of(throttling._Key("north", "k")), Use(1), Use()))
        before = scripts_run(client)
        asked.clear()
        os.kill(own_redis.pid, signal.SIGSTOP)
        try:
            assert [post(north, body()).status_code for _ in range(5)] == [201] * 5
        finally:
            os.kill(own_redis.pid, signal.SIGCONT)
        # It reads what was sent to it meanwhile.
        wait_until(lambda: scripts_run(client) > before)
        assert (scripts_run(client), len(asked)) == (before + 1, 1)
    assert len(get_store().part(Limiter).local) == 1


def test_every_step_of_an_ask_has_the_budget_of_the_whole_and_none_is_tried_again(
    set_limits: SetLimits, redis_tier_url: str, settings: Settings
) -> None:
    # Whatever the alias and its URL say.
    tier = settings.CACHES["trajectories"] | {"LOCATION": redis_tier_url + "?socket_timeout=7"}
    tier["OPTIONS"] = tier["OPTIONS"] | {"CONNECTION_POOL_KWARGS": {"socket_connect_timeout": 9}}
    settings.CACHES = settings.CACHES | {"trajectories": tier}
    set_limits(requests=1)
    pool = shared_counts().client.connection_pool
    connection: Any = pool.make_connection()
    assert (ASK_S, connection.socket_timeout, connection.socket_connect_timeout) == (0.05, 0.05, 0.05)
    assert connection.retry.get_retries() == 0
    assert pool is not caches["trajectories"].client.get_client().connection_pool  # type: ignore[attr-defined]
    assert caches["trajectories"].client.get_client().connection_pool.connection_kwargs["socket_timeout"] == 7  # type: ignore[attr-defined]


def test_a_request_waits_for_the_whole_ask_no_longer_than_the_budget(
    set_limits: SetLimits, north: Client, redis_tier: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_limits(requests=100)
    released, given_up = Event(), Event()

    def endless(*_: Any) -> None:
        # As a name server or a handshake in many small steps, which no timeout of a socket bounds.
        released.wait(30)
        given_up.set()

    monkeypatch.setattr(SharedCounts, "ask", endless)
    assert post(north, body()).status_code == 201
    assert not given_up.is_set()
    released.set()
    assert given_up.wait(30)


@pytest.mark.parametrize("answer", [b"", b"-ERR no\r\n", b"-LOADING Redis is loading the dataset in memory\r\n"])
def test_a_server_that_answers_nonsense_is_one_that_is_away(
    answer: bytes, set_limits: SetLimits, north: Client, settings: Settings
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        tier = settings.CACHES["trajectories"] | {"LOCATION": f"redis://127.0.0.1:{port}/0"}
        settings.CACHES = settings.CACHES | {"trajectories": tier}
        set_limits(requests=1, REDIS_RETRY_S=3600.0)

        def serve() -> None:
            client, _ = server.accept()
            with client:
                client.recv(1024)
                client.sendall(answer)

        thread = Thread(target=serve)
        thread.start()
        assert [post(north, body()).status_code for _ in range(2)] == [201, 429]
        thread.join()


def test_after_a_fork_a_process_has_threads_connections_and_counts_of_its_own(set_limits: SetLimits) -> None:
    set_limits(requests=5)
    before = get_store().part(Limiter)
    store._after_fork_in_child()
    assert get_store().part(Limiter) is not before
    before.close()
