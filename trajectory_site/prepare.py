"""``python -m trajectory_site.prepare``: ``provision`` for the quick start, in a process of its
own.

The quick start keeps running, and would keep Django in its memory. This process reads the arguments
of ``provision`` as JSON, and writes its result as JSON, or one sentence about why there is none.
"""

from __future__ import annotations

import json
import signal
import sys
from dataclasses import asdict


def main() -> None:
    """Provision, or end with the exit code 1."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # the quick start says what happens
    import django
    from django.core.exceptions import ImproperlyConfigured
    from django.db import DatabaseError

    try:
        django.setup()
        # Models can be imported only after django.setup().
        from trajectory_site.provision import provision

        print(json.dumps(asdict(provision(**json.load(sys.stdin)))))
    except ImproperlyConfigured as error:
        if str(error).startswith("Error loading psycopg"):
            message = "DATABASE_URL names a Postgres, whose driver is not installed. Install the extra postgres:"
            _end(f"{message} uv run --extra postgres …, or django-trajectories[site,postgres].")
        _end(f"The settings are not right: {error}")
    except DatabaseError as error:
        _end(f"The database cannot be used: {str(error).strip()}")


def _end(message: str) -> None:
    print(message)
    sys.exit(1)


if __name__ == "__main__":
    main()
