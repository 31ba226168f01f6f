"""The admin: edit tenants and API keys, browse the archive. It has the default look of Django.

A host project may subclass these classes and register them in place of ours, or on a site of its
own.
"""

from trajectories.admin.access import ApiKeyAdmin, TenantAdmin
from trajectories.admin.archive import PhaseAdmin, QuarantinedAdmin
from trajectories.admin.audit import AuditEntryAdmin
from trajectories.admin.runs import TrajectoryAdmin
from trajectories.admin.saved_views import SavedViewAdmin

__all__ = [
    "ApiKeyAdmin",
    "AuditEntryAdmin",
    "PhaseAdmin",
    "QuarantinedAdmin",
    "SavedViewAdmin",
    "TenantAdmin",
    "TrajectoryAdmin",
]
