"""Texts of a caller in messages. The server for tests replaces no credentials, and escapes only what
``repr`` does."""

from __future__ import annotations


def in_quotes(text: str, *, max_chars: int) -> str:
    """Return a text cut to ``max_chars``, in quotes."""
    return repr(text[:max_chars])
