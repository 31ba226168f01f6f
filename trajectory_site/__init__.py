"""A deployable site on top of the ``trajectories`` app."""

from trajectory_site.celery import app as celery_app

__all__ = ["celery_app"]
