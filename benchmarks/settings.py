"""The site's settings, with the baseline views added to its routes."""

from trajectory_site.settings import *  # noqa: F403

ROOT_URLCONF = "benchmarks.urls"
