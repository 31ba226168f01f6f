"""A project that starts the relay itself."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "myproject.settings")
application = get_wsgi_application()

from trajectories import relay  # noqa: E402

relay.start()
