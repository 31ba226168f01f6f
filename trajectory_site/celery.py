"""The site's Celery app. It finds the tasks in the installed apps."""

import os
from typing import Any

from celery import Celery
from celery.signals import setup_logging

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "trajectory_site.settings")

app = Celery("trajectory_site")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


@setup_logging.connect
def _keep_logging_of_django(**_: Any) -> None:
    """Stop Celery from configuring logging, so that web and worker both use ``LOGGING``."""
