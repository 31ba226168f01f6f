"""``manage.py relay``: run the relay as a separate process, or once until the outbox is empty."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from trajectories.conf import read_settings
from trajectories.exceptions import OutboxUnavailable
from trajectories.relay import HostLockTaken, Relay, host_lock, work
from trajectories.storage.store import get_store

_LOCK_TAKEN = 3
"""Exit code if another process runs the relay. 1 is a failure, and 2 is argparse's exit code."""
_WATCH_S = 0.2


class Command(BaseCommand):
    help = (
        "Hands the records of this host's outbox over to the Celery workers until it is stopped, in place of the thread "
        "in a web process (RELAY_IN_PROCESS). Exit codes: 0 stopped or drained; 1 not drained in time, or the outbox "
        "fails; 3 another process of this host is the relay."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--drain", action="store_true", help="End as soon as the archive has every record of the outbox."
        )
        parser.add_argument(
            "--timeout", type=float, metavar="SECONDS", help="With --drain, how long that may take. Default: 60."
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if options["timeout"] is not None and not options["drain"]:
            raise CommandError("--timeout belongs to --drain.")
        with _interruptible():
            try:
                if options["drain"]:
                    self._drain(60.0 if options["timeout"] is None else options["timeout"])
                else:
                    self._run()
            except OutboxUnavailable as error:
                raise CommandError(error.message) from error
            except KeyboardInterrupt:
                # Safe at any point: the next relay sends the batches in flight again.
                self._say("The relay is stopped.")

    def _run(self) -> None:
        try:
            with host_lock(get_store()):
                self._say(f"This is the relay of {read_settings().outbox_path}.")
                work(get_store(), threading.Event())
        except HostLockTaken:
            raise CommandError(
                "Another process of this host is the relay of this outbox already: another `manage.py relay`, or a web "
                "process, which is one unless RELAY_IN_PROCESS is off.",
                returncode=_LOCK_TAKEN,
            ) from None

    def _drain(self, timeout_s: float) -> None:
        try:
            with host_lock(get_store()):
                self._say(f"Delivering {get_store().outbox.counts().waiting} records, which needs a running worker.")
                is_drained = Relay(get_store()).drain(timeout_s)
        except HostLockTaken:
            self._say("Another process of this host is the relay; waiting for it to hand everything over.")
            is_drained = _is_drained_within(timeout_s)
        if not is_drained:
            raise CommandError(f"After {timeout_s:g} seconds the archive still lacks records of this outbox.")
        self._say("The archive has every record of this outbox.")

    def _say(self, text: str) -> None:
        self.stderr.write(text, str)  # str replaces the red style of errors


def _is_drained_within(timeout_s: float) -> bool:
    until = time.monotonic() + timeout_s
    while get_store().outbox.waiting(0, 1):
        if time.monotonic() >= until:
            return False
        time.sleep(_WATCH_S)
    return True


@contextmanager
def _interruptible() -> Iterator[None]:
    """Raise KeyboardInterrupt on SIGTERM, as on SIGINT.

    A flag would not interrupt a wait for a broker or a database that hangs.
    """

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
