"""The user who runs a command, for the audit trail."""

from __future__ import annotations

import getpass
import os


def operator() -> str:
    """Return ``command NAME``; a user of a container may have a number only."""
    try:
        return f"command {getpass.getuser()}"
    except (KeyError, OSError):
        return f"command uid {os.getuid()}"
