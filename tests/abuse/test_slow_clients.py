"""Deliberately slow clients, more than the server has threads, while another client works on."""

from __future__ import annotations

import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import orjson
import pytest

from tests.abuse.attack import Attack, is_closed, read_statuses
from tests.abuse.conftest import THREADS
from tests.abuse.corpus import MIB
from tests.api.client import NDJSON, PATH
from tests.examples import body
from tests.processes import wait_until

pytestmark = pytest.mark.abuse

SLOW = 2 * THREADS
HEAD = f"POST {PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: KEY\r\nContent-Type: {NDJSON}\r\n".encode()


@contextmanager
def trickling(connections: list[socket.socket], piece: bytes) -> Iterator[None]:
    """Send a few bytes on each connection, again and again."""
    is_over = threading.Event()

    def trickle() -> None:
        while not is_over.wait(0.05):
            for connection in connections:
                with suppress(OSError):
                    connection.send(piece)

    thread = threading.Thread(target=trickle)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def slow_requests(
    attack: Attack, name: str, begin: bytes, piece: bytes, *, count: int, at_most_mib: int = 8
) -> Counter[int]:
    """Return the statuses of slow requests, while the bystander works."""
    with attack.measured(f"{count} {name}", at_most_mib=at_most_mib) as told:
        connections = attack.attacker.connect(count)
        for connection in connections:
            connection.sendall(attack.attacker.signed(begin))
        with trickling(connections, piece):
            attack.bystander.more(20)
            statuses = Counter(status for connection in connections for status in read_statuses(connection))
            told["outcome"] = ", ".join(f"{status}: {of}" for status, of in sorted(statuses.items())) or "closed"
    return statuses


def test_slow_heads_are_closed_and_keep_no_thread(attack: Attack) -> None:
    begin = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-A: "
    assert slow_requests(attack, "slow heads", begin, b"a", count=200, at_most_mib=48) == {}


def test_a_slow_body_of_a_stranger_is_refused_before_it_comes(attack: Attack) -> None:
    begin = HEAD.replace(b"KEY", b"Bearer nobodys.key") + b"Content-Length: %d\r\n\r\n" % (8 * MIB)
    assert slow_requests(attack, "slow bodies of strangers", begin, b" ", count=SLOW) == {401: SLOW}


# The server keeps about 16 KiB per connection until its header timeout, and the allocator rounds up.
_MIB_PER_CONNECTION = 32 / 1024


def test_connections_that_say_nothing_are_closed(attack: Attack) -> None:
    with attack.measured("500 silent connections", at_most_mib=500 * _MIB_PER_CONNECTION) as told:
        connections = attack.attacker.connect(500)
        attack.bystander.more(20)
        wait_until(lambda: all(map(is_closed, connections)), 60, "all are closed")
        told["outcome"] = "closed"


def test_more_connections_than_a_process_takes_leave_room_for_others(attack: Attack) -> None:
    with attack.measured("1,500 silent connections", at_most_mib=1_500 * _MIB_PER_CONNECTION) as told:
        connections = attack.attacker.connect(1_500)
        attack.bystander.more(20)
        wait_until(lambda: all(map(is_closed, connections)), 60, "all are closed")
        told["outcome"] = "closed"


def test_clients_that_keep_connections_open_delay_no_other_client(attack: Attack) -> None:
    with attack.measured("50 that do not hang up", at_most_mib=8) as told:
        connections = attack.attacker.connect(50)
        for connection in connections:
            connection.sendall(b"GET /health/live HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
        attack.bystander.more(20)
        statuses = Counter(status for connection in connections for status in read_statuses(connection))
        told["outcome"] = "200: 50"
    assert statuses == {200: 50}


def test_clients_who_do_not_read_a_list_keep_no_thread(attack: Attack) -> None:
    lines = b"\n".join(orjson.dumps(body(error="e" * 900_000, project="large")) for _ in range(10))
    assert attack.web.http.post(PATH, content=lines, headers={"Content-Type": NDJSON}).json()["accepted"] == 10
    request = f"GET {PATH}?project=large HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: KEY\r\n\r\n".encode()
    with attack.measured(f"{SLOW} that do not read", at_most_mib=256) as told:
        for connection in attack.attacker.connect(SLOW, receive_buffer=4096):
            connection.sendall(attack.attacker.signed(request))
        attack.bystander.more(20)
        told["outcome"] = "kept"
