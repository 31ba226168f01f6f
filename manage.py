#!/usr/bin/env python
"""The commands of the site; an installed one has them as ``trajectories-server``."""

from trajectory_site.command_line import main

if __name__ == "__main__":
    main()
