"""The store for orchestration trajectories, as a reusable Django app."""

from trajectories.caller import Caller

__all__ = ["Caller"]
__version__ = "0.1.0"
