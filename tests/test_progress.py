"""The progress line of commands that take long."""

from __future__ import annotations

import io
import sys

import pytest

from trajectories.management.progress import Progress


@pytest.mark.parametrize("is_terminal", [True, False])
def test_progress_is_one_line_of_a_terminal_and_nothing_elsewhere(
    is_terminal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    stderr = io.StringIO()
    monkeypatch.setattr(stderr, "isatty", lambda: is_terminal)
    monkeypatch.setattr(sys, "stderr", stderr)
    with Progress("north", 30) as progress:
        progress.add(10)
        progress.add(20)
    shown = stderr.getvalue()
    assert shown.count("\n") == int(is_terminal)
    assert shown.rstrip().endswith("\rnorth: 30 of 30 records") is is_terminal
