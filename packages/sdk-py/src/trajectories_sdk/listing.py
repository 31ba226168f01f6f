"""Paged lists of trajectories."""

from __future__ import annotations

from collections.abc import Mapping

from trajectories_sdk.config import Config
from trajectories_sdk.flow import PATH, Emit, Flow, call_for, request
from trajectories_sdk.models import TrajectoryPage


def pages(config: Config, query: Mapping[str, object]) -> Flow[None]:
    """Emit each ``TrajectoryPage``, starting at ``cursor``."""
    cursor = query.get("cursor")
    while True:
        page = yield from call_for(config, request(config, "GET", PATH, {**query, "cursor": cursor}), TrajectoryPage)
        yield Emit(page)
        if not page.has_more or page.next_cursor is None or page.next_cursor == cursor:
            return
        cursor = page.next_cursor
