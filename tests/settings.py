"""The site's settings, independent of the environment. mypy uses them too."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from unittest.mock import patch

# Nothing is written here: each test has its own outbox and databases. It replaces the checkout's
# var/.
_DATA_DIR = Path(tempfile.gettempdir(), f"django-trajectories-tests-{os.getuid()}")

with patch.dict(os.environ, {"SECRET_KEY": "only for tests", "DATA_DIR": str(_DATA_DIR)}, clear=True):
    from trajectory_site.settings import *  # noqa: F403
    from trajectory_site.settings import CACHES, DATABASES

from trajectory_site import database  # noqa: E402

# Name and host come from the servers that conftest.py starts when the first test needs them.
DATABASES["postgres"] = database.config({"ENGINE": "django.db.backends.postgresql", "NAME": "trajectories"})
DATABASE_ROUTERS = ["tests.routing.ArchiveRouter"]

# Nothing listens on this port: a test that does not ask for Redis has none, and a connection fails
# at once.
REDIS_URL = "redis://127.0.0.1:1/0"
CACHES["trajectories"]["LOCATION"] = REDIS_URL
CELERY_BROKER_URL = "memory://"

# Each test client makes its middleware anew, and would read every static file again.
WHITENOISE_AUTOREFRESH = True

PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # fast: users of tests need no protection
