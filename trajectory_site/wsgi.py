"""``trajectory_site.wsgi:application``, as ``python -m trajectory_site.server`` serves it."""

import os

from django.core.wsgi import get_wsgi_application

from trajectory_site.api_requests import by_path
from trajectory_site.path_prefix import below_prefix
from trajectory_site.unread_bodies import close_unread
from trajectory_site.workers import forget_dead_workers, import_rest_framework, repeat_stop_signals, warm_up

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "trajectory_site.settings")

repeat_stop_signals()
forget_dead_workers()

import_rest_framework()  # before the apps
pages = get_wsgi_application()  # loads the apps
application = below_prefix(close_unread(by_path(pages)))

# The relay reads models, so it can only be imported once the apps are loaded.
from trajectories import relay  # noqa: E402

warm_up()
relay.start()
