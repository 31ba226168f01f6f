"""``gunicorn trajectory_site.wsgi``"""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "trajectory_site.settings")

application = get_wsgi_application()

# The relay reads models, so it can only be imported once the apps are loaded.
from trajectories import relay  # noqa: E402

relay.start()
