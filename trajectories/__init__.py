"""The store for orchestration trajectories, as a reusable Django app."""

__version__ = "0.1.0"
