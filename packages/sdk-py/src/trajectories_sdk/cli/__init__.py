"""The command ``trajectories``, installed with the extra ``cli``."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the console script, and exit with one of ``exits.Exit``."""
    try:
        from trajectories_sdk.cli.commands import trajectory
    except ModuleNotFoundError as error:
        if error.name != "click":
            raise
        print("The command line needs an extra: pip install 'trajectories-sdk[cli]'", file=sys.stderr)
        sys.exit(2)
    trajectory(prog_name="trajectories")
