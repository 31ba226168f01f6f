"""The site's settings, with the views that it is compared with added to its routes."""

from trajectory_site.settings import *  # noqa: F403

ROOT_URLCONF = "benchmarks.urls"
