"""``python -m trajectory_site.server``: granian with the options that this site needs.

docs/decisions.md compares it with other servers; docs/security.md names what it leaves to a proxy.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import traceback
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path

from granian import Granian
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings

HEADER_TIMEOUT_MS = 10_000
"""Limit for a request head and an idle connection. Longer than common clients' keep-alive (5 s)."""
STOP_TIMEOUT_S = 30
"""Limit for running requests when the server stops; then their worker is killed."""
RELOAD_PAUSE_S = 10.0
"""On SIGHUP, time between the start of a new worker and the stop of the old one.

Granian does not check whether the new worker is ready.
"""

_METRICS = "PROMETHEUS_MULTIPROC_DIR"


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    arguments = _arguments()
    # Set before anything reads the settings; the workers inherit it.
    os.environ.setdefault("TRAJECTORIES_WEB_PROCESSES", str(arguments.workers))
    _check_settings()
    own_directory = None
    if not os.environ.get(_METRICS):
        # Set before the workers start, which share it. New each time: old files would count again.
        own_directory = os.environ[_METRICS] = tempfile.mkdtemp(prefix="trajectories-metrics-")
    server = Granian(
        "trajectory_site.wsgi:application",
        address=arguments.host,
        port=arguments.port,
        interface=Interfaces.WSGI,
        # Without TLS there is no HTTP/2 to negotiate, and one parser is enough to trust.
        http=HTTPModes.http1,
        http1_settings=HTTP1Settings(header_read_timeout=HEADER_TIMEOUT_MS),
        workers=arguments.workers,
        blocking_threads=arguments.threads,
        websockets=False,
        respawn_failed_workers=True,
        respawn_interval=RELOAD_PAUSE_S,
        workers_kill_timeout=STOP_TIMEOUT_S,
    )
    try:
        server.serve()
    finally:
        if own_directory:
            shutil.rmtree(own_directory, ignore_errors=True)


def _check_settings() -> None:
    """End with one sentence if a variable is wrong; a worker would end with a traceback, again and
    again.

    A child looks, because this process only starts workers, and would keep Django in its memory.
    """
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "trajectory_site.settings")
    if child := os.fork():
        if code := os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
            sys.exit(code)
        return
    code = 1
    try:
        code = _settings_error()
    finally:
        sys.stderr.flush()
        os._exit(code)  # without what the parent does at its end


def _settings_error() -> int:
    from django.conf import settings
    from django.core.exceptions import ImproperlyConfigured

    try:
        static_root = settings.STATIC_ROOT  # loads the settings
    except ImproperlyConfigured as error:
        print(error, file=sys.stderr)
        return 1
    except BaseException:
        traceback.print_exc()
        return 1
    if static_root and not Path(static_root, "staticfiles.json").is_file():
        print(
            f"STATIC_ROOT {static_root} has no collected files. Run `trajectories-server collectstatic`, or unset the "
            "variable: files then come from the installed packages.",
            file=sys.stderr,
        )
        return 1
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="trajectories-server serve", description="Serve the site.")
    parser.add_argument(
        "--host", type=_address, default="127.0.0.1", help="address to listen on, IPv4 or IPv6 (default: 127.0.0.1)"
    )
    parser.add_argument("--port", type=_number(1, 65_535), default=8000, help="port to listen on (default: 8000)")
    parser.add_argument("--workers", type=_number(1, 1_024), default=1, help="worker processes (default: 1)")
    parser.add_argument("--threads", type=_number(1, 1_024), default=4, help="threads of each worker (default: 4)")
    return parser.parse_args()


def _address(text: str) -> str:
    try:
        return str(ip_address(text))
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be an IP address such as 127.0.0.1 or ::, got {text[:50]!r}") from None


def _number(least: int, most: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        # The length first: int() refuses very long texts with an error of its own.
        if not (text.isascii() and text.isdigit() and len(text) < 10 and least <= int(text) <= most):
            raise argparse.ArgumentTypeError(f"must be a number from {least} to {most}, got {text[:50]!r}")
        return int(text)

    return read


if __name__ == "__main__":
    main()
