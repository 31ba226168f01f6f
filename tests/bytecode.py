"""Let Python keep compiled modules during a run, whatever the environment says. A plugin that loads
before all others.

``PYTHONDONTWRITEBYTECODE``, which many container images set, makes each process compile Django,
Celery and the rewritten tests again. That is three of the four seconds of ``manage.py check``, and
half of the collection.
"""

from __future__ import annotations

import os
import sys

os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # of the processes that tests and pytest-xdist start
sys.dont_write_bytecode = False
