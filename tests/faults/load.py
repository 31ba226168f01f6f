"""Writers that never stop, and the ledger of acknowledged records."""

from __future__ import annotations

import logging
import random
import select
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx2
import orjson

from tests.examples import CAMEL, REFERENCE
from tests.processes import wait_until
from trajectories.domain import dialects, schema

logging.getLogger("httpx2").setLevel(logging.WARNING)  # a line for each of thousands of requests

PATH = "/v1/agent/trajectories"
JSON, NDJSON = "application/json", "application/x-ndjson"


class Ledger:
    """Acknowledged records, written outside the store at the moment of the answer, one JSON line
    each."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._file = path.open("ab", buffering=0)
        self._newest: dict[UUID, bytes] = {}
        self.outcomes: dict[UUID, set[str]] = {}
        """Names of the acknowledged late outcomes of each id; each is given once."""
        self.acknowledged = 0
        self.kinds: Counter[str] = Counter()
        self.during = ""
        """The current phase of the fault, kept for each id acknowledged during it."""
        self.last_during: dict[UUID, str] = {}

    def acknowledge(self, bodies: Sequence[tuple[UUID, bytes]], kinds: Iterable[str] = ()) -> None:
        """Each id with its canonical body; an id belongs to one writer, so the order here is that
        of its answers."""
        with self._lock:
            self._file.write(b"".join(orjson.dumps([str(id_), body.decode()]) + b"\n" for id_, body in bodies))
            self._newest.update(bodies)
            self.acknowledged += len(bodies)
            self.kinds.update(kinds)
            self.last_during.update((id_, self.during) for id_, _ in bodies)

    def acknowledge_outcome(self, id_: UUID, name: str) -> None:
        with self._lock:
            self.outcomes.setdefault(id_, set()).add(name)

    def newest(self) -> dict[UUID, bytes]:
        with self._lock:
            return dict(self._newest)

    def close(self) -> None:
        self._file.close()


class Load:
    """Writers of every kind at a steady pace: canonical, dialect, NDJSON, repeated ids, replaced
    revisions.

    A writer sends until it is answered with 2xx, to any of the addresses, as an SDK would; so when
    the load has stopped everything that was sent is in the ledger.
    """

    def __init__(
        self,
        ledger: Ledger,
        urls: Sequence[str],
        api_key: str,
        *,
        writers: int = 4,
        seed: int = 0,
        pause_s: float = 0.05,
        max_lines: int = 20,
        extra: Callable[[random.Random], dict[str, Any]] = lambda chance: {},
        has_outcomes: bool = False,
    ) -> None:
        self.ledger = ledger
        self.urls = list(urls)
        self.cut: list[str] = []
        """Requests that a server read, in whole or in part, and did not answer."""
        self.unread: list[str] = []
        """Requests that met a connection as the server closed it."""
        self.refused: list[tuple[int, str | None]] = []
        """Answers other than 2xx: status and Retry-After."""
        self._headers = {"Authorization": f"Bearer {api_key}"}
        self._pause_s, self._max_lines, self._extra, self._has_outcomes = pause_s, max_lines, extra, has_outcomes
        self._stopping = threading.Event()
        self._going = threading.Event()
        self._going.set()
        self._errors: list[BaseException] = []
        self._threads = [
            threading.Thread(target=self._work, args=(random.Random(f"{seed}:{number}"),), daemon=True)
            for number in range(writers)
        ]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._going.set()
        for thread in self._threads:
            thread.join(60)
        assert not any(thread.is_alive() for thread in self._threads), "a writer gets no answer"
        assert not self._errors, self._errors

    def until(self, acknowledged: int, timeout_s: float = 120.0) -> None:
        """Go on until the total acknowledged reaches this number."""
        wait_until(
            lambda: self._errors or self.ledger.acknowledged >= acknowledged, timeout_s, f"{acknowledged} acknowledged"
        )
        assert not self._errors, self._errors

    def more(self, count: int, timeout_s: float = 120.0) -> None:
        self.until(self.ledger.acknowledged + count, timeout_s)

    def during(self, seconds: float) -> None:
        """Go on for so long: the length of an outage is what is tested here."""
        assert not self._stopping.wait(seconds)
        assert not self._errors, self._errors

    def pause(self) -> None:
        """Send nothing new until ``resume``."""
        self._going.clear()

    def resume(self) -> None:
        self._going.set()

    def begin_outcomes(self) -> None:
        """Send late outcomes from now on, too."""
        self._has_outcomes = True

    def _work(self, chance: random.Random) -> None:
        mine: dict[UUID, bytes] = {}
        try:
            # Shorter than the server's keep-alive (10 s), so that client and server never close at once.
            limits = httpx2.Limits(keepalive_expiry=1)
            with httpx2.Client(headers=self._headers, timeout=30, trust_env=False, limits=limits) as http:
                post = TracedPost(http)
                while not self._stopping.is_set():
                    self._going.wait()
                    self._step(post, chance, mine)
                    self._stopping.wait(chance.random() * 2 * self._pause_s)
        except BaseException as error:
            self._errors.append(error)
            raise

    def _step(self, post: TracedPost, chance: random.Random, mine: dict[UUID, bytes]) -> None:
        kinds = ("canonical", "dialect", "ndjson", "again") if mine else ("canonical", "dialect", "ndjson")
        kind = chance.choices(kinds, (3, 2, 2, 3)[: len(kinds)])[0]
        if kind == "ndjson":
            sent = [self._record(chance, mine, "NDJSON line") for _ in range(chance.randint(2, self._max_lines))]
            self._send(post, chance, b"\n".join(data for _, data in sent), NDJSON)
        else:
            sent = [self._again(chance, mine) if kind == "again" else self._record(chance, mine, kind)]
            self._send(post, chance, sent[0][1], JSON)
        expected = [canonical(data) for _, data in sent]
        mine.update(expected)
        self.ledger.acknowledge(expected, [kind for kind, _ in sent])
        if self._has_outcomes and chance.random() < 0.3:
            self._send_outcome(post, chance, chance.choice(list(mine)))

    def _send_outcome(self, post: TracedPost, chance: random.Random, id_: UUID) -> None:
        """Send a late outcome; sometimes twice, perhaps to two hosts, as a retry does."""
        name = f"{chance.getrandbits(64):x}"
        data = orjson.dumps({"name": name, "value": True, "trajectory_id": str(id_), "idempotency_key": name})
        for _ in range(chance.choice([1, 1, 2])):
            self._send(post, chance, data, JSON, path="/v1/agent/outcomes")
        self.ledger.acknowledge_outcome(id_, name)

    def _record(self, chance: random.Random, mine: dict[UUID, bytes], kind: str) -> tuple[str, bytes]:
        if mine and chance.random() < 0.2:
            return self._again(chance, mine)
        id_ = str(UUID(int=chance.getrandbits(128), version=4))
        if kind == "dialect":
            return kind, orjson.dumps(CAMEL | {"id": id_})
        return kind, orjson.dumps(REFERENCE | {"id": id_, "request_summary": f"run {id_}"} | self._extra(chance))

    def _again(self, chance: random.Random, mine: dict[UUID, bytes]) -> tuple[str, bytes]:
        id_ = chance.choice(list(mine))
        if chance.random() < 0.4:
            return "repeated", mine[id_]
        cost_usd = chance.randrange(1_000_000) / 1_000_000
        return "replaced", orjson.dumps(orjson.loads(mine[id_]) | {"total_cost_usd": cost_usd})

    def _send(self, post: TracedPost, chance: random.Random, data: bytes, media_type: str, *, path: str = PATH) -> None:
        while True:
            url = chance.choice(self.urls)
            try:
                answer = post(url, path, data, media_type)
            except (httpx2.ConnectError, httpx2.ConnectTimeout):
                pass  # no server is listening; nothing was sent
            except httpx2.TransportError as error:
                (self.unread if post.was_unread else self.cut).append(repr(error))
            else:
                if answer.is_success:
                    assert media_type == JSON or answer.json()["refused"] == 0, answer.text
                    return
                self.refused.append((answer.status_code, answer.headers.get("Retry-After")))
                assert answer.status_code == 503, answer.text
            assert not self._stopping.wait(0.1) or self._is_patient(), "not acknowledged after the load was stopped"

    def _is_patient(self) -> bool:
        """Stop, and let the last requests finish, for half a minute at most."""
        self._stopped_at = getattr(self, "_stopped_at", time.monotonic())
        time.sleep(0.05)
        return time.monotonic() - self._stopped_at < 30


class TracedPost:
    """Posts of one thread. ``was_unread``: whether the server closed the connection of the last
    request without having read it.

    An open connection may be closed just as a request is sent on it; HTTP/1.1 has no way to prevent
    that, and a client may send again (RFC 9112, sections 9.3.1 and 9.5). The same happens to a
    connection that waits to be accepted. The server's kernel resets a connection that is closed
    with unread data, or gets some afterwards. A server that has read a request and drops it closes
    the connection in order.
    """

    RESET_S = 2.0
    """How long a reset may come after the end of the stream; on one host it takes milliseconds."""

    def __init__(self, http: httpx2.Client) -> None:
        self._http = http
        self._sockets: dict[str, socket.socket] = {}
        self.was_unread = False

    def __call__(self, url: str, path: str, data: bytes, media_type: str) -> httpx2.Response:
        self.was_unread = False
        trace = partial(self._on_event, url)
        headers = {"Content-Type": media_type}
        return self._http.post(url + path, content=data, headers=headers, extensions={"trace": trace})

    def _on_event(self, url: str, event: str, info: dict[str, Any]) -> None:
        if event == "connection.connect_tcp.complete":
            self._sockets[url] = info["return_value"].get_extra_info("socket")
        elif event == "http11.receive_response_headers.failed":
            self.was_unread = self._is_reset(self._sockets[url])

    def _is_reset(self, connection: socket.socket) -> bool:
        poll = select.poll()
        poll.register(connection, 0)  # no data and no end of the stream, only a hang-up or an error
        return bool(poll.poll(self.RESET_S * 1_000))


def canonical(data: bytes) -> tuple[UUID, bytes]:
    """Id and canonical bytes of a body that has an id."""
    trajectory = dialects.read(data)
    assert trajectory.id
    return trajectory.id, schema.canonical(trajectory)


class Observer:
    """Reads the list of one process all the time. ``broken``, after ``settle``: records that were
    gone from a complete page, though no other record had come above them."""

    def __init__(
        self, url: str, api_key: str, *, may_go: Callable[[dict[str, Any]], bool] = lambda record: False
    ) -> None:
        self._url, self._may_go = url, may_go
        self._http = httpx2.Client(headers={"Authorization": f"Bearer {api_key}"}, timeout=30, trust_env=False)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._seen: dict[str, dict[str, Any]] = {}
        self._doubted: dict[str, tuple[str, tuple[str, str]]] = {}
        self.pages = self.incomplete = 0
        self.broken: list[str] = []

    def __enter__(self) -> Observer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join(60)
        self._http.close()

    def _work(self) -> None:
        while not self._stopping.wait(0.1):
            with suppress(httpx2.TransportError):
                answer = self._http.get(self._url + PATH, params={"limit": 1000})
                if answer.is_success:
                    self._look(answer.json())

    def _look(self, page: dict[str, Any]) -> None:
        self.pages += 1
        if not page["complete"]:
            self.incomplete += 1
            return
        shown = {record["id"]: record for record in page["data"]}
        lowest = min(map(_position, shown.values()), default=("", "")) if page["has_more"] else ("", "")
        for id_, record in self._seen.items():
            if id_ not in shown and _position(record) > lowest and not self._may_go(record):
                self._doubt(id_, lowest)
        self._seen |= shown

    def _doubt(self, id_: str, lowest: tuple[str, str]) -> None:
        """It may have moved down, where another host had known it for longer.

        Redis may have reported that to the list and be away now, so what is not said to have moved
        is asked for again in the end.
        """
        answer = self._http.get(f"{self._url}{PATH}/{id_}")
        if answer.is_success and _position(answer.json()) <= lowest:
            self._seen[id_] = answer.json()
        else:
            was = _position(self._seen.pop(id_))
            self._doubted.setdefault(id_, (f"{was} was shown, then not, above {lowest}; {answer.status_code}", lowest))

    def settle(self) -> None:
        """Once everything agrees: what had not moved had vanished, for a while or for good."""
        with httpx2.Client(headers=self._http.headers, timeout=30, trust_env=False) as http:
            for id_, (doubt, lowest) in self._doubted.items():
                answer = http.get(f"{self._url}{PATH}/{id_}")
                if not answer.is_success or _position(answer.json()) > lowest:
                    self.broken.append(f"{doubt}; in the end {answer.status_code} {answer.text}")


def _position(record: dict[str, Any]) -> tuple[str, str]:
    return record["recorded_at"], record["id"]
