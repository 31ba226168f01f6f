"""How often a process of the site collects garbage."""

import gc

_COLLECT_AFTER = 50_000
"""Objects that are allocated between two collections; Python's own number is 700."""


def collect_rarely() -> None:
    """Let collections leave the loaded modules alone, and come less often.

    Call it once these are loaded, in a parent before it forks. Records are trees, so a collection
    while one is read or written finds nothing, and looks at all that is cached in the end. It took
    a quarter of a worker's time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER)
