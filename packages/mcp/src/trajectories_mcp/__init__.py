"""MCP tools of the store for orchestration trajectories."""

__all__ = ["__version__"]

__version__ = "0.1.0"
