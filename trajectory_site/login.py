"""Limit the failed logins of the admin: hashing a wrong password costs 0.2 s of CPU."""

from __future__ import annotations

from typing import Any

from django.contrib.admin.forms import AdminAuthenticationForm
from django.core.exceptions import ValidationError
from django.views.decorators.debug import sensitive_variables

from trajectories.api.auth_throttle import FailureCounter, address_of
from trajectories.conf import Settings
from trajectories.storage.store import get_store

_PER_ADDRESS = 10
_PER_USER = 100
"""Higher than the limit of an address, so that one client cannot lock a user out."""


class LoginThrottle:
    """Failed logins of the last minute, by client address and by user name, in this process."""

    def __init__(self, conf: Settings) -> None:
        self._addresses, self._users = FailureCounter(_PER_ADDRESS), FailureCounter(_PER_USER)

    def begin(self, address: str, user: str) -> None:
        """Count an attempt as failed; it is counted before it is known, as others run beside it.

        Raises:
            ValidationError: address or user name is over its limit.
        """
        wait_s = max(self._addresses.wait_s(address), self._users.wait_s(user))
        if wait_s:
            raise ValidationError(f"Too many failed logins. Try again in {wait_s} seconds.", code="throttled")
        self._addresses.add(address)
        self._users.add(user)

    def succeeded(self, address: str, user: str) -> None:
        """Take the attempt back."""
        self._addresses.take_back(address)
        self._users.take_back(user)


class LoginForm(AdminAuthenticationForm):
    """The admin's login form, which refuses an attempt over the limit before it hashes anything."""

    @sensitive_variables()
    def clean(self) -> dict[str, Any]:
        user = str(self.cleaned_data.get("username", "")).casefold()
        if not user or not self.cleaned_data.get("password") or self.request is None:
            return super().clean()
        throttle, address = get_store().part(LoginThrottle), address_of(self.request)
        throttle.begin(address, user)
        cleaned = super().clean()
        throttle.succeeded(address, user)
        return cleaned
