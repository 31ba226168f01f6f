"""The admin: edit tenants and API keys, browse the archive. It has the default look of Django."""

from trajectories.admin import access, archive

__all__ = ["access", "archive"]
