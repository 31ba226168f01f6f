"""The site's settings, whatever the environment of whoever runs the tests says. mypy uses them too."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from unittest.mock import patch

# Nothing is written there: each test has an outbox and databases of its own. It only keeps the checkout's var/ out.
_DATA_DIR = Path(tempfile.gettempdir(), f"django-trajectories-tests-{os.getuid()}")

with patch.dict(os.environ, {"SECRET_KEY": "only for tests", "DATA_DIR": str(_DATA_DIR)}, clear=True):
    from trajectory_site.settings import *  # noqa: F403
    from trajectory_site.settings import CACHES, DATABASES, database_config

# Name and host come from the servers that conftest.py starts when the first test needs them.
DATABASES["postgres"] = database_config({"ENGINE": "django.db.backends.postgresql", "NAME": "trajectories"})
DATABASE_ROUTERS = ["tests.routing.ArchiveRouter"]

# Until a test asks for Redis there is none: nothing listens on this port, so it is away at once.
REDIS_URL = "redis://127.0.0.1:1/0"
CACHES["trajectories"]["LOCATION"] = REDIS_URL
CELERY_BROKER_URL = "memory://"

PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # made users are not attacked
