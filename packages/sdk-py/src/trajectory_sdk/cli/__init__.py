"""The command ``trajectory``, of the extra ``cli``."""

from __future__ import annotations

import sys


def main() -> None:
    """The console script. Ends the process with one of ``exits.Exit``."""
    try:
        from trajectory_sdk.cli.commands import trajectory
    except ModuleNotFoundError as error:
        if error.name != "click":
            raise
        print("The command line needs an extra: pip install 'trajectory-sdk[cli]'", file=sys.stderr)
        sys.exit(2)
    trajectory(prog_name="trajectory")
