"""The site's settings for the anchors of ``write_path``: the baseline views without any middleware."""

from trajectory_site.settings import *  # noqa: F403

MIDDLEWARE = []
API_MIDDLEWARE = []
ROOT_URLCONF = "benchmarks.urls"
