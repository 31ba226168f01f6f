"""A process that appends to an outbox and says, line by line, what was acknowledged."""

import sys
from itertools import islice, repeat
from uuid import uuid4

import django


def main(path: str, count: str) -> None:
    """``python -m tests.storage.appender PATH COUNT``; without end if that is 0."""
    django.setup()

    from tests.storage.hosts import draft
    from trajectories.storage.outbox import Outbox

    outbox = Outbox(path, synchronous="FULL", max_bytes=2**30)
    for _ in islice(repeat(None), int(count) or None):
        id_ = uuid4()
        outbox.append([draft(id_)])
        print(id_, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
