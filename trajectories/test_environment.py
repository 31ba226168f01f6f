"""Whether this process runs tests: Django's test runner or pytest.

The app then starts no relay, and uses no outbox, Redis or broker that the test has not set itself.
"""

from __future__ import annotations

import sys
from typing import Any

# Global because a process runs tests or does not. The pytest plugin sets it for the whole session,
# from before the first test module is imported; no other code does.
is_pytest_session = False


def is_active() -> bool:
    """Return whether a pytest session runs, or ``setup_test_environment()`` was called.

    Django has no public way to ask. ``_TestState`` is what ``setup_test_environment()`` itself
    checks. ``mail.outbox`` is not reliable: the locmem backend creates it outside of tests too.
    """
    utils: Any = sys.modules.get("django.test.utils")  # importing it here would slow down every start
    return is_pytest_session or hasattr(getattr(utils, "_TestState", None), "saved_data")


def is_test_client(sender: object) -> bool:
    """Return whether ``sender`` of a request signal is the handler of a Django test client."""
    return isinstance(sender, type) and any(base.__module__ == "django.test.client" for base in sender.__mro__)
