"""DRF permission of the API: the scope that an action requires."""

from __future__ import annotations

from typing import Any

from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from trajectories.caller import Caller
from trajectories.exceptions import ScopeMissing


class HasScope(BasePermission):
    """Require the scope that ``view.required_scopes`` names for the action."""

    def has_permission(self, request: Request, view: Any) -> bool:
        """Return whether the request has a caller; DRF responds with 401 if not.

        Raises:
            ScopeMissing: 403; the caller lacks the scope.
        """
        caller: Any = request.auth
        if not isinstance(caller, Caller):
            return False
        scope = view.required_scopes[view.action]
        if scope not in caller.scopes:
            raise ScopeMissing(f"The caller lacks the scope {scope!r}.")
        return True
