#!/usr/bin/env python
"""Django's command line, and ``quickstart``, which runs before there are any settings."""

import os
import sys


def main() -> None:
    if sys.argv[1:2] == ["quickstart"] or sys.argv[1:3] == ["help", "quickstart"]:
        # Not a management command: those need settings, and making the settings is what the quick start is for.
        from trajectory_site.quickstart import main as quickstart

        sys.exit(quickstart(["--help"] if sys.argv[1] == "help" else sys.argv[2:]))

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "trajectory_site.settings")
    from django.core.exceptions import ImproperlyConfigured
    from django.core.management import execute_from_command_line

    try:
        execute_from_command_line(sys.argv)
    except ImproperlyConfigured as error:  # its message is for the operator
        sys.exit(str(error))


if __name__ == "__main__":
    main()
