"""Both sides of an attack on a real server process: the attacker, and a client that works on."""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2

from tests.api.client import PATH, number
from tests.examples import body
from tests.processes import Web, children, wait_until

HEAD = ("attack", "outcome", "seconds", "peak MiB", "answers of another client", "slowest ms")
_STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")
_PATIENCE_S = 30
_SILENCE_S = 3


class Bystander:
    """A client who records and reads back, one after the other, on connections of its own."""

    def __init__(self, web: Web) -> None:
        self.answers = 0
        self.slowest_s = 0.0
        self.wrong: list[str] = []
        self._client = httpx2.Client(base_url=web.url, headers=web.http.headers, timeout=_PATIENCE_S, trust_env=False)
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._work)

    def __enter__(self) -> Bystander:
        self._thread.start()
        self.more(1)
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()
        self._client.close()

    def more(self, count: int) -> None:
        """Wait until it was answered so often from now on."""
        enough = self.answers + count
        wait_until(lambda: self.answers >= enough or self.wrong, 120, f"{count} more answers")
        assert self.wrong == []

    def _work(self) -> None:
        while not self._is_over.is_set() and not self.wrong:
            try:
                self._once(number(self.answers + 10**6))
            except Exception as error:
                self.wrong.append(repr(error))

    def _once(self, id_: str) -> None:
        started = time.monotonic()
        stored = self._client.post(PATH, json=body(id=id_))
        read = self._client.get(f"{PATH}/{id_}")
        self.slowest_s = max(self.slowest_s, time.monotonic() - started)
        if stored.status_code not in (200, 201) or read.json() != stored.json():
            self.wrong.append(f"{stored.status_code}, {read.status_code}: {read.text[:200]}")
        self.answers += 1


class Attacker:
    """A client that controls every byte, with a valid key where it needs one."""

    def __init__(self, web: Web) -> None:
        self._address = ("127.0.0.1", urlsplit(web.url).port)
        self._key = str(web.http.headers["Authorization"]).encode()
        self._open: list[socket.socket] = []

    def connect(self, count: int = 1, **options: int) -> list[socket.socket]:
        """Connections, which stay open to the end."""
        made = []
        for _ in range(count):
            connection = socket.socket()
            if "receive_buffer" in options:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, options["receive_buffer"])
            connection.settimeout(_PATIENCE_S)
            connection.connect(self._address)
            made.append(connection)
        self._open += made
        return made

    def signed(self, request: bytes) -> bytes:
        """With the key where ``KEY`` stands."""
        return request.replace(b"KEY", self._key, 1)

    def statuses(self, request: bytes) -> list[int]:
        """Return the answer to these bytes until the server closes the connection, or this side has
        been silent for long."""
        (connection,) = self.connect()
        is_answered = threading.Event()
        sender = threading.Thread(target=_send, args=(connection, self.signed(request), is_answered))
        sender.start()
        answer = _read(connection)
        is_answered.set()
        sender.join()
        return _statuses(answer)

    def close(self) -> None:
        for connection in self._open:
            connection.close()


def read_statuses(connection: socket.socket) -> list[int]:
    """Return the answers until the server closes the connection."""
    return _statuses(_read(connection))


def _statuses(answer: bytes) -> list[int]:
    return [int(status) for status in _STATUS.findall(answer)]


def _send(connection: socket.socket, data: bytes, is_answered: threading.Event) -> None:
    with suppress(OSError):  # answered and closed before all of it was sent
        connection.sendall(data)
        # The server drops a client that closes its side early, so this waits for the answers first.
        is_answered.wait(_SILENCE_S + data.count(b"HTTP/1.1") / 50)
        connection.shutdown(socket.SHUT_WR)


def _read(connection: socket.socket) -> bytes:
    answer = b""
    with suppress(ConnectionError):
        while piece := connection.recv(65536):
            answer += piece
    return answer


def is_closed(connection: socket.socket) -> bool:
    """Return whether the server has closed its side; drop what it sent before."""
    try:
        while connection.recv(65536, socket.MSG_DONTWAIT):
            pass
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True


class Memory:
    """The peak memory of a process since this object was made."""

    def __init__(self, pid: int) -> None:
        self._status = Path(f"/proc/{pid}/status")
        Path(f"/proc/{pid}/clear_refs").write_text("5")
        self._before = self._peak()

    def growth_mib(self) -> float:
        return self._peak() - self._before

    def _peak(self) -> float:
        lines = self._status.read_text().splitlines()
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


class Attack:
    """One attack, its bystander, and its row in the table."""

    def __init__(self, web: Web, bystander: Bystander, tabulate: Callable[..., None]) -> None:
        self.web = web
        self.bystander = bystander
        self.attacker = Attacker(web)
        self._tabulate = tabulate

    @contextmanager
    def measured(self, name: str, *, at_most_mib: float) -> Iterator[dict[str, Any]]:
        """Hold the block to the memory bound; put its ``outcome`` into the table."""
        (worker,) = children(self.web.pid)
        memory, started, before = Memory(worker), time.monotonic(), self.bystander.answers
        self.bystander.slowest_s = 0.0
        told: dict[str, Any] = {}
        yield told
        seconds = time.monotonic() - started
        self.bystander.more(2)
        growth, answers = memory.growth_mib(), self.bystander.answers - before
        slowest = round(1000 * self.bystander.slowest_s)
        self._tabulate("attacks", HEAD, name, told["outcome"], f"{seconds:.1f}", f"{growth:.0f}", answers, slowest)
        assert growth <= at_most_mib
        assert children(self.web.pid) == [worker], "it is the same process as before"
