"""Listening sockets that let nobody in any more, while those who wait to be accepted still are."""

from __future__ import annotations

import ctypes
import socket
import struct
import sys
from contextlib import suppress

_SO_ATTACH_FILTER = getattr(socket, "SO_ATTACH_FILTER", 26)
"""Linux, on all but its rarest processors; the filter's language is described in its Documentation/networking/filter.rst."""
_LOAD_BYTE, _AND, _SKIP_UNLESS, _RETURN = 0x30, 0x54, 0x15, 0x06
_FLAGS_AT, _SYN, _ACK = 13, 0x02, 0x10
"""In the header of TCP, RFC 9293 section 3.1."""
_DROP, _KEEP = 0, 0xFFFFFFFF
_NO_NEW_CONNECTIONS = (
    (_LOAD_BYTE, 0, 0, _FLAGS_AT),
    (_AND, 0, 0, _SYN | _ACK),
    (_SKIP_UNLESS, 0, 1, _SYN),
    (_RETURN, 0, 0, _DROP),
    (_RETURN, 0, 0, _KEEP),
)


def close_to_new(listener: socket.socket) -> None:
    """Have the kernel ignore who wants to connect: they ask again a second later, and are then refused, or let in by a successor.

    Of all processes that have this socket, and for good. Nothing happens on other systems than Linux.
    """
    if sys.platform != "linux" or listener.family not in (socket.AF_INET, socket.AF_INET6):
        return
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in _NO_NEW_CONNECTIONS))
    program = struct.pack("HP", len(_NO_NEW_CONNECTIONS), ctypes.addressof(code))
    with suppress(OSError):
        listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)
