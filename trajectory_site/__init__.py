"""A deployable site on top of the ``trajectories`` app."""
