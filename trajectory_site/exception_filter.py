"""Hide secrets in Django's error reports: the debug page and mails to ADMINS."""

from __future__ import annotations

import re
from typing import Any

from django.views.debug import SafeExceptionReporterFilter

# To the last "@", since a password may contain some. The user ends at the first colon: with a choice
# of colons, a text of colons would take quadratic time.
_PASSWORD_IN_URL = re.compile(r"(?<=://)[^/:\s]*+:[^/\s]*(?=@)")


class ReporterFilter(SafeExceptionReporterFilter):
    """Hide also the app's own secret, and passwords in the URLs of Redis, broker and database."""

    hidden_settings = re.compile(f"{SafeExceptionReporterFilter.hidden_settings.pattern}|METRICS_ACCESS", re.IGNORECASE)

    def cleanse_setting(self, key: int | str, value: Any) -> Any:
        cleansed = super().cleanse_setting(key, value)
        return hide_passwords(cleansed) if isinstance(cleansed, str) else cleansed


def hide_passwords(text: str) -> str:
    """Return ``text`` without the user and password of the URLs in it."""
    return _PASSWORD_IN_URL.sub(SafeExceptionReporterFilter.cleansed_substitute, text)
