"""The order of test modules in a run: the longest first, the others at random. A plugin, loaded by
conftest.py.

pytest-xdist gives a whole module to a process (``--dist loadfile``), so that fixtures of a module
start once a run. A long module that began last would leave the other processes without work.
"""

from __future__ import annotations

import pytest

# In the order of their time on two cores; those under five seconds are not worth a line.
_LONGEST = (
    "tests/lockstep/test_lockstep.py",
    "tests/trajectory_site/test_quickstart.py",
    "tests/sdk/test_cli.py",
    "tests/abuse/test_slow_clients.py",
    "tests/abuse/test_documented_answers.py",
    "tests/sdk_ts/test_package.py",
    "tests/sdk/test_mcp.py",
    "tests/host_project/test_page.py",
    "tests/host_project/test_installed.py",
    "tests/services/test_reads.py",
    "tests/test_whole_path.py",
    "tests/sdk/background/test_celery.py",
    "tests/sdk/background/test_processes.py",
    "tests/services/test_erased_site.py",
    "tests/sdk/test_scenario.py",
    "tests/trajectory_site/test_server.py",
    "tests/test_outages.py",
    "tests/sdk/test_server.py",
    "tests/abuse/test_hostile_requests.py",
    "tests/trajectory_site/test_cors.py",
    "packages/sdk-py/tests/test_types.py",
    "tests/storage/test_hot.py",
    "tests/storage/test_outbox_processes.py",
    "tests/api/test_server.py",
    "tests/api/test_throttling.py",
)


@pytest.hookimpl(trylast=True)  # pytest-randomly has shuffled the modules before
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    root = config.rootpath
    places = {root / name: place for place, name in enumerate(_LONGEST)}
    items.sort(key=lambda item: places.get(item.path, len(places)))
