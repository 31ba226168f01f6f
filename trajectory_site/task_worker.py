"""``python -m trajectory_site.task_worker``: the quick start's Celery worker.

Not through Celery's command line, which loads an interactive prompt and takes 15 MB.
"""

from __future__ import annotations

import sys

from trajectory_site.celery import app


def main() -> None:
    """Work until SIGTERM or SIGINT."""
    worker = app.Worker(
        quiet=True,
        # Threads: two more processes would take 140 MB. Processes pay on more cores than a quick start needs.
        pool_cls="threads",
        concurrency=2,
        # Gossip, mingle and heartbeat connect workers; there is only one here.
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
    )
    worker.start()
    sys.exit(worker.exitcode)


if __name__ == "__main__":
    main()
