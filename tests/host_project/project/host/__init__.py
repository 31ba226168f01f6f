"""A project that has nothing in common with ours but that it installs the app."""

from .celery import app as celery_app

__all__ = ["celery_app"]
