"""The admin: edit tenants and API keys, browse the archive. It has the default look of Django.

A host project may subclass these classes and register them in place of ours, or on a site of its own.
"""

from trajectories.admin.access import ApiKeyAdmin, TenantAdmin
from trajectories.admin.archive import PhaseAdmin, QuarantinedAdmin, TrajectoryAdmin
from trajectories.admin.audit import AuditEntryAdmin

__all__ = ["ApiKeyAdmin", "AuditEntryAdmin", "PhaseAdmin", "QuarantinedAdmin", "TenantAdmin", "TrajectoryAdmin"]
