"""``trajectory_site.asgi:application`` for ASGI servers."""

import os

from django.core.asgi import get_asgi_application

from trajectory_site.api_requests import by_path_asgi
from trajectory_site.path_prefix import below_prefix_asgi

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "trajectory_site.settings")

pages = get_asgi_application()  # loads the apps
application = below_prefix_asgi(by_path_asgi(pages))

# The relay reads models, so it can only be imported once the apps are loaded.
from trajectories import relay  # noqa: E402

relay.start()
