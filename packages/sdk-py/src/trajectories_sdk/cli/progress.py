"""The progress bar of an export."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final
from uuid import UUID

import click

from trajectories_sdk.client import Client
from trajectories_sdk.errors import APIStatusError
from trajectories_sdk.results import ExportProgress

_LABEL: Final = "Exporting"


@contextmanager
def progress_bar(
    client: Client, after: UUID | None, filters: Mapping[str, Any]
) -> Iterator[Callable[[ExportProgress], None]]:
    """Show a bar on stderr, and yield the callback that updates it."""
    total = _total(client, filters) if after is None else None
    # Without a total the bar only counts.
    iterable = None if total is not None else iter(())
    with click.progressbar(
        iterable, length=total, label=_LABEL, show_pos=True, item_show_func=_resumed, file=sys.stderr
    ) as bar:
        yield lambda progress: bar.update(progress.count - bar.pos, progress)


def _total(client: Client, filters: Mapping[str, Any]) -> int | None:
    """Return the current number of records, or None if the key may not read stats."""
    try:
        return client.trajectories.stats(**filters).count
    except APIStatusError:
        return None


def _resumed(progress: Any) -> str | None:
    return f"resumed {progress.resumed} times" if progress is not None and progress.resumed else None
