"""A TCP proxy that breaks connections off in the middle of an answer."""

from __future__ import annotations

import socket
import struct
import threading
from collections import deque
from contextlib import suppress

_PIECE = 4096


class CuttingProxy:
    """Connects each client with the server behind it; ``cuts`` says behind how many bytes of
    answers the next connections end."""

    def __init__(self, port: int) -> None:
        self.cuts: deque[int] = deque()
        self.connections = 0
        self._port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def serve(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self.connections += 1
                limit = self.cuts.popleft() if self.cuts else None
                threading.Thread(target=self._connect, args=(client, limit), daemon=True).start()

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _connect(self, client: socket.socket, limit: int | None) -> None:
        with client, socket.create_connection(("127.0.0.1", self._port)) as server:
            back = threading.Thread(target=_forward, args=(client, server), daemon=True)
            back.start()
            _forward(server, client, limit)
            if limit is not None:
                # With a reset, as of a machine that has gone.
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            for end in (client, server):
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
            back.join()


def _forward(source: socket.socket, target: socket.socket, limit: int | None = None) -> None:
    left = limit
    with suppress(OSError):
        while left != 0 and (piece := source.recv(_PIECE if left is None else min(_PIECE, left))):
            target.sendall(piece)
            left = None if left is None else left - len(piece)
