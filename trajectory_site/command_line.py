"""The command ``trajectories-server``, which is ``manage.py`` in a checkout.

It has Django's commands, the app's, and a few that are no management commands: ``quickstart`` makes
the settings that those need.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

from trajectory_site import data_dir

_HELP = """\
Commands of the site, with --help for each:
  quickstart   run the whole store on this machine: Redis, database, web server and worker
  serve        run the web server
  worker       run the Celery worker
Every command takes --data-dir DIR, and uses the settings of the quick start there unless SECRET_KEY is set.
"""


def main() -> None:
    """Run the command in ``sys.argv``."""
    program, *arguments = sys.argv
    match arguments:
        case [] | ["help" | "--help" | "-h"]:
            print(_HELP)
        case ["help", ("quickstart" | "serve" | "worker") as name]:
            arguments = [name, "--help"]
    if arguments[:1] == ["quickstart"]:
        from trajectory_site.quickstart import main as quickstart

        sys.exit(quickstart(arguments[1:], program=_name(program)))
    try:
        arguments = _without_data_dir(arguments)
    except data_dir.DataDirUnusable as error:
        sys.exit(f"{_name(program)}: {error}")
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "trajectory_site.settings")
    own = {"serve": _serve, "worker": _worker}.get(arguments[0] if arguments else "", _django)
    own(program, arguments)


def _name(program: str) -> str:
    return Path(program).name


def _without_data_dir(arguments: list[str]) -> list[str]:
    """Use the settings of the data directory, and return the arguments without ``--data-dir``."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--data-dir")
    given, rest = parser.parse_known_args(arguments)
    data_dir.use_settings(data_dir.chosen(given.data_dir))
    return rest


_Run = Callable[[str, list[str]], None]


def _serve(program: str, arguments: list[str]) -> None:
    from trajectory_site import server

    sys.argv = [f"{_name(program)} serve", *arguments[1:]]
    server.main()


def _worker(program: str, arguments: list[str]) -> None:
    from trajectory_site.celery import app

    app.worker_main(arguments)


def _django(program: str, arguments: list[str]) -> None:
    from django.core.exceptions import ImproperlyConfigured
    from django.core.management import execute_from_command_line

    try:
        execute_from_command_line([program, *arguments])
    except ImproperlyConfigured as error:  # its message is for the operator
        sys.exit(str(error))
