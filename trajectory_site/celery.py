"""The site's Celery app. It finds the tasks in the installed apps."""

import logging
import os
import time
from typing import Any

from celery import Celery
from celery.signals import celeryd_init, setup_logging

from trajectory_site import garbage

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "trajectory_site.settings")
# Celery would run Django's checks at the start of a worker, and drop what they find. They load each view.
os.environ.setdefault("CELERY_SKIP_CHECKS", "1")

logger = logging.getLogger(__name__)

_RETRY_S = 1.0

app = Celery("trajectory_site")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


@setup_logging.connect
def _keep_logging_of_django(**_: Any) -> None:
    """Stop Celery from configuring logging, so that web and worker both use ``LOGGING``."""


@celeryd_init.connect
def _consume_the_queue_of_the_store(instance: Any, conf: Any, options: dict[str, Any], **_: Any) -> None:
    """Make a worker of the site without ``-Q`` consume the queue that the store's relay uses."""
    if instance.app is app and not options.get("queues"):
        conf.task_default_queue = _queue_of_the_store() or conf.task_default_queue


@celeryd_init.connect
def _collect_rarely(instance: Any, **_: Any) -> None:
    """Set the collector of a worker of the site, before it forks its pool."""
    if instance.app is app:
        garbage.collect_rarely()


def _queue_of_the_store() -> str | None:
    """Return the queue. It contains the identity of the store, so wait for an archive without one."""
    # Here and not above: the settings load this module before the apps are ready.
    from trajectories.storage.store import IdentityUnknown, get_store

    is_logged = False
    while True:
        try:
            return get_store().queue
        except IdentityUnknown as error:
            if not is_logged:
                logger.warning("The worker waits for the archive: %s", error)
                is_logged = True
            time.sleep(_RETRY_S)
