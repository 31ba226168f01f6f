"""Signals for the code of a host project. docs/host-project.md describes the guarantees.

The process that writes to the archive sends them after its transaction has committed. One signal
covers one tenant's part of a batch. Each arrives at least once, and may be repeated. An exception
of a receiver is logged and changes nothing.

The sender is the model ``trajectories.models.Trajectory``. Arguments: ``tenant``, a slug; ``ids``,
a list of UUIDs.
"""

from __future__ import annotations

from django.dispatch import Signal

trajectory_archived = Signal()
"""The archive has the records ``ids``, new or in a new version."""

trajectory_deleted = Signal()
"""The records ``ids`` were deleted permanently, by a request, by retention or by ``prune``."""
