"""Texts of a caller in messages. The server for tests replaces no credentials."""

from __future__ import annotations


def quoted(text: str, *, max_chars: int) -> str:
    """Return a text cut to ``max_chars``."""
    return text[:max_chars]
