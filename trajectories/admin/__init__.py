"""The admin: tenants and keys to manage, the archive to look at. Works under Django's own look."""

from trajectories.admin import access, archive

__all__ = ["access", "archive"]
