"""The site's settings for the anchors of ``write_path``: the baseline views without any middleware."""

from trajectory_site.settings import *  # noqa: F403

MIDDLEWARE: list[str] = []
API_MIDDLEWARE: list[str] = []
ROOT_URLCONF = "benchmarks.urls"
