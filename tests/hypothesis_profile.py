"""How long and how often tests try examples. A plugin, so that it holds for the packages' tests,
which do not load tests/conftest.py, too.

A slow machine is no failure, and a first run builds tables of Unicode that later ones find. CI
tries the same examples each time, so that a change is judged by itself; other runs explore, with
fewer examples.
"""

from __future__ import annotations

import hypothesis

from tests.strategies import IN_CI, examples

hypothesis.settings.register_profile(
    "tests",
    max_examples=examples(100),
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
    derandomize=IN_CI,
)
hypothesis.settings.load_profile("tests")
